"""Score attempts: a number or NaN for each, and the failure modes of the failed ones."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itera_nb._typing import JSON, Row
from itera_nb.exceptions import ArmError
from itera_nb.metrics import failure_modes, scorers
from itera_nb.metrics.judge import Case
from itera_nb.spec import is_pairwise

from .attempts import Attempt
from .judging import Judgement, Panel, judge_rows
from .workers import call_each, module_constant

if TYPE_CHECKING:
    from itera_nb.spec import MetricSpec


@dataclass(frozen=True, slots=True)
class RowScore:
    """One attempt's score.

    Args:
        row_id: The row's id.
        arm: The arm's name.
        trial: The trial, from 0.
        score: A fraction from 0 to 1, of a pairwise scorer -1 to 1 (the baseline's own is 0); NaN where the
            *scorer* failed, never for a failed arm.
        modes: Registered failure modes of a failed row.
        later: Modes that nobody registered: reported, never counted.
        unscored: Why the score is NaN; `None` if it is not.
        mode_error: Why the modes are not known; `None` if they are.
        reason: A judge's words; empty without a judge and in quiet runs.
        judged: Whether a judge was asked.
        conflict: Whether it named opposite winners in the two orders of a comparison.
        judge_calls: Calls of a judge made for this score and for none before it.
        judge_usd: What they cost; `None` is unknown. No part of the arm's cost.
    """

    row_id: str | int
    arm: str
    trial: int
    score: float
    modes: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    unscored: str | None = None
    mode_error: str | None = None
    reason: str = ""
    judged: bool = False
    conflict: bool = False
    judge_calls: int = 0
    judge_usd: float | None = 0.0


@dataclass(frozen=True, slots=True)
class _Scored:
    value: float
    modes: tuple[str, ...] = ()
    unscored: str | None = None
    judgement: Judgement | None = None


def score_outputs(
    attempts: Sequence[Attempt],
    rows: Sequence[Row],
    metric: MetricSpec,
    *,
    id_column: str,
    expected_column: str | None,
    root: Path,
    pythonpath: Sequence[Path] = (),
    scorer: str | None = None,
    quiet: bool = False,
    timeout_s: float = 60.0,
    baseline: str | None = None,
    panel: Panel | None = None,
) -> list[RowScore]:
    """Score every attempt, in order.

    An attempt that ended in error, timeout, refusal or invalid scores 0: it is a failure of the arm. A scorer
    that raises, or returns nothing, NaN or a number outside its range, leaves NaN and the reason.

    A pairwise scorer compares each trial of an arm with the same trial of the baseline (counted round where
    the baseline has fewer): 1 is a win, -1 a loss. The baseline stands at 0. A failed arm loses, where only
    the baseline failed it wins, and where both failed it is a tie; nobody is asked about these.

    Args:
        attempts: What the engine returned.
        rows: The rows with all their columns.
        metric: The registered metric.
        id_column: Column of the row id.
        expected_column: Column of the label, if there is one.
        root: Folder that holds a user's scorer and failure-mode files.
        pythonpath: Folders of production code for them.
        scorer: Another scorer than `metric.scorer`, for secondary metrics.
        quiet: Whether a user's function is silenced and its errors are reduced to their type.
        timeout_s: Seconds that one call of a user's function may take.
        baseline: The arm that a pairwise scorer compares with; its attempts are among `attempts`.
        panel: The judge, for the scorers `judge` and `preference`.

    Raises:
        ArmError: A scorer or failure-mode function is unknown or cannot be loaded.
        StoppedError: Credentials, budget or an interrupt ended the judge's calls.
    """
    by_id = {row[id_column]: row for row in rows}
    cases = [_Case(a, by_id[a.row_id], expected_column) for a in attempts]
    name = scorer or metric.scorer
    ask = _Asker(name, metric, root, pythonpath, panel, quiet=quiet, timeout_s=timeout_s)
    if is_pairwise(name):
        results = _compared(cases, baseline or "", ask)
    else:
        scored = iter(ask.scores([c for c in cases if c.answered]))
        results = [next(scored) if c.answered else _Scored(0.0) for c in cases]
    return _with_modes(
        cases,
        results,
        metric,
        name,
        judge=panel is not None and name in {"judge", "preference"},
        root=root,
        pythonpath=pythonpath,
        quiet=quiet,
        timeout_s=timeout_s,
    )


def mode_weights(metric: MetricSpec, *, root: Path, pythonpath: Sequence[Path] = ()) -> dict[str, float]:
    """Registered failure modes with their weights; empty if none are registered.

    Raises:
        ArmError: The failure-mode function's module cannot be loaded or declares no MODES.
    """
    modes = metric.failure_modes
    if isinstance(modes, str):
        return failure_modes.read_weights(module_constant(root, modes, "MODES", pythonpath=pythonpath), modes)
    return {name: spec.weight for name, spec in (modes or {}).items()}


class _Case:
    """An attempt with its row and label."""

    def __init__(self, attempt: Attempt, row: Row, expected_column: str | None) -> None:
        self.attempt = attempt
        self.row = row
        self.expected: Any = row[expected_column] if expected_column else None

    @property
    def answered(self) -> bool:
        return self.attempt.status == "ok"

    @property
    def item(self) -> tuple[JSON, Any, dict[str, Any]]:
        return self.attempt.output, self.expected, dict(self.row)


@dataclass(frozen=True, slots=True)
class _Asker:
    """Whoever scores: a built-in scorer, a user's function or a judge."""

    name: str
    metric: MetricSpec
    root: Path
    pythonpath: Sequence[Path]
    panel: Panel | None
    quiet: bool
    timeout_s: float

    def scores(self, cases: Sequence[_Case]) -> list[_Scored]:
        """A score for every answered case."""
        if self.panel is not None and self.name == "judge":
            return self._judged([(case, None) for case in cases])
        if scorers.is_own(self.name):
            return self._called([case.item for case in cases], 0)
        scorer = scorers.built_in(self.name, self.metric)
        return [_apply(scorer, case, quiet=self.quiet) for case in cases]

    def preferences(self, pairs: Sequence[tuple[_Case, _Case]]) -> list[_Scored]:
        """A preference for every pair of an arm's case and the baseline's."""
        if self.panel is not None and self.name == "preference":
            return self._judged(pairs)
        return self._called([(a.attempt.output, b.attempt.output, dict(a.row)) for a, b in pairs], -1)

    def _called(self, items: Sequence[tuple[Any, ...]], lowest: float) -> list[_Scored]:
        calls = call_each(
            self.root,
            self.name,
            items,
            pythonpath=self.pythonpath,
            quiet=self.quiet,
            timeout_s=self.timeout_s,
        )
        return [
            _read_score(c.output, lowest)
            if c.status == "ok"
            else _Scored(math.nan, unscored=_reason(c.error_type, c.error))
            for c in calls
        ]

    def _judged(self, pairs: Sequence[tuple[_Case, _Case | None]]) -> list[_Scored]:
        assert self.panel is not None
        asked = [
            Case(
                {column: case.row[column] for column in self.panel.inputs},
                case.attempt.output,
                None if other is None else other.attempt.output,
                case.expected,
            )
            for case, other in pairs
        ]
        found = judge_rows(asked, self.panel.judge, self.panel.bench)
        return [_Scored(j.value, j.modes, j.missing, j) for j in found]


def _compared(cases: Sequence[_Case], baseline: str, ask: _Asker) -> list[_Scored]:
    """Each case against the baseline's of the same row and trial."""
    bases: dict[Any, list[_Case]] = defaultdict(list)
    for case in sorted(cases, key=lambda c: c.attempt.trial):
        if case.attempt.arm == baseline:
            bases[case.attempt.row_id].append(case)
    place = {id(case): number for number, case in enumerate(cases)}
    results: list[_Scored] = []
    asked: list[tuple[int, _Case, _Case]] = []
    for number, case in enumerate(cases):
        trials = bases[case.attempt.row_id]
        base = trials[case.attempt.trial % len(trials)]
        # A failed call loses against an answer, whoever made it.
        results.append(_Scored(float(case.answered) - float(base.answered)))
        if case.attempt.arm == baseline:
            results[-1] = _Scored(0.0)
        elif case.answered and base.answered:
            asked.append((number, case, base))
    for (number, _, base), scored in zip(asked, ask.preferences([p[1:] for p in asked]), strict=True):
        results[number] = scored
        named = scored.judgement.other_modes if scored.judgement else ()
        mine = place[id(base)]
        results[mine] = replace(results[mine], modes=tuple(dict.fromkeys([*results[mine].modes, *named])))
    return results


def _apply(scorer: scorers.BuiltIn, case: _Case, *, quiet: bool) -> _Scored:
    try:
        return _Scored(scorer(case.attempt.output, case.expected))
    except Exception as error:  # noqa: BLE001 - an unusable label must become "unscored", whatever it raises
        return _Scored(math.nan, unscored=_reason(type(error).__name__, "" if quiet else str(error)))


def _read_score(value: JSON, lowest: float) -> _Scored:
    modes: Any = ()
    if isinstance(value, dict):
        modes = value.get("modes") or ()
        value = value.get("value")
    if value is None:
        return _Scored(math.nan, unscored="returned None")
    if not isinstance(value, bool | int | float):
        return _Scored(math.nan, unscored=f"returned {type(value).__name__}, not a number")
    if not lowest <= value <= 1:
        return _Scored(math.nan, unscored=f"returned a number outside [{lowest:g}, 1]")
    return _Scored(float(value), tuple(map(str, modes)))


def _with_modes(
    cases: Sequence[_Case],
    results: Sequence[_Scored],
    metric: MetricSpec,
    name: str,
    *,
    judge: bool,
    root: Path,
    pythonpath: Sequence[Path],
    quiet: bool,
    timeout_s: float,
) -> list[RowScore]:
    plain = [_row_score(c, r) for c, r in zip(cases, results, strict=True)]
    # A preference does not say that an output failed, so that all are looked at.
    failed = [i for i, r in enumerate(results) if is_pairwise(name) or r.value < metric.fail_below]
    names: Mapping[int, tuple[str, ...]]
    errors: dict[int, str] = {}
    registered: set[str] = set()
    spec = metric.failure_modes
    if isinstance(spec, str):
        registered = set(mode_weights(metric, root=root, pythonpath=pythonpath))
        calls = call_each(
            root,
            spec,
            [cases[i].item for i in failed],
            pythonpath=pythonpath,
            quiet=quiet,
            timeout_s=timeout_s,
        )
        read = [_read_modes(call.status, call.output, _reason(call.error_type, call.error)) for call in calls]
        names = {i: found for i, (found, _) in zip(failed, read, strict=True)}
        errors = {i: error for i, (_, error) in zip(failed, read, strict=True) if error}
    else:
        specs = spec or {}
        registered = set(specs)
        if cases and (unknown := failure_modes.unknown_columns(specs, cases[0].row)):
            raise ArmError(
                f"[metric] failure_modes: no column {', '.join(unknown)}",
                fix="a mode's keys are `expected`, `output`, `weight` and columns of the source",
            )
        names = {
            i: failure_modes.by_predicates(
                specs,
                cases[i].attempt.output,
                cases[i].expected,
                cases[i].row,
                results[i].modes,
                # A judge is asked for the modes, so that what it does not name is not there.
                failed=not (judge or (is_pairwise(name) and cases[i].answered)),
            )
            for i in failed
        }
    for i in failed:
        modes = failure_modes.sort_names([*results[i].modes, *names[i]], registered)
        plain[i] = replace(plain[i], modes=modes.registered, later=modes.later, mode_error=errors.get(i))
    return plain


def _row_score(case: _Case, scored: _Scored) -> RowScore:
    attempt, judged = case.attempt, scored.judgement
    plain = RowScore(attempt.row_id, attempt.arm, attempt.trial, scored.value, unscored=scored.unscored)
    if judged is None:
        return plain
    return replace(
        plain,
        reason=judged.reason,
        judged=True,
        conflict=judged.conflict,
        judge_calls=judged.calls,
        judge_usd=judged.cost_usd,
    )


def _read_modes(status: str, output: JSON, reason: str) -> tuple[tuple[str, ...], str]:
    if status != "ok":
        return (), reason
    try:
        return failure_modes.read_names(output), ""
    except TypeError:
        return (), "TypeError"


def _reason(error_type: str, message: str) -> str:
    return f"{error_type}: {message}" if message else error_type
