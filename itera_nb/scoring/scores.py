"""Score attempts: a number or NaN for each, and the failure modes of the failed ones."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from itera_nb._typing import JSON, Row
from itera_nb.arms.caller import Answer
from itera_nb.arms.runtime import production_code
from itera_nb.exceptions import ArmError
from itera_nb.metrics import failure_modes, scorers
from itera_nb.spec import is_pairwise

from .attempts import Attempt
from .judging import Judgement, Panel, case_of, judge_rows
from .workers import call_each, module_constant

if TYPE_CHECKING:
    from itera_nb.spec import Spec

Call: TypeAlias = Callable[[str, Sequence[tuple[Any, ...]]], list[Answer]]
"""Calls a user's function (`path/file.py:function`) on items."""


@dataclass(frozen=True, slots=True)
class RowScore:
    """One attempt's score.

    Args:
        score: A fraction from 0 to 1, of a pairwise scorer -1 to 1 (the baseline's own is 0); NaN where the
            *scorer* failed, never for a failed arm.
        modes: Registered failure modes of a failed row.
        later: Modes that nobody registered: reported, never counted.
        unscored: Why the score is NaN; `None` if it is not.
        mode_error: Why the modes are not known; `None` if they are.
        judgement: What the judge said, if one was asked.
    """

    score: float
    modes: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    unscored: str | None = None
    mode_error: str | None = None
    judgement: Judgement | None = None


def score_outputs(
    attempts: Sequence[Attempt],
    rows: Sequence[Row],
    spec: Spec,
    root: Path,
    *,
    scorer: str | None = None,
    quiet: bool = False,
    panel: Panel | None = None,
) -> list[RowScore]:
    """Score every attempt, in order.

    An attempt that ended in error, timeout, refusal or invalid scores 0: it is a failure of the arm. A scorer
    that raises, or returns nothing, NaN or a number outside its range, leaves NaN and the reason.

    A pairwise scorer compares each trial of an arm with the same trial of the baseline (counted round where
    the baseline has fewer): 1 is a win, -1 a loss. The baseline stands at 0. A failed arm loses, where only
    the baseline failed it wins, and where both failed it is a tie; nobody is asked about these.

    Args:
        attempts: What the engine returned; for a pairwise scorer the baseline's are among them.
        rows: The rows with all their columns.
        spec: The registered experiment.
        root: Snapshot that holds a user's scorer and failure-mode files, and `pythonpath/0` ...
        scorer: A secondary metric, in place of the registered scorer; failure modes are left out.
        quiet: Whether a user's function is silenced and its errors are reduced to their type.
        panel: The judge, for the scorers `judge` and `preference`.

    Raises:
        ArmError: A scorer or failure-mode function is unknown or cannot be loaded.
        StoppedError: Credentials, budget or an interrupt ended the judge's calls.
    """
    by_id = {row[spec.source.id]: row for row in rows}
    cases = [_Case(a, by_id[a.row_id], spec.source.expected) for a in attempts]
    pythonpath, timeout_s = production_code(root, spec), spec.run.timeout_s
    call = partial(call_each, root, pythonpath=pythonpath, quiet=quiet, timeout_s=timeout_s)
    ask = _Asker(scorer or spec.metric.scorer, spec, call, panel, quiet)
    if is_pairwise(ask.name):
        results = _compared(cases, ask)
    else:
        scored = iter(ask.scores([c for c in cases if c.answered]))
        results = [next(scored) if c.answered else RowScore(0.0) for c in cases]
    if scorer is not None:
        return results
    return _with_modes(cases, results, ask, mode_weights(spec, root))


def mode_weights(spec: Spec, root: Path) -> dict[str, float]:
    """Registered failure modes with their weights, as the files in `root` say; empty if none are registered.

    Raises:
        ArmError: The failure-mode function's module cannot be loaded or declares no MODES.
    """
    modes = spec.metric.failure_modes
    if isinstance(modes, str):
        declared = module_constant(root, modes, "MODES", pythonpath=production_code(root, spec))
        return failure_modes.read_weights(declared, modes)
    return {name: mode.weight for name, mode in (modes or {}).items()}


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
    spec: Spec
    call: Call
    panel: Panel | None
    quiet: bool

    @property
    def is_judge(self) -> bool:
        return self.panel is not None and self.name in {"judge", "preference"}

    def scores(self, cases: Sequence[_Case]) -> list[RowScore]:
        """A score for every answered case."""
        if self.is_judge:
            return self._judged([(case, None) for case in cases])
        if scorers.is_own(self.name):
            return [_read_score(c, 0) for c in self.call(self.name, [case.item for case in cases])]
        scorer = scorers.built_in(self.name, self.spec.metric)
        return [_apply(scorer, case, quiet=self.quiet) for case in cases]

    def preferences(self, pairs: Sequence[tuple[_Case, _Case]]) -> list[RowScore]:
        """A preference for every pair of an arm's case and the baseline's."""
        if self.is_judge:
            return self._judged(pairs)
        items = [(a.attempt.output, b.attempt.output, dict(a.row)) for a, b in pairs]
        return [_read_score(c, -1) for c in self.call(self.name, items)]

    def _judged(self, pairs: Sequence[tuple[_Case, _Case | None]]) -> list[RowScore]:
        assert self.panel is not None
        inputs = self.panel.inputs
        asked = [
            case_of(self.spec, case.row, inputs, case.attempt.output, other.attempt.output if other else None)
            for case, other in pairs
        ]
        found = judge_rows(asked, self.panel)
        return [RowScore(j.value, j.modes, unscored=j.missing, judgement=j) for j in found]


