"""Running arms on train or dev: snapshot, engine, scores, and the record of what was scored."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from itera_nb._typing import Row
from itera_nb.arms import few_shot
from itera_nb.arms.manifest import Manifest, build, hash_file
from itera_nb.arms.runtime import RunnableArm, production_code
from itera_nb.arms.snapshot import code_files, files_of, take_once
from itera_nb.exceptions import RecordError, Refusal
from itera_nb.experiment import Experiment
from itera_nb.ledger import Record, digest
from itera_nb.models.pricing import prices_version
from itera_nb.scoring import keys
from itera_nb.scoring.attempts import Attempt, AttemptLog
from itera_nb.scoring.cluster import SCHEDULER, connection
from itera_nb.scoring.engine import RowGroup, run
from itera_nb.scoring.evidence import Evidence, Floats, collect
from itera_nb.scoring.judging import Panel, judge_of
from itera_nb.scoring.planting import Planted, plant
from itera_nb.scoring.progress import progress_bar
from itera_nb.scoring.results import score_table
from itera_nb.scoring.workers import Worker
from itera_nb.source.parts import read_part
from itera_nb.source.slices import text_of
from itera_nb.spec import ArmSpec, RunSpec

if TYPE_CHECKING:
    import pandas as pd

    from itera_nb.models.prompt import Shot


ATTEMPTS = "runs/attempts.jsonl"
RUN_PARTS = ("source", "metric", "run", "models", "resources", "code")
AGAIN = "(again)"
"""Name of the baseline's second run where it is compared with its first; no arm can have it."""


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
    manifests = {name: build(spec, name, arm, root or folder, outside=folder) for name, arm in arms.items()}
    if root is None:
        files = files_of(manifests.values(), code_files(spec, folder))
        root = take_once(files, experiment.path("runs", "snapshots"))
    return [_runnable(experiment, root, arms[name], m) for name, m in manifests.items()], root


def worker_of(experiment: Experiment, arm: RunnableArm) -> Worker:
    """A process of its own that loads and fits a python arm as for its dev score, and quotes no row."""
    assert arm.spec.target is not None
    return Worker(
        arm.root,
        arm.spec.target,
        arm.pythonpath,
        quiet=True,
        params=arm.spec.params,
        fit_rows=fit_rows(experiment, "dev"),
        seed=trial_seed(experiment.genesis, 0),
        resources=dict(arm.resources),
    )


def arm_inputs(experiment: Experiment) -> tuple[str, ...]:
    """Columns that arms may see, and a judge with them."""
    sealed = experiment.state.last("sealed")
    return tuple(sealed.body["inputs"]) if sealed else tuple(experiment.spec.source.inputs)


def judge_panel(
    experiment: Experiment,
    root: Path,
    log: AttemptLog,
    *,
    quiet: bool = False,
    settings: RunSpec | None = None,
    budget_usd: float | None = None,
) -> Panel | None:
    """The registered judge with the rubric in snapshot `root`; None for a metric that asks none.

    Its calls are recorded in `log` and count against `budget_usd`, as those of the arms do; they run with
    `settings`, by default the registered ones.
    """
    spec = experiment.spec
    if spec.judge is None:
        return None
    judge, inputs = judge_of(spec, root, genesis=experiment.genesis), arm_inputs(experiment)
    return Panel(judge, log, settings or spec.run, spec.models, inputs, quiet, budget_usd)


@contextmanager
def judge_at_work(experiment: Experiment) -> Iterator[tuple[Path, Panel | None]]:
    """A snapshot of the metric's files and the judge, if there is one, for questions beside a run's own."""
    spec = experiment.spec
    _, root = runnable(experiment, {spec.baseline: spec.arms[spec.baseline]})
    with AttemptLog(experiment.path(ATTEMPTS)) as log:
        yield root, judge_panel(experiment, root, log, budget_usd=spec.run.budget_usd)


def _runnable(experiment: Experiment, root: Path, arm: ArmSpec, manifest: Manifest) -> RunnableArm:
    spec, shots = experiment.spec, _shots(experiment, root, arm)
    recorded = arm.kind == "recorded"
    shown = [[dict(shot.inputs), shot.label] for shot in shots]
    return RunnableArm(
        name=manifest.arm,
        spec=arm,
        root=root,
        digest=keys.digest([manifest.digest, shown]) if shown else manifest.digest,
        inputs=(spec.source.id,) if recorded else arm_inputs(experiment),
        pythonpath=production_code(root, spec),
        resources={key: experiment.outside(path) for key, path in spec.resources.items()},
        shots=shots,
        file=experiment.outside(arm.file) if recorded and arm.file else None,
        models=spec.models,
    )


def _shots(experiment: Experiment, root: Path, arm: ArmSpec) -> tuple[Shot, ...]:
    if arm.few_shot is None:
        return ()
    train, source = part_rows(experiment, "train"), experiment.spec.source
    try:
        return few_shot.choose(arm, root, train, source, arm_inputs(experiment), experiment.genesis)
    except Refusal as refusal:
        experiment.refuse(refusal)


