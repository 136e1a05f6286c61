"""Scoring the registered arms: the baseline on train, the metric's lock, every arm on train and dev.

And screening: any number of arms on train only, so that at most three are chosen before dev is looked at.
"""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from itera_nb.arms.lock import METRIC_PARTS, toml_hash, values
from itera_nb.exceptions import ArmError, IteraError
from itera_nb.experiment import Experiment
from itera_nb.ledger import Record
from itera_nb.models.checks import require_models
from itera_nb.scoring.evidence import READABLE, Evidence
from itera_nb.scoring.forecast import require_budget, require_prices
from itera_nb.scoring.power import power_at_lock
from itera_nb.scoring.runs import (
    Scored,
    against_itself,
    evidence_of,
    part_rows,
    plant_injections,
    record_scores,
    run_part,
    runnable,
    summarise,
)
from itera_nb.scoring.scores import mode_weights
from itera_nb.stats.missing import mean_score
from itera_nb.stats.noise import RerunNoise, preference_noise, rerun_noise
from itera_nb.stats.paired import paired_delta

if TYPE_CHECKING:
    import pandas as pd

BASELINE = "runs/baseline-train.parquet"


@dataclass(frozen=True)
class Baseline:
    """The baseline on train: its scores, with outputs, and the rows they belong to."""

    results: pd.DataFrame
    rows: list[dict[str, Any]]
    record: Record
    modes: dict[str, float]


def registered_modes(experiment: Experiment) -> dict[str, float]:
    """Failure mode -> severity weight, as locked, or as the files say before the lock.

    Raises:
        ArmError: If the failure-mode module cannot be loaded or declares no MODES.
    """
    locked = experiment.state.last("metric_locked")
    if locked is not None:
        return dict(locked.body["modes"])
    spec = experiment.spec
    _, root = runnable(experiment, {spec.baseline: spec.arms[spec.baseline]})
    return mode_weights(spec, root)


def measure_baseline(experiment: Experiment) -> Baseline:
    """Run and score the baseline on train; a finished measurement is read back."""
    experiment.require("baseline_measured")
    spec, record = experiment.spec, experiment.state.last("baseline_measured")
    rows, modes = part_rows(experiment, "train"), registered_modes(experiment)
    if record is not None:
        return Baseline(experiment.read_frame(BASELINE, sha256=record.body["sha256"]), rows, record, modes)
    require_prices(experiment)
    require_models(spec)  # every arm's and the judge's: this is the first phase that pays
    arms = {spec.baseline: spec.arms[spec.baseline]}
    ran = run_part(experiment, "train", arms, trials=spec.trials)
    results = ran.table
    evidence = evidence_of(experiment, results, "train", modes)
    scores = evidence.scores[spec.baseline]
    if evidence.failed[spec.baseline] == scores.size:
        _all_failed(results, spec.baseline)
    # A preference is tried on the baseline against itself: its own scores are 0 by definition.
    tried = against_itself(experiment, ran.attempts, "train") if evidence.pairwise else results
    if tried["score"].isna().all():
        _nothing_scored(tried, spec.metric.scorer)
    noise = _floor(evidence, spec.baseline, tried)
    body = {
        "value": mean_score(scores),
        "n": len(evidence.ids),
        "trials": scores.shape[1],
        "failed": evidence.failed[spec.baseline],
        "noise_floor": noise.se if noise else None,
        "deterministic": noise.deterministic if noise else None,
        "judge": asdict(evidence.judge) if evidence.judge else None,
        "file": BASELINE,
        "sha256": experiment.write_frame(BASELINE, results),
    }
    return Baseline(results, rows, experiment.record("baseline_measured", body), modes)


def _floor(evidence: Evidence, baseline: str, tried: pd.DataFrame) -> RerunNoise | None:
    """Re-run noise where nothing was changed; None with one trial."""
    scores = evidence.scores[baseline]
    if not evidence.repeated(baseline):
        return None
    return (
        preference_noise(tried["score"], scores.shape[1])
        if evidence.pairwise
        else rerun_noise(scores, scores)
    )


def _all_failed(results: pd.DataFrame, arm: str) -> None:
    first = results.iloc[0]
    raise ArmError(
        f"arm {arm!r} fails on every train row: {first['status']} {first.get('error', '')}".strip(),
        fix="run it on one row by hand and mend it",
    )


def _nothing_scored(results: pd.DataFrame, scorer: str) -> None:
    raise ArmError(
        f"the scorer {scorer!r} gives no train row a score: {results.iloc[0].get('unscored') or ''}".strip(),
        fix="run again: the judge is asked again; else mend its rubric or model"
        if scorer in {"judge", "preference"}
        else "try it on one output by hand and mend it",
    )


