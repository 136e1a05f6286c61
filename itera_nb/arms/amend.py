"""Amending what was locked: allowed before the test is opened, permanent, and printed."""

from __future__ import annotations

from itera_nb.arms.frame import check_changes
from itera_nb.arms.lock import (
    arm_changes,
    differences,
    locked_toml,
    locked_values,
    manifests,
    toml_hash,
    values,
)
from itera_nb.exceptions import IteraError, Refusal
from itera_nb.experiment import Experiment
from itera_nb.ledger import Record
from itera_nb.protocol import seen


def amend(experiment: Experiment, why: str) -> Record:
    """Record what differs from the lock, and why; what had been seen is read from the ledger.

    Raises:
        IteraError: If nothing differs.
        Refusal: SG04 for a change of source or split, whose rows are drawn; SG02 once the test is open.
    """
    experiment.require("amended")
    state = experiment.state
    changed = differences(experiment, state)
    if not changed:
        raise IteraError("nothing differs from what is locked", fix="edit experiment.toml or an arm first")
    if drawn := [c for c in changed if c.startswith(("source.", "split."))]:
        experiment.refuse(
            Refusal(
                "SG04",
                f"the rows are drawn and sealed, so this cannot change: {'; '.join(drawn)}.",
                why="other rows would be another experiment.",
                instead="undo that edit, or start anew: itera new NAME",
            )
        )
    check_changes(experiment, arm_changes(experiment.spec, manifests(experiment)))
    body = {
        "changed": changed,
        "why": why,
        "seen": seen(state),
        "values": values(experiment, tuple(locked_values(state))),
        "toml": toml_hash(experiment) if locked_toml(state) else None,
    }
    return experiment.record("amended", body)
