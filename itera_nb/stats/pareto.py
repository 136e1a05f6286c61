"""Cost against accuracy of all arms jointly: how surely an arm lies on the frontier."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from itera_nb.stats.cost import LARGEST_BOOTSTRAP, resampled
from itera_nb.stats.paired import Delta, Floats, Interval, Labels, dense_codes

SURE = 0.95


@dataclass(frozen=True, slots=True)
class Frontier:
    """Arms in the order given; `cost` and `accuracy` hold the resampled means (B x A) for clouds or bars.

    `on_frontier[a]`: probability that no arm is as cheap and as accurate and better in one of the two;
    `dominated_by[a, b]`: probability that arm b dominates arm a. Name an arm dominated only at `SURE` or
    more.
    """

    cost: Floats
    accuracy: Floats
    on_frontier: Floats
    dominated_by: Floats

    @property
    def dominated(self) -> Floats:
        """Probability per arm that some other arm dominates it."""
        return 1 - self.on_frontier

    @property
    def surely_dominated(self) -> tuple[bool, ...]:
        """Whether each arm may be called dominated."""
        return tuple(bool(p >= SURE) for p in self.dominated)


def frontier(
    cost: ArrayLike,
    accuracy: ArrayLike,
    rng: np.random.Generator,
    cluster: Labels | None = None,
    *,
    resamples: int = 2_000,
) -> Frontier:
    """Joint bootstrap of n x A arrays over the same rows: cost per row (any unit) and score (fraction).

    Whole clusters are resampled up to 5,000 clusters; above, means are drawn from their joint normal
    approximation. Raises ValueError for missing values: settle them first, and leave out arms of unknown
    cost.
    """
    x, y = np.asarray(cost, dtype=np.float64), np.asarray(accuracy, dtype=np.float64)
    if (
        x.ndim != 2
        or x.shape != y.shape
        or x.size == 0
        or not (np.isfinite(x).all() and np.isfinite(y).all())
    ):
        raise ValueError("cost and accuracy must be finite n x A arrays over the same rows and arms")
    means = _resampled_means(np.hstack([x, y]), rng, cluster, resamples)
    cost_means, accuracy_means = means[:, : x.shape[1]], means[:, x.shape[1] :]
    cheaper = cost_means[:, None, :] - cost_means[:, :, None]
    better = accuracy_means[:, None, :] - accuracy_means[:, :, None]
    tie = 1e-12 * np.array([max(np.abs(cost_means).max(), 1e-300), 1.0])
    no_worse = (cheaper <= tie[0]) & (better >= -tie[1])
    dominates = no_worse & ((cheaper < -tie[0]) | (better > tie[1]))
    return Frontier(
        cost=cost_means,
        accuracy=accuracy_means,
        on_frontier=1 - dominates.any(axis=2).mean(axis=0),
        dominated_by=dominates.mean(axis=0),
    )


def cost_per_correct(
    frontier: Frontier, arm: int, base: int, delta: Delta, *, alpha: float = 0.05
) -> Interval | None:
    """Extra cost per extra correct row of `arm` over `base` (cost unit); None means unbounded.

    It exists only when the gain is shown (`delta.low` > 0) and every resample in the interval has a gain.
    """
    gain = frontier.accuracy[:, arm] - frontier.accuracy[:, base]
    if delta.low <= 0 or float(np.quantile(gain, alpha / 2)) <= 0:
        return None
    kept = gain > 0
    ratio = (frontier.cost[kept, arm] - frontier.cost[kept, base]) / gain[kept]
    low, high = np.quantile(ratio, [alpha / 2, 1 - alpha / 2])
    return Interval(float(low), float(high))


def _resampled_means(z: Floats, rng: np.random.Generator, cluster: Labels | None, resamples: int) -> Floats:
    n = len(z)
    codes = dense_codes(cluster, n)
    sizes = np.bincount(codes).astype(np.float64)
    sums = np.stack([np.bincount(codes, weights=column) for column in z.T], axis=1)
    clusters = sizes.size
    if clusters > LARGEST_BOOTSTRAP:
        centre = sums.sum(axis=0) / n
        residual = sums - sizes[:, None] * centre
        spread, axes = np.linalg.eigh(residual.T @ residual / n**2)
        normal = special.ndtri(rng.random((resamples, spread.size)))
        drawn: Floats = centre + normal * np.sqrt(np.clip(spread, 0, None)) @ axes.T
        return drawn
    weights = (w.astype(np.float64) for w in resampled(clusters, rng, resamples, width=clusters))
    return np.concatenate([w @ sums / (w @ sizes)[:, None] for w in weights])
