"""The gate over the ledger: each change of the open sprint, what was measured of it, how it is judged."""

from __future__ import annotations

import ast
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from itera_nb.arms.manifest import hash_file
from itera_nb.diagnosis import gate, sprint
from itera_nb.diagnosis.conditions import added_conditions
from itera_nb.diagnosis.label_noise import AMBIGUOUS, PERSON, WRONG
from itera_nb.diagnosis.literals import Words, added_codes, added_literals, words_of
from itera_nb.exceptions import ArmError, Refusal
from itera_nb.experiment import Experiment
from itera_nb.ledger import Record
from itera_nb.scoring.evidence import Evidence
from itera_nb.scoring.registered import dev_evidence
from itera_nb.scoring.runs import part_rows
from itera_nb.scoring.workers import call_each
from itera_nb.spec import IterationSpec, LiftedSpec, load_iteration, parse_iteration
from itera_nb.stats.paired import row_means


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the open sprint: its record, its file as it is now, and what was measured of it.

    Attributes:
        reference: What it was measured against: its nearest ancestor that is not dropped.
        builds_on: The dropped changes between the two, which it brings with it: id -> action.
    """

    id: str
    record: Record
    wanted: IterationSpec
    measured: gate.GateEvidence
    reference: str
    builds_on: dict[str, str]


@dataclass(frozen=True, slots=True)
class Judgement:
    """How a change is classed, what is done with it, why, and who says so; None or "" is not said yet."""

    class_: str | None
    action: str | None
    evidence: str | None
    by: str = PERSON


@dataclass(frozen=True, slots=True)
class Lifted:
    """A table and its test, as they were when the test passed: paths, SHA-256, number of tests."""

    table: str
    table_sha256: str
    test: str
    test_sha256: str
    tests: int


def file_of(experiment: Experiment, name: str) -> Path:
    """The file in which a registered iteration is judged."""
    return experiment.path("iterations", f"{name}.toml")


def open_changes(experiment: Experiment) -> list[Change]:
    """Every change of the open sprint, in the order of registration; empty if none is open.

    Raises:
        Refusal: If the sprint cannot be closed yet.
        SpecError: If an iteration's file is malformed.
    """
    records = experiment.state.ungated
    if not records:
        return []
    experiment.require("gate")
    files = {r.body["id"]: load_iteration(file_of(experiment, r.body["id"])) for r in records}
    dropped = _dropped(experiment) | {
        name: wanted.action for name, wanted in files.items() if wanted.action not in {None, gate.KEEP}
    }
    measuring = Measuring(experiment)
    found = []
    for record in records:
        name, builds_on = record.body["id"], {}
        reference = record.body["parent"]
        while reference in dropped:
            builds_on[reference] = str(dropped[reference])
            reference = sprint.registered(experiment.state)[reference].parent
        measured = measuring.change(name, reference)
        found.append(Change(name, record, files[name], measured, reference, builds_on))
    return found


class Measuring:
    """The gate's figures of any arm or iteration against another, on dev."""

    def __init__(self, experiment: Experiment) -> None:
        self._evidence: Evidence = dev_evidence(experiment)
        self._built = sprint.all_manifests(experiment)
        inputs = tuple(experiment.state.the("sealed").body["inputs"])
        self._words: Words = words_of(part_rows(experiment, "dev"), inputs)
        self._state = experiment.state

    def change(self, name: str, reference: str) -> gate.GateEvidence:
        """What `name` adds to `reference`, and what that did."""
        new, old = self._built[name], self._built[reference]
        conditions = added_conditions(new, old)
        decisive = [condition.literal for condition in conditions]
        literals = self._words.telling(added_literals(new, old), decisive)
        touched = self._words.containing(literals)
        revealed = self._state.revealed_before(self._state.scored("dev", name))
        hidden = self._words.hidden(added_codes(new, old))
        return gate.measure(self._evidence, name, reference, touched, literals, conditions, revealed, hidden)


def _dropped(experiment: Experiment) -> dict[str, str | None]:
    """Iterations that did not pass a gate, and what was done with them."""
    judged = (c for record in experiment.state.all("gate") for c in record.body["changes"])
    return {c["id"]: c["action"] for c in judged if not c["kept"]}


