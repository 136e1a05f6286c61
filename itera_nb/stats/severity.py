"""The severity-weighted effect: a ratio estimator, how few rows carry it, and whether it disagrees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from itera_nb.stats.paired import Floats, Interval, Labels, cluster_codes, dot


@dataclass(frozen=True, slots=True)
class WeightedDelta:
    """The weighted effect (fraction) and interval; `n_eff` is Kish's effective number of clusters (rows).

    `few_rows`: n_eff < 20 or one row above 10 % of the weight. Such a result may veto but not carry a claim.
    """

    estimate: float
    se: float
    low: float
    high: float
    df: float
    n_eff: float
    largest_share: float
    few_rows: bool

    @property
    def vetoes(self) -> bool:
        """Whether the weighted effect is shown to be a loss."""
        return self.high < 0


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Weighted minus unweighted effect (fraction). `declared`: opposite signs, interval excludes 0."""

    estimate: float
    interval: Interval
    declared: bool


def weighted_delta(
    d: ArrayLike, weight: ArrayLike, cluster: Labels | None = None, *, alpha: float = 0.05
) -> WeightedDelta:
    """Sum w d / sum w over n rows, linearised cluster-robust variance, t with n_eff - 1 df.

    Weights are positive impacts, capped by the caller. Raises ValueError for negative weights, a zero sum, or
    fewer than two clusters.
    """
    d, w, codes = _checked(d, weight, cluster)
    total = float(w.sum())
    estimate = float((w * d).sum()) / total  # summed as the weights are, so equal rows give their value
    se = _linearised_se(w * (d - estimate) / total, codes)
    shares = np.bincount(codes, weights=w) / total
    n_eff = 1 / dot(shares, shares)
    df = max(n_eff - 1, 1.0)
    half = float(special.stdtrit(df, 1 - alpha / 2)) * se
    largest = float(w.max()) / total
    return WeightedDelta(
        estimate=estimate,
        se=se,
        low=max(estimate - half, -1.0),
        high=min(estimate + half, 1.0),
        df=df,
        n_eff=n_eff,
        largest_share=largest,
        few_rows=n_eff < 20 or largest > 0.10,
    )


def disagreement(
    d: ArrayLike, weight: ArrayLike, cluster: Labels | None = None, *, alpha: float = 0.05
) -> Disagreement:
    """Whether the weighted and the unweighted effect contradict each other beyond noise (same rows)."""
    weighted = weighted_delta(d, weight, cluster, alpha=alpha)
    d, w, codes = _checked(d, weight, cluster)
    plain = float(d.mean())
    influence = w * (d - weighted.estimate) / w.sum() - (d - plain) / d.size
    half = float(special.stdtrit(weighted.df, 1 - alpha / 2)) * _linearised_se(influence, codes)
    gap = weighted.estimate - plain
    interval = Interval(gap - half, gap + half)
    excludes = interval.low > 0 or interval.high < 0
    return Disagreement(gap, interval, bool(weighted.estimate * plain < 0 and excludes))


def _linearised_se(influence: Floats, codes: np.ndarray[tuple[int], np.dtype[np.intp]]) -> float:
    sums = np.bincount(codes, weights=influence)
    clusters = np.unique(codes).size
    if clusters < 2:
        raise ValueError("an interval needs at least two clusters")
    return float(np.sqrt(dot(sums, sums) * clusters / (clusters - 1)))


def _checked(
    d: ArrayLike, weight: ArrayLike, cluster: Labels | None
) -> tuple[Floats, Floats, np.ndarray[tuple[int], np.dtype[np.intp]]]:
    x, w = np.asarray(d, dtype=np.float64), np.asarray(weight, dtype=np.float64)
    if x.ndim != 1 or x.shape != w.shape or not (np.isfinite(x).all() and np.isfinite(w).all()):
        raise ValueError("differences and weights must be finite arrays over the same rows")
    if x.size == 0 or w.min() < 0 or w.sum() <= 0:
        raise ValueError("weights must not be negative and must not all be zero")
    return x, w, np.arange(x.size) if cluster is None else cluster_codes(cluster, x.size)
