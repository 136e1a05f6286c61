"""Everything that must hold before the test set is opened, checked again by the process that opens it."""

from __future__ import annotations

from dataclasses import dataclass

import itera_nb
from itera_nb.arms.lock import differences
from itera_nb.arms.snapshot import check as check_snapshot
from itera_nb.exceptions import RecordError, Refusal
from itera_nb.experiment import Experiment
from itera_nb.ledger import Record
from itera_nb.protocol import PHASES, State, blockers, happened, may_open
from itera_nb.scoring.package import package_hash
from itera_nb.seal import anchors
from itera_nb.seal.git import UNREAD, unread
from itera_nb.seal.parquet import file_sha256
from itera_nb.verdict.promises import promises


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition: whether it holds, and the evidence or the fault."""

    name: str
    holds: bool
    detail: str


def conditions(experiment: Experiment) -> list[Condition]:
    """Every condition with its state; nothing is read from the sealed file but its hash."""
    state = experiment.state
    refusal = may_open(state)
    forked = anchors.faults(experiment.folder, state.records, anchors.history(experiment.folder))
    nothing = UNREAD if unread(experiment.folder) else "none was found"
    changed = differences(experiment, state) if state.has("frame_locked") else ["nothing is locked"]
    known = f"{len(state.records)} records, head {state.head[:12]}"
    return [
        Condition("the ledger's chain and remembered head", True, known),
        Condition("the protocol allows it", refusal is None, refusal.what if refusal else "it does"),
        Condition("git knows no other history of it", not forked, forked[0] if forked else nothing),
        Condition("experiment.toml and arms are as locked", not changed, "; ".join(changed) or "unchanged"),
        _sealed(experiment),
        *([] if state.pass_open else [_clean(state)]),
        _snapshot(experiment),
        _package(state),
    ]


def phase_conditions(state: State, phase: str) -> list[Condition]:
    """The events of a phase: those that have happened, those that may happen now, and why others may not."""
    found = [_event("gate", None, state)] if phase == "4-diagnose" and state.ungated else []
    return [*found, *(_event(event, happened(event, state), state) for event in PHASES[phase])]


def _event(event: str, record: Record | None, state: State) -> Condition:
    if record is not None:
        detail = f"record {record.seq}, {record.ts[:16].replace('T', ' ')}"
    else:
        refusals = blockers(event, state)
        detail = f"not yet: {' '.join(r.what for r in refusals)}" if refusals else "may happen now"
    return Condition(event.replace("_", " "), record is not None, detail)


def require_ready(experiment: Experiment) -> None:
    """Refuse unless every condition holds.

    Raises:
        Refusal: SG02 or SG01 from the protocol, SG04 for edits, SG32 for a changed record.
    """
    state = experiment.state
    event = "resumed" if state.pass_open else "test_opened"
    experiment.require(event)
    failed = [c for c in conditions(experiment) if not c.holds]
    if failed:
        safeguard = "SG04" if failed[0].name.startswith("experiment.toml") else "SG32"
        experiment.refuse(
            Refusal(
                safeguard,
                f"{failed[0].name}: {failed[0].detail}.",
                why="a verdict on something else than what was locked proves nothing.",
                instead="put back what was locked, then: itera verdict",
            )
        )


def _sealed(experiment: Experiment) -> Condition:
    """The rows, and the fingerprints by which leaked ones are found: anyone could seal others, or none."""
    name = "the sealed file is the one that was sealed"
    named = (p for p in promises(experiment.state) if p.file.startswith("sealed/"))
    sealed = [p for p in named if p.record.type != "evicted"]  # the raw source is not what decides
    for promise in sealed:
        path = experiment.path(promise.file)
        if not path.is_file():
            return Condition(name, False, f"{path.name} is missing")
        if file_sha256(path) != promise.sha256:
            return Condition(name, False, f"the hash of {path.name} differs from the record")
    return Condition(name, bool(sealed), "hash matches" if sealed else "nothing is sealed")


def _clean(state: State) -> Condition:
    """Sealed rows found outside the seal; a raw source within reach is said, and printed on the page."""
    leaks, sealed = state.leaks, state.last("sealed")
    source = sealed.body.get("exposed") if sealed and not state.has("evicted") else None
    otherwise = f"the raw source {source} is readable: the page says so" if source else "none known"
    return Condition("no sealed row outside the seal", not leaks, ", ".join(leaks) or otherwise)


def _snapshot(experiment: Experiment) -> Condition:
    record = experiment.state.last("locked")
    name = "the snapshot of the arms is the one that was locked"
    if record is None:
        return Condition(name, False, "no arm is locked")
    try:
        check_snapshot(experiment.path("snapshot"), record.body["files"])
    except RecordError as error:
        return Condition(name, False, error.what)
    return Condition(name, True, f"{len(record.body['files'])} files")


def _package(state: State) -> Condition:
    record = state.last("locked")
    name = "itera-nb is the version that locked"
    if record is None:
        return Condition(name, False, "no arm is locked")
    same = record.body["package"] == package_hash()
    differ = f"the installed files differ (locked with {record.body['version']})"
    return Condition(name, same, itera_nb.__version__ if same else differ)