def judged(change: Change) -> Judgement:
    """The judgement that stands in the change's file."""
    wanted = change.wanted
    return Judgement(wanted.class_, wanted.action, wanted.evidence, wanted.by or PERSON)


def objection(change: Change, judgement: Judgement) -> Refusal | None:
    """Why the gate cannot be recorded with this judgement, or None."""
    instead = f"write class, evidence and action into iterations/{change.id}.toml, then: itera run"
    if judgement.class_ is None or judgement.action is None or not judgement.evidence:
        return Refusal(
            "SG23",
            f"iteration {change.id} has no class, evidence and action yet ({change.measured.sentence}).",
            why="a change that nobody judged may have memorised the dev rows.",
            instead=instead,
        )
    try:
        kept = gate.decide(judgement.class_, judgement.action, change.measured, judgement.evidence)
    except ValueError as error:
        why = "what a change is called decides whether it reaches the test."
        return Refusal("SG23", f"iteration {change.id}: {error}.", why=why, instead=instead)
    for name, action in change.builds_on.items() if kept else ():
        if action != gate.UPGRADE:
            return Refusal(
                "SG23",
                f"iteration {change.id} builds on {name}, which is not kept ({action.replace('_', ' ')}).",
                why="what is built on a change brings it to the test.",
                instead=f'register it again with parent = {change.reference!r}; here: action = "upgrade"',
            )
    return None


def write_judgement(experiment: Experiment, name: str, judgement: Judgement, before: str) -> str:
    """Write a judgement into the change's file, comments kept; returns the file's text.

    `before` is the file's text when it was decided.

    Raises:
        EditedError: If the file was edited since then; nothing is written.
        SpecError: If the file would be malformed; nothing is written.
    """
    values: dict[tuple[str, ...], object] = {
        ("class",): judgement.class_,
        ("evidence",): judgement.evidence or None,
        ("action",): judgement.action,
        ("by",): None if judgement.by == PERSON else judgement.by,
    }
    return experiment.edit_toml(f"iterations/{name}.toml", before, values, parse_iteration)


def close_sprint(experiment: Experiment) -> Record | None:
    """Judge every change of the open sprint as its file says; the last gate if none is open.

    Raises:
        Refusal: SG23 where a change has no class, evidence or action, the class contradicts the figures, it
            builds on a change that was dropped, or a table that it was lifted into does not pass its test.
    """
    state = experiment.state
    if not state.ungated:
        return state.last("gate")
    found = open_changes(experiment)
    for change in found:
        if refusal := objection(change, judged(change)):
            experiment.refuse(refusal)
    changes = [_judged(experiment, change) for change in found]
    number = len(state.all("gate")) + 1
    lines = _lines(experiment, changes, number)
    words = {line.outcome for line in lines}
    outcome = gate.LOCK if words != {gate.KILL} else gate.KILL
    if gate.NEXT_SPRINT in words and sprint.more_ideas(experiment):
        outcome = gate.NEXT_SPRINT
    body = {"sprint": number, "changes": changes, "lines": [asdict(x) for x in lines], "outcome": outcome}
    return experiment.record("gate", body)


def _judged(experiment: Experiment, change: Change) -> dict[str, Any]:
    """A change as the gate's record has it."""
    said = judged(change)
    return {
        "id": change.id,
        "class": said.class_,
        "action": said.action,
        "evidence": said.evidence,
        "by": said.by,
        "against": gate.against_the_figures(said.class_, change.measured),
        "reference": change.reference,
        "lifted": _lifted(experiment, change) if said.action == gate.LIFT_OUT else None,
        "measured": asdict(change.measured),
        "kept": gate.decide(str(said.class_), str(said.action), change.measured, said.evidence),
    }


def _lifted(experiment: Experiment, change: Change) -> dict[str, Any]:
    try:
        return asdict(lift(experiment, change.wanted.lifted))
    except ValueError as error:
        experiment.refuse(
            Refusal(
                "SG23",
                f"iteration {change.id} is not lifted out: {error}.",
                why="a hardcode outside of the arm is a table, and a table without a test rots.",
                instead=f'[lifted] table = "…", test = "…" in iterations/{change.id}.toml, then: itera run',
            )
        )


