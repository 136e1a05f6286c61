"""The frame's lock, what is locked so far, whether the files still say the same, and amendments of it.

Each lock record carries the values that it locks; the latest record that names a value counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from itera_nb.arms.manifest import Manifest, build, hash_file
from itera_nb.arms.snapshot import code_files
from itera_nb.exceptions import IteraError, Refusal
from itera_nb.experiment import Experiment
from itera_nb.ledger import Record, digest
from itera_nb.protocol import State, seen
from itera_nb.spec import ArmSpec, Spec

LOCKING = ("frame_locked", "sampled", "metric_locked", "amended")
FRAME_PARTS = ("frame", "arms", "rule", "claim", "manifests")
METRIC_PARTS = ("metric", "judge", "run", "models", "resources", "iterate", "code")


@dataclass(frozen=True, slots=True)
class ArmChange:
    """What one arm changes against its reference, computed from the two manifests."""

    arm: str
    reference: str
    components: tuple[str, ...]
    spec: ArmSpec

    @property
    def identical(self) -> bool:
        """No component differs although one should."""
        return not self.components and not self.spec.negative_control

    @property
    def several(self) -> bool:
        """More than one component differs and no bundle was declared."""
        return len(self.components) > 1 and self.spec.bundle is None


def manifests(experiment: Experiment) -> dict[str, Manifest]:
    """The manifest of every registered arm."""
    spec = experiment.spec
    return {name: build(spec, name, arm, experiment.folder) for name, arm in spec.arms.items()}


def arm_changes(spec: Spec, built: Mapping[str, Manifest]) -> list[ArmChange]:
    """Each arm against the baseline."""
    reference = built[spec.baseline]
    return [
        ArmChange(name, spec.baseline, tuple(built[name].changes(reference)), arm)
        for name, arm in spec.arms.items()
        if name != spec.baseline
    ]


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
    changes = _checked_changes(experiment)
    locked = values(experiment, FRAME_PARTS)
    body = {
        "values": locked,
        "frame_hash": digest(locked),
        "changes": {c.arm: list(c.components) for c in changes},
    }
    return experiment.record("frame_locked", body)


def values(experiment: Experiment, parts: tuple[str, ...]) -> dict[str, Any]:
    """The values of these parts of the experiment as they stand now."""
    now = experiment.registered(tuple(p for p in parts if p not in {"manifests", "code"}))
    if "manifests" in parts:
        now["manifests"] = {name: m.components for name, m in manifests(experiment).items()}
    if "code" in parts:
        files = code_files(experiment.spec, experiment.folder)
        now["code"] = {path: hash_file(file) for path, file in files.items()}
    return now


def toml_hash(experiment: Experiment) -> str:
    """SHA-256 of `experiment.toml` as bytes."""
    return hash_file(experiment.toml)


def locked_values(state: State) -> dict[str, Any]:
    """What is locked so far: part -> values."""
    locked: dict[str, Any] = {}
    for record in state.records:
        if record.type in LOCKING:
            locked |= record.body["values"]
    return locked


def locked_toml(state: State) -> str | None:
    """The locked hash of `experiment.toml`, once the metric is locked."""
    hits = [r.body["toml"] for r in state.records if r.type in LOCKING and r.body.get("toml")]
    return hits[-1] if hits else None


def differences(experiment: Experiment, state: State) -> list[str]:
    """What differs from the lock: `rule.min_effect: 0.05 -> 0.03`, one line each."""
    locked = locked_values(state)
    now = values(experiment, tuple(locked))
    found = list(_compare("", locked, now))
    expected = locked_toml(state)
    if not found and expected not in {None, toml_hash(experiment)}:
        found = ["experiment.toml: comments or layout (no value differs)"]
    return found


def require_unchanged(experiment: Experiment) -> None:
    """Refuse if anything locked was edited.

    Raises:
        Refusal: SG04, naming what differs.
    """
    found = differences(experiment, experiment.state)
    if not found:
        return
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    experiment.refuse(
        Refusal(
            "SG04",
            f"experiment.toml or an arm was changed after its lock: {'; '.join(found[:3])}{more}.",
            why="what moves after it was locked can follow the results.",
            instead='undo the edit, or record it for good: itera amend --why "…"',
        )
    )


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
    _checked_changes(experiment)
    body = {
        "changed": changed,
        "why": why,
        "seen": seen(state),
        "values": values(experiment, tuple(locked_values(state))),
        "toml": toml_hash(experiment) if locked_toml(state) else None,
    }
    return experiment.record("amended", body)


def _checked_changes(experiment: Experiment) -> list[ArmChange]:
    """What each arm changes; refuses arms that do not differ, and asks about several components in one."""
    changes = arm_changes(experiment.spec, manifests(experiment))
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
    return changes


def _compare(prefix: str, before: Any, after: Any) -> Iterator[str]:
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            yield from _compare(f"{prefix}.{key}" if prefix else str(key), before.get(key), after.get(key))
    elif prefix.startswith(("manifests.", "code.")):
        yield f"{prefix} (file content)"
    else:
        yield f"{prefix}: {_short(before)} -> {_short(after)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
