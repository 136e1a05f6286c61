"""Running arms on train or dev: snapshot, engine, scores, and the record of what was scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from itera_nb.arms.manifest import Manifest, build, hash_file
from itera_nb.arms.runtime import RunnableArm
from itera_nb.arms.snapshot import code_files, files_of, take_once
from itera_nb.exceptions import RecordError, Refusal
from itera_nb.experiment import Experiment
from itera_nb.ledger import Record, digest
from itera_nb.scoring.attempts import AttemptLog
from itera_nb.scoring.engine import RowGroup, run
from itera_nb.scoring.evidence import Evidence, collect
from itera_nb.scoring.progress import progress_bar
from itera_nb.scoring.results import score_table
from itera_nb.source.parts import read_part
from itera_nb.spec import ArmSpec, Spec

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Scored:
    """Scores of some arms on one part, and the record that vouches for them."""

    results: pd.DataFrame
    record: Record


def trial_seed(genesis: str, trial: int) -> int:
    """The registered seed of one trial: the same for every arm, and not anyone's choice."""
    return int(digest([genesis, "trial", trial])[:8], 16)


def runnable(
    experiment: Experiment, arms: Mapping[str, ArmSpec], root: Path | None = None
) -> tuple[list[RunnableArm], Path]:
    """Arms ready to run from a snapshot of their files (taken now, unless `root` is one).

    Raises:
        ArmError: If a file is missing or does not parse.
    """
    spec, folder = experiment.spec, experiment.folder
    manifests = {name: build(spec, name, arm, root or folder) for name, arm in arms.items()}
    if root is None:
        files = files_of(manifests.values(), code_files(spec, folder))
        root = take_once(files, experiment.path("runs", "snapshots"))
    sealed = experiment.state.last("sealed")
    inputs = tuple(sealed.body["inputs"]) if sealed else tuple(spec.source.inputs)
    return [_runnable(spec, folder, root, inputs, arms[name], m) for name, m in manifests.items()], root


def _runnable(
    spec: Spec, folder: Path, root: Path, inputs: tuple[str, ...], arm: ArmSpec, manifest: Manifest
) -> RunnableArm:
    return RunnableArm(
        name=manifest.arm,
        spec=arm,
        root=root,
        digest=manifest.digest,
        inputs=inputs,
        pythonpath=tuple(root / "pythonpath" / str(i) for i in range(len(spec.run.pythonpath))),
        resources={key: (folder / path).resolve() for key, path in spec.resources.items()},
    )


def part_rows(experiment: Experiment, part: str) -> list[dict[str, Any]]:
    """The train or dev rows as plain Python values, in file order.

    Raises:
        Refusal: SG01, for any other part, or before the split is sealed.
        RecordError: If the file is not the one that the split wrote.
    """
    if part not in {"train", "dev"}:
        refusal = Refusal(
            "SG01",
            f"rows of {part!r} cannot be read.",
            why="only train and dev rows may be seen before the verdict.",
            instead="rows you may read:   exp.train.head()",
        )
        experiment.refuse(refusal)
    experiment.require("revealed")
    sealed, name = experiment.state.last("sealed"), f"data/{part}.parquet"
    assert sealed is not None
    path = experiment.path(name)
    if not path.is_file():
        raise RecordError(f"{name} is missing", fix="put it back; its hash is in the ledger")
    if hash_file(path) != sealed.body["files"][part]:
        raise RecordError(f"{name} is not the file that was recorded", record=sealed.seq, fix="put it back")
    return read_part(path)


def fit_rows(experiment: Experiment, part: str) -> list[dict[str, Any]]:
    """What arms learn from before they score `part`: train, and with dev folds also dev for the test."""
    train = part_rows(experiment, "train")
    if part != "test":
        return train
    dev = part_rows(experiment, "dev")
    return [*train, *dev] if has_folds(dev) else train