def lift(experiment: Experiment, lifted: LiftedSpec | None) -> Lifted:
    """A table whose every test function has passed, each in a worker process of its own.

    Raises:
        ValueError: What is missing, or which test fails, in words.
    """
    if lifted is None:
        raise ValueError('its file names no [lifted] table = "…" and test = "…"')
    table, test = (_hash(experiment, name) for name in (lifted.table, lifted.test))
    source = (experiment.folder / lifted.test).read_bytes()
    if Path(lifted.table).name.encode() not in source:
        raise ValueError(f"{lifted.test} does not name {Path(lifted.table).name}: it does not test the table")
    try:
        names = _tests(source)
        for name in names:
            (answer,) = call_each(experiment.folder, f"{lifted.test}:{name}", [()])
            if answer.status != "ok":
                raise ValueError(f"{lifted.test}:{name} fails ({answer.error_type})")
    except SyntaxError as error:
        raise ValueError(f"{lifted.test}:{error.lineno}: {error.msg}") from None
    except ArmError as error:
        raise ValueError(error.what) from None
    if not names:
        raise ValueError(f"{lifted.test} has no function test_… without parameters")
    return Lifted(lifted.table, table, lifted.test, test, len(names))


def _hash(experiment: Experiment, name: str) -> str:
    path = (experiment.folder / name).resolve()
    if not path.is_relative_to(experiment.folder) or not path.is_file() or not path.stat().st_size:
        raise ValueError(f"there is no file {name} in the experiment folder, or it is empty")
    return hash_file(path)


def _tests(source: bytes) -> list[str]:
    """Top-level functions named test_... that take nothing."""
    return [
        node.name
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and not ast.unparse(node.args)
    ]


def _lines(experiment: Experiment, changes: Sequence[dict[str, Any]], number: int) -> list[gate.LineOutcome]:
    """What this gate leaves of each registered arm's line that has iterations."""
    spec, state = experiment.spec, experiment.state
    before = [change for record in state.all("gate") for change in record.body["changes"]]
    roots = {c["id"]: sprint.root_arm(spec, state, c["id"]) for c in (*before, *changes)}
    actions: dict[str, list[str]] = {}
    for change in (*before, *changes):
        actions.setdefault(roots[change["id"]], []).append(change["action"])
    heads = sprint.line_heads(spec, state) | {roots[c["id"]]: c["id"] for c in changes if c["kept"]}
    evidence = dev_evidence(experiment)
    base = float(np.nanmean(row_means(evidence.scores[spec.baseline])))
    smallest, excused = spec.rule.min_effect.absolute(base), excused_rows(experiment)
    found = []
    for arm, taken in actions.items():
        left = gate.saturation(
            evidence, heads[arm], fail_below=spec.metric.fail_below, smallest=smallest, excused=excused
        )
        new = sum(roots[c["id"]] == arm for c in changes)
        found.append(gate.line_outcome(arm, taken, number, left, new=new))
    return found


def excused_rows(experiment: Experiment) -> Collection[str]:
    """Dev rows that no change can be asked to win: the label audit calls their label wrong or ambiguous.

    A row that is only hard stays: its label is right, so there is something to win.
    """
    record = experiment.state.last("labels_audited")
    if record is None:
        return ()
    table = experiment.read_frame(record.body["file"], sha256=record.body["sha256"])
    unclear = table["verdict"].isin((WRONG, AMBIGUOUS))
    return set(table.loc[(table["part"] == "dev") & unclear, "id"].astype(str))


def audit_gates(experiment: Experiment) -> dict[str, gate.GateEvidence]:
    """What all kept changes of each line did together, as at a gate: asked for before a fourth sprint."""
    measuring = Measuring(experiment)
    heads = sprint.line_heads(experiment.spec, experiment.state)
    return {arm: measuring.change(head, arm) for arm, head in heads.items() if head != arm}
