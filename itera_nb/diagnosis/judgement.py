"""The gate over the ledger: each change of the open sprint, what was measured of it, how it is judged."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from itera_nb.diagnosis import gate, sprint
from itera_nb.exceptions import Refusal
from itera_nb.experiment import Experiment
from itera_nb.ledger import Record
from itera_nb.protocol import MAX_SPRINTS
from itera_nb.scoring.registered import dev_evidence
from itera_nb.scoring.runs import part_rows
from itera_nb.spec import IterationSpec, load_iteration, parse_iteration


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the open sprint: its record, its file as it is now, and what was measured of it."""

    id: str
    record: Record
    wanted: IterationSpec
    measured: gate.GateEvidence


@dataclass(frozen=True, slots=True)
class Judgement:
    """How a person classes a change, what is done with it, and the reason; None or "" is not said yet."""

    class_: str | None
    action: str | None
    evidence: str | None


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
    evidence, rows = dev_evidence(experiment), part_rows(experiment, "dev")
    built, sealed = sprint.all_manifests(experiment), experiment.state.the("sealed")
    found = []
    for record in records:
        name, parent = record.body["id"], record.body["parent"]
        literals = gate.added_literals(built[name], built[parent])
        touched = gate.touched_rows(rows, tuple(sealed.body["inputs"]), literals)
        measured = gate.measure(evidence, name, parent, touched, literals)
        found.append(Change(name, record, load_iteration(file_of(experiment, name)), measured))
    return found


def judged(change: Change) -> Judgement:
    """The judgement that stands in the change's file."""
    return Judgement(change.wanted.class_, change.wanted.action, change.wanted.evidence)


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
        gate.decide(judgement.class_, judgement.action, change.measured, judgement.evidence)
    except ValueError as error:
        why = "what a change is called decides whether it reaches the test."
        return Refusal("SG23", f"iteration {change.id}: {error}.", why=why, instead=instead)
    return None


def write_judgement(experiment: Experiment, name: str, judgement: Judgement, before: str) -> str:
    """Write a judgement into the change's file, comments kept; returns the file's text.

    Args:
        experiment: The experiment.
        name: The iteration's id.
        judgement: What was decided.
        before: The file's text when it was decided.

    Raises:
        EditedError: If the file was edited since then; nothing is written.
        SpecError: If the file would be malformed; nothing is written.
    """
    values: dict[tuple[str, ...], object] = {
        ("class",): judgement.class_,
        ("evidence",): judgement.evidence or None,
        ("action",): judgement.action,
    }
    return experiment.edit_toml(f"iterations/{name}.toml", before, values, parse_iteration)


def close_sprint(experiment: Experiment) -> Record | None:
    """Judge every change of the open sprint as its file says; the last gate if none is open.

    Raises:
        Refusal: SG23 where a change has no class, evidence or action, or the class contradicts the figures.
    """
    state = experiment.state
    if not state.ungated:
        return state.last("gate")
    changes = []
    for change in open_changes(experiment):
        if refusal := objection(change, judged(change)):
            experiment.refuse(refusal)
        class_, action, evidence = change.wanted.class_, change.wanted.action, change.wanted.evidence
        changes.append(
            {
                "id": change.id,
                "class": class_,
                "action": action,
                "evidence": evidence,
                "measured": asdict(change.measured),
                "kept": gate.decide(str(class_), str(action), change.measured, evidence),
            }
        )
    number = len(state.all("gate")) + 1
    kept, more = any(c["kept"] for c in changes), bool(sprint.queued(experiment))
    outcome = "next sprint" if kept and more and number < MAX_SPRINTS else "lock"
    return experiment.record("gate", {"sprint": number, "changes": changes, "outcome": outcome})
