"""What a design can show before it is paid for: exact power, sample sizes, and the odds of every outcome.

Data model of the simulation: a share of the rows is unstable (both arms succeed with a common probability
U(0, 1) in every trial), all others are stable outcome pairs with the wanted effect and discordance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from itera_nb.stats.decision import FEWEST_CLUSTERS, FEWEST_ROWS, Rule, look_alpha
from itera_nb.stats.paired import Floats, adjusted_se
from itera_nb.stats.slices import FEWEST_ROWS as SLICE_ROWS
from itera_nb.stats.slices import FLAG, harm_posterior

RULE_OF_THUMB = {0.10: 30, 0.05: 80, 0.02: 300}
"""Smallest effect (fraction) -> total rows, as it circulates. Shown beside the calculation, never used."""

LARGEST_ENUMERATION = 10_000
_CELLS = 20_000_000  # rows x draws of one clustered simulation: bounds time and memory


@dataclass(frozen=True, slots=True)
class ExactPower:
    """Probabilities of the aggregate alone, binary single-trial independent rows; `strict`: low > min_effect."""

    ship: float
    kill: float
    strict: float

    @property
    def inconclusive(self) -> float:
        """Probability of neither ship nor kill."""
        return 1 - self.ship - self.kill


@dataclass(frozen=True, slots=True)
class Design:
    """A planned test: rows, trials, slices (shares summing to 1) and clusters, with the rule that will judge it.

    `discordance` is the share of rows on which the two arms differ in one run. `extension_rows` is the
    registered top-up (0 = none); `rule.alpha` must then be that of each look. `arms` divides alpha, `floor`
    is the slice margin.
    """

    rows: int
    rule: Rule
    discordance: float = 0.20
    trials: int = 1
    slices: tuple[float, ...] = (1.0,)
    floor: float = 0.02
    cluster_size: int = 1
    icc: float = 0.0
    arms: int = 1
    extension_rows: int = 0

    def __post_init__(self) -> None:
        if min(self.rows, self.trials, self.cluster_size, self.arms) < 1 or self.extension_rows < 0:
            raise ValueError("rows, trials, cluster_size and arms must be at least 1")
        if not 0 < self.discordance <= 1 or not 0 <= self.icc < 1:
            raise ValueError("discordance lies in (0, 1], icc in [0, 1)")
        if not self.slices or min(self.slices) <= 0 or abs(sum(self.slices) - 1) > 1e-6:
            raise ValueError("slice shares must be positive and sum to 1")

    @property
    def design_effect(self) -> float:
        """Variance inflation by clusters: 1 + (m - 1) ICC."""
        return 1 + (self.cluster_size - 1) * self.icc


@dataclass(frozen=True, slots=True)
class ThumbRule:
    """One line of the rule of thumb: rows in all, rows that reach the test, and its true power."""

    effect: float
    rows: int
    test_rows: int
    power: float


@dataclass(frozen=True, slots=True)
class OutcomeOdds:
    """Probability of each outcome at one true effect; `literal` is how often the method's literal rule passes."""

    ship: float
    scope: float
    kill: float
    inconclusive: float
    literal: float
    draws: int


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
    """Test rows for `power` of a ship (or of `criterion`), binary, one trial, independent rows, exact enumeration.

    Found by bracketing to about 1 %, because power is a saw-tooth in n; the closed form is used above 10,000
    rows. min_effect 0 asks for low > 0 alone. Raises ValueError when no size up to the limit of the search
    reaches it.
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
    """What the sizes of the circulating rule of thumb can show: probability of a ship at exactly the named effect."""
    lines = []
    for effect, rows in RULE_OF_THUMB.items():
        test_rows = round(rows * test_share)
        odds = exact_power(test_rows, discordance, effect, min_effect=effect)
        lines.append(ThumbRule(effect, rows, test_rows, odds.ship))
    return tuple(lines)


def miller_variance(omega2: float, sigma2_arm: float, sigma2_base: float, trials: int) -> float:
    """Variance of a row difference (Miller 2024): omega^2 between rows plus the trial variances divided by T."""
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
    """Power of the paired t test (near tail) for a true `effect` and standard deviation `sd` of row differences."""
    from statsmodels.stats.power import TTestPower

    return float(TTestPower().power(effect / sd, rows, alpha / 2, alternative="larger"))


def t_test_rows(effect: float, sd: float, *, alpha: float = 0.05, power: float = 0.80) -> float:
    """Rows (not rounded) at which the paired t test reaches `power`."""
    from statsmodels.stats.power import TTestPower

    found = TTestPower().solve_power(effect / sd, alpha=alpha / 2, power=power, alternative="larger")
    return float(np.asarray(found).item())


def outcome_odds(
    design: Design, truth: float | Sequence[float], rng: np.random.Generator, *, draws: int = 4_000
) -> OutcomeOdds:
    """Simulate the full rule (aggregate, slices, registered extension) at one true effect.

    `truth` is a fraction, or one per slice. An inconclusive first look is followed by the second on all rows.
    Very large clustered designs use fewer draws; `OutcomeOdds.draws` says how many.
    """
    effects = np.broadcast_to(np.asarray(truth, dtype=np.float64), len(design.slices))
    if design.cluster_size > 1:
        draws = min(draws, max(_CELLS // (design.rows + design.extension_rows), 200))
    first = _sample(design, design.rows, effects, rng, draws)
    outcome = _outcomes(design, first)
    literal = _literal_pass(design, first, rng)
    if design.extension_rows:
        again = first.plus(_sample(design, design.extension_rows, effects, rng, draws))
        outcome = np.where(outcome == _INCONCLUSIVE, _outcomes(design, again), outcome)
    rate = np.bincount(outcome, minlength=4) / draws
    return OutcomeOdds(*(float(x) for x in rate), literal=float(literal.mean()), draws=draws)


def with_extension(design: Design, extension_rows: int) -> Design:
    """The same design with one registered top-up, every look at the level that keeps the overall error rate."""
    rule = replace(design.rule, alpha=look_alpha(extension_rows > 0))
    return replace(design, extension_rows=extension_rows, rule=rule)


_SHIP, _SCOPE, _KILL, _INCONCLUSIVE = range(4)


@dataclass(frozen=True, slots=True)
class _Sums:
    """Sufficient statistics per draw and slice (draws x k): what every interval of the rule is made of.

    `rows`, `clusters` are per slice; sums of d, of d^2, of non-zero d, of squared cluster totals and of
    cluster size times cluster total; `size_squares` is the sum of squared cluster sizes.
    """

    rows: NDArray[np.intp]
    clusters: NDArray[np.intp]
    size_squares: Floats
    total: Floats
    squares: Floats
    nonzero: Floats
    cluster_squares: Floats
    cluster_cross: Floats

    def plus(self, other: _Sums) -> _Sums:
        return _Sums(*(getattr(self, x) + getattr(other, x) for x in self.__dataclass_fields__))

    def where(self, draws: NDArray[np.bool_]) -> _Sums:
        return _Sums(*(getattr(self, x)[draws] for x in self.__dataclass_fields__))

    def pooled(self, keep: NDArray[np.bool_]) -> _Sums:
        """Sums over the kept slices (draws x k) as a single slice per draw."""
        names = self.__dataclass_fields__
        return _Sums(*((np.where(keep, getattr(self, x), 0)).sum(axis=1, keepdims=True) for x in names))


@dataclass(frozen=True, slots=True)
class _Intervals:
    estimate: Floats
    se: Floats
    low: Floats
    high: Floats
    limited: NDArray[np.bool_]


def _interval(sums: _Sums, alpha: float, *, binary: bool, clustered: bool) -> _Intervals:
    """`paired_delta` from sums, for all draws and slices at once (empty ones give NaN-free, limited intervals)."""
    n = np.maximum(sums.rows, 1)
    estimate, centre = sums.total / n, sums.total / (n + 2)
    rms = np.sqrt(sums.squares / np.maximum(sums.nonzero, 1))
    pseudo = np.where((sums.nonzero == 0) | binary, 1.0, rms)
    residual = sums.cluster_squares - 2 * centre * sums.cluster_cross + centre**2 * sums.size_squares
    factor = 1.0 if binary and not clustered else (sums.clusters + 2) / (sums.clusters + 1)
    se = adjusted_se(residual, centre, pseudo, n, factor)
    df = n**2 / np.maximum(sums.size_squares, 1) + 1
    half = special.stdtrit(df, 1 - alpha / 2) * se
    limited = (sums.rows < FEWEST_ROWS) | (sums.clusters < FEWEST_CLUSTERS)
    return _Intervals(estimate, se, centre - half, centre + half, limited)


def _unstable_share(discordance: float) -> float:
    """Unstable rows: 5, 20, 40 % at discordance 5, 15, 30 %; each is discordant in one run with probability 1/3."""
    return float(np.interp(discordance, [0, 0.05, 0.15, 0.30], [0, 0.05, 0.20, 0.40]))


def _difference_law(design: Design, effect: float) -> tuple[Floats, Floats]:
    """Values of a row difference, -1 to 1 in steps of 1/T, and their probabilities."""
    trials, unstable = design.trials, _unstable_share(design.discordance)
    j = np.arange(trials + 1)
    choose = special.comb(trials, j)
    law = np.zeros(2 * trials + 1)
    for a in j:
        # Integral over p of Bin(a; T, p) Bin(b; T, p): a Beta function.
        both = choose[a] * choose * special.beta(a + j + 1, 2 * trials - a - j + 1)
        law[trials + a - j] += unstable * both
    stable = max(design.discordance - unstable / 3, abs(effect))
    law[-1] += (stable + effect) / 2
    law[0] += (stable - effect) / 2
    law[trials] += 1 - law.sum()
    if law.min() < -1e-12:
        raise ValueError(f"an effect of {effect:g} does not fit a discordance of {design.discordance:g}")
    return np.arange(-trials, trials + 1) / trials, np.clip(law, 0, None) / np.clip(law, 0, None).sum()


def _sample(design: Design, rows: int, effects: Floats, rng: np.random.Generator, draws: int) -> _Sums:
    sizes = _slice_rows(rows, design.slices)
    pick = _independent if design.cluster_size == 1 else _clustered
    parts = [pick(design, int(n), float(x), rng, draws) for n, x in zip(sizes, effects, strict=True)]
    return _Sums(
        *(np.concatenate([getattr(p, x) for p in parts], axis=1) for x in _Sums.__dataclass_fields__)
    )


def _slice_rows(rows: int, shares: Sequence[float]) -> NDArray[np.intp]:
    edges = np.rint(np.cumsum((0.0, *shares)) * rows).astype(np.intp)
    return np.diff(edges)


def _independent(design: Design, n: int, effect: float, rng: np.random.Generator, draws: int) -> _Sums:
    """Rows are exchangeable, so the counts of each value are all that is needed: cost does not depend on n."""
    values, law = _difference_law(design, effect)
    counts = rng.multinomial(n, law, size=draws)
    total, squares = (counts @ values)[:, None], (counts @ values**2)[:, None]
    nonzero = n - counts[:, [design.trials]].astype(np.float64)
    size = np.full((draws, 1), n)
    return _Sums(size, size, size.astype(np.float64), total, squares, nonzero, squares, total)


def _clustered(design: Design, n: int, effect: float, rng: np.random.Generator, draws: int) -> _Sums:
    """A row takes its cluster's common value with probability sqrt(ICC), so two rows correlate with ICC."""
    values, law = _difference_law(design, effect)
    cumulative, m = np.cumsum(law), design.cluster_size
    clusters = max(math.ceil(n / m), 1)

    def pick(shape: tuple[int, ...]) -> Floats:
        place = np.searchsorted(cumulative[:-1], rng.random(shape, dtype=np.float32), side="right")
        return values[place]

    own = pick((draws, clusters, m))
    shared = rng.random((draws, clusters, m), dtype=np.float32) < math.sqrt(design.icc)
    d = np.where(shared, pick((draws, clusters, 1)), own)
    d[:, -1, m - (clusters * m - n) :] = 0.0
    sizes = np.full(clusters, m, dtype=np.float64)
    sizes[-1] = m - (clusters * m - n)
    sums = d.sum(axis=2)

    def column(x: Any) -> Any:
        return np.broadcast_to(np.asarray(x).reshape(-1, 1), (draws, 1))

    return _Sums(
        column(n),
        column(clusters),
        column(sizes @ sizes),
        column(sums.sum(axis=1)),
        column(np.einsum("ijk,ijk->i", d, d)),
        column(np.count_nonzero(d, axis=(1, 2)).astype(np.float64)),
        column(np.einsum("ij,ij->i", sums, sums)),
        column(sums @ sizes),
    )


