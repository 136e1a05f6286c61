"""Asking an LLM judge: its calls are units of the engine, with the same log, budget and resume as any arm's.

Equal questions (rubric, model, inputs, outputs) are one call, whoever's output it is and however often it is
asked. A judge that gives no usable reply leaves a missing score and the reason, never a 0. It is asked again:
at once where its reply cannot be read, by a later run whatever went wrong; never where a reply was usable.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from itera_nb._typing import JSON, Row
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
class Panel:
    """A judge at work: who is asked, and how its calls are made, recorded and paid.

    Args:
        judge: Who judges, and by what.
        log: Where attempts are recorded and reused from.
        settings: Concurrency and timeouts (seconds).
        models: How vendors are reached, by vendor.
        inputs: The columns of a row that are shown.
        quiet: For rows that nobody may read: errors are reduced to their type, reasons are left out.
        budget_usd: USD that all attempts of the log together may cost, those of arms included.
        counted: What counts against it instead of the whole log, and is added to: as in `engine.run`.
    """

    judge: Judge
    log: AttemptLog
    settings: RunSpec
    models: Mapping[str, ModelSpec] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    quiet: bool = False
    budget_usd: float | None = None
    counted: dict[str, float | None] | None = None


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


def judge_of(spec: Spec, root: Path, *, genesis: str) -> Judge:
    """The registered judge, with the rubric in snapshot `root`; labels and tags are derived from `genesis`.

    Raises:
        ArmError: The rubric cannot be read.
    """
    from itera_nb.models.prompt import read_text

    assert spec.judge is not None
    modes = spec.metric.failure_modes
    return Judge(
        rubric=read_text(root, spec.judge.rubric),
        model=spec.judge.model,
        params=spec.judge.params,
        scale=spec.judge.scale,
        # A mode with a predicate, or a function that names modes, needs no judge.
        modes=tuple(n for n, mode in modes.items() if not mode.when) if isinstance(modes, dict) else (),
        pairwise=spec.metric.pairwise,
        seed=genesis,
    )


def case_of(spec: Spec, row: Row, inputs: Sequence[str], output: JSON, other: JSON = None) -> Case:
    """What a judge, or a person, is shown of a row: the output, and the `other` that it is compared with."""
    expected = row[spec.source.expected] if spec.source.expected else None
    return Case({column: row[column] for column in inputs}, output, other, expected)


def judge_rows(cases: Sequence[Case], panel: Panel) -> list[Judgement]:
    """Judge every case, in order; what the log holds a usable reply to is not asked again.

    Raises:
        StoppedError: Credentials, budget, an interrupt or a full disk ended the run; records are kept.
    """
    judge = panel.judge
    asked = [asking.questions(judge, case) for case in cases]
    # By digest: neither which arm wrote an output nor which row it answers can be told from the order.
    distinct = dict(sorted({q.id: q for pair in asked for q in pair}.items()))
    if not distinct:
        return []
    by_id: dict[str, list[Attempt]] = {id_: [] for id_ in distinct}
    pending, turn = list(distinct.values()), 0
    while pending:
        for attempt in _ask(panel, pending, turn):
            by_id[str(attempt.row_id)].append(attempt)
        pending = [q for q in pending if _again(judge, q, by_id[q.id], panel.log)]
        turn += 1
    seen: set[str] = set()
    return [_judgement(judge, pair, by_id, seen, quiet=panel.quiet) for pair in asked]


def _ask(panel: Panel, questions: Sequence[Question], turn: int) -> Sequence[Attempt]:
    """Ask each question for the given time; what the log holds of that time is read back."""
    from .engine import RowGroup, run

    rows = [{"id": q.id, "system": q.system, "text": q.text} for q in questions]
    with progress_bar("judge" if turn == 0 else "judge, again", len(rows)) as step:
        return run(
            [_arm(panel.judge, panel.models)],
            [RowGroup(rows)],
            log=panel.log,
            settings=panel.settings,
            models=panel.models,
            namespace=f"again {turn}" if turn else "",
            quiet=panel.quiet,
            progress=step,
            budget_usd=panel.budget_usd,
            counted=panel.counted,
        )


def _again(judge: Judge, question: Question, attempts: Sequence[Attempt], log: AttemptLog) -> bool:
    """Whether a question is asked once more: this run has not, or got one reply that cannot be read."""
    try:
        _read(judge, question, attempts[-1])
    except ValueError:
        asked_now = sum(not log.is_earlier(attempt.key) for attempt in attempts)
        return asked_now == 0 or (asked_now == 1 and attempts[-1].status in {"ok", "invalid"})
    return False


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
    attempts: Mapping[str, Sequence[Attempt]],
    seen: set[str],
    *,
    quiet: bool,
) -> Judgement:
    new = [attempt for q in asked if q.id not in seen for attempt in attempts[q.id]]
    seen.update(q.id for q in asked)
    costs = [a.cost_usd for a in new]
    cost = None if None in costs else sum(c for c in costs if c is not None)
    readings: list[Reading] = []
    for question in asked:
        attempt = attempts[question.id][-1]
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
