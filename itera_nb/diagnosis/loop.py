"""The loop of phase 4 over the ledger: patterns, iterations scored, and the lock of what goes to the test."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import itera_nb
from itera_nb.arms.manifest import build
from itera_nb.arms.snapshot import code_files, files_of, take
from itera_nb.diagnosis import sprint
from itera_nb.diagnosis.coverage import Reach, reach
from itera_nb.diagnosis.label_noise import require_audit
from itera_nb.diagnosis.patterns import Pattern, find_patterns, seen_contrast
from itera_nb.experiment import Experiment
from itera_nb.ledger import Record
from itera_nb.scoring.evidence import Comparison, Evidence, compare
from itera_nb.scoring.package import VERDICT, package_hash, verdict_cells
from itera_nb.scoring.registered import dev_evidence, planned_trials, registered_modes
from itera_nb.scoring.runs import evidence_of, part_rows, record_scores, run_part
from itera_nb.source.contamination import look_before
from itera_nb.stats.decision import look_alpha
from itera_nb.stats.paired import Delta, paired_delta


@dataclass(frozen=True, slots=True)
class IterationResult:
    """A scored iteration: its effect against its parent where it was predicted, and overall.

    Where no predicted row has a score on both sides, nothing is said of the prediction and `effect` is the
    overall one. `reach` says whether the change was in play on the rows that it was to win.
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
    said = sprint.outcome(body["predicted_effect"], effect) if mask.any() else "neutral"
    return IterationResult(iteration.record, effect, compared.delta, said, Reach(**scored.body["reach"]))


def lock(experiment: Experiment) -> Record:
    """Freeze the baseline, each line's latest gate-passed iteration and the controls, with all their files.

    Raises:
        Refusal: SG23 while an iteration has not passed a gate, SG21 where its files were edited since, SG30
            where the labels of generated data are not audited.
    """
    record = experiment.state.last("locked")
    if record is not None:
        return record
    experiment.require("locked")
    require_audit(experiment)
    scanned = look_before(experiment, "locked")
    score_iterations(experiment)
    spec, state = experiment.spec, experiment.state
    heads = {spec.baseline: spec.baseline} | sprint.line_heads(spec, state) | {c: c for c in spec.controls}
    arms = {arm: sprint.arm_spec(spec, state, head) for arm, head in heads.items()}
    built = {arm: build(spec, arm, wanted, experiment.folder) for arm, wanted in arms.items()}
    files = take(files_of(built.values(), code_files(spec, experiment.folder)), experiment.path("snapshot"))
    evidence, alpha = dev_evidence(experiment), look_alpha(spec.rule.extension == "once")
    trials = planned_trials(experiment, "dev")
    compared = {
        arm: compare(evidence, head, spec.baseline, alpha)
        for arm, head in heads.items()
        if arm != spec.baseline
    }
    lines: list[dict[str, Any]] = [
        {
            "arm": arm,
            "head": heads[arm],
            "digest": built[arm].digest,
            "trials": trials[arm],
            "spec": arms[arm].model_dump(mode="json", by_alias=True, exclude_unset=True),
            "dev": asdict(compared[arm].delta) if arm in compared else None,
            "seen": _seen(experiment, compared[arm]) if arm in compared else None,
        }
        for arm in heads
    ]
    body = {
        "lines": lines,
        "files": files,
        "package": package_hash(),
        "version": itera_nb.__version__,
        "templates": {VERDICT: verdict_cells()},
        "dev_iterations": len(state.all("iteration_registered")),
        "scan": scanned,
    }
    return experiment.record("locked", body)


def _seen(experiment: Experiment, compared: Comparison) -> dict[str, Any] | None:
    state = experiment.state
    head = compared.arm if compared.arm in sprint.registered(state) else None
    read = state.revealed_before(state.scored("dev", head))
    found = seen_contrast(compared, experiment.spec.baseline, read)
    return asdict(found) if found else None
