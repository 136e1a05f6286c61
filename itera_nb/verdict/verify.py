"""Checking an experiment against its record: anyone, later, elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from itera_nb.arms.lock import LOCKING, toml_hash
from itera_nb.exceptions import RecordError, Refusal
from itera_nb.experiment import Experiment
from itera_nb.ledger import backward_times
from itera_nb.protocol import State
from itera_nb.seal import anchors
from itera_nb.seal.custody import IDENTITY, has_identity
from itera_nb.seal.git import UNREAD, unread
from itera_nb.seal.parquet import file_sha256
from itera_nb.verdict import voucher
from itera_nb.verdict.opening import decide
from itera_nb.verdict.promises import ROWS, promises

DERIVED = ("conclusion.html",)
STATED = ("verdict", "outcome", "arm")
"""What a verdict's record says of the decision: all of it, and its banner, which is what others read."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: whether it holds, in words, and the record that vouches."""

    holds: bool
    what: str
    record: int | None


@dataclass(frozen=True, slots=True)
class Report:
    """All checks, and how deep they went: "record only" where files with rows are not here.

    `vouched`: every verdict was made with the recipient's key that is in the environment.
    """

    findings: list[Finding]
    level: str
    vouched: bool = False


def verify(experiment: Experiment) -> Report:
    """Recompute every hash that the ledger holds, and the verdict from its published scores.

    Raises:
        RecordError: If the ledger itself is broken, naming the record, or is not there.
    """
    state = experiment.state
    if not state.records:
        raise RecordError(
            "there is no record: ledger.jsonl is missing or empty",
            fix="put the ledger back; a new experiment begins with: itera run",
        )
    findings = [_chain(state), *_history(experiment, state)]
    absent = 0
    if toml := _toml(experiment, state):
        findings.append(toml)
    for promise in promises(state):
        path = experiment.path(promise.file)
        if not path.is_file() and promise.file in DERIVED:
            continue
        if not path.is_file() and promise.file.startswith(ROWS):
            absent += 1
            continue
        same = _is(path, promise.sha256)
        fault = "is as recorded" if same else ("was changed" if path.is_file() else "is missing")
        findings.append(Finding(same, f"{promise.file} {fault}", promise.record.seq))
    findings += _arms(experiment, state)
    vouched = list(_vouched(experiment, state))
    findings += vouched
    if state.has("verdict") and not absent and all(f.holds for f in findings):
        findings.append(_recomputed(experiment, state))
    level = "record and rows"
    if absent:
        level = "record only: files with rows are not here, so the verdict was not computed again"
    if state.has("verdict") and experiment.custody.escrow and not vouched:
        level += f"; who decided is seen with the private key that did: {IDENTITY}=… itera verify"
    if unread(experiment.folder):
        level += f"; git: {UNREAD}"
    made = sum(f.holds for f in vouched)
    return Report(findings, level, vouched=made == len(state.all("verdict")) > 0)


def _is(path: Path, sha256: str) -> bool:
    return path.is_file() and file_sha256(path) == sha256


def _chain(state: State) -> Finding:
    backward = backward_times(state.records)
    clock = f"; the clock runs backward at record {backward[0]}" if backward else ""
    return Finding(True, f"ledger: {len(state.records)} records, head {state.head[:12]}{clock}", None)


def _history(experiment: Experiment, state: State) -> Iterator[Finding]:
    """The ledger against every version of it, and every trailer, that the repository's commits hold."""
    known, genesis = anchors.history(experiment.folder), anchors.genesis_of(state.records)
    for fault in anchors.faults(experiment.folder, state.records, known):
        yield Finding(False, fault, len(state.records))
    if own := [a for a in known if a.genesis == genesis]:
        commits, last = len({a.commit for a in own}), max(a.seq for a in own)
        yield Finding(True, f"git: {commits} commit(s) hold a head of this ledger, up to record {last}", None)


def _toml(experiment: Experiment, state: State) -> Finding | None:
    locks = [r for r in state.records if r.type in LOCKING and r.body.get("toml")]
    if not locks:
        return None
    same = toml_hash(experiment) == locks[-1].body["toml"]
    return Finding(same, f"experiment.toml {'is as locked' if same else 'was changed'}", locks[-1].seq)


def _arms(experiment: Experiment, state: State) -> Iterator[Finding]:
    """The arms in the folder against those that were locked: what is committed must be what was tested."""
    locked = state.last("locked")
    if locked is None:
        return
    for file, sha256 in locked.body["files"].items():
        if file.startswith("pythonpath/"):
            continue
        same = _is(experiment.path(file), sha256)
        yield Finding(same, f"{file} {'is as locked' if same else 'is not what was locked'}", locked.seq)


def _vouched(experiment: Experiment, state: State) -> Iterator[Finding]:
    """Under escrow, for who holds a recipient's key: each verdict was made by someone who held one."""
    if not (state.has("verdict") and experiment.custody.escrow and has_identity()):
        return
    try:
        found = experiment.isolated(voucher.MODULE)
    except Refusal:  # the key at hand is for another experiment
        return
    alone = len(experiment.custody.recipients) == 1
    for seq, same in found.items():
        if same or alone:  # of several, another one may have decided
            said = "was" if same else "was not"
            yield Finding(same, f"the verdict {said} made with the recipient's key", int(seq))


def _recomputed(experiment: Experiment, state: State) -> Finding:
    record = state.the("verdict")
    results = experiment.read_frame(record.body["results"]["file"])
    rows = experiment.read_frame(record.body["rows"]["file"])
    again = json.loads(json.dumps(decide(experiment, results, rows).as_json()))
    same = (again, again["outcome"], again["arm"]) == tuple(record.body[k] for k in STATED)
    words = "gives the recorded verdict" if same else "does not give the recorded verdict"
    return Finding(same, f"the rule, applied again to the published scores, {words}", record.seq)