def lock_metric(experiment: Experiment) -> Record:
    """Lock scorer, failure modes, severity and `experiment.toml` as bytes, with the power at this size."""
    record = experiment.state.last("metric_locked")
    if record is not None:
        return record
    experiment.require("metric_locked")
    measured = experiment.state.the("baseline_measured")
    body = {
        "toml": toml_hash(experiment),
        "values": values(experiment, METRIC_PARTS),
        "modes": registered_modes(experiment),
        "baseline": measured.body["value"],
        "power": power_at_lock(experiment),
    }
    return experiment.record("metric_locked", body)


def planned_trials(experiment: Experiment, part: str) -> dict[str, int]:
    """Trials of each arm: those registered; under `auto` one for an arm that never varied on train."""
    spec = experiment.spec
    planned = dict.fromkeys(spec.arms, spec.trials)
    train = experiment.state.scored("train")
    if spec.run.trials == "auto" and part != "train" and train is not None:
        for arm, figures in train.body["arms"].items():
            if figures["deterministic"]:
                planned[arm] = 1
    return planned


def score_registered(
    experiment: Experiment, part: str, *, trials: int | None = None, cluster: str | Executor | None = None
) -> Scored:
    """Score every registered arm on train or dev; a finished score is read back.

    Raises:
        Refusal: The pilot's forecast crosses the budget, and nobody has accepted that.
    """
    spec, done = experiment.spec, experiment.state.scored(part)
    if done is not None:
        results = experiment.read_frame(done.body["file"], sha256=done.body["sha256"])
        return Scored(results, done)
    experiment.require("scored")
    require_budget(experiment)
    planned: int | dict[str, int] = planned_trials(experiment, part)
    if part == "train" and trials is not None and spec.run.trials != "auto":
        planned = trials
    ran = run_part(experiment, part, spec.arms, trials=planned, cluster=cluster)
    planted = plant_injections(experiment, ran) if part == "dev" else None
    evidence = evidence_of(experiment, ran.table, part, registered_modes(experiment))
    return record_scores(experiment, ran.table, part, evidence, baseline=spec.baseline, planted=planted)


def part_results(experiment: Experiment, part: str, *, readable: bool = True) -> pd.DataFrame:
    """The results of the registered arms on train or dev, and of every iteration that is scored on it.

    Without `readable`, no outputs, errors or reasons: they are most of the memory.
    """
    import pandas as pd

    if experiment.state.scored(part) is None:
        score_registered(experiment, part)
    state = experiment.state
    current = [r for r in state.all("scored") if state.scored(part, r.body["iteration"]) == r]
    return pd.concat(
        [
            experiment.read_frame(
                r.body["file"], sha256=r.body["sha256"], without=() if readable else READABLE
            )
            for r in sorted(current, key=lambda r: r.body["iteration"] is not None)
        ]
    )


def dev_evidence(experiment: Experiment) -> Evidence:
    """The dev scores of the registered arms, and of every scored iteration, as arrays."""
    results = part_results(experiment, "dev", readable=False)
    return evidence_of(experiment, results, "dev", registered_modes(experiment))


@dataclass(frozen=True, slots=True)
class Screened:
    """An arm on train: its mean, and its 95 % interval (fractions; of a preference from -1 to 1)."""

    arm: str
    registered: bool
    mean: float
    low: float
    high: float


def screen(experiment: Experiment) -> tuple[list[Screened], Record]:
    """Score the arms of [screen] beside the registered ones on train, in one trial; finished rows are reused.

    Returns:
        The arms in the order of the file, never by score; and the `screened` record, whose arms the page
        counts. The same arms screened again are not recorded again.

    Raises:
        Refusal: The metric is not locked yet, or the arms are.
        IteraError: There is no [screen].
    """
    experiment.require("screened")
    spec = experiment.spec
    if not spec.screen:
        raise IteraError(
            "there is nothing to screen",
            fix='write the arms as [screen.NAME], for example with from = "an arm of [arms]"',
        )
    require_budget(experiment)
    arms = spec.arms | spec.screen
    ran = run_part(experiment, "train", arms, trials=1)
    evidence = evidence_of(experiment, ran.table, "train", registered_modes(experiment))
    figures = summarise(ran.table, evidence)
    body = {"n": figures["n"], "arms": {arm: figures["arms"][arm]["mean"] for arm in arms}}
    record = experiment.state.last("screened")
    if record is None or record.body != body:
        record = experiment.record("screened", body)
    described = evidence.complete(*arms)
    found = []
    for arm in arms:
        around = paired_delta(described.scores[arm][:, 0], described.cluster, graded=evidence.graded)
        found.append(Screened(arm, arm in spec.arms, body["arms"][arm], around.low, around.high))
    return found, record
