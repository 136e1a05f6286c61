"""The rule of a sealed verdict on results that exist already, with an outcome that can never be "ship"."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from itera_nb.exceptions import DataError, IteraError
from itera_nb.report.wording import size
from itera_nb.retrospective.pairing import ARM, BASELINE, Paired
from itera_nb.retrospective.reading import Columns, shown
from itera_nb.retrospective.report import ComparisonReport, Outcome, SliceEffect
from itera_nb.scoring.evidence import Comparison, compare
from itera_nb.spec import Effect, parse_effect
from itera_nb.stats import decision, missing, noise, power, slices
from itera_nb.stats.paired import Delta, Floats, row_means
from itera_nb.verdict.record import EffectRecord

UNPAIRED_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the arm; fractions, `min_effect` perhaps relative to the baseline's score."""

    min_effect: Effect
    goal: decision.Goal
    margin: float | None
    max_slice_loss: float

    def rule(self, baseline_score: float) -> decision.Rule:
        """The rule as numbers, at the level of a single look."""
        tau = min(self.min_effect.absolute(baseline_score), 1.0)
        alpha = decision.look_alpha(extension=False)
        return decision.Rule(tau, alpha, goal=self.goal, margin=self.margin or 0.0)


def asked(
    min_effect: str | float, goal: decision.Goal, margin: str | float | None, max_slice_loss: str | float
) -> Question:
    """Read the options of a comparison: 0.05, "0.05" and "5pp" are the same.

    Raises:
        IteraError: An option cannot be read or does not fit the goal.
    """
    if goal not in {"better", "no_worse"}:
        raise IteraError(f"the goal {goal!r} is unknown", fix="better or no_worse")
    if (goal == "no_worse") != (margin is not None):
        raise IteraError(
            "no_worse needs a margin, and a margin needs no_worse", fix="--goal no_worse --margin 3pp"
        )
    return Question(
        _effect("min-effect", min_effect),
        goal,
        None if margin is None else _fraction("margin", margin),
        _fraction("max-slice-loss", max_slice_loss),
    )


def _effect(option: str, value: str | float) -> Effect:
    try:
        bare = isinstance(value, str) and value.strip().replace(".", "", 1).isdecimal()
        found = parse_effect(float(value) if bare else value)
    except ValueError as error:
        raise IteraError(f"--{option} {shown(str(value))}: {error}", fix=f"--{option} 5pp") from None
    assert isinstance(found, Effect)
    return found


def _fraction(option: str, value: str | float) -> float:
    found = _effect(option, value)
    if found.relative:
        raise IteraError(f"--{option} {value} would be relative", fix=f"points: --{option} 2pp")
    return found.value


def answer(paired: Paired, columns: Columns, question: Question) -> ComparisonReport:
    """Everything that the rows say, by intention to treat as in a verdict."""
    every = paired.evidence
    if not every.scored(ARM, BASELINE).any():
        raise DataError("no row has a score on both sides", fix="--score COLUMN")
    rule = question.rule(missing.mean_score(every.complete(ARM, BASELINE).scores[BASELINE]))
    compared = compare(every, ARM, BASELINE, rule.alpha)
    seen, d, delta = compared.evidence, compared.d, compared.delta
    base, arm = (row_means(seen.scores[side]) for side in (BASELINE, ARM))
    scores = {"graded": every.graded, "binary": compared.binary}
    parts = slices.slice_deltas(d, seen.slices, seen.cluster, alpha=rule.alpha, **scores)
    judged = slices.judge_slices(parts, margin=question.max_slice_loss)
    scope = slices.scope(
        d, seen.slices, judged, rule, seen.cluster, drift=compared.drift, reason_to_ship=True, **scores
    )
    lost = [int(np.isnan(every.scores[side][: paired.n]).sum()) for side in (BASELINE, ARM)]
    gaps = missing.bounds(
        every.scores[ARM], every.scores[BASELINE], every.cluster, alpha=rule.alpha, **scores
    )
    strict = gaps.worst_must_pass or len(every.ids) - paired.n > UNPAIRED_SHARE * len(every.ids)
    standing = _stand(delta, rule, scope, gaps.worst, strict=strict)
    repeated = seen.repeated(ARM, BASELINE)
    rerun = noise.rerun_noise(seen.scores[ARM], seen.scores[BASELINE]) if repeated else None
    sizing = _sizing(delta, rule)
    return ComparisonReport(
        outcome=standing.outcome,
        reason=standing.reason,
        sentence=standing.sentence,
        baseline=paired.names[0],
        arm=paired.names[1],
        columns=columns,
        goal=rule.goal,
        min_effect=rule.min_effect,
        margin=question.margin,
        max_slice_loss=question.max_slice_loss,
        alpha=rule.alpha,
        n=delta.n,
        clusters=delta.clusters,
        trials=(every.scores[BASELINE].shape[1], every.scores[ARM].shape[1]),
        graded=every.graded,
        baseline_score=float(base.mean()),
        arm_score=float(arm.mean()),
        estimate=delta.estimate,
        low=delta.low,
        high=delta.high,
        arm_ahead=int((d > 0).sum()),
        baseline_ahead=int((d < 0).sum()),
        tied=int((d == 0).sum()),
        slices=tuple(_slice(s, seen.slices[s.name], base, arm) for s in judged),
        scope=standing.scope,
        unpaired=paired.unpaired,
        missing=(lost[0], lost[1]),
        worst=None if gaps.complete else _record(gaps.worst),
        best=None if gaps.complete else _record(gaps.best),
        worst_must_pass=strict,
        rerun_se=rerun.se if rerun else None,
        rerun_share=rerun.share(delta) if rerun else None,
        detectable=sizing.detectable,
        planned_effect=sizing.planned,
        rows_needed=sizing.rows,
        warnings=tuple(_warnings(paired.names, compared, every.graded)),
    )


