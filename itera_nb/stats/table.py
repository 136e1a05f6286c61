"""The paired 2 x 2 table of single-trial binary outcomes: intervals and tests for the appendix."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from itera_nb.stats.paired import Interval


@dataclass(frozen=True, slots=True)
class PairedTable:
    """Row counts: correct under both, only under the arm, only under the baseline, under neither."""

    both_correct: int
    arm_only: int
    base_only: int
    neither: int

    def __post_init__(self) -> None:
        if min(self.both_correct, self.arm_only, self.base_only, self.neither) < 0 or self.n == 0:
            raise ValueError("a paired table needs non-negative counts and at least one row")

    @classmethod
    def from_scores(cls, arm: ArrayLike, base: ArrayLike) -> PairedTable:
        """Count two arrays of n outcomes in {0, 1}; raises ValueError for other values or lengths."""
        a, b = np.asarray(arm, dtype=np.float64), np.asarray(base, dtype=np.float64)
        if a.shape != b.shape or a.ndim != 1 or not (np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all()):
            raise ValueError("outcomes must be two arrays of 0 and 1 over the same rows")
        counts = np.bincount((2 * a + b).astype(np.intp), minlength=4)
        return cls(int(counts[3]), int(counts[2]), int(counts[1]), int(counts[0]))

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.both_correct + self.arm_only + self.base_only + self.neither

    @property
    def estimate(self) -> float:
        """Effect as a fraction: (arm_only - base_only) / n."""
        return (self.arm_only - self.base_only) / self.n


def _adjusted_wald(table: PairedTable, each: float, rows: float, alpha: float) -> Interval:
    n, b, c = table.n + rows, table.arm_only + each, table.base_only + each
    half = float(special.ndtri(1 - alpha / 2)) * math.sqrt(b + c - (b - c) ** 2 / n) / n
    centre = (b - c) / n
    return Interval(max(centre - half, -1.0), min(centre + half, 1.0))


def wald_interval(table: PairedTable, alpha: float = 0.05) -> Interval:
    """Wald interval; covers as little as 64 % at n = 20. Shown for comparison only."""
    return _adjusted_wald(table, 0.0, 0.0, alpha)


def bonett_price_interval(table: PairedTable, alpha: float = 0.05) -> Interval:
    """Adjusted Wald interval of Bonett and Price (2012): a pseudo-row in each discordant cell."""
    return _adjusted_wald(table, 1.0, 2.0, alpha)


def agresti_min_interval(table: PairedTable, alpha: float = 0.05) -> Interval:
    """Adjusted Wald interval of Agresti and Min (2005): half a pseudo-row in each of the four cells."""
    return _adjusted_wald(table, 0.5, 2.0, alpha)


def newcombe_interval(table: PairedTable, alpha: float = 0.05) -> Interval:
    """Square-and-add interval, method 10 of Newcombe (1998), with continuity-corrected phi."""
    from statsmodels.stats.proportion import proportion_confint

    n, estimate = table.n, table.estimate
    arm, base = table.both_correct + table.arm_only, table.both_correct + table.base_only
    low_a, high_a = proportion_confint(arm, n, alpha, "wilson")
    low_b, high_b = proportion_confint(base, n, alpha, "wilson")
    margins = arm * (n - arm) * base * (n - base)
    cross = table.both_correct * table.neither - table.arm_only * table.base_only
    corrected = max(cross - n / 2, 0) if cross > 0 else cross
    phi = corrected / math.sqrt(margins) if margins else 0.0
    p_a, p_b = arm / n, base / n

    def root(x: float, y: float) -> float:
        return math.sqrt(max(x**2 - 2 * phi * x * y + y**2, 0.0))

    return Interval(estimate - root(p_a - low_a, high_b - p_b), estimate + root(high_a - p_a, p_b - low_b))


def score_z(table: PairedTable, null: float) -> float:
    """Tango's (1998) score statistic of H0: effect = null in (-1, 1); positive when the effect is larger."""
    n, b, c = table.n, table.arm_only, table.base_only
    linear = -b - c + (2 * n - b + c) * null
    constant = -c * null * (1 - null)
    base_only = (math.sqrt(max(linear**2 - 8 * n * constant, 0.0)) - linear) / (4 * n)
    variance = n * (2 * base_only + null * (1 - null))
    distance = b - c - n * null
    if variance <= 0:
        return 0.0 if distance == 0 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)


def score_p_greater(table: PairedTable, null: float = 0.0) -> float:
    """One-sided p value of the score test of H0: effect <= null."""
    return float(special.ndtr(-score_z(table, null)))


def tango_interval(table: PairedTable, alpha: float = 0.05) -> Interval:
    """Score interval of Tango (1998): every effect that the score test does not reject at two-sided alpha."""
    from scipy import optimize

    z, estimate = float(special.ndtri(1 - alpha / 2)), table.estimate
    edge = 1 - 1e-12

    def bound(target: float, end: float) -> float:
        def gap(null: float) -> float:
            return max(min(score_z(table, null), 1e6), -1e6) - target

        # The statistic falls in the null, is 0 at the estimate and diverges at the ends of the range.
        if gap(end) * gap(estimate) >= 0:
            return math.copysign(1.0, end)
        return float(optimize.brentq(gap, min(end, estimate), max(end, estimate), xtol=1e-12))

    return Interval(bound(z, -edge), bound(-z, edge))


def mcnemar_midp(table: PairedTable) -> float:
    """Two-sided McNemar mid-p (Fagerland, Lydersen & Laake 2013); 1 when no row is discordant."""
    b, c = table.arm_only, table.base_only
    if b + c == 0:
        return 1.0
    lower = min(b, c)
    cumulative = float(special.bdtr(lower, b + c, 0.5))
    point = cumulative - (float(special.bdtr(lower - 1, b + c, 0.5)) if lower else 0.0)
    return 1 - point / 2 if b == c else 2 * cumulative - point


def mcnemar_exact(table: PairedTable) -> float:
    """Two-sided exact conditional McNemar p value."""
    b, c = table.arm_only, table.base_only
    return min(2 * float(special.bdtr(min(b, c), b + c, 0.5)), 1.0)


def mcnemar_asymptotic(table: PairedTable) -> float:
    """Two-sided asymptotic McNemar p value without continuity correction; 1 when no row is discordant."""
    b, c = table.arm_only, table.base_only
    return float(special.chdtrc(1, (b - c) ** 2 / (b + c))) if b + c else 1.0