def _outcomes(design: Design, sums: _Sums) -> NDArray[np.intp]:
    rule, draws = design.rule, len(sums.total)
    options = {"binary": design.trials == 1, "clustered": design.cluster_size > 1}
    alpha = rule.alpha / design.arms
    every = np.ones_like(sums.total, dtype=bool)
    whole = _interval(sums.pooled(every), alpha, **options)
    passed = (rule.passes(whole.estimate, whole.low) & ~whole.limited)[:, 0]
    killed = (rule.kills(whole.high) & (~whole.limited | (whole.high < 0)))[:, 0] & ~passed
    outcome = np.full(draws, _INCONCLUSIVE)
    outcome[killed] = _KILL
    candidates = sums.where(passed)
    flagged = _flagged(_interval(candidates, rule.alpha, **options), candidates.rows, design.floor)
    rest = _interval(candidates.pooled(~flagged), rule.alpha, **options)
    holds = (rule.passes(rest.estimate, rest.low) & ~rest.limited)[:, 0]
    scoped = np.where(holds, _SCOPE, _INCONCLUSIVE)
    outcome[passed] = np.where(flagged.any(axis=1), scoped, _SHIP)
    return outcome


def _flagged(parts: _Intervals, rows: NDArray[np.intp], floor: float) -> NDArray[np.bool_]:
    """Slices that the posterior rule flags; a single slice is the aggregate itself and cannot be flagged."""
    draws, slices = parts.estimate.shape
    if slices == 1 or draws == 0:
        return np.zeros((draws, slices), dtype=bool)
    pieces = math.ceil(draws * slices / 5_000)  # bounds the memory of the 200-point grid
    found = [
        harm_posterior(e, s, margin=floor).probability
        for e, s in zip(np.array_split(parts.estimate, pieces), np.array_split(parts.se, pieces), strict=True)
    ]
    return (np.concatenate(found) > FLAG) & (rows >= SLICE_ROWS)


def _literal_pass(design: Design, sums: _Sums, rng: np.random.Generator) -> NDArray[np.bool_]:
    """The method's rule without its failure-mode part; three baseline repeats move the unstable rows only."""
    n = sums.rows.sum(axis=1)
    estimate = sums.total.sum(axis=1) / n
    repeat_variance = _unstable_share(design.discordance) / 6 / n  # E[p (1 - p)] = 1/6
    repeat_sd = np.sqrt(repeat_variance * rng.chisquare(2, size=n.size) / 2)
    rows = np.maximum(sums.rows, 1)
    mean = sums.total / rows
    half = special.ndtri(0.975) * np.sqrt(np.maximum(sums.squares / rows - mean**2, 0) / rows)
    floors = (mean - half >= -design.floor).all(axis=1)
    return (estimate >= design.rule.min_effect - 1e-12) & (estimate >= 2 * repeat_sd) & floors


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
