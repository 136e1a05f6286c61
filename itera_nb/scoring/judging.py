"""Asking an LLM judge: its calls are units of the engine, with the same log, budget and resume as any arm's.

Equal questions (rubric, model, inputs, outputs) are one call, whoever's output it is and however often it is
asked. A judge that gives no usable reply leaves a missing score and the reason, never a 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from itera_nb.arms.runtime import RunnableArm
from itera_nb.metrics import judge as asking
from itera_nb.metrics.judge import Case, Judge, Question, Reading

from . import keys
from .attempts import Attempt, AttemptLog
from .progress import progress_bar

if TYPE_CHECKING:
    from itera_nb.spec import ModelSpec, RunSpec, Spec

JUDGE = "(judge)"
"""The name of a judge's attempts in the log; no arm can have it."""
QUESTIONS = Path(asking.__file__).parent / "questions"
MAX_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Bench:
    """How a judge's calls are made, recorded and paid.

    Args:
        log: Where attempts are recorded and reused from.
        settings: Concurrency and timeouts (seconds).
        models: How vendors are reached, by vendor.
        quiet: For rows that nobody may read: errors are reduced to their type, reasons are left out.
        budget_usd: USD that all attempts of the log together may cost, those of arms included.
    """

    log: AttemptLog
    settings: RunSpec
    models: Mapping[str, ModelSpec] = field(default_factory=dict)
    quiet: bool = False
    budget_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a judge says about one case.

    Args:
        value: A score from 0 to 1; of a comparison -1 (`other` is better) to 1, the mean of both orders; NaN
            where the judge failed.
        missing: Why it is NaN; `None` if it is not.
        modes: Failure modes named for `output`, by both orders of a comparison.
        other_modes: Those named for `other`.
        reason: The judge's words; empty in quiet runs.
        conflict: Whether the two orders of a comparison named opposite winners, which makes it a tie.
        calls: Calls made for this case and for none before it in the list.
        cost_usd: What they cost; `None` is unknown.
    """

    value: float
    missing: str | None = None
    modes: tuple[str, ...] = ()
    other_modes: tuple[str, ...] = ()
    reason: str = ""
    conflict: bool = False
    calls: int = 0
    cost_usd: float | None = 0.0


@dataclass(frozen=True, slots=True)
class Panel:
    """A judge at work on an experiment's rows: who is asked, how, and the columns that are shown."""

    judge: Judge
    bench: Bench
    inputs: tuple[str, ...]


def judge_of(spec: Spec, root: Path, *, genesis: str, model: str | None = None) -> Judge:
    """The registered judge, or another model with the same rubric.

    Args:
        spec: The registered experiment, with its `[judge]`.
        root: Snapshot that holds the rubric.
        genesis: The experiment's id, from which labels and tags are derived.
        model: Another model than the registered one (`vendor/name`); it takes none of its parameters.

    Raises:
        ArmError: The rubric cannot be read.
    """
    from itera_nb.models.prompt import read_text

    assert spec.judge is not None
    modes = spec.metric.failure_modes
    return Judge(
        rubric=read_text(root, spec.judge.rubric),
        model=model or spec.judge.model,
        params=spec.judge.params if model is None else {},
        scale=spec.judge.scale,
        # A mode with a predicate, or a function that names modes, needs no judge.
        modes=tuple(n for n, mode in modes.items() if not mode.when) if isinstance(modes, dict) else (),
        pairwise=spec.metric.pairwise,
        seed=genesis,
    )


def judge_rows(cases: Sequence[Case], judge: Judge, bench: Bench) -> list[Judgement]:
    """Judge every case, in order; what the log holds is not asked again.

    Args:
        cases: What is judged.
        judge: Who judges, and by what.
        bench: How calls are made, recorded and paid.

    Raises:
        StoppedError: Credentials, budget, an interrupt or a full disk ended the run; records are kept.
    """
    from .engine import RowGroup, run

    asked = [asking.questions(judge, case) for case in cases]
    # By digest: neither which arm wrote an output nor which row it answers can be told from the order.
    distinct = dict(sorted({q.id: q for pair in asked for q in pair}.items()))
    if not distinct:
        return []
    rows = [{"id": q.id, "system": q.system, "text": q.text} for q in distinct.values()]
    with progress_bar("judge", len(rows)) as step:
        attempts = run(
            [_arm(judge, bench.models)],
            [RowGroup(rows, label="judge")],
            id_column="id",
            trials=1,
            log=bench.log,
            settings=bench.settings,
            models=bench.models,
            seed=lambda _: 0,
            quiet=bench.quiet,
            progress=step,
            budget_usd=bench.budget_usd,
        )
    by_id = {str(attempt.row_id): attempt for attempt in attempts}
    seen: set[str] = set()
    return [_judgement(judge, pair, by_id, seen, quiet=bench.quiet) for pair in asked]


def _arm(judge: Judge, models: Mapping[str, ModelSpec]) -> RunnableArm:
    """The judge as a prompt arm whose rows are questions."""
    from itera_nb.spec import ArmSpec

    schema = "preference.json" if judge.pairwise else "score.json"
    spec = ArmSpec(
        kind="prompt",
        prompt="question.md",
        system="{{system}}",
        model=judge.model,
        params={"max_tokens": MAX_TOKENS, **judge.params},
        parse={"schema": schema},
    )
    files = {name: keys.path_digest(QUESTIONS / name) for name in ("question.md", schema)}
    identity = keys.digest({"model": judge.model, "params": spec.params, "files": files})
    return RunnableArm(JUDGE, spec, QUESTIONS, identity, ("system", "text"), models=models)


def _judgement(
    judge: Judge,
    asked: Sequence[Question],
    attempts: Mapping[str, Attempt],
    seen: set[str],
    *,
    quiet: bool,
) -> Judgement:
    new = [attempts[q.id] for q in asked if q.id not in seen]
    seen.update(q.id for q in asked)
    costs = [a.cost_usd for a in new]
    cost = None if None in costs else sum(c for c in costs if c is not None)
    readings: list[Reading] = []
    for question in asked:
        attempt = attempts[question.id]
        try:
            readings.append(_read(judge, question, attempt))
        except ValueError as error:
            return Judgement(math.nan, f"judge: {error}", calls=len(new), cost_usd=cost)
    values = [r.value for r in readings]
    return Judgement(
        sum(values) / len(values),
        modes=_common([r.modes for r in readings]),
        other_modes=_common([r.other_modes for r in readings]),
        reason="" if quiet else " / ".join(r.reason for r in readings),
        conflict=judge.pairwise and sorted(values) == [-1.0, 1.0],
        calls=len(new),
        cost_usd=cost,
    )


def _read(judge: Judge, question: Question, attempt: Attempt) -> Reading:
    """A call's reading.

    Raises:
        ValueError: There is none.
    """
    if attempt.status != "ok":
        said = f"{attempt.error_type}: {attempt.error}" if attempt.error else attempt.error_type
        raise ValueError(f"{attempt.status}, {said}" if said != attempt.status else said)
    return asking.read_reply(judge, question, attempt.output)


def _common(named: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """What every order names, in the first one's order."""
    return tuple(name for name in dict.fromkeys(named[0]) if all(name in other for other in named[1:]))
