"""Slices: the probability that a slice loses more than the floor, three levels, and what remains in scope."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from itera_nb.stats.decision import Decision, Rule, decide
from itera_nb.stats.multiplicity import adjusted_p
from itera_nb.stats.paired import Delta, Floats, Labels, cluster_codes, paired_delta, wald

Level: TypeAlias = Literal["flagged", "cleared", "unresolved", "not assessed"]
Wording: TypeAlias = Literal["regression", "likely regression", "possible regression"]
SliceRule: TypeAlias = Literal["posterior", "raw_point", "harm_test", "literal"]

FLAG, CLEAR = 0.20, 0.10
FEWEST_ROWS = 5
_GRID = (np.arange(200) + 0.5) * 0.0025  # midpoints of [0, 0.5]; integration error about 1e-7


@dataclass(frozen=True, slots=True)
class HarmPosterior:
    """Per slice (last axis): probability that the effect lies below -margin, and the shrunken mean effect."""

    probability: Floats
    mean: Floats


@dataclass(frozen=True, slots=True)
class SliceResult:
    """One slice: its own interval, its level and, where assessed, harm probability and shrunken effect.

    `wording` of a flagged slice is "regression" (harm shown at the Holm-adjusted level), "likely regression"
    (harm more probable than not) or "possible regression".
    """

    name: str
    delta: Delta
    level: Level
    p_harm: float | None
    shrunken: float | None
    wording: Wording | None


@dataclass(frozen=True, slots=True)
class Scope:
    """What the slices make of a passing aggregate: "ship", "scope" to `slices`, or "inconclusive".

    `delta` and `decision` are those of the rows outside all flagged slices; None when nothing was flagged or
    no row is left.
    """

    outcome: Literal["ship", "scope", "inconclusive"]
    slices: tuple[str, ...]
    flagged: tuple[str, ...]
    delta: Delta | None
    decision: Decision | None


def detectable_harm(discordance: float, rows: Any) -> Any:
    """Loss (fraction) that a slice of `rows` rows notices with about 80 % power: 2.8 sqrt(D / n_s)."""
    return 2.8 * np.sqrt(discordance / np.asarray(rows, dtype=np.float64))


def harm_posterior(
    estimate: ArrayLike, se: ArrayLike, *, margin: float = 0.02, scale: float = 0.10
) -> HarmPosterior:
    """Normal-normal model e ~ N(delta, se^2), delta ~ N(mu, omega^2), mu flat, omega half-normal(scale).

    Arrays (..., k) of slice effects and standard errors (> 0), k >= 2; leading axes are independent
    experiments.
    """
    e = np.asarray(estimate, dtype=np.float64)[..., None, :]
    variance = np.square(np.asarray(se, dtype=np.float64))[..., None, :]
    spread = np.square(_GRID)[:, None]
    w = 1 / (variance + spread)
    total = w.sum(axis=-1, keepdims=True)
    m = (w * e).sum(axis=-1, keepdims=True) / total
    log_p = 0.5 * (np.log(w).sum(axis=-1) - np.log(total[..., 0]) - (w * (e - m) ** 2).sum(axis=-1))
    log_p = log_p - 0.5 * (_GRID / scale) ** 2
    weight = np.exp(log_p - log_p.max(axis=-1, keepdims=True))
    weight = (weight / weight.sum(axis=-1, keepdims=True))[..., None]
    pull = variance * w
    mean = pull * m + (1 - pull) * e
    sd = np.sqrt((1 - pull) * variance + pull**2 / total)
    tail = special.ndtr((-margin - mean) / sd)
    probability = np.minimum((weight * tail).sum(axis=-2), 1.0)
    return HarmPosterior(probability, (weight * mean).sum(axis=-2))


def slice_deltas(
    d: ArrayLike,
    members: Mapping[str, ArrayLike],
    cluster: Labels | None = None,
    *,
    alpha: float = 0.05,
    graded: bool = False,
    binary: bool = False,
) -> dict[str, Delta]:
    """The interval of each slice; `members` maps it to an n-mask or row indices. Empty ones are left out."""
    d = np.asarray(d, dtype=np.float64)
    codes = None if cluster is None else cluster_codes(cluster)
    out = {}
    for name, member in members.items():
        rows = _indices(member, d.size)
        if rows.size:
            own = None if codes is None else codes[rows]
            out[name] = paired_delta(d[rows], own, alpha=alpha, graded=graded, binary=binary)
    return out


def judge_slices(
    deltas: Mapping[str, Delta],
    *,
    margin: float = 0.02,
    rule: SliceRule = "posterior",
    scale: float = 0.10,
) -> tuple[SliceResult, ...]:
    """Level of every slice against the loss floor `margin` (fraction), in the order given.

    Under "posterior" a slice is flagged above probability .20 and cleared below .10; with a single assessed
    slice its own interval is used. The other rules flag on: estimate < -margin; a Holm-adjusted test of harm;
    a Wald interval reaching below -margin. What they do not flag is cleared when its interval excludes a loss
    beyond the margin.
    """
    assessed = {name: delta for name, delta in deltas.items() if delta.n >= FEWEST_ROWS}
    judged = _judged(assessed, margin, rule, scale) if assessed else {}
    return tuple(
        judged.get(name) or SliceResult(name, delta, "not assessed", None, None, None)
        for name, delta in deltas.items()
    )


def level_of(p_harm: float) -> Level:
    """What a probability of harm says."""
    return "flagged" if p_harm > FLAG else "cleared" if p_harm < CLEAR else "unresolved"


def _judged(
    deltas: Mapping[str, Delta], margin: float, rule: SliceRule, scale: float
) -> dict[str, SliceResult]:
    chosen = list(deltas.values())
    posterior = _posterior(chosen, margin, scale)
    shown = _harm_shown(chosen, margin)
    levels = [level_of(p) for p in posterior.probability]
    if rule != "posterior":
        flagged = {
            "raw_point": [x.estimate < -margin for x in chosen],
            "harm_test": shown.tolist(),
            "literal": [wald(x).low < -margin - 1e-12 for x in chosen],
        }[rule]
        levels = [
            "flagged" if flag else "cleared" if x.low > -margin else "unresolved"
            for x, flag in zip(chosen, flagged, strict=True)
        ]

    def result(i: int, name: str) -> SliceResult:
        p_harm, shrunken = float(posterior.probability[i]), float(posterior.mean[i])
        wording: Wording | None = None
        if levels[i] == "flagged":
            likely: Wording = "likely regression" if p_harm > 0.5 else "possible regression"
            wording = "regression" if shown[i] else likely
        return SliceResult(name, chosen[i], levels[i], p_harm, shrunken, wording)

    return {name: result(i, name) for i, name in enumerate(deltas)}


def scope(
    d: ArrayLike,
    members: Mapping[str, ArrayLike],
    judged: Sequence[SliceResult],
    rule: Rule,
    cluster: Labels | None = None,
    *,
    graded: bool = False,
    binary: bool = False,
    drift: float = 0.0,
    reason_to_ship: bool | None = None,
) -> Scope:
    """Ship, or re-apply `rule` to the rows outside every flagged slice, for an arm whose aggregate passes.

    Arguments as in `slice_deltas`; `drift` is the variance by which the aggregate was widened. The choice of
    slices is data-driven, so show the shrunken effects with a scope.
    """
    flagged = tuple(x.name for x in judged if x.level == "flagged")
    kept = tuple(x.name for x in judged if x.level != "flagged")
    if not flagged:
        return Scope("ship", kept, (), None, None)
    d = np.asarray(d, dtype=np.float64)
    inside = np.ones(d.size, dtype=bool)
    for name in flagged:
        inside[_indices(members[name], d.size)] = False
    if not inside.any():
        return Scope("inconclusive", (), flagged, None, None)
    codes = None if cluster is None else cluster_codes(cluster)[inside]
    delta = paired_delta(d[inside], codes, alpha=rule.alpha, graded=graded, binary=binary)
    delta = delta.widened(drift) if drift else delta
    decision = decide(delta, rule, reason_to_ship=reason_to_ship)
    outcome: Literal["scope", "inconclusive"] = "scope" if decision.outcome == "pass" else "inconclusive"
    return Scope(outcome, kept, flagged, delta, decision)


def _indices(member: ArrayLike, n: int) -> NDArray[np.intp]:
    rows = np.asarray(member)
    if rows.dtype != bool:
        return rows.astype(np.intp, copy=False)
    if rows.size != n:
        raise ValueError(f"a slice mask has {rows.size} entries for {n} rows")
    return np.flatnonzero(rows)


def _posterior(deltas: Sequence[Delta], margin: float, scale: float) -> HarmPosterior:
    if len(deltas) == 1:
        only = deltas[0]
        return HarmPosterior(np.array([only.p_greater(-margin)]), np.array([only.centre]))
    estimate, se = [x.estimate for x in deltas], [x.se for x in deltas]
    return harm_posterior(estimate, se, margin=margin, scale=scale)


def _harm_shown(deltas: Sequence[Delta], margin: float) -> NDArray[np.bool_]:
    p = adjusted_p([x.p_less(-margin) for x in deltas])
    return p < np.array([x.alpha for x in deltas]) / 2
