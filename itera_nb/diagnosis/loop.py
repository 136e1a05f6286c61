"""The loop of phase 4 over the ledger: differences and patterns, iterations from the queue."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from itera_nb.diagnosis import sprint
from itera_nb.diagnosis.coverage import Reach, reach
from itera_nb.diagnosis.patterns import Pattern, find_patterns
from itera_nb.experiment import Experiment
from itera_nb.ledger import Record
from itera_nb.scoring.evidence import Evidence, compare
from itera_nb.scoring.registered import dev_evidence, planned_trials, registered_modes
from itera_nb.scoring.runs import evidence_of, part_rows, record_scores, run_part
from itera_nb.stats.decision import look_alpha
from itera_nb.stats.paired import Delta, paired_delta


@dataclass(frozen=True, slots=True)
class IterationResult:
    """A scored iteration: its effect against its parent where it was predicted, and overall.

    `reach` says whether the change was in play on the rows that it was to win.
    """

    record: Record
    effect: Delta
    overall: Delta
    outcome: str
    reach: Reach


def patterns(experiment: Experiment) -> list[Pattern]:
    """The four patterns of every candidate on dev."""
    spec, evidence = experiment.spec, dev_evidence(experiment)
    alpha, state = look_alpha(spec.rule.extension == "once"), experiment.state
    seen = state.revealed_before(state.scored("dev"))
    return [
        p for arm in spec.candidates for p in find_patterns(spec, evidence, arm, alpha=alpha, revealed=seen)
    ]


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
        sprint.as_registered(experiment, iteration)
        if experiment.state.scored("dev", name):
            continue
        trials = max(planned_trials(experiment, "dev").values())
        table = run_part(experiment, "dev", {name: iteration.arm}, trials=trials).table
        evidence = evidence_of(experiment, table, "dev", registered_modes(experiment))
        reached = reach(experiment, iteration, dev_evidence(experiment))
        record_scores(experiment, table, "dev", evidence, iteration=name, reach=asdict(reached))


def _result(experiment: Experiment, evidence: Evidence, name: str) -> IterationResult:
    iteration = sprint.registered(experiment.state)[name]
    body = iteration.record.body
    compared = compare(evidence, name, iteration.parent, 0.05)
    mask = sprint.predicted_mask(part_rows(experiment, "dev"), body["predicted_rows"])
    mask, pairs = mask[evidence.scored(name, iteration.parent)], compared.evidence
    effect = compared.delta
    if not mask.all() and mask.any():
        cluster = None if pairs.cluster is None else pairs.cluster[mask]
        effect = paired_delta(compared.d[mask], cluster, graded=evidence.graded)
    scored = experiment.state.scored("dev", name)
    assert scored is not None
    said = sprint.outcome(body["predicted_effect"], effect)
    return IterationResult(iteration.record, effect, compared.delta, said, Reach(**scored.body["reach"]))
