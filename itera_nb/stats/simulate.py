"""The odds of every outcome of a planned test, by simulation of the full rule.

Data model: a share of the rows is unstable (both arms succeed with a common probability U(0, 1) in every
trial), all others are stable outcome pairs with the wanted effect and discordance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from itera_nb.stats.decision import FEWEST_CLUSTERS, FEWEST_ROWS, Rule, look_alpha
from itera_nb.stats.paired import Floats, adjusted_se
from itera_nb.stats.slices import FEWEST_ROWS as SLICE_ROWS
from itera_nb.stats.slices import FLAG, harm_posterior

_CELLS = 12_000_000  # rows x draws of one clustered simulation: bounds time and memory
_SHIP, _SCOPE, _KILL, _INCONCLUSIVE = range(4)


@dataclass(frozen=True, slots=True)
class Design:
    """A planned test: rows, trials, slices (shares that sum to 1), clusters, and the rule that will judge it.

    `discordance` is the share of rows on which the two arms differ in one run. `extension_rows` is the
    registered top-up (0 = none); `rule.alpha` must then be that of each look. `arms` divides the alpha of a
    pass, `floor` is the slice margin.
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


@dataclass(frozen=True, slots=True)
class OutcomeOdds:
    """Probability of each outcome at one true effect; `literal`: the method's literal rule passes."""

    ship: float
    scope: float
    kill: float
    inconclusive: float
    literal: float
    draws: int


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
    ship, scope, kill, inconclusive = (float(x) for x in rate)
    return OutcomeOdds(ship, scope, kill, inconclusive, float(literal.mean()), draws)


def with_extension(design: Design, extension_rows: int) -> Design:
    """The same design with one registered top-up (0: none), every look at the level this requires."""
    rule = replace(design.rule, alpha=look_alpha(extension_rows > 0))
    return replace(design, extension_rows=extension_rows, rule=rule)


class _Sums(NamedTuple):
    """Sufficient statistics per draw and slice (draws x k): what every interval of the rule is made of.

    `rows`, `clusters` are per slice; sums of d, of d^2, of squared cluster totals and of cluster size times
    cluster total; `size_squares` is the sum of squared cluster sizes.
    """

    rows: NDArray[Any]
    clusters: NDArray[Any]
    size_squares: NDArray[Any]
    total: NDArray[Any]
    squares: NDArray[Any]
    cluster_squares: NDArray[Any]
    cluster_cross: NDArray[Any]

    def plus(self, other: _Sums) -> _Sums:
        return _Sums(*map(np.add, self, other))

    def where(self, draws: NDArray[np.bool_]) -> _Sums:
        return _Sums(*(x[draws] for x in self))

    def pooled(self, keep: NDArray[np.bool_]) -> _Sums:
        """Sums over the kept slices (draws x k) as a single slice per draw."""
        return _Sums(*(np.where(keep, x, 0).sum(axis=1, keepdims=True) for x in self))


class _Intervals(NamedTuple):
    estimate: Floats
    se: Floats
    low: Floats
    high: Floats
    limited: NDArray[np.bool_]


def _interval(sums: _Sums, alpha: float, *, binary: bool, clustered: bool) -> _Intervals:
    """`paired_delta` from sums, for all draws and slices at once; one without rows is `limited`."""
    n = np.maximum(sums.rows, 1)
    estimate, centre = sums.total / n, sums.total / (n + 2)
    residual = sums.cluster_squares - 2 * centre * sums.cluster_cross + centre**2 * sums.size_squares
    plain = binary and not clustered
    factor = np.ones(()) if plain else (sums.clusters + 2) / (sums.clusters + 1)
    se = adjusted_se(residual, centre, 1.0, n, factor)
    df = n**2 / np.maximum(sums.size_squares, 1) + 1
    half = special.stdtrit(df, 1 - alpha / 2) * se
    limited = (sums.rows < FEWEST_ROWS) | (sums.clusters < FEWEST_CLUSTERS)
    return _Intervals(estimate, se, centre - half, centre + half, limited)


def _unstable_share(discordance: float) -> float:
    """Unstable rows: 5, 20, 40 % at discordance 5, 15, 30 %; a third of them differ in any one run."""
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
    # Where nearly all rows differ, what is unstable takes its share of them.
    stable = max(min(design.discordance - unstable / 3, 1 - unstable), abs(effect))
    law[-1] += (stable + effect) / 2
    law[0] += (stable - effect) / 2
    law[trials] += 1 - law.sum()
    if law.min() < -1e-12:
        raise ValueError(f"an effect of {effect:g} does not fit a discordance of {design.discordance:g}")
    return np.arange(-trials, trials + 1) / trials, np.clip(law, 0, None) / np.clip(law, 0, None).sum()


def _sample(design: Design, rows: int, effects: Floats, rng: np.random.Generator, draws: int) -> _Sums:
    sizes = np.diff(np.rint(np.cumsum((0.0, *design.slices)) * rows))
    pick = _independent if design.cluster_size == 1 else _clustered
    parts = [pick(design, int(n), float(x), rng, draws) for n, x in zip(sizes, effects, strict=True)]
    return _Sums(*(np.concatenate(columns, axis=1) for columns in zip(*parts, strict=True)))


def _independent(design: Design, n: int, effect: float, rng: np.random.Generator, draws: int) -> _Sums:
    """Rows are exchangeable: the counts of each value suffice, and the cost does not depend on n."""
    values, law = _difference_law(design, effect)
    counts = rng.multinomial(n, law, size=draws)
    total, squares = (counts @ values)[:, None], (counts @ values**2)[:, None]
    size = np.full((draws, 1), n)
    return _Sums(size, size, size.astype(np.float64), total, squares, squares, total)


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
        column(np.einsum("ij,ij->i", sums, sums)),
        column(sums @ sizes),
    )


def _outcomes(design: Design, sums: _Sums) -> NDArray[np.intp]:
    rule, draws = design.rule, len(sums.total)
    options = {"binary": design.trials == 1, "clustered": design.cluster_size > 1}
    total = sums.pooled(np.ones_like(sums.total, dtype=bool))
    whole = _interval(total, rule.alpha, **options)
    # Of several arms what is claimed for one is corrected (Holm, here Bonferroni), what is ruled out is not.
    claimed = _interval(total, rule.alpha / design.arms, **options)
    passed = (rule.passes(whole.estimate, claimed.low) & ~whole.limited)[:, 0]
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
    flagged = np.zeros_like(parts.limited)
    assessed = np.flatnonzero((rows >= SLICE_ROWS).all(axis=0))  # the same in every draw
    if assessed.size < 2 or not len(flagged):
        return flagged
    pieces = math.ceil(len(flagged) * assessed.size / 5_000)  # bounds the memory of the 200-point grid
    split = (np.array_split(x[:, assessed], pieces) for x in (parts.estimate, parts.se))
    found = [harm_posterior(e, s, margin=floor).probability for e, s in zip(*split, strict=True)]
    flagged[:, assessed] = np.concatenate(found) > FLAG
    return flagged


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
    passed: NDArray[np.bool_] = (
        (estimate >= design.rule.min_effect - 1e-12) & (estimate >= 2 * repeat_sd) & floors
    )
    return passed
