"""Planted injections: how often a judge obeys an instruction hidden in what it judges, measured on dev.

Delimiters and stripped markers make that rare, nothing makes it impossible: the rate is measured and printed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from itera_nb._typing import Row
from itera_nb.ledger import digest
from itera_nb.metrics.judge import Case, injected

from .attempts import Attempt
from .judging import Panel, judge_rows

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


@dataclass(frozen=True, slots=True)
class Site:
    """An output to plant after: the case as it was judged, and its score from that output's side."""

    case: Case
    score: float
    other_side: bool = False


def plant(
    attempts: Sequence[Attempt],
    table: pd.DataFrame,
    rows: Sequence[Row],
    spec: Spec,
    panel: Panel,
    genesis: str,
) -> Planted | None:
    """Judge the registered number of outputs again, each with one of our instructions after it.

    Taken are outputs that failed, the worst first, one a row (only there can an instruction gain anything);
    of a comparison the side that did not win.

    Args:
        attempts: Attempts of the first trial and others.
        table: Their scored lines, in the same order.
        rows: The rows with all their columns.
        spec: The registered experiment, with its `[judge]`.
        panel: The judge.
        genesis: The experiment's id, which decides between equal scores.

    Returns:
        None if nothing is to be planted, or nowhere it could gain.
    """
    assert spec.judge is not None
    found = _sites(attempts, table, rows, spec, panel, genesis)[: spec.judge.planted]
    return plant_after(found, panel, spec.metric.fail_below)


def plant_after(found: Sequence[Site], panel: Panel, limit: float) -> Planted | None:
    """Judge each of these outputs again with an instruction after it; None where the judge scores none.

    An output flips if its score then reaches `limit`, or if it then wins its comparison.
    """
    judged = judge_rows([_planted(site, n) for n, site in enumerate(found)], panel.judge, panel.bench)
    after = [-j.value if site.other_side else j.value for site, j in zip(found, judged, strict=True)]
    known = [value for value in after if not math.isnan(value)]
    if not known:
        return None
    from itera_nb.stats.agreement import wilson_interval

    flips = sum(value > 0 if panel.judge.pairwise else value >= limit for value in known)
    interval = wilson_interval(flips, len(known))
    costs = [j.cost_usd for j in judged]
    return Planted(
        rows=len(known),
        flips=flips,
        missing=len(after) - len(known),
        rate=flips / len(known),
        low=interval.low,
        high=interval.high,
        calls=sum(j.calls for j in judged),
        cost_usd=None if None in costs else sum(c for c in costs if c is not None),
    )


def _planted(site: Site, number: int) -> Case:
    case = site.case
    if site.other_side:
        return Case(case.inputs, case.output, injected(case.other, number), case.expected)
    return Case(case.inputs, injected(case.output, number), case.other, case.expected)


def _sites(
    attempts: Sequence[Attempt],
    table: pd.DataFrame,
    rows: Sequence[Row],
    spec: Spec,
    panel: Panel,
    genesis: str,
) -> list[Site]:
    by_id = {row[spec.source.id]: row for row in rows}
    base = {a.row_id: a.output for a in attempts if a.arm == spec.baseline and a.trial == 0}
    found: dict[Any, tuple[float, str, Site]] = {}
    for attempt, score, judged in zip(attempts, table["score"], table["judged"], strict=True):
        if attempt.trial or not judged or math.isnan(score):
            continue
        row = by_id[attempt.row_id]
        site = Site(
            Case(
                {column: row[column] for column in panel.inputs},
                attempt.output,
                base.get(attempt.row_id) if panel.judge.pairwise else None,
                row[spec.source.expected] if spec.source.expected else None,
            ),
            -abs(score) if panel.judge.pairwise else score,
            other_side=panel.judge.pairwise and score > 0,
        )
        if not panel.judge.pairwise and score >= spec.metric.fail_below:
            continue
        draw = digest([genesis, "planted", str(attempt.row_id), attempt.arm])
        entry = (site.score, draw, site)
        if attempt.row_id not in found or entry[:2] < found[attempt.row_id][:2]:
            found[attempt.row_id] = entry
    return [site for _, _, site in sorted(found.values(), key=lambda entry: entry[:2])]
