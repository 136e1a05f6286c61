"""Locking the frame: arms that differ, in one component each, and the values that may not move afterwards."""

from __future__ import annotations

from itera_nb.arms.lock import FRAME_PARTS, ArmChange, arm_changes, manifests, require_unchanged, values
from itera_nb.exceptions import Refusal
from itera_nb.experiment import Experiment
from itera_nb.ledger import Record, digest


def lock_frame(experiment: Experiment) -> Record:
    """Lock question, arms and rule.

    Raises:
        Refusal: SG09 where arms do not differ, SG08 (asked) where one changes several components.
    """
    state = experiment.state
    record = state.last("frame_locked")
    if record is not None:
        require_unchanged(experiment)
        return record
    changes = arm_changes(experiment.spec, manifests(experiment))
    check_changes(experiment, changes)
    locked = values(experiment, FRAME_PARTS)
    body = {
        "values": locked,
        "frame_hash": digest(locked),
        "changes": {c.arm: list(c.components) for c in changes},
    }
    return experiment.record("frame_locked", body)


def check_changes(experiment: Experiment, changes: list[ArmChange]) -> None:
    """Refuse arms that do not differ, and ask about arms that change several components."""
    for change in changes:
        if change.identical:
            experiment.refuse(
                Refusal(
                    "SG09",
                    f"arm {change.arm!r} does not differ from {change.reference!r} in anything that matters.",
                    why="two names for one arm measure noise and call it a result.",
                    instead="change one component of it, or declare it: negative_control = true",
                )
            )
        if change.several:
            experiment.ask(
                "SG08",
                f"arm {change.arm!r} changes several components: {', '.join(change.components)}.",
                "a win could not be attributed to any one of them.",
            )
