"""Exact power of the rule on binary outcomes, sample sizes, and the rule of thumb beside them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from itera_nb.stats.decision import Rule
from itera_nb.stats.paired import adjusted_se

RULE_OF_THUMB = {0.10: 30, 0.05: 80, 0.02: 300}
"""Smallest effect (fraction) -> total rows, as it circulates. Shown beside the calculation, never used."""

LARGEST_ENUMERATION = 10_000


@dataclass(frozen=True, slots=True)
class ExactPower:
    """Probabilities of the aggregate: binary, one trial, independent rows. `strict`: low > min_effect."""

    ship: float
    kill: float
    strict: float

    @property
    def inconclusive(self) -> float:
        """Probability of neither ship nor kill."""
        return 1 - self.ship - self.kill


@dataclass(frozen=True, slots=True)
class ThumbRule:
    """One line of the rule of thumb: rows in all, rows that reach the test, and its true power."""

    effect: float
    rows: int
    test_rows: int
    power: float


def exact_power(
    rows: int, discordance: float, effect: float, *, min_effect: float = 0.05, alpha: float = 0.05
) -> ExactPower:
    """Enumerate every (arm_only, base_only) of the trinomial; 10,000 rows take about 0.1 s.

    Raises ValueError when |effect| exceeds the discordance, which is impossible.
    """
    if abs(effect) > discordance:
        raise ValueError(f"an effect of {effect:g} is impossible with discordance {discordance:g}")
    gain = (discordance + effect) / (2 * discordance)
    low_m, high_m = _central(rows, discordance)
    m = np.arange(low_m, high_m + 1)[:, None]
    # Only the central counts matter: everything outside has probability below 1e-13.
    ends = [_central(int(k), gain) for k in (low_m, high_m)]
    b = np.arange(ends[0][0], ends[1][1] + 1)[None, :]
    c = np.maximum(m - b, 0)
    weight = _binomial(m, rows, discordance) * np.where(b <= m, _binomial(np.minimum(b, m), m, gain), 0.0)
    estimate, low, high = _binary_interval(b, c, rows, alpha)
    rule, strict = Rule(min_effect, alpha), Rule(min_effect, alpha, proof="above_min")
    ship = rule.passes(estimate, low)
    kill = rule.kills(high) & ~ship
    return ExactPower(*(float(weight[event].sum()) for event in (ship, kill, strict.passes(estimate, low))))


def required_rows(
    effect: float,
    discordance: float = 0.20,
    *,
    power: float = 0.80,
    criterion: Callable[[ExactPower], float] | None = None,
    min_effect: float = 0.0,
    alpha: float = 0.05,
) -> int:
    """Test rows for `power` of a ship (or of `criterion`): binary, one trial, independent rows.

    Found by bracketing exact enumerations to about 1 %, because power is a saw-tooth in n; the closed form is
    used above 10,000 rows. min_effect 0 asks for low > 0 alone. Raises ValueError when no size up to the
    limit of the search reaches it.
    """
    reach = criterion or (lambda odds: odds.ship)

    def enough(n: int) -> bool:
        return reach(exact_power(n, discordance, effect, min_effect=min_effect, alpha=alpha)) >= power

    high = 16
    while not enough(high):
        if high >= LARGEST_ENUMERATION:
            if criterion is None and effect > min_effect:
                return math.ceil(closed_form_rows(effect, discordance - effect**2, alpha=alpha, power=power))
            raise ValueError(f"no size up to {high} rows reaches power {power:g}")
        high = min(math.ceil(high * 1.3), LARGEST_ENUMERATION)
    low = high / 1.3
    while high - low > max(1, 0.005 * high):
        middle = int((low + high) / 2)
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def rule_of_thumb(test_share: float = 0.20, discordance: float = 0.20) -> tuple[ThumbRule, ...]:
    """True power of the circulating rule of thumb: probability of a ship at exactly the named effect."""
    lines = []
    for effect, rows in RULE_OF_THUMB.items():
        test_rows = round(rows * test_share)
        odds = exact_power(max(test_rows, 1), discordance, effect, min_effect=effect)
        lines.append(ThumbRule(effect, rows, test_rows, odds.ship))
    return tuple(lines)


def miller_variance(omega2: float, sigma2_arm: float, sigma2_base: float, trials: int) -> float:
    """Variance of a row difference (Miller 2024): omega^2 between rows plus the trial variances over T."""
    return omega2 + (sigma2_arm + sigma2_base) / trials


def closed_form_rows(
    effect: float,
    variance: float,
    *,
    null: float = 0.0,
    design_effect: float = 1.0,
    alpha: float = 0.05,
    power: float = 0.80,
) -> float:
    """(z_a/2 + z_b)^2 variance deff / (effect - null)^2, not rounded; low by up to 10 rows below 200 rows.

    `variance` is that of one row difference, for binary data D - effect^2. Raises ValueError for effect <=
    null.
    """
    if effect <= null:
        raise ValueError("the expected effect must lie above the effect to be excluded")
    z = float(special.ndtri(1 - alpha / 2) + special.ndtri(power))
    return z**2 * variance * design_effect / (effect - null) ** 2


def t_test_power(rows: float, effect: float, sd: float, *, alpha: float = 0.05) -> float:
    """Power of the paired t test (near tail); `sd` is the standard deviation of row differences."""
    from statsmodels.stats.power import TTestPower

    return float(TTestPower().power(effect / sd, rows, alpha / 2, alternative="larger"))


def t_test_rows(effect: float, sd: float, *, alpha: float = 0.05, power: float = 0.80) -> float:
    """Rows (not rounded) at which the paired t test reaches `power`."""
    from statsmodels.stats.power import TTestPower

    found = TTestPower().solve_power(effect / sd, alpha=alpha / 2, power=power, alternative="larger")
    return float(np.asarray(found).item())


def _central(n: int, p: float) -> tuple[int, int]:
    """Counts outside of which a binomial has probability below about 1e-13."""
    mean, reach = n * p, 8 * math.sqrt(n * p * (1 - p)) + 20
    return max(math.floor(mean - reach), 0), min(math.ceil(mean + reach), n)


def _binomial(k: Any, n: Any, p: float) -> Any:
    log_choose = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    return np.exp(log_choose + special.xlogy(k, p) + special.xlog1py(n - k, -p))


def _binary_interval(b: Any, c: Any, rows: int, alpha: float) -> tuple[Any, Any, Any]:
    """Estimate, low and high of `paired_delta(binary=True)` from discordant counts of unclustered rows."""
    centre = (b - c) / (rows + 2)
    se = adjusted_se(b + c - 2 * centre * (b - c) + rows * centre**2, centre, 1.0, rows, 1.0)
    half = float(special.stdtrit(rows + 1, 1 - alpha / 2)) * se
    return (b - c) / rows, centre - half, centre + half
