"""Does the sample mirror production? Its counts per stratum against production's, with a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pyarrow.compute as pc

from itera_nb.exceptions import DataError
from itera_nb.source.keys import NUMBER
from itera_nb.source.relation import DuckDBRelation
from itera_nb.source.slices import slice_id

Stratum: TypeAlias = tuple[str, ...]
COUNT = "count"
POINTS = 0.05
RATIO = 2.0
ALPHA = 0.05
EXPECTED_ROWS = 5.0
"""Cells below this expectation are pooled in the chi-square test (Cochran's rule)."""
SURELY_THERE = 3.0
"""A stratum with this expectation is absent by chance in at most 5 % of samples (exp(-3))."""


@dataclass(frozen=True, slots=True)
class DistributionAudit:
    """Result of the distribution audit, with a sentence for each stratum that stands out and for the test.

    Strata stand out that production has and the sample lacks, that differ by more than 5 points or by a
    factor of more than 2 either way, or that production does not know.
    """

    status: Literal["passed", "failed", "not_checked"]
    sentences: tuple[str, ...]


def audit_distribution(sample: Sequence[Mapping[str, Any]], production: Path | None) -> DistributionAudit:
    """Compare the sample's strata with production's.

    Fails where the chi-square test rejects equality (p < 0.05) and a stratum is named, where a stratum that
    should have 3 rows or more is missing, or where the sample has strata that production does not know.

    Args:
        sample: Counts of the sample: declared columns (text) and ``count``, as in `SealReport.strata`.
        production: A file of declared columns and ``count``; None: "not checked".

    Raises:
        DataError: The file lacks ``count``, has no declared column or an undeclared one, or a count that is
            no number.
    """
    if production is None:
        return DistributionAudit(
            "not_checked", ("No production counts were given: the sample was not compared with them.",)
        )
    declared = [c for c in (sample[0] if sample else {}) if c != COUNT]
    columns, expected = _production(production, declared)
    observed: dict[Stratum, float] = {}
    for row in sample:
        stratum = tuple(str(row[c]) for c in columns)
        observed[stratum] = observed.get(stratum, 0) + int(row[COUNT])
    return _compare(columns, observed, expected)


def _production(path: Path, declared: Sequence[str]) -> tuple[tuple[str, ...], dict[Stratum, float]]:
    relation = DuckDBRelation(path, None, text=declared)
    columns = tuple(c for c in relation.columns if c != COUNT)
    unknown = [c for c in columns if c not in declared]
    if COUNT not in relation.columns or unknown or not columns:
        raise DataError(
            f"{path.name} must have 'count' and columns among {', '.join(declared) or '(none declared)'}, "
            f"and has {', '.join(relation.columns)}",
            fix="give one line per combination, for example language,tier,count",
        )
    table = relation.keys([*columns, COUNT])
    counts = table.column(COUNT)
    good = pc.fill_null(pc.match_substring_regex(counts, NUMBER), False)
    total = 0.0
    expected: dict[Stratum, float] = {}
    if pc.all(good).as_py():
        for *values, count in zip(*(table.column(c).to_pylist() for c in (*columns, COUNT)), strict=True):
            stratum = tuple(value or "" for value in values)
            expected[stratum] = expected.get(stratum, 0.0) + float(count)
            total += float(count)
    if not total:
        raise DataError(
            f"{path.name}: the column 'count' must hold numbers of 0 or more, not all 0", fix="correct it"
        )
    return columns, {stratum: count / total for stratum, count in expected.items() if count > 0}


def _compare(
    columns: tuple[str, ...], observed: Mapping[Stratum, float], expected: Mapping[Stratum, float]
) -> DistributionAudit:
    rows = sum(observed.values())
    missing = False
    dropped, weighted, foreign = [], [], []
    for stratum in sorted({*observed, *expected}):
        name = " ".join(slice_id(c, v) for c, v in zip(columns, stratum, strict=True))
        seen, due = observed.get(stratum, 0), expected.get(stratum, 0.0)
        share = seen / rows
        if not due:
            foreign.append(f"{name} has {int(seen)} rows in the sample and none in production.")
        elif not seen:
            dropped.append(f"{name} is missing: {due:.1%} of production, no row in the sample.")
            missing = missing or due * rows >= SURELY_THERE
        elif abs(share - due) > POINTS or not 1 / RATIO <= share / due <= RATIO:
            weighted.append(f"{name} is {share:.1%} of the sample and {due:.1%} of production.")
    sentences = [*dropped, *weighted, *foreign]
    differs = False
    if test := _chi_square({s: n for s, n in observed.items() if s in expected}, expected):
        chi2, df, p_value = test
        differs = p_value < ALPHA
        verdict = "differ more than by chance" if differs else "do not differ more than by chance"
        sentences.append(
            f"Sample and production {verdict} (chi-square {chi2:.1f}, {df} df, p = {p_value:.2g})."
        )
    failed = missing or foreign or (differs and (dropped or weighted))
    return DistributionAudit("failed" if failed else "passed", tuple(sentences))


def _chi_square(
    observed: Mapping[Stratum, float], shares: Mapping[Stratum, float]
) -> tuple[float, int, float] | None:
    """Pearson's goodness-of-fit test: chi-square, degrees of freedom, p; None for a single cell.

    Cells expected below 5 rows are pooled, if need be with the next.
    """
    from scipy import special

    rows = sum(observed.values())
    cells = sorted(((rows * share, observed.get(s, 0.0)) for s, share in shares.items()), reverse=True)
    pooled = (0.0, 0.0)
    while cells and (cells[-1][0] < EXPECTED_ROWS or 0 < pooled[0] < EXPECTED_ROWS):
        wanted, seen = cells.pop()
        pooled = (pooled[0] + wanted, pooled[1] + seen)
    if pooled[0]:
        cells.append(pooled)
    if len(cells) < 2:
        return None
    chi2 = float(sum((seen - wanted) ** 2 / wanted for wanted, seen in cells))
    return chi2, len(cells) - 1, float(special.chdtrc(len(cells) - 1, chi2))
