"""Scoring the registered arms: the baseline on train, the metric's lock, and every arm on train and dev."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from itera_nb.arms.lock import METRIC_PARTS, toml_hash, values
from itera_nb.exceptions import ArmError
from itera_nb.experiment import Experiment
from itera_nb.ledger import Record
from itera_nb.scoring.evidence import Evidence
from itera_nb.scoring.runs import Scored, evidence_of, part_rows, record_scores, run_part, runnable
from itera_nb.scoring.scores import mode_weights
from itera_nb.stats.missing import intention_to_treat
from itera_nb.stats.noise import rerun_noise

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
    paths = [root / "pythonpath" / str(i) for i in range(len(spec.run.pythonpath))]
    return mode_weights(spec.metric, root=root, pythonpath=paths)


def measure_baseline(experiment: Experiment) -> Baseline:
    """Run and score the baseline on train; a finished measurement is read back."""
    experiment.require("baseline_measured")
    spec, record = experiment.spec, experiment.state.last("baseline_measured")
    rows, modes = part_rows(experiment, "train"), registered_modes(experiment)
    if record is not None:
        return Baseline(experiment.read_frame(BASELINE, sha256=record.body["sha256"]), rows, record, modes)
    results = run_part(experiment, "train", {spec.baseline: spec.arms[spec.baseline]}, trials=spec.trials)
    evidence = evidence_of(experiment, results, "train", modes)
    scores = evidence.scores[spec.baseline]
    if evidence.failed[spec.baseline] == scores.size:
        _all_failed(results, spec.baseline)
    if np.isnan(scores).all():
        _nothing_scored(results, spec.metric.scorer)
    noise = rerun_noise(scores, scores) if evidence.repeated(spec.baseline) else None
    body = {
        "value": float(intention_to_treat(scores).mean()),
        "n": len(evidence.ids),
        "trials": scores.shape[1],
        "failed": evidence.failed[spec.baseline],
        "noise_floor": noise.se if noise else None,
        "deterministic": noise.deterministic if noise else None,
        "file": BASELINE,
        "sha256": experiment.write_frame(BASELINE, results),
    }
    return Baseline(results, rows, experiment.record("baseline_measured", body), modes)


def _all_failed(results: pd.DataFrame, arm: str) -> None:
    first = results.iloc[0]
    raise ArmError(
        f"arm {arm!r} fails on every train row: {first['status']} {first.get('error', '')}".strip(),
        fix="run it on one row by hand and mend it",
    )


def _nothing_scored(results: pd.DataFrame, scorer: str) -> None:
    raise ArmError(
        f"the scorer {scorer!r} gives no train row a score: {results.iloc[0].get('unscored') or ''}".strip(),
        fix="try it on one output by hand and mend it",
    )


def lock_metric(experiment: Experiment) -> Record:
    """Lock scorer, failure modes, severity and `experiment.toml` as bytes."""
    record = experiment.state.last("metric_locked")
    if record is not None:
        return record
    experiment.require("metric_locked")
    measured = experiment.state.last("baseline_measured")
    assert measured is not None
    body = {
        "toml": toml_hash(experiment),
        "values": values(experiment, METRIC_PARTS),
        "modes": registered_modes(experiment),
        "baseline": measured.body["value"],
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


def score_registered(experiment: Experiment, part: str, *, trials: int | None = None) -> Scored:
    """Score every registered arm on train or dev; a finished score is read back."""
    spec, done = experiment.spec, experiment.state.scored(part)
    if done is not None:
        results = experiment.read_frame(done.body["file"], sha256=done.body["sha256"])
        return Scored(results, done)
    experiment.require("scored")
    planned: int | dict[str, int] = planned_trials(experiment, part)
    if part == "train" and trials is not None and spec.run.trials != "auto":
        planned = trials
    results = run_part(experiment, part, spec.arms, trials=planned)
    evidence = evidence_of(experiment, results, part, registered_modes(experiment))
    return record_scores(experiment, results, part, evidence, baseline=spec.baseline)


def dev_evidence(experiment: Experiment) -> Evidence:
    """The dev scores of the registered arms, and of every scored iteration, as arrays."""
    import pandas as pd

    scored = score_registered(experiment, "dev")
    tables = [scored.results]
    for record in experiment.state.all("scored"):
        current = (
            record.body["iteration"] and experiment.state.scored("dev", record.body["iteration"]) == record
        )
        if current:
            tables.append(experiment.read_frame(record.body["file"], sha256=record.body["sha256"]))
    return evidence_of(experiment, pd.concat(tables), "dev", registered_modes(experiment))
