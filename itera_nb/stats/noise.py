"""Noise of re-runs: what changes when nothing is changed. The interval of an effect already contains it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from itera_nb.stats.paired import Delta, Floats, Interval


@dataclass(frozen=True, slots=True)
class RerunNoise:
    """Re-run standard error of an effect (fraction) from the pooled within-row variances of both sides.

    `deterministic` means that no row ever changed between trials: row sampling is then the only uncertainty.
    """

    se: float
    variance_arm: float
    variance_base: float
    df: int
    deterministic: bool

    def share(self, delta: Delta) -> float:
        """Share of the effect's variance due to re-runs; above 0.3 more trials help, otherwise more rows."""
        return min(self.se**2 / delta.se**2, 1.0) if delta.se > 0 else 0.0


@dataclass(frozen=True, slots=True)
class TrialAnova:
    """Two-way analysis of variance rows x trials and its moment estimates of the variance components."""

    ms_row: float
    ms_trial: float
    ms_resid: float
    f_trial: float
    p_trial: float
    var_row: float
    var_trial: float
    var_resid: float

    @property
    def icc(self) -> float:
        """Share of the row-level variance that is stable between trials; 1 when nothing varies."""
        total = self.var_row + self.var_resid
        return self.var_row / total if total > 0 else 1.0


@dataclass(frozen=True, slots=True)
class TrialDrift:
    """Whether trials move all rows together. `exchangeable` is False for p < .01.

    `added_variance` (squared fraction) is then to be added to the variance of this arm's mean
    (`Delta.widened`).
    """

    test: str
    statistic: float
    p: float
    exchangeable: bool
    added_variance: float


def rerun_noise(scores_arm: ArrayLike, scores_base: ArrayLike) -> RerunNoise:
    """Re-run noise of the difference of two n x T score arrays, NaN for an absent trial.

    Raises ValueError when no row of one side has two trials: a single trial says nothing about re-runs.
    """
    variance_a, df_a, inverse_a = _within(scores_arm)
    variance_b, df_b, inverse_b = _within(scores_base)
    rows = len(np.asarray(scores_arm))
    se = math.sqrt((variance_a * inverse_a + variance_b * inverse_b) / rows)
    return RerunNoise(se, variance_a, variance_b, df_a + df_b, variance_a == 0 and variance_b == 0)


def preference_noise(preferences: ArrayLike, trials: int) -> RerunNoise:
    """Re-run noise of a net win rate over T trials where nothing was changed.

    `preferences` holds one value in [-1, 1] a row, of one run of the baseline over another; NaN is left out.
    Neither run is the better one, so that their mean is 0 and their mean square the variance of one trial.

    Raises ValueError without any preference.
    """
    values = np.asarray(preferences, dtype=np.float64)
    values = values[~np.isnan(values)]
    if values.size == 0:
        raise ValueError("re-run noise needs at least one preference")
    variance = float((values**2).mean())
    se = math.sqrt(variance / (values.size * trials))
    return RerunNoise(se, variance, 0.0, values.size, variance == 0)


def trial_anova(scores: ArrayLike) -> TrialAnova:
    """Two-way ANOVA without replication of a complete n x T array, both >= 2; negative components are 0."""
    y = _complete(scores)
    n, trials = y.shape
    grand, rows, cols = y.mean(), y.mean(axis=1), y.mean(axis=0)
    ms_row = trials * float(((rows - grand) ** 2).sum()) / (n - 1)
    ms_trial = n * float(((cols - grand) ** 2).sum()) / (trials - 1)
    df_resid = (n - 1) * (trials - 1)
    ms_resid = float(((y - rows[:, None] - cols + grand) ** 2).sum()) / df_resid
    # Sums of equal trials leave rounding errors of 1e-32, which are no variance.
    ms_row, ms_trial, ms_resid = (0.0 if x < 1e-24 else x for x in (ms_row, ms_trial, ms_resid))
    f = ms_trial / ms_resid if ms_resid else (math.inf if ms_trial else 0.0)
    return TrialAnova(
        ms_row=ms_row,
        ms_trial=ms_trial,
        ms_resid=ms_resid,
        f_trial=f,
        p_trial=float(special.fdtrc(trials - 1, df_resid, f)) if math.isfinite(f) else 0.0,
        var_row=max((ms_row - ms_resid) / trials, 0.0),
        var_trial=max((ms_trial - ms_resid) / n, 0.0),
        var_resid=ms_resid,
    )