def _warnings(names: tuple[str, str], compared: Comparison, graded: bool) -> Iterator[str]:
    seen, d = compared.evidence, compared.d
    rate = missing.mean_score(seen.scores[BASELINE])
    yield from decision.cautions(compared.delta, baseline_rate=rate, graded=graded, worst=float(d.min()))
    for name, side in zip(names, (BASELINE, ARM), strict=True):
        drift = seen.drift(side)
        if drift is not None and not drift.exchangeable:
            yield f"The trials of {shown(name)} move all rows together; the interval is widened for it."


def _slice(judged: slices.SliceResult, rows: NDArray[np.bool_], base: Floats, arm: Floats) -> SliceEffect:
    delta = judged.delta
    return SliceEffect(
        judged.name,
        delta.n,
        float(base[rows].mean()),
        float(arm[rows].mean()),
        delta.estimate,
        delta.low,
        delta.high,
        judged.level,
        judged.p_harm,
        judged.shrunken,
        judged.wording,
    )


def _record(delta: Delta) -> EffectRecord:
    return EffectRecord(delta.estimate, delta.low, delta.high)


@dataclass(frozen=True, slots=True)
class _Sizing:
    detectable: float
    planned: float
    rows: int | None


def _sizing(delta: Delta, rule: decision.Rule) -> _Sizing:
    """The closed form in both directions; n se^2 is the variance of one row, clusters included.

    An effect of e needs at least a share e of rows that differ, however few differed here, and no conclusion
    is drawn from fewer than `decision.FEWEST_ROWS` rows.
    """
    seen = delta.n * delta.se**2

    def rows_for(effect: float) -> int:
        size = abs(effect)
        variance = max(seen, size - size**2)
        wanted = power.closed_form_rows(effect, variance, null=rule.null, alpha=rule.alpha)
        return max(math.ceil(wanted), decision.FEWEST_ROWS)

    low, high = rule.null, rule.null + 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if rows_for(middle) <= delta.n else (middle, high)
    planned = 0.0 if rule.goal == "no_worse" else 2 * rule.min_effect
    return _Sizing(high, planned, rows_for(planned) if planned > rule.null else None)


@dataclass(frozen=True, slots=True)
class _Standing:
    outcome: Outcome
    reason: str
    sentence: str
    scope: tuple[str, ...] = ()


def _stand(
    delta: Delta, rule: decision.Rule, scope: slices.Scope, worst: Delta, *, strict: bool
) -> _Standing:
    """The rule's outcome in retrospective words; slices and absent rows can only take a good one away."""
    # No saving is registered here: "no worse" is all that is asked.
    decided = decision.decide(delta, rule, reason_to_ship=True)
    text, effect = _sentence(delta, rule, decided), decision.effect_text(delta)
    if decided.outcome != "pass":
        worse = decided.reason == "harmful"
        return _Standing(
            "retrospective: worse" if worse else "retrospective: inconclusive", decided.reason, text
        )
    standing = _Standing(
        "retrospective: better" if rule.goal == "better" else "retrospective: no worse", decided.reason, text
    )
    flagged = ", ".join(shown(name) for name in scope.flagged)
    if scope.outcome == "scope" and scope.delta is not None:
        rest = decision.effect_text(scope.delta)
        text = f"{effect} in all, {rest} without {flagged}, which may lose more than allowed."
        standing = replace(standing, reason="slice_flagged", sentence=text, scope=scope.slices)
    elif scope.outcome == "inconclusive":
        text = f"{text} But {flagged} may lose more than allowed, and the rest alone does not show it."
        standing = _Standing("retrospective: inconclusive", "slice_flagged", text)
    if strict and standing.outcome != "retrospective: inconclusive":
        if bool(rule.passes(worst.estimate, worst.low)):
            return standing
        bad = decision.effect_text(worst)
        text = f"{effect} on the paired rows, but {bad} if all that is absent went against the arm."
        return _Standing("retrospective: inconclusive", "missing_scores", text)
    return standing


def _sentence(delta: Delta, rule: decision.Rule, decided: decision.Decision) -> str:
    """The rule's sentence, or a better one where nothing could be registered and two things are true."""
    effect, gain, loss = decision.effect_text(delta), size(rule.min_effect), size(rule.margin)
    if decided.reason == "not_worth_it" and delta.low > 0:
        return f"{effect}: a gain is shown, but one of {gain} pp or more is ruled out."
    if decided.reason == "no_worse_shown" and delta.high < 0:
        return f"{effect}: a loss is shown, but one beyond {loss} pp is ruled out."
    if decided.reason == "no_worse_shown":
        return f"{effect}: a loss beyond {loss} pp is ruled out."
    if decided.reason == "not_shown" and rule.goal == "no_worse" and delta.high < 0:
        return f"{effect}: a loss is shown; whether it goes beyond {loss} pp is not."
    return decided.sentence
