"""The registered rule applied to one arm: pass, kill or inconclusive, with a reason and a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from itera_nb.stats.paired import Delta, wald

Outcome: TypeAlias = Literal["pass", "kill", "inconclusive"]
Proof: TypeAlias = Literal["shown", "above_min", "literal"]
Goal: TypeAlias = Literal["better", "no_worse"]

EXTENSION_ALPHA = 0.0294  # Pocock 1977: two equally spaced looks at overall .05 (multiplicity.pocock_alpha)
FEWEST_ROWS, FEWEST_CLUSTERS = 20, 10
_TIE = 1e-12  # an estimate equal to min_effect counts as reaching it, whatever the last bit says


@dataclass(frozen=True, slots=True)
class Rule:
    """The ship rule as numbers: fractions, `alpha` two-sided per look, `margin` only for goal "no_worse".

    A relative `min_effect` is resolved to an absolute fraction by the caller. `proof`: "shown" = low > 0 and
    estimate >= min_effect; "above_min" = low > min_effect; "literal" = the method's text.
    """

    min_effect: float = 0.05
    alpha: float = 0.05
    proof: Proof = "shown"
    goal: Goal = "better"
    margin: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha must lie between 0 and 1, got {self.alpha}")
        if not 0 <= self.min_effect <= 1 or not 0 <= self.margin <= 1:
            raise ValueError("min_effect and margin are fractions between 0 and 1")
        if self.goal == "no_worse" and self.margin == 0:
            raise ValueError("goal 'no_worse' needs a margin above 0")

    @property
    def null(self) -> float:
        """The effect (fraction) that a pass must exclude from below; null of the one-sided p value."""
        if self.goal == "no_worse":
            return -self.margin
        return self.min_effect if self.proof == "above_min" else 0.0

    @property
    def futile(self) -> float:
        """The effect below which the whole interval must lie for a kill (fraction)."""
        return -self.margin if self.goal == "no_worse" else self.min_effect

    def passes(self, estimate: Any, low: Any) -> Any:
        """Whether the interval shows what the rule asks; scalars or arrays of equal shape."""
        shown = np.asarray(low) > self.null
        if self.goal == "better" and self.proof == "shown":
            shown &= np.asarray(estimate) >= self.min_effect - _TIE
        return shown

    def kills(self, high: Any) -> Any:
        """Whether the interval shows that the arm is not worth it; scalar or array. A pass goes first."""
        return np.asarray(high) < self.futile


@dataclass(frozen=True, slots=True)
class Decision:
    """What the aggregate says about one arm. `reason` is a code, `sentence` is for the page."""

    outcome: Outcome
    reason: str
    sentence: str


@dataclass(frozen=True, slots=True)
class LiteralRule:
    """What the method's text says: passed, or killed for `reasons` (codes, a slice after a colon)."""

    passed: bool
    reasons: tuple[str, ...]


def look_alpha(extension: bool) -> float:
    """Two-sided level of each look: .0294 when a top-up of the test set is registered, else .05."""
    return EXTENSION_ALPHA if extension else 0.05


def decide(
    delta: Delta,
    rule: Rule,
    *,
    reason_to_ship: bool | None = None,
    holm_rejected: bool = True,
    literal: LiteralRule | None = None,
) -> Decision:
    """Outcome of the aggregate for one arm from its interval (computed at `rule.alpha`).

    `reason_to_ship` is used by goal "no_worse" only: whether the registered saving was reached, None when
    unknown. `holm_rejected` is the arm's Holm result against `rule.null` when several arms are tested.
    `literal` is needed for proof "literal", where it decides alone. Raises ValueError when it is absent, or
    for an interval at another alpha.
    """
    if rule.proof == "literal":
        return _literal_decision(literal)
    if abs(delta.alpha - rule.alpha) > _TIE:
        raise ValueError(f"the interval was computed at alpha {delta.alpha}, the rule asks for {rule.alpha}")
    limit = _size_limit(delta, rule)
    if limit is not None:
        return limit
    if bool(rule.passes(delta.estimate, delta.low)):
        return _passed(delta, rule, reason_to_ship, holm_rejected)
    if bool(rule.kills(delta.high)):
        return _killed(delta, rule)
    return _inconclusive(delta, rule)


def literal_rule(
    delta: Delta,
    *,
    min_effect: float,
    repeat_sd: float,
    slices: Mapping[str, Delta],
    floor: float,
    top_arm: float = 0,
    top_base: float = 0,
) -> LiteralRule:
    """The method's text to the letter; any failure is a kill.

    Estimate >= min_effect; estimate >= 2 x `repeat_sd`, the standard deviation of three baseline repeats
    (fraction); the Wald interval of every slice above -floor; no more failures in the top category
    (`top_arm`, `top_base`: counts).
    """
    reasons: list[str] = []
    if delta.estimate < min_effect - _TIE:
        reasons.append("below_min_effect")
    if delta.estimate < 2 * repeat_sd - _TIE:
        reasons.append("within_noise_floor")
    reasons += [f"slice_floor:{name}" for name, part in slices.items() if wald(part).low < -floor - _TIE]
    if top_arm > top_base:
        reasons.append("top_category_increased")
    return LiteralRule(not reasons, tuple(reasons))


