"""A judge against a second opinion: which rows to ask about, and what agreement on them supports."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from itera_nb.stats.agreement import (
    Agreement,
    cohen_kappa,
    direction_lower_bound,
    gwet_ac1,
    krippendorff_alpha,
)
from itera_nb.stats.paired import Floats

Level: TypeAlias = Literal["trusted", "unclear", "restart"]

FEWEST_ROWS = 30
FEWEST_EFFECTIVE = 10
SUPPORTED_ABOVE = 0.60
_SAME = 1e-9


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows to ask the second opinion about, in random order.

    Attributes:
        index: m positions among the n rows.
        weight: m numbers of rows that each stands for (1 / probability of being drawn).
    """

    index: NDArray[np.intp]
    weight: Floats


@dataclass(frozen=True, slots=True)
class Direction:
    """On how many of the rows where the judge prefers one side the second opinion prefers the same.

    `low` and `high` are one-sided 95 % Clopper-Pearson bounds of that share. `rule_of_thumb`: at least 4 of 5
    agree, without a look at chance; None below five rows.
    """

    agreeing: int
    rows: int
    low: float
    high: float
    rule_of_thumb: bool | None

    @property
    def supported(self) -> bool:
        """Whether agreement above 0.60 is shown."""
        return self.low > SUPPORTED_ABOVE

    @property
    def refuted(self) -> bool:
        """Whether agreement above 0.60 is ruled out."""
        return self.high <= SUPPORTED_ABOVE


@dataclass(frozen=True, slots=True)
class SecondOpinion:
    """How far a second opinion agrees with the judge.

    Attributes:
        rows: Rows that both have rated.
        raw: Share of rows with the same label, weighted to all rows.
        ac1: Gwet's AC1 of the labels, weighted likewise; None below two effective rows.
        kappa: Cohen's kappa of the same table; NaN where it is undefined.
        alpha: Krippendorff's alpha of graded ratings in the sample; None where all are labels.
        direction: Agreement on who is better; None for single outputs, or where the judge prefers none.
        level: "trusted", "unclear", or "restart": another rubric or judge is needed.
    """

    rows: int
    raw: float
    ac1: Agreement | None
    kappa: float
    alpha: float | None
    direction: Direction | None
    level: Level


def draw_sample(
    discordant: ArrayLike, rows: int, rng: np.random.Generator, *, usable: ArrayLike | None = None
) -> Sample:
    """All discordant rows first, then random concordant ones; random ones of either where they do not fit.

    Args:
        discordant: n-mask of the rows on which the judge prefers one arm.
        rows: How many rows to draw, at most.
        rng: Of the locked seed.
        usable: n-mask of the rows that the judge has rated; all if None.
    """
    split = np.asarray(discordant, dtype=bool)
    known = np.ones_like(split) if usable is None else np.asarray(usable, dtype=bool)
    one, other = np.flatnonzero(split & known), np.flatnonzero(~split & known)
    first = rng.permutation(one)[:rows]
    second = rng.permutation(other)[: rows - first.size]
    drawn = ((first, one), (second, other))
    weight = np.concatenate([np.full(part.size, whole.size / max(part.size, 1)) for part, whole in drawn])
    index, order = np.concatenate([first, second]), rng.permutation(first.size + second.size)
    return Sample(index[order], weight[order])


def direction_agreement(first: ArrayLike, second: ArrayLike) -> Direction | None:
    """Agreement in sign on the rows where `first` is not 0; a tie of `second` there is no agreement.

    Both are n differences (arm minus baseline) in [-1, 1], NaN for none. None without such a row.
    """
    one, two = _signs(first), _signs(second)
    asked = np.isfinite(one) & np.isfinite(two) & (one != 0)
    n = int(asked.sum())
    if n == 0:
        return None
    agreeing = int((one[asked] == two[asked]).sum())
    return Direction(
        agreeing,
        n,
        direction_lower_bound(agreeing, n),
        1 - direction_lower_bound(n - agreeing, n),
        agreeing >= 0.8 * n if n >= 5 else None,
    )


