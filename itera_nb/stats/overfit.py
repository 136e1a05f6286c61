"""Overfit alarms: dev against test, seen against unseen rows, and the measured half of the gate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from itera_nb.stats.multiplicity import best_of_k_bias
from itera_nb.stats.paired import (
    Delta,
    Floats,
    Labels,
    cluster_codes,
    cluster_mean,
    dense_codes,
    paired_delta,
)

FEWEST_TOUCHED = 5
Verdict: TypeAlias = Literal["hardcode suspected", "survives", "unclear", "not testable"]


@dataclass(frozen=True, slots=True)
class DevTestGap:
    """Dev minus test effect (fraction). `expected_inflation` is the best-of-K bias of the dev effect.

    `leak`: clusters span both sets, so the two effects are not independent.
    """

    gap: float
    se: float
    z: float
    level: Literal["none", "alarm", "strong"]
    expected_inflation: float
    leak: bool


@dataclass(frozen=True, slots=True)
class WelchResult:
    """Difference of two mean effects (first minus second, fraction) with cluster-robust Welch inference."""

    difference: float
    t: float
    df: float
    low: float
    high: float
    p_one_sided: float


@dataclass(frozen=True, slots=True)
class TouchedGate:
    """Does the dev gain survive on rows without the strings that the change added?

    `touched` and `untouched` are the effects of the two groups (None without enough rows), `gain_share` the
    part of the whole gain that touched rows carry (None when there is no gain).
    """

    verdict: Verdict
    touched: Delta | None
    untouched: Delta | None
    gain_share: float | None
    p_one_sided: float | None


@dataclass(frozen=True, slots=True)
class ClusterGate:
    """Does the dev gain survive without any one cluster? `lowest`: smallest effect with one left out.

    `top_gain_share` and `top_row_share` belong to the cluster (code `top`) with the largest gain.
    """

    passed: bool
    lowest: float
    top: int
    top_gain_share: float | None
    top_row_share: float


def dev_test_gap(
    dev: Delta, test: Delta, *, iterations: int = 1, shared_clusters: bool = False
) -> DevTestGap:
    """Alarm when the dev effect exceeds the test effect by z > 1.645, strong alarm at z > 2.326."""
    gap, se = dev.estimate - test.estimate, math.hypot(dev.se, test.se)
    z = gap / se if se > 0 else 0.0
    level: Literal["none", "alarm", "strong"] = "strong" if z > 2.326 else "alarm" if z > 1.645 else "none"
    return DevTestGap(gap, se, z, level, best_of_k_bias(max(iterations, 1)) * dev.se, shared_clusters)


def welch(
    first: ArrayLike,
    second: ArrayLike,
    cluster_first: Labels | None = None,
    cluster_second: Labels | None = None,
    *,
    alpha: float = 0.05,
) -> WelchResult:
    """Is the mean of `first` (seen, touched) larger than that of `second`? Cluster-robust Welch t.

    Raises ValueError for fewer than two rows or clusters on a side.
    """
    a, b = cluster_mean(first, cluster_first), cluster_mean(second, cluster_second)
    difference, variance = a.estimate - b.estimate, a.se**2 + b.se**2
    if variance == 0:
        sign = float(np.sign(difference))
        p = 0.5 if sign == 0 else float(sign < 0)
        return WelchResult(difference, sign * math.inf if sign else 0.0, math.inf, difference, difference, p)
    df = variance**2 / (a.se**4 / a.df + b.se**4 / b.df)
    se = math.sqrt(variance)
    t, half = difference / se, float(special.stdtrit(df, 1 - alpha / 2)) * se
    return WelchResult(difference, t, df, difference - half, difference + half, float(special.stdtr(df, -t)))


def permutation_p(
    first: ArrayLike, second: ArrayLike, rng: np.random.Generator, *, resamples: int = 9_999
) -> float:
    """One-sided permutation p value of a larger mean in `first`; independent rows."""
    from scipy import stats

    def gap(x: Floats, y: Floats, axis: int) -> Floats:
        return np.asarray(np.mean(x, axis=axis) - np.mean(y, axis=axis))

    samples = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    found = stats.permutation_test(
        samples, gap, alternative="greater", n_resamples=resamples, batch=1_000, rng=rng
    )
    return float(found.pvalue)


def touched_gate(
    d: ArrayLike, touched: ArrayLike, cluster: Labels | None = None, *, graded: bool = False
) -> TouchedGate:
    """Gate on the literals that a change adds: n dev row differences and the mask of rows that hold any.

    Hardcode suspected: the touched rows gain more (one-sided p < .05) and the untouched ones gain less than
    half of the whole. Survives: the interval of the untouched rows lies above 0. Fewer than five touched
    rows: not testable.
    """
    x, mask = np.asarray(d, dtype=np.float64), np.asarray(touched, dtype=bool)
    if x.shape != mask.shape:
        raise ValueError("the mask of touched rows must have one entry per row")
    codes = None if cluster is None else cluster_codes(cluster)

    def group(rows: NDArray[np.bool_]) -> Delta | None:
        own = None if codes is None else codes[rows]
        return paired_delta(x[rows], own, graded=graded) if rows.any() else None

    inside, outside, total = group(mask), group(~mask), float(x.sum())
    share = float(x[mask].sum()) / total if total > 0 else None
    enough = inside is not None and inside.n >= FEWEST_TOUCHED
    if inside is None or outside is None or not enough or min(inside.clusters, outside.clusters) < 2:
        return TouchedGate("not testable", inside, outside, share, None)
    labels = (None, None) if codes is None else (codes[mask], codes[~mask])
    p = welch(x[mask], x[~mask], *labels).p_one_sided
    verdict: Verdict = "unclear"
    if p < 0.05 and outside.estimate < total / x.size / 2:
        verdict = "hardcode suspected"
    elif outside.low > 0:
        verdict = "survives"
    return TouchedGate(verdict, inside, outside, share, p)


def concentrated(d: ArrayLike, mask: ArrayLike) -> bool:
    """Whether most of the gain stands on the rows of a mask, however few they are.

    Exact: the wins among them are hypergeometric where they fall anywhere; one-sided p < .05, and the others
    gain less than half of the whole.
    """
    from scipy.stats import hypergeom

    x, inside = np.asarray(d, dtype=np.float64), np.asarray(mask, dtype=bool)
    wins, total = x > 0, float(x.sum())
    if total <= 0 or not inside.any() or inside.all():
        return False
    p = hypergeom.sf(int(wins[inside].sum()) - 1, x.size, int(inside.sum()), int(wins.sum()))
    return bool(p < 0.05 and x[~inside].mean() < total / x.size / 2)


def cluster_gate(d: ArrayLike, cluster: Labels) -> ClusterGate:
    """Leave one cluster out, for all clusters at once (O(n + G)); needs at least two clusters.

    Fails when the dev effect is positive and is not without some cluster, or when one cluster carries more
    than half of the gain with less than a fifth of the rows.
    """
    x = np.asarray(d, dtype=np.float64)
    codes = dense_codes(cluster, x.size)
    sums, sizes = np.bincount(codes, weights=x), np.bincount(codes)
    if sums.size < 2:
        raise ValueError("leaving a cluster out needs at least two clusters")
    total = float(x.sum())
    without = (total - sums) / (x.size - sizes)
    lowest, top = float(without.min()), int(sums.argmax())
    share = float(sums[top]) / total if total > 0 else None
    rows = float(sizes[top]) / x.size
    carried = share is not None and share > 0.5 and rows < 0.2
    lost = total > 0 and lowest <= 1e-12
    return ClusterGate(not carried and not lost, lowest, top, share, rows)
