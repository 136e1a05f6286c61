"""Several looks, several arms, several tries: what each costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import special

from itera_nb.stats.decision import Rule
from itera_nb.stats.paired import Delta, Floats


@dataclass(frozen=True, slots=True)
class HolmResult:
    """One arm of a family: one-sided p value, the Holm-adjusted one, and rejection at alpha/2."""

    p: float
    adjusted: float
    rejected: bool


@dataclass(frozen=True, slots=True)
class Equivalence:
    """Two one-sided tests against -margin and +margin; `p` is the larger one, `shown` means p < alpha/2."""

    p: float
    shown: bool


def adjusted_p(p: Sequence[float]) -> Floats:
    """Holm-adjusted p values in the order given."""
    # Not statsmodels' multipletests: it runs the garbage collector, 60 ms a call.
    raw = np.asarray(p, dtype=np.float64)
    order = np.argsort(raw)
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(np.maximum.accumulate(raw[order] * np.arange(raw.size, 0, -1)), 1.0)
    return adjusted


def holm(deltas: Sequence[Delta], rule: Rule) -> tuple[HolmResult, ...]:
    """Holm over the arms locked for test: one-sided p values against `rule.null` at level alpha/2."""
    p = [delta.p_greater(rule.null) for delta in deltas]
    return tuple(
        HolmResult(raw, float(adjusted), bool(adjusted < rule.alpha / 2))
        for raw, adjusted in zip(p, adjusted_p(p), strict=True)
    )


@cache
def best_of_k_bias(k: int) -> float:
    """Expected maximum of k standard normals: inflation of the best of k estimates in units of their SE."""
    if k < 1:
        raise ValueError(f"the best of {k} is not defined")
    from scipy import integrate

    def density(z: float) -> float:
        return z * k * math.exp(-z * z / 2) / math.sqrt(2 * math.pi) * float(special.ndtr(z)) ** (k - 1)

    return float(integrate.quad(density, -10, 10)[0])


def pocock_alpha(alpha: float = 0.05, first_share: float = 0.5) -> float:
    """Two-sided level of each of two looks with equal bounds and overall level `alpha` (Pocock 1977).

    `first_share` is the share of all rows that the first look sees.
    """
    from scipy import integrate, optimize

    root, rest = math.sqrt(first_share), math.sqrt(1 - first_share)

    def stays_inside(bound: float) -> float:
        def density(z: float) -> float:
            upper, lower = (bound - root * z) / rest, (-bound - root * z) / rest
            inside = float(special.ndtr(upper) - special.ndtr(lower))
            return math.exp(-z * z / 2) / math.sqrt(2 * math.pi) * inside

        return float(integrate.quad(density, -bound, bound)[0]) - (1 - alpha)

    bound = float(optimize.brentq(stays_inside, float(special.ndtri(1 - alpha / 2)), 6.0))
    return 2 * float(special.ndtr(-bound))


def equivalence(delta: Delta, margin: float) -> Equivalence:
    """Whether a control is shown to stay within +-margin (fraction): two one-sided tests at alpha/2."""
    if margin <= 0:
        raise ValueError(f"an equivalence margin must be positive, got {margin}")
    p = max(delta.p_greater(-margin), delta.p_less(margin))
    return Equivalence(p, p < delta.alpha / 2)