def cautions(
    delta: Delta, *, baseline_rate: float, graded: bool = False, worst: float | None = None
) -> tuple[str, ...]:
    """Warnings about the data behind an interval, in fixed order.

    `baseline_rate` is the baseline's mean score (fraction), `worst` the smallest row difference; with
    `graded` scores and no row losing half a point the lower tail is called not observed.
    """
    notes = []
    if FEWEST_CLUSTERS <= delta.clusters < 20 <= delta.n:
        notes.append(f"Only {delta.clusters} clusters: the interval rests on few independent units.")
    if delta.largest_cluster > 0.2 and delta.clusters < delta.n:
        notes.append(f"One cluster holds {delta.largest_cluster:.0%} of the rows.")
    if baseline_rate >= 0.97:
        notes.append(f"The baseline already scores {baseline_rate:.1%}: this test can hardly show a gain.")
    if delta.discordant == 0:
        notes.append(f"Arm and baseline agree on all {delta.n} rows.")
    if graded and worst is not None and worst > -0.5:
        bound = no_event_bound(delta.n)
        notes.append(f"Tail not observed: up to {bound:.1%} of rows could lose half a point or more unseen.")
    return tuple(notes)


def no_event_bound(n: int, confidence: float = 0.95) -> float:
    """Upper bound of a rate of which no event was seen in n rows: 1 - .05^(1/n), 4.9 % at n = 60."""
    if n < 1:
        raise ValueError(f"a bound needs at least one row, got {n}")
    return float(-np.expm1(np.log1p(-confidence) / n))


def effect_text(delta: Delta) -> str:
    """The effect as it is printed everywhere: percentage points to one decimal, with its interval."""
    return f"{_pp(delta.estimate)} pp [{_pp(delta.low)}, {_pp(delta.high)}]"


def _pp(x: float) -> str:
    return f"{100 * x + 0.0:+.1f}".replace("-", "\N{MINUS SIGN}")


def _size_limit(delta: Delta, rule: Rule) -> Decision | None:
    if delta.n >= FEWEST_ROWS and delta.clusters >= FEWEST_CLUSTERS:
        return None
    if delta.high < min(rule.futile, 0.0):
        return _killed(delta, rule)
    rows = delta.n < FEWEST_ROWS
    what = f"{delta.n} rows" if rows else f"{delta.clusters} clusters"
    need = f"{FEWEST_ROWS} rows" if rows else f"{FEWEST_CLUSTERS} clusters"
    text = f"{effect_text(delta)} from {what}: fewer than {need} cannot carry a conclusion."
    return Decision("inconclusive", "too_few_rows" if rows else "too_few_clusters", text)


def _passed(delta: Delta, rule: Rule, reason_to_ship: bool | None, holm_rejected: bool) -> Decision:
    effect = effect_text(delta)
    if not holm_rejected:
        text = f"{effect} alone would pass, but not after correction for the number of arms (Holm)."
        return Decision("inconclusive", "not_shown_after_holm", text)
    if rule.goal == "better":
        return Decision("pass", "shown", f"{effect}: a gain is shown.")
    no_worse = f"{effect}: a loss beyond {100 * rule.margin:g} pp is ruled out"
    if reason_to_ship is None:
        text = f"{no_worse}, but the registered reason to ship could not be measured."
        return Decision("inconclusive", "reason_to_ship_unknown", text)
    if not reason_to_ship:
        return Decision(
            "kill", "not_worth_it", f"{no_worse}, but the registered reason to ship was not reached."
        )
    return Decision("pass", "no_worse_shown", f"{no_worse} and the registered reason to ship was reached.")


def _killed(delta: Delta, rule: Rule) -> Decision:
    effect = effect_text(delta)
    if delta.high < 0:
        return Decision("kill", "harmful", f"{effect}: the arm is shown to be worse than the baseline.")
    text = f"{effect}: a gain of {100 * rule.min_effect:g} pp or more is ruled out."
    return Decision("kill", "not_worth_it", text)


def _inconclusive(delta: Delta, rule: Rule) -> Decision:
    effect = effect_text(delta)
    if rule.goal == "better" and delta.low > 0:
        text = f"{effect}: a gain is shown, but not one of at least {100 * rule.min_effect:g} pp."
        return Decision("inconclusive", "min_effect_not_reached", text)
    if rule.goal == "no_worse":
        text = f"{effect}: a loss beyond {100 * rule.margin:g} pp is neither shown nor ruled out."
        return Decision("inconclusive", "not_shown", text)
    return Decision("inconclusive", "not_shown", f"{effect}: not shown to help, not shown useless.")


def _literal_decision(literal: LiteralRule | None) -> Decision:
    if literal is None:
        raise ValueError("proof 'literal' needs the result of literal_rule")
    if literal.passed:
        return Decision("pass", "literal_rule", "Every condition of the method's literal rule holds.")
    text = f"The method's literal rule fails: {', '.join(literal.reasons)}."
    return Decision("kill", "literal_rule", text)
