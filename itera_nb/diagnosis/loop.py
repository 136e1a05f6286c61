"""The loop of phase 4 over the ledger: differences and patterns, iterations from the queue, the gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from itera_nb.arms.lock import manifests
from itera_nb.arms.manifest import Manifest, build
from itera_nb.diagnosis import gate, sprint
from itera_nb.diagnosis.diffs import row_differences
from itera_nb.diagnosis.patterns import Pattern, find_patterns
from itera_nb.exceptions import Refusal
from itera_nb.experiment import Experiment
from itera_nb.ledger import Record
from itera_nb.protocol import MAX_SPRINTS, check
from itera_nb.scoring.evidence import Evidence, compare
from itera_nb.scoring.registered import dev_evidence, planned_trials, registered_modes
from itera_nb.scoring.runs import evidence_of, part_rows, record_scores, run_part
from itera_nb.spec import load_iteration
from itera_nb.stats.decision import look_alpha
from itera_nb.stats.paired import Delta, paired_delta
from itera_nb.stats.slices import slice_deltas

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Group:
    """Net effect of one arm on a slice, or the shift of one failure mode; fractions."""

    arm: str
    group: str
    n: int
    effect: Delta


@dataclass(frozen=True, slots=True)
class IterationResult:
    """A scored iteration: its effect against its parent where it was predicted, and overall."""

    record: Record
    effect: Delta
    overall: Delta
    outcome: str


def differences(experiment: Experiment) -> dict[str, pd.DataFrame]:
    """Candidate -> its row differences against the baseline on dev."""
    spec, evidence = experiment.spec, dev_evidence(experiment)
    return {
        arm: row_differences(evidence, arm, spec.baseline, spec.metric.fail_below) for arm in spec.candidates
    }


def patterns(experiment: Experiment) -> list[Pattern]:
    """The four patterns of every candidate on dev."""
    spec, evidence = experiment.spec, dev_evidence(experiment)
    alpha, seen = look_alpha(spec.rule.extension == "once"), experiment.state.revealed
    return [
        p for arm in spec.candidates for p in find_patterns(spec, evidence, arm, alpha=alpha, revealed=seen)
    ]


def by_group(experiment: Experiment) -> list[Group]:
    """Net effect of every candidate by slice, then the shift of every failure mode, on dev."""
    spec, evidence = experiment.spec, dev_evidence(experiment)
    found = []
    for arm in spec.candidates:
        compared = compare(evidence, arm, spec.baseline, 0.05)
        pairs = compared.evidence
        for name, effect in slice_deltas(
            compared.d, pairs.slices, pairs.cluster, graded=evidence.graded
        ).items():
            found.append(Group(arm, name, effect.n, effect))
        for mode, flags in pairs.modes[arm].items():
            shift = np.nanmean(flags, axis=1) - np.nanmean(pairs.modes[spec.baseline][mode], axis=1)
            found.append(Group(arm, f"failure: {mode}", shift.size, paired_delta(shift, pairs.cluster)))
    return found


def iterate(experiment: Experiment) -> list[IterationResult]:
    """Score what is registered, then register and score the queue's next iteration, until the sprint is full.

    Raises:
        Refusal: SG21 or SG22 where the queue's next iteration may not run.
        SpecError: If its file is malformed.
    """
    if experiment.state.scored("dev") is None:
        experiment.require("iteration_registered")
    if not experiment.state.has("locked"):
        score_iterations(experiment)
        for name, file in sprint.queued(experiment):
            if check("iteration_registered", experiment.state) is not None:
                break
            sprint.register(experiment, name, file, _all_manifests(experiment))
            score_iterations(experiment)
    return results(experiment)


def may_iterate(experiment: Experiment) -> bool:
    """Whether the queue holds an iteration and the protocol allows one more sprint."""
    return bool(sprint.queued(experiment)) and check("iteration_registered", experiment.state) is None


def results(experiment: Experiment) -> list[IterationResult]:
    """Every scored iteration with its outcome against its registered prediction."""
    scored = [i for i in sprint.registered(experiment.state) if experiment.state.scored("dev", i)]
    if not scored:
        return []
    evidence = dev_evidence(experiment)
    return [_result(experiment, evidence, name) for name in scored]


def close_sprint(experiment: Experiment) -> Record | None:
    """Judge every change of the open sprint, in the order of registration; the last gate if none is open.

    Raises:
        Refusal: SG23 where a change has no class, evidence or action, or the class contradicts the figures.
    """
    state = experiment.state
    if not state.ungated:
        return state.last("gate")
    experiment.require("gate")
    evidence, rows = dev_evidence(experiment), part_rows(experiment, "dev")
    built = _all_manifests(experiment)
    inputs = _inputs(experiment)
    changes = [_judge(experiment, record, evidence, rows, inputs, built) for record in state.ungated]
    kept = [c for c in changes if c["kept"]]
    last = len(state.all("gate")) + 1 >= MAX_SPRINTS
    outcome = "next sprint" if kept and sprint.queued(experiment) and not last else "lock"
    body = {"sprint": len(state.all("gate")) + 1, "changes": changes, "outcome": outcome}
    return experiment.record("gate", body)


def _judge(
    experiment: Experiment,
    record: Record,
    evidence: Evidence,
    rows: list[dict[str, Any]],
    inputs: tuple[str, ...],
    built: Mapping[str, Manifest],
) -> dict[str, Any]:
    name, parent = record.body["id"], record.body["parent"]
    wanted = load_iteration(experiment.path("iterations", f"{name}.toml"))
    literals = gate.added_literals(built[name], built[parent])
    measured = gate.measure(evidence, name, parent, gate.touched_rows(rows, inputs, literals), literals)
    instead = f"write class, evidence and action into iterations/{name}.toml, then: itera run"
    if wanted.class_ is None or wanted.action is None or not wanted.evidence:
        experiment.refuse(
            Refusal(
                "SG23",
                f"iteration {name} has no class, evidence and action yet ({measured.sentence}).",
                why="a change that nobody judged may have memorised the dev rows.",
                instead=instead,
            )
        )
    try:
        kept = gate.decide(wanted.class_, wanted.action, measured, wanted.evidence)
    except ValueError as error:
        why = "what a change is called decides whether it reaches the test."
        experiment.refuse(Refusal("SG23", f"iteration {name}: {error}.", why=why, instead=instead))
    return {
        "id": name,
        "class": wanted.class_,
        "action": wanted.action,
        "evidence": wanted.evidence,
        "measured": asdict(measured),
        "kept": kept,
    }


def score_iterations(experiment: Experiment) -> None:
    """Score every registered iteration that has no current score: a new one, or all after an amendment.

    Raises:
        IteraError: If the files of one were edited after it was registered.
    """
    for name, iteration in sprint.registered(experiment.state).items():
        arm = sprint.as_registered(experiment, iteration)
        if experiment.state.scored("dev", name):
            continue
        trials = max(planned_trials(experiment, "dev").values())
        table = run_part(experiment, "dev", {name: arm}, trials=trials).table
        evidence = evidence_of(experiment, table, "dev", registered_modes(experiment))
        record_scores(experiment, table, "dev", evidence, iteration=name)


def _result(experiment: Experiment, evidence: Evidence, name: str) -> IterationResult:
    iteration = sprint.registered(experiment.state)[name]
    body = iteration.record.body
    compared = compare(evidence, name, iteration.parent, 0.05)
    rows = part_rows(experiment, "dev")
    columns = {c: np.array([row[c] for row in rows]) for c in body["predicted_rows"]}
    mask = sprint.predicted_mask(columns, body["predicted_rows"], len(rows))
    mask, pairs = mask[evidence.scored(name, iteration.parent)], compared.evidence
    effect = compared.delta
    if not mask.all() and mask.any():
        cluster = None if pairs.cluster is None else pairs.cluster[mask]
        effect = paired_delta(compared.d[mask], cluster, graded=evidence.graded)
    return IterationResult(
        iteration.record, effect, compared.delta, sprint.outcome(body["predicted_effect"], effect)
    )


def _all_manifests(experiment: Experiment) -> dict[str, Manifest]:
    built = manifests(experiment)
    for name, iteration in sprint.registered(experiment.state).items():
        sprint.as_registered(experiment, iteration)
        built[name] = build(experiment.spec, name, iteration.arm, experiment.folder)
    return built


def _inputs(experiment: Experiment) -> tuple[str, ...]:
    sealed = experiment.state.last("sealed")
    return tuple(sealed.body["inputs"]) if sealed else ()
