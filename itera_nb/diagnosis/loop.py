"""The loop of phase 4 over the ledger: differences and patterns, iterations from the queue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from itera_nb.diagnosis import sprint
from itera_nb.diagnosis.patterns import Pattern, find_patterns
from itera_nb.experiment import Experiment
from itera_nb.ledger import Record
from itera_nb.protocol import check
from itera_nb.scoring.evidence import Evidence, compare
from itera_nb.scoring.registered import dev_evidence, planned_trials, registered_modes
from itera_nb.scoring.runs import evidence_of, part_rows, record_scores, run_part
from itera_nb.stats.decision import look_alpha
from itera_nb.stats.paired import Delta, paired_delta
from itera_nb.stats.slices import slice_deltas


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
            sprint.register(experiment, name, file, sprint.all_manifests(experiment))
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
