"""Cost and latency per row: paired differences of the mean and of a quantile, in the unit of the values."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from itera_nb.stats.paired import Codes, Floats, Labels, cluster_mean, dense_codes

FEW_VALUES = 16
LARGEST_BOOTSTRAP = 5_000
_SECTIONS = 50
_BLOCK = 4_000_000  # cells of a resampling block: bounds memory at about 32 MB


@dataclass(frozen=True, slots=True)
class Difference:
    """Arm minus baseline of a cost or latency figure, in its own unit, and how the interval was found."""

    estimate: float
    low: float
    high: float
    method: Literal["constant", "multinomial BCa", "BCa", "t", "bootstrap", "sectioning"]


def mean_difference(
    difference: ArrayLike,
    rng: np.random.Generator,
    cluster: Labels | None = None,
    *,
    alpha: float = 0.05,
    resamples: int = 2_000,
) -> Difference:
    """Mean of n row differences of any unit (finite numbers).

    BCa bootstrap for 20 to 5,000 unclustered rows (on value counts where at most 16 values occur), otherwise
    the cluster-robust t interval. Raises ValueError for fewer than two rows or clusters.
    """
    x = np.asarray(difference, dtype=np.float64)
    if x.ndim != 1 or x.size < 2 or not np.isfinite(x).all():
        raise ValueError("a mean difference needs at least two finite values")
    values, counts = np.unique(x, return_counts=True)
    mean = float(x.mean())
    if values.size == 1:
        return Difference(mean, mean, mean, "constant")
    if cluster is None and x.size >= 20 and values.size <= FEW_VALUES:
        low, high = _counts_bca(values, counts.astype(np.float64), rng, alpha, resamples)
        return Difference(mean, low, high, "multinomial BCa")
    if cluster is None and 20 <= x.size <= LARGEST_BOOTSTRAP:
        from scipy import stats

        found = stats.bootstrap(
            (x,), np.mean, n_resamples=resamples, confidence_level=1 - alpha, method="BCa", batch=200, rng=rng
        ).confidence_interval
        return Difference(mean, float(found.low), float(found.high), "BCa")
    plain = cluster_mean(x, cluster, alpha=alpha)
    return Difference(mean, plain.low, plain.high, "t")


def quantile_difference(
    arm: ArrayLike,
    base: ArrayLike,
    rng: np.random.Generator,
    cluster: Labels | None = None,
    *,
    q: float = 0.95,
    alpha: float = 0.05,
    resamples: int = 2_000,
) -> Difference:
    """Difference of the q-quantiles of two arrays over the same n rows, e.g. p95 latency in milliseconds.

    Percentile bootstrap of whole clusters up to 5,000 clusters; above, the t interval over 50 random
    sections.
    """
    a, b = np.asarray(arm, dtype=np.float64), np.asarray(base, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or a.size < 2 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("quantiles need two finite arrays over the same rows, at least two")
    codes = dense_codes(cluster, a.size)
    clusters = int(codes.max()) + 1
    estimate = float(np.quantile(a, q) - np.quantile(b, q))
    if clusters > LARGEST_BOOTSTRAP:
        half = _section_half_width(a, b, rng.permutation(clusters)[codes] % _SECTIONS, q, alpha)
        return Difference(estimate, estimate - half, estimate + half, "sectioning")
    draws = []
    for drawn in resampled(clusters, rng, resamples, width=a.size):
        weight = drawn[:, codes]
        draws.append(_weighted_quantile(a, weight, q) - _weighted_quantile(b, weight, q))
    low, high = np.quantile(np.concatenate(draws), [alpha / 2, 1 - alpha / 2])
    return Difference(estimate, float(low), float(high), "bootstrap")


def resampled(clusters: int, rng: np.random.Generator, resamples: int, *, width: int) -> Iterator[Codes]:
    """Blocks (resamples x clusters) of how often each cluster is drawn; a resample needs `width` cells."""
    left, largest = resamples, max(_BLOCK // width, 1)
    while left:
        block = min(left, largest)
        yield rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=block)
        left -= block


def _counts_bca(
    values: Floats, counts: Floats, rng: np.random.Generator, alpha: float, resamples: int
) -> tuple[float, float]:
    """BCa interval of a mean from value counts: the law of resampling rows, with few distinct jackknives."""
    n = counts.sum()
    mean = float(values @ counts) / n
    draws = rng.multinomial(int(n), counts / n, size=resamples) @ values / n
    tie = 1e-12 * max(float(np.abs(values).max()), 1e-300)
    below = np.mean(draws < mean - tie) + np.mean(np.abs(draws - mean) <= tie) / 2
    shift = float(special.ndtri(np.clip(below, 1 / resamples, 1 - 1 / resamples)))
    # mean - (mean n - x) / (n - 1), written so that values that differ in their last bits do not cancel to 0.
    jackknife = (values - mean) / (n - 1)
    scale = float(np.abs(jackknife).max())
    if scale == 0:
        return mean, mean
    jackknife = jackknife / scale
    skew = float(counts @ jackknife**3) / (6 * float(counts @ jackknife**2) ** 1.5)
    z = shift + special.ndtri(np.array([alpha / 2, 1 - alpha / 2]))
    low, high = np.quantile(draws, special.ndtr(shift + z / (1 - skew * z)))
    return float(low), float(high)


def _weighted_quantile(values: Floats, weight: Codes, q: float) -> Floats:
    order = np.argsort(values)
    cumulative = np.cumsum(weight[:, order], axis=1)
    target = q * cumulative[:, -1:]
    found: Floats = values[order][np.argmax(cumulative >= target, axis=1)]
    return found


def _section_half_width(a: Floats, b: Floats, section: Codes, q: float, alpha: float) -> float:
    order = np.argsort(section, kind="stable")
    edges = np.searchsorted(section[order], np.arange(1, _SECTIONS))
    parts = zip(np.split(a[order], edges), np.split(b[order], edges), strict=True)
    found = np.array([np.quantile(x, q) - np.quantile(y, q) for x, y in parts])
    quantile = float(special.stdtrit(_SECTIONS - 1, 1 - alpha / 2))
    return quantile * float(found.std(ddof=1)) / math.sqrt(_SECTIONS)
