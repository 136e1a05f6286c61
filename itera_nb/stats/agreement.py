"""Agreement between judges, and the use of a judge beside human labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from itera_nb.stats.paired import Floats, Interval


@dataclass(frozen=True, slots=True)
class Agreement:
    """A chance-corrected agreement coefficient with its standard error and interval.

    `reading` for Gwet's AC1: "trusted" when low >= 0.6, "restart" when low < 0.4, else "weak".
    """

    value: float
    se: float
    low: float
    high: float
    reading: Literal["trusted", "weak", "restart"]


@dataclass(frozen=True, slots=True)
class PpiMean:
    """A mean of human labels sharpened by a judge (prediction-powered inference), with its interval."""

    estimate: float
    se: float
    low: float
    high: float
    weight: float


def direction_lower_bound(agreeing: int, rows: int, confidence: float = 0.95) -> float:
    """One-sided Clopper-Pearson lower bound of the share of rows on which two judges agree in direction.

    Above 0.60 the judge is supported: 13/15, 17/20, 23/30 or 30/40. Raises ValueError for an impossible
    count.
    """
    _check_count(agreeing, rows)
    from statsmodels.stats.proportion import proportion_confint

    return float(proportion_confint(agreeing, rows, 2 * (1 - confidence), "beta")[0])


def wilson_interval(successes: int, rows: int, confidence: float = 0.95) -> Interval:
    """Wilson score interval of a proportion."""
    _check_count(successes, rows)
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(successes, rows, 1 - confidence, "wilson")
    return Interval(float(low), float(high))


def cohen_kappa(table: ArrayLike) -> float:
    """Cohen's kappa of a q x q count table; misleading where one label prevails, NaN where undefined."""
    counts = _square(table)
    n = counts.sum()
    if float(counts.sum(axis=0) @ counts.sum(axis=1)) == n * n:
        return float("nan")
    from statsmodels.stats.inter_rater import cohens_kappa

    return float(cohens_kappa(counts, return_results=False))


def gwet_ac1(table: ArrayLike, confidence: float = 0.95) -> Agreement:
    """Gwet's AC1 (2008) of a q x q count table of two judges, q >= 2, with the t interval on n - 1 df."""
    counts = _square(table)
    n, q = counts.sum(), len(counts)
    if n < 2:
        raise ValueError("agreement needs at least two rows")
    share = (counts.sum(axis=0) + counts.sum(axis=1)) / (2 * n)
    chance = float(share @ (1 - share)) / (q - 1)
    observed = float(np.trace(counts)) / n
    value = float((observed - chance) / (1 - chance))
    # Linearised contribution of a row with labels (i, j), then its variance over the table's cells.
    row_chance = (2 - share[:, None] - share[None, :]) / (2 * (q - 1))
    part = (np.eye(q) - chance) / (1 - chance) - 2 * (1 - value) * (row_chance - chance) / (1 - chance)
    se = float(np.sqrt((counts * (part - value) ** 2).sum()) / n)
    half = float(special.stdtrit(n - 1, (1 + confidence) / 2)) * se
    low = value - half
    reading: Literal["trusted", "weak", "restart"] = (
        "trusted" if low >= 0.6 else "restart" if low < 0.4 else "weak"
    )
    return Agreement(value, se, low, min(value + half, 1.0), reading)


def krippendorff_alpha(
    ratings: ArrayLike, level: Literal["nominal", "ordinal", "interval"] = "nominal"
) -> float:
    """Krippendorff's alpha of a judges x rows array, NaN where a judge gave no rating; 1 when nothing varies.

    From the coincidence matrix (Krippendorff 2011). Raises ValueError when no row has two ratings.
    """
    r = np.asarray(ratings, dtype=np.float64)
    if r.ndim != 2:
        raise ValueError("ratings must be a judges x rows array")
    values = np.unique(r[~np.isnan(r)])
    counts = np.stack([(r == v).sum(axis=0) for v in values], axis=1).astype(np.float64)
    per_row = counts.sum(axis=1)
    counts, per_row = counts[per_row > 1], per_row[per_row > 1]
    if not per_row.size:
        raise ValueError("alpha needs at least one row with two ratings")
    scaled = counts / (per_row - 1)[:, None]
    coincidence = counts.T @ scaled - np.diag(scaled.sum(axis=0))
    margin = coincidence.sum(axis=0)
    distance = _distance(values, margin, level)
    expected = float(margin @ distance @ margin)
    if expected == 0:
        return 1.0
    observed = float((coincidence * distance).sum())
    return 1 - (float(margin.sum()) - 1) * observed / expected


def ppi_mean(
    human: ArrayLike,
    judge_labelled: ArrayLike,
    judge_other: ArrayLike,
    *,
    weight: float | None = None,
    alpha: float = 0.05,
) -> PpiMean:
    """Mean human score from n_h labelled rows and a judge's scores of all N others (Angelopoulos 2023).

    `weight` is lambda; None takes the power-tuned value in [0, 1]. Use it for n_h >= 30 random rows only.
    """
    y, f, g = (np.asarray(x, dtype=np.float64) for x in (human, judge_labelled, judge_other))
    if y.shape != f.shape or y.ndim != 1 or y.size < 2 or g.size < 2:
        raise ValueError("human and judge must score the same rows, at least two, and two others")
    if weight is None:
        spread = float(np.concatenate([f, g]).var())
        tuned = float(np.cov(y, f, bias=True)[0, 1]) / ((1 + y.size / g.size) * spread) if spread > 0 else 0.0
        weight = min(max(tuned, 0.0), 1.0)
    rectifier = y - weight * f
    estimate = weight * float(g.mean()) + float(rectifier.mean())
    se = float(np.sqrt(weight**2 * g.var() / g.size + rectifier.var() / y.size))
    half = float(special.ndtri(1 - alpha / 2)) * se
    return PpiMean(estimate, se, estimate - half, estimate + half, weight)


def _distance(values: Floats, margin: Floats, level: str) -> Floats:
    if level == "nominal":
        return 1 - np.eye(values.size)
    if level == "interval":
        squared: Floats = (values[:, None] - values[None, :]) ** 2
        return squared
    rank = np.cumsum(margin) - margin / 2  # the ranks between two values, ends counted half
    between: Floats = (rank[:, None] - rank[None, :]) ** 2
    return between


def _square(table: ArrayLike) -> Floats:
    counts = np.asarray(table, dtype=np.float64)
    if (
        counts.ndim != 2
        or counts.shape[0] != counts.shape[1]
        or len(counts) < 2
        or counts.min() < 0
        or not counts.any()
    ):
        raise ValueError("agreement needs a square table of counts over at least two labels")
    return counts


def _check_count(successes: int, rows: int) -> None:
    if rows < 1 or not 0 <= successes <= rows:
        raise ValueError(f"{successes} of {rows} is not a count")