def _compared(cases: Sequence[_Case], ask: _Asker) -> list[RowScore]:
    """Each case against the baseline's of the same row and trial."""
    baseline = ask.spec.baseline
    bases: dict[Any, list[int]] = defaultdict(list)
    for number in sorted(range(len(cases)), key=lambda n: cases[n].attempt.trial):
        if cases[number].attempt.arm == baseline:
            bases[cases[number].attempt.row_id].append(number)
    results: list[RowScore] = []
    asked: list[tuple[int, int]] = []
    for number, case in enumerate(cases):
        trials = bases[case.attempt.row_id]
        base = trials[case.attempt.trial % len(trials)]
        if case.attempt.arm == baseline:
            results.append(RowScore(0.0))
            continue
        # A failed call loses against an answer, whoever made it.
        results.append(RowScore(float(case.answered) - float(cases[base].answered)))
        if case.answered and cases[base].answered:
            asked.append((number, base))
    preferences = ask.preferences([(cases[number], cases[base]) for number, base in asked])
    for (number, base), found in zip(asked, preferences, strict=True):
        results[number] = found
        if found.judgement is not None:
            named = [*results[base].modes, *found.judgement.other_modes]
            results[base] = replace(results[base], modes=tuple(dict.fromkeys(named)))
    return results


def _apply(scorer: scorers.BuiltIn, case: _Case, *, quiet: bool) -> RowScore:
    try:
        return RowScore(scorer(case.attempt.output, case.expected))
    except Exception as error:  # noqa: BLE001 - an unusable label must become "unscored", whatever it raises
        return RowScore(math.nan, unscored=_reason(type(error).__name__, "" if quiet else str(error)))


def _read_score(call: Answer, lowest: float) -> RowScore:
    """What a user's scorer returned: a number, or one with the names of modes."""
    if call.status != "ok":
        return RowScore(math.nan, unscored=_reason(call.error_type, call.error))
    value: Any = call.output
    named: Any = None
    if isinstance(value, dict):
        value, named = value.get("value"), value.get("modes")
    if value is None:
        return RowScore(math.nan, unscored="returned None")
    if not isinstance(value, bool | int | float):
        return RowScore(math.nan, unscored=f"returned {type(value).__name__}, not a number")
    if not lowest <= value <= 1:
        return RowScore(math.nan, unscored=f"returned a number outside [{lowest:g}, 1]")
    modes, error = _read_modes(list(named) if isinstance(named, dict) else named)
    return RowScore(float(value), modes, mode_error=error)


def _with_modes(
    cases: Sequence[_Case], results: Sequence[RowScore], ask: _Asker, registered: Mapping[str, float]
) -> list[RowScore]:
    """The scores with the modes of failed rows; those that the scorer named come first."""
    # A preference does not say that an output failed, so that all are looked at.
    metric, pairwise = ask.spec.metric, is_pairwise(ask.name)
    failed = [i for i, r in enumerate(results) if pairwise or r.score < metric.fail_below]
    if isinstance(metric.failure_modes, str):
        calls = ask.call(metric.failure_modes, [cases[i].item for i in failed])
        found = [
            _read_modes(c.output) if c.status == "ok" else ((), _reason(c.error_type, c.error)) for c in calls
        ]
    else:
        found = [(names, None) for names in _by_predicates(cases, results, failed, ask)]
    scores = [replace(r, modes=(), mode_error=None) if r.modes or r.mode_error else r for r in results]
    for i, (names, error) in zip(failed, found, strict=True):
        modes, later = failure_modes.sort_names([*results[i].modes, *names], registered)
        scores[i] = replace(results[i], modes=modes, later=later, mode_error=error or results[i].mode_error)
    return scores


def _by_predicates(
    cases: Sequence[_Case], results: Sequence[RowScore], failed: Sequence[int], ask: _Asker
) -> list[tuple[str, ...]]:
    specs = ask.spec.metric.failure_modes or {}
    assert not isinstance(specs, str)
    if cases and (unknown := failure_modes.unknown_columns(specs, cases[0].row)):
        raise ArmError(
            f"[metric] failure_modes: no column {', '.join(unknown)}",
            fix="a mode's keys are `expected`, `output`, `weight` and columns of the source",
        )
    return [
        failure_modes.by_predicates(
            specs,
            cases[i].attempt.output,
            cases[i].expected,
            cases[i].row,
            results[i].modes,
            # A judge is asked for the modes, so that what it does not name is not there.
            failed=not (ask.is_judge or (is_pairwise(ask.name) and cases[i].answered)),
        )
        for i in failed
    ]


def _read_modes(value: JSON) -> tuple[tuple[str, ...], str | None]:
    """The names that a user's function gave, or why they are none."""
    try:
        return failure_modes.read_names(value), None
    except TypeError:
        return (), "TypeError"


def _reason(error_type: str, message: str) -> str:
    return f"{error_type}: {message}" if message else error_type
