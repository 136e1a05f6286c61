"""Score attempts: a number or NaN for each, and the failure modes of the failed ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itera_nb._typing import JSON, Row
from itera_nb.exceptions import ArmError
from itera_nb.metrics import failure_modes, scorers

from .attempts import Attempt
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
        score: A fraction from 0 to 1; NaN where the *scorer* failed, never for a failed arm.
        modes: Registered failure modes of a failed row.
        later: Modes that nobody registered: reported, never counted.
        unscored: Why the score is NaN; `None` if it is not.
        mode_error: Why the modes are not known; `None` if they are.
    """

    row_id: str | int
    arm: str
    trial: int
    score: float
    modes: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    unscored: str | None = None
    mode_error: str | None = None


@dataclass(frozen=True, slots=True)
class _Scored:
    value: float
    modes: tuple[str, ...] = ()
    unscored: str | None = None


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
) -> list[RowScore]:
    """Score every attempt, in order.

    An attempt that ended in error, timeout, refusal or invalid scores 0: it is a failure of the arm. A scorer
    that raises, or returns nothing, NaN or a number outside [0, 1], leaves NaN and the reason.

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

    Raises:
        ArmError: A scorer or failure-mode function is unknown or cannot be loaded.
    """
    by_id = {row[id_column]: row for row in rows}
    cases = [_Case(a, by_id[a.row_id], expected_column) for a in attempts]
    name = scorer or metric.scorer
    answered = [c for c in cases if c.attempt.status == "ok"]
    if scorers.is_own(name):
        calls = call_each(
            root, name, [c.item for c in answered], pythonpath=pythonpath, quiet=quiet, timeout_s=timeout_s
        )
        values = [
            _read_score(c.output)
            if c.status == "ok"
            else _Scored(math.nan, unscored=_reason(c.error_type, c.error))
            for c in calls
        ]
    else:
        values = [_apply(scorers.built_in(name, metric), c, quiet=quiet) for c in answered]
    scored = iter(values)
    results = [next(scored) if c.attempt.status == "ok" else _Scored(0.0) for c in cases]
    return _with_modes(
        cases, results, metric, root=root, pythonpath=pythonpath, quiet=quiet, timeout_s=timeout_s
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
    def item(self) -> tuple[JSON, Any, dict[str, Any]]:
        return self.attempt.output, self.expected, dict(self.row)


def _apply(scorer: scorers.BuiltIn, case: _Case, *, quiet: bool) -> _Scored:
    try:
        return _Scored(scorer(case.attempt.output, case.expected))
    except Exception as error:  # noqa: BLE001 - an unusable label must become "unscored", whatever it raises
        return _Scored(math.nan, unscored=_reason(type(error).__name__, "" if quiet else str(error)))


def _read_score(value: JSON) -> _Scored:
    modes: Any = ()
    if isinstance(value, dict):
        modes = value.get("modes") or ()
        value = value.get("value")
    if value is None:
        return _Scored(math.nan, unscored="returned None")
    if not isinstance(value, bool | int | float):
        return _Scored(math.nan, unscored=f"returned {type(value).__name__}, not a number")
    if not 0 <= value <= 1:
        return _Scored(math.nan, unscored="returned a number outside [0, 1]")
    return _Scored(float(value), tuple(map(str, modes)))


def _with_modes(
    cases: Sequence[_Case],
    results: Sequence[_Scored],
    metric: MetricSpec,
    *,
    root: Path,
    pythonpath: Sequence[Path],
    quiet: bool,
    timeout_s: float,
) -> list[RowScore]:
    plain = [
        RowScore(c.attempt.row_id, c.attempt.arm, c.attempt.trial, r.value, unscored=r.unscored)
        for c, r in zip(cases, results, strict=True)
    ]
    failed = [i for i, r in enumerate(results) if r.value < metric.fail_below]
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
                specs, cases[i].attempt.output, cases[i].expected, cases[i].row, results[i].modes
            )
            for i in failed
        }
    for i in failed:
        modes = failure_modes.sort_names([*results[i].modes, *names[i]], registered)
        plain[i] = replace(plain[i], modes=modes.registered, later=modes.later, mode_error=errors.get(i))
    return plain


def _read_modes(status: str, output: JSON, reason: str) -> tuple[tuple[str, ...], str]:
    if status != "ok":
        return (), reason
    try:
        return failure_modes.read_names(output), ""
    except TypeError:
        return (), "TypeError"


def _reason(error_type: str, message: str) -> str:
    return f"{error_type}: {message}" if message else error_type