@contextmanager
def resources_unchanged(arms: Sequence[RunnableArm]) -> Iterator[None]:
    """Arms may only read resources and recorded results.

    Raises:
        RecordError: One of them changed while the arms ran.
    """
    paths = {name: path for arm in arms for name, path in arm.resources.items()}
    paths |= {arm.name: arm.file for arm in arms if arm.file is not None}
    before = {name: keys.path_digest(path) for name, path in paths.items()}
    yield
    for name, path in paths.items():
        if keys.path_digest(path) != before[name]:
            raise RecordError(
                f"{name} ({path.name}) changed while the arms ran",
                fix="put it back; arms read resources and never write them",
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
    sealed, name = experiment.state.the("sealed"), f"data/{part}.parquet"
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
        return [RowGroup(rows, train)]
    return [
        RowGroup(
            [row for row in rows if row["fold"] == fold],
            [*train, *(row for row in rows if row["fold"] != fold)],
        )
        for fold in sorted({row["fold"] for row in rows})
    ]


@dataclass(frozen=True)
class Ran:
    """What a run over some rows left: an attempt and a scored line per row, arm and trial, in one order."""

    attempts: Sequence[Attempt]
    table: pd.DataFrame


def run_part(
    experiment: Experiment,
    part: str,
    arms: Mapping[str, ArmSpec],
    *,
    trials: int | Mapping[str, int],
    limit: Sequence[str] | None = None,
    cluster: str | Executor | None = None,
) -> Ran:
    """Run and score `arms` on train or dev rows; finished units are taken from the attempt log.

    A pairwise scorer needs the baseline's outputs too: where `arms` is without it, what it has answered is
    taken from the log.

    The table says of each line whether it was `reused`: recorded by an earlier run, whose price and latency
    it keeps.

    Args:
        experiment: The experiment.
        part: "train" or "dev".
        arms: Name -> resolved arm.
        trials: Planned trials, of all arms or by arm name.
        limit: Only these row ids (the pilot's), on this computer.
        cluster: Where python arms run: a Dask scheduler's address, or any executor; without one, the address
            in the environment's ITERA_SCHEDULER, or this computer.

    Raises:
        StoppedError: Credentials, budget or an interrupt; what is finished is kept.
    """
    spec, genesis = experiment.spec, experiment.genesis
    wanted = set(arms)
    planned = {arm: trials if isinstance(trials, int) else trials[arm] for arm in arms}
    if spec.metric.pairwise and (base := spec.baseline) not in arms:  # in as many trials as it had here
        scored = experiment.state.scored(part)
        had = len(scored.body["arms"][base]["trials"]) if scored else max(planned.values())
        arms, planned = {base: spec.arms[base], **arms}, {base: had, **planned}
    ready, root = runnable(experiment, arms)
    groups = row_groups(experiment, part)
    id_column = spec.source.id
    if limit is not None:
        groups = [RowGroup([r for r in g.rows if r[id_column] in limit], g.fit_rows) for g in groups]
        groups = [g for g in groups if g.rows]
    rows = [row for group in groups for row in group.rows]
    # Somebody waits for the pilot's few rows: no batch, which may take a day.
    settings = spec.run if limit is None else spec.run.model_copy(update={"batch": False})
    where = cluster or os.environ.get(SCHEDULER) if limit is None else None
    with AttemptLog(experiment.path(ATTEMPTS)) as log:
        with progress_bar(part, sum(planned.values()) * len(rows)) as step, resources_unchanged(ready):
            attempts = run(
                ready,
                groups,
                id_column=id_column,
                trials=planned,
                log=log,
                settings=settings,
                models=spec.models,
                seed=lambda trial: trial_seed(genesis, trial),
                progress=step,
                budget_usd=spec.run.budget_usd,
                cluster=connection(where) if where else None,
            )
        panel = judge_panel(experiment, root, log, settings=settings, budget_usd=spec.run.budget_usd)
        table = score_table(attempts, rows, spec, root, panel=panel)
    table["reused"] = [log.is_earlier(attempt.key) for attempt in attempts]
    kept = table[table["arm"].isin(wanted)].reset_index(drop=True)
    return Ran([attempt for attempt in attempts if attempt.arm in wanted], kept)


def against_itself(experiment: Experiment, attempts: Sequence[Attempt], part: str) -> pd.DataFrame:
    """What a pairwise scorer says where nothing was changed: the baseline's last trial against its first.

    There is one scored line a row; with one trial the baseline is compared with itself.
    """
    last = max(a.trial for a in attempts)
    first = [a for a in attempts if a.trial == 0]
    again = [replace(a, arm=AGAIN, trial=0) for a in attempts if a.trial == last]
    with judge_at_work(experiment) as (root, panel):
        rows = part_rows(experiment, part)
        table = score_table([*first, *again], rows, experiment.spec, root, panel=panel)
    return table[table["arm"] == AGAIN]


def plant_injections(experiment: Experiment, ran: Ran) -> Planted | None:
    """Ask the judge about some dev outputs again, an instruction hidden in each; None without a judge."""
    if experiment.spec.judge is None:
        return None
    with judge_at_work(experiment) as (_, panel):
        assert panel is not None
        rows = part_rows(experiment, "dev")
        return plant(ran.attempts, ran.table, rows, experiment.spec, panel, experiment.genesis)


def strata_table(experiment: Experiment, rows: Sequence[Row]) -> pd.DataFrame:
    """Id, slice, cluster and severity columns: what the rule needs of a row beside its scores.

    Slices are the text by which they were sealed: a table would make integers with a gap floats.
    """
    import pandas as pd

    source = experiment.spec.source
    columns = [source.id, *source.slices, source.cluster, source.severity]
    texts = {*source.slices} - {source.severity}
    return pd.DataFrame(
        {
            name: [text_of(row[name]) if name in texts else row[name] for row in rows]
            for name in dict.fromkeys(c for c in columns if c)
        }
    )


def evidence_of(
    experiment: Experiment, results: pd.DataFrame, part: str, modes: Mapping[str, float]
) -> Evidence:
    """The arrays that the rule and the diagnosis look at, for one part."""
    rows = strata_table(experiment, part_rows(experiment, part))
    return collect(results, rows, experiment.spec, modes)


def record_scores(
    experiment: Experiment,
    results: pd.DataFrame,
    part: str,
    evidence: Evidence,
    *,
    baseline: str | None = None,
    iteration: str | None = None,
    reach: Mapping[str, Any] | None = None,
    planted: Planted | None = None,
) -> Scored:
    """Keep a results table under `runs/` and append the `scored` record that vouches for it.

    `reach` of an iteration says whether its change was in play on the rows that it was to win.
    """
    from itera_nb.arms.lock import values

    file = f"runs/{part}.parquet" if iteration is None else f"runs/{part}-{iteration}.parquet"
    sha256 = experiment.write_frame(file, results)
    body = {
        "rows": part,
        "iteration": iteration,
        "file": file,
        "sha256": sha256,
        "fingerprint": digest([values(experiment, RUN_PARTS), prices_version()]),
        "discordance": _discordance(evidence, baseline) if baseline else None,
        "planted": asdict(planted) if planted else None,
        "reach": dict(reach) if reach else None,
        **summarise(results, evidence),
    }
    return Scored(results, experiment.record("scored", body))


def _discordance(evidence: Evidence, baseline: str) -> float | None:
    """Share of rows on which an arm and the baseline differ by half a score in one trial; arms' mean.

    Of the rows with both scores; None where there is none.
    """
    base = evidence.scores[baseline][:, 0]
    apart = [np.abs(y[:, 0] - base) for arm, y in evidence.scores.items() if arm != baseline]
    known = [d[np.isfinite(d)] >= 0.5 for d in apart if np.isfinite(d).any()]
    return float(np.mean([d.mean() for d in known])) if known else None


def summarise(results: pd.DataFrame, evidence: Evidence) -> dict[str, Any]:
    """Per arm: mean (fraction), trial means, re-run sd, statuses, cost per 1,000 rows (USD), p95 (ms).

    Scores are over the rows that every arm has one for.

    Raises:
        ArmError: An arm has no score at all.
    """
    from itera_nb.stats.missing import mean_score

    arms: dict[str, Any] = {}
    for name, part in results.groupby("arm", sort=False):
        arm = str(name)
        scores = evidence.described(arm).scores[arm]
        per_trial = np.array([np.nanmean(x) for x in scores.T if np.isfinite(x).any()])
        cost = evidence.cost[arm]
        arms[arm] = {
            "mean": mean_score(scores),
            "trials": [float(x) for x in per_trial],
            "deterministic": _deterministic(part, scores, pairwise=evidence.pairwise),
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
            "reused": int(part["reused"].sum()),
        }
    found: dict[str, Any] = {"n": len(evidence.ids), "arms": arms}
    return found if evidence.judge is None else {**found, "judge": asdict(evidence.judge)}


def _deterministic(part: pd.DataFrame, scores: Floats, *, pairwise: bool) -> bool:
    """Whether no trial differs: in its score or, where that depends on the baseline too, in its output."""
    if scores.shape[1] < 2:
        return False
    if pairwise:
        first = part.groupby("id")["output"].transform("first")
        return bool((part["output"] == first).all())
    return bool(np.all(scores.max(axis=1) == scores.min(axis=1)))


def _errors(part: pd.DataFrame) -> dict[str, int]:
    """The commonest kinds of failed calls, by exception type: a type quotes no row."""
    failed = part.loc[part["status"] != "ok", "error"].str.split(":").str[0]
    return {str(kind): int(n) for kind, n in failed.value_counts().head(3).items() if kind}


def _quantile(values: pd.Series[float], q: float) -> float | None:
    known = values.dropna()
    return None if known.empty else float(known.quantile(q))