def has_folds(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether these dev rows are in folds: each is scored by arms fitted on the others."""
    return bool(rows) and rows[0].get("fold") is not None


def row_groups(experiment: Experiment, part: str) -> list[RowGroup]:
    """The rows to score with the rows to fit on: train, and for dev folds also the other folds."""
    rows, train = part_rows(experiment, part), fit_rows(experiment, part)
    if part != "dev" or not has_folds(rows):
        return [RowGroup(rows, train, part)]
    return [
        RowGroup(
            [row for row in rows if row["fold"] == fold],
            [*train, *(row for row in rows if row["fold"] != fold)],
            f"fold {fold}",
        )
        for fold in sorted({row["fold"] for row in rows})
    ]


def run_part(
    experiment: Experiment,
    part: str,
    arms: Mapping[str, ArmSpec],
    *,
    trials: int | Mapping[str, int],
    limit: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Run and score `arms` on train or dev rows; finished units are taken from the attempt log.

    Args:
        experiment: The experiment.
        part: "train" or "dev".
        arms: Name -> resolved arm.
        trials: Planned trials, for all arms or each.
        limit: Only these row ids (the pilot's).

    Returns:
        One line per row, arm and trial.

    Raises:
        StoppedError: Credentials, budget or an interrupt; what is finished is kept.
    """
    spec, genesis = experiment.spec, experiment.genesis
    ready, root = runnable(experiment, arms)
    groups = row_groups(experiment, part)
    id_column = spec.source.id
    if limit is not None:
        groups = [RowGroup([r for r in g.rows if r[id_column] in limit], g.fit_rows, g.label) for g in groups]
        groups = [g for g in groups if g.rows]
    rows = [row for group in groups for row in group.rows]
    planned = sum((trials if isinstance(trials, int) else trials[a]) * len(rows) for a in arms)
    with AttemptLog(experiment.path("runs", "attempts.jsonl")) as log, progress_bar(part, planned) as step:
        attempts = run(
            ready,
            groups,
            id_column=id_column,
            trials=trials,
            log=log,
            settings=spec.run,
            models=spec.models,
            seed=lambda trial: trial_seed(genesis, trial),
            progress=step,
            budget_usd=spec.run.budget_usd,
        )
    return score_table(attempts, rows, spec, root)


def evidence_of(
    experiment: Experiment, results: pd.DataFrame, part: str, modes: Mapping[str, float]
) -> Evidence:
    """The arrays that the rule and the diagnosis look at, for one part."""
    import pandas as pd

    spec = experiment.spec
    strata = {spec.source.id, *spec.source.slices, spec.source.cluster, spec.source.severity} - {None}
    rows = pd.DataFrame([{c: row[c] for c in strata if c} for row in part_rows(experiment, part)])
    return collect(results, rows, spec, modes)


def record_scores(
    experiment: Experiment,
    results: pd.DataFrame,
    part: str,
    evidence: Evidence,
    *,
    baseline: str | None = None,
    iteration: str | None = None,
) -> Scored:
    """Keep a results table under `runs/` and append the `scored` record that vouches for it."""
    from itera_nb.arms.lock import values

    file = f"runs/{part}.parquet" if iteration is None else f"runs/{part}-{iteration}.parquet"
    sha256 = experiment.write_frame(file, results)
    body = {
        "rows": part,
        "iteration": iteration,
        "file": file,
        "sha256": sha256,
        "fingerprint": digest(values(experiment, ("source", "metric", "run", "models", "resources", "code"))),
        "discordance": _discordance(evidence, baseline) if baseline else None,
        **summarise(results, evidence),
    }
    return Scored(results, experiment.record("scored", body))


def _discordance(evidence: Evidence, baseline: str) -> float:
    """Share of rows on which an arm and the baseline differ by half a score in one trial; arms' mean."""
    base = evidence.scores[baseline][:, :1]
    others = [y for arm, y in evidence.scores.items() if arm != baseline]
    return float(np.mean([np.nanmean(np.abs(np.nan_to_num(y[:, :1]) - base) >= 0.5) for y in others]))


def summarise(results: pd.DataFrame, evidence: Evidence) -> dict[str, Any]:
    """Per arm: mean (fraction), trial means, re-run sd, statuses, cost per 1,000 rows (USD), p95 (ms)."""
    from itera_nb.stats.missing import intention_to_treat

    arms: dict[str, Any] = {}
    for name, part in results.groupby("arm", sort=False):
        arm = str(name)
        scores = evidence.scores[arm]
        per_trial = np.nan_to_num(scores).mean(axis=0)
        cost = evidence.cost[arm]
        arms[arm] = {
            "mean": float(intention_to_treat(scores).mean()),
            "trials": [float(x) for x in per_trial],
            "deterministic": bool(scores.shape[1] > 1 and np.all(scores.max(axis=1) == scores.min(axis=1))),
            "sd": float(per_trial.std(ddof=1)) if per_trial.size > 1 else 0.0,
            "statuses": {str(k): int(v) for k, v in part["status"].value_counts().items()},
            "errors": _errors(part),
            "unscored": int(part["score"].isna().sum()),
            "secondary": evidence.secondary[arm],
            "cost_per_1k_usd": None if cost is None else 1000 * float(cost.mean()),
            "cost_usd": None if cost is None else float(part["cost_usd"].sum()),
            "latency_p50_ms": _quantile(part["latency_ms"], 0.5),
            "latency_p95_ms": _quantile(part["latency_ms"], 0.95),
            "amortised": bool(part["amortised"].any()),
        }
    return {"n": len(evidence.ids), "arms": arms}


def _errors(part: pd.DataFrame) -> dict[str, int]:
    """The commonest kinds of failed calls, by exception type: a type quotes no row."""
    failed = part.loc[part["status"] != "ok", "error"].str.split(":").str[0]
    return {str(kind): int(n) for kind, n in failed.value_counts().head(3).items() if kind}


def _quantile(values: pd.Series[float], q: float) -> float | None:
    known = values.dropna()
    return None if known.empty else float(known.quantile(q))
