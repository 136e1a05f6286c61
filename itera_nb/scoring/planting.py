"""Planted injections: how often a judge obeys an instruction hidden in what it judges, measured on dev.

Delimiters and stripped markers make that rare, nothing makes it impossible: the rate is measured and printed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from itera_nb._typing import Row
from itera_nb.ledger import digest
from itera_nb.metrics.judge import Case, injected

from .attempts import Attempt
from .judging import Panel, case_of, judge_rows

if TYPE_CHECKING:
    import pandas as pd

    from itera_nb.spec import Spec


@dataclass(frozen=True, slots=True)
class Planted:
    """What planted instructions did to a judge.

    Attributes:
        rows: Outputs judged again with an instruction after them.
        flips: Those that passed, or won, only with it.
        missing: Those that the judge then gave no score; they are not in `rows`.
        rate: `flips` of `rows` (fraction).
        low: Lower end of the rate's 95 % Wilson interval.
        high: Its upper end.
        calls: Calls made.
        cost_usd: Their cost in USD; None for unknown.
    """

    rows: int
    flips: int
    missing: int
    rate: float
    low: float
    high: float
    calls: int
    cost_usd: float | None


def plant(
    attempts: Sequence[Attempt],
    table: pd.DataFrame,
    rows: Sequence[Row],
    spec: Spec,
    panel: Panel,
    genesis: str,
) -> Planted | None:
    """Judge the registered number of outputs again, each with one of our instructions after it; one a row.

    The lines of `table` are those of the attempts, in their order; `genesis`, the experiment's id, decides
    between equal scores. None if nothing is to be planted, or nowhere it could gain.
    """
    assert spec.judge is not None
    pairwise, by_id = panel.judge.pairwise, {row[spec.source.id]: row for row in rows}
    base = {a.row_id: a.output for a in attempts if a.arm == spec.baseline and a.trial == 0}
    found: list[tuple[float, str, Any, Case]] = []
    for attempt, score, judged in zip(attempts, table["score"], table["judged"], strict=True):
        if judged and attempt.trial == 0 and not math.isnan(score):
            row, other = by_id[attempt.row_id], base.get(attempt.row_id) if pairwise else None
            draw = digest([genesis, "planted", str(attempt.row_id), attempt.arm])
            case = case_of(spec, row, panel.inputs, attempt.output, other)
            found.append((score, draw, attempt.row_id, case))
    worst: dict[Any, tuple[Case, float]] = {}
    for score, _, row_id, case in sorted(found, key=lambda f: (_rank(f[0], panel), f[1])):
        worst.setdefault(row_id, (case, score))
    return plant_after(list(worst.values()), panel, spec.metric.fail_below, spec.judge.planted)


def plant_after(
    judged: Sequence[tuple[Case, float]], panel: Panel, limit: float, most: int
) -> Planted | None:
    """Judge outputs again with an instruction after each; None where the judge scores none.

    Taken are outputs that failed, the worst first: only there can an instruction gain anything. Of a
    comparison it stands after the side that did not win. An output flips if its score then reaches `limit`,
    or if it then wins.
    """
    pairwise = panel.judge.pairwise
    open_ = [(case, score) for case, score in judged if pairwise or score < limit]
    chosen = sorted((c for c in open_ if not math.isnan(c[1])), key=lambda c: _rank(c[1], panel))[:most]
    swapped = [pairwise and score > 0 for _, score in chosen]
    cases = [_planted(case, n, other=s) for n, ((case, _), s) in enumerate(zip(chosen, swapped, strict=True))]
    again = judge_rows(cases, panel)
    after = [-j.value if s else j.value for j, s in zip(again, swapped, strict=True)]
    known = [value for value in after if not math.isnan(value)]
    if not known:
        return None
    from itera_nb.stats.agreement import wilson_interval

    flips = sum(value > 0 if pairwise else value >= limit for value in known)
    interval = wilson_interval(flips, len(known))
    costs = [j.cost_usd for j in again]
    return Planted(
        rows=len(known),
        flips=flips,
        missing=len(after) - len(known),
        rate=flips / len(known),
        low=interval.low,
        high=interval.high,
        calls=sum(j.calls for j in again),
        cost_usd=None if None in costs else sum(c for c in costs if c is not None),
    )


def _rank(score: float, panel: Panel) -> float:
    """Lower goes first: the worst score, or of a comparison the clearest one."""
    return -abs(score) if panel.judge.pairwise else score


def _planted(case: Case, number: int, *, other: bool) -> Case:
    if other:
        return replace(case, other=injected(case.other, number))
    return replace(case, output=injected(case.output, number))