def paired_opinion(first: ArrayLike, second: ArrayLike, weight: ArrayLike | None = None) -> SecondOpinion:
    """Two judges' row differences (arm minus baseline, in [-1, 1]; NaN for none): labels win, tie, loss."""
    one, two = _signs(first), _signs(second)
    direction = direction_agreement(first, second)
    return _opinion(one + 1, two + 1, 3, weight, _graded(first, second, (-1, 0, 1)), direction, paired=True)


def single_opinion(
    first: ArrayLike, second: ArrayLike, weight: ArrayLike | None = None, *, good_from: float = 0.5
) -> SecondOpinion:
    """Two judges' scores of single outputs in [0, 1], NaN for none: good from `good_from` on, else bad."""
    one, two = (np.where(np.isnan(x), np.nan, x >= good_from) for x in (_floats(first), _floats(second)))
    return _opinion(one, two, 2, weight, _graded(first, second, (0, 1)), None, paired=False)


def _opinion(
    one: Floats,
    two: Floats,
    labels: int,
    weight: ArrayLike | None,
    alpha: float | None,
    direction: Direction | None,
    *,
    paired: bool,
) -> SecondOpinion:
    both = np.isfinite(one) & np.isfinite(two)
    n = int(both.sum())
    if n < 2:
        return SecondOpinion(n, float("nan"), None, float("nan"), alpha, direction, "unclear")
    w = np.ones(n) if weight is None else _floats(weight)[both]
    # Unequal weights leave the precision of fewer rows: those of Kish's effective sample size.
    w = w * w.sum() / (w**2).sum()
    table = np.zeros((labels, labels))
    np.add.at(table, (one[both].astype(int), two[both].astype(int)), w)
    effective = float(table.sum())
    ac1 = _with_unseen(gwet_ac1(table), table) if effective >= 2 else None
    return SecondOpinion(
        rows=n,
        raw=float(np.trace(table)) / effective,
        ac1=ac1,
        kappa=cohen_kappa(table),
        alpha=alpha,
        direction=direction,
        level=_level(n, effective, ac1, direction, paired=paired),
    )


def _with_unseen(ac1: Agreement, table: Floats) -> Agreement:
    """Full agreement leaves no variance: its lower end is where that many agreeing rows are a 2.5 % event."""
    n, q = table.sum(), len(table)
    if not np.isclose(np.trace(table), n):
        return ac1
    share = np.diag(table) / n
    chance = float(share @ (1 - share)) / (q - 1)
    low = float(0.025 ** (1 / n) - chance) / (1 - chance)
    return replace(ac1, low=low, reading="trusted" if low >= 0.6 else "weak")


def _level(
    n: int, effective: float, ac1: Agreement | None, direction: Direction | None, *, paired: bool
) -> Level:
    if direction is not None and direction.refuted:
        return "restart"
    if ac1 is None:
        return "unclear"
    if ac1.reading == "restart":
        # A low end may be want of rows; a low upper end is not.
        enough = n >= FEWEST_ROWS and effective >= FEWEST_EFFECTIVE
        return "restart" if enough or ac1.high < 0.6 else "unclear"
    supported = not paired or (direction is not None and direction.supported)
    return "trusted" if n >= FEWEST_ROWS and ac1.reading == "trusted" and supported else "unclear"


def _graded(first: ArrayLike, second: ArrayLike, labels: tuple[int, ...]) -> float | None:
    ratings = np.stack([_floats(first), _floats(second)])
    known = ratings[:, np.isfinite(ratings).all(axis=0)]
    if not known.size or np.isin(known, labels).all():
        return None
    return krippendorff_alpha(known, "interval")


def _signs(d: ArrayLike) -> Floats:
    values = _floats(d)
    return np.where(np.abs(values) < _SAME, 0.0, np.sign(values))


def _floats(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64)