def trial_drift(scores: ArrayLike) -> TrialDrift:
    """Test that the T trials of one arm are exchangeable: Cochran's Q for 0/1 scores, the ANOVA F otherwise.

    `scores` is n x T; rows with an absent trial (NaN) are left out of this test only.
    """
    y = np.asarray(scores, dtype=np.float64)
    y = _complete(y[~np.isnan(y).any(axis=1)])
    anova = trial_anova(y)
    added = max(anova.ms_trial - anova.ms_resid, 0.0) / y.size
    if np.isin(y, (0, 1)).all():
        test, statistic, p = "Cochran Q", *_cochran_q(y)
    else:
        test, statistic, p = "ANOVA F", anova.f_trial, anova.p_trial
    exchangeable = not p < 0.01
    return TrialDrift(test, statistic, p, exchangeable, 0.0 if exchangeable else added)


def repeat_sd(scores: ArrayLike) -> float:
    """The method's noise floor: sample sd of the T aggregate scores of an n x T array (fraction)."""
    y = np.asarray(scores, dtype=np.float64)
    if y.ndim != 2 or y.shape[1] < 2:
        raise ValueError("a noise floor needs at least two repeats")
    return float(np.nanmean(y, axis=0).std(ddof=1))


def sd_multipliers(repeats: int, confidence: float = 0.95) -> Interval:
    """Factors that turn the standard deviation of `repeats` runs into its chi-square confidence interval."""
    if repeats < 2:
        raise ValueError("a standard deviation needs at least two repeats")
    df, tail = repeats - 1, (1 - confidence) / 2
    upper, lower = (float(special.chdtri(df, p)) for p in (tail, 1 - tail))
    return Interval(math.sqrt(df / upper), math.sqrt(df / lower))


def _within(scores: ArrayLike) -> tuple[float, int, float]:
    """Pooled within-row variance, its degrees of freedom and the mean of 1/T over rows."""
    y = np.asarray(scores, dtype=np.float64)
    if y.ndim != 2:
        raise ValueError(f"scores must be n x T, got {y.ndim} dimensions")
    present = ~np.isnan(y)
    count = present.sum(axis=1)
    df = int((count[count > 0] - 1).sum())
    if df == 0:
        raise ValueError("re-run noise needs at least two trials on some row")
    count = np.maximum(count, 1)
    mean = np.where(present, y, 0.0).sum(axis=1) / count
    squares = np.where(present, (y - mean[:, None]) ** 2, 0.0)
    squares[squares < 1e-24] = 0.0
    return float(squares.sum()) / df, df, float((1 / count).mean())


def _complete(scores: ArrayLike) -> Floats:
    y = np.asarray(scores, dtype=np.float64)
    if y.ndim != 2 or min(y.shape) < 2 or np.isnan(y).any():
        raise ValueError("this needs a complete array of at least 2 rows x 2 trials")
    return y


def _cochran_q(y: Floats) -> tuple[float, float]:
    """Cochran's Q and its p value (Cochran 1950); importing statsmodels for one sum would cost 60 MB."""
    trials = y.shape[1]
    rows, columns = y.sum(axis=1), y.sum(axis=0)
    spread = float(trials * rows.sum() - (rows**2).sum())
    if spread == 0:
        return 0.0, 1.0
    q = (trials - 1) * (trials * float((columns**2).sum()) - float(columns.sum()) ** 2) / spread
    return q, float(special.chdtrc(trials - 1, q))
