"""The rule of a sealed verdict on results that exist already, with an outcome that can never be "ship"."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

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
from itera_nb.verdict.rule import Standing

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
    standing = _stand(delta, rule, scope, gaps, strict=strict)
    repeated = seen.repeated(ARM, BASELINE)
    rerun = noise.rerun_noise(seen.scores[ARM], seen.scores[BASELINE]) if repeated else None
    planned = 0.0 if rule.goal == "no_worse" else 2 * rule.min_effect
    return ComparisonReport(
        outcome=_outcome(standing, rule.goal),
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
        scope=scope.slices if standing.outcome == "scope" else (),
        unpaired=paired.unpaired,
        missing=(lost[0], lost[1]),
        worst=None if gaps.complete else _record(gaps.worst),
        best=None if gaps.complete else _record(gaps.best),
        worst_must_pass=strict,
        rerun_se=rerun.se if rerun else None,
        rerun_share=rerun.share(delta) if rerun else None,
        detectable=_detectable(delta, rule),
        planned_effect=planned,
        rows_needed=_rows_for(planned, delta, rule) if planned > rule.null else None,
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


def _rows_for(effect: float, delta: Delta, rule: decision.Rule) -> int:
    """The closed form; n se^2 is the variance of one row, clusters included.

    An effect of e needs at least a share e of rows that differ, however few differed here, and no conclusion
    is drawn from fewer than `decision.FEWEST_ROWS` rows.
    """
    variance = max(delta.n * delta.se**2, abs(effect) - effect**2)
    wanted = power.closed_form_rows(effect, variance, null=rule.null, alpha=rule.alpha)
    return max(math.ceil(wanted), decision.FEWEST_ROWS)


def _detectable(delta: Delta, rule: decision.Rule) -> float:
    """The smallest true effect that so many rows show with 80 % power."""
    low, high = rule.null, rule.null + 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if _rows_for(middle, delta, rule) <= delta.n else (middle, high)
    return high


def _stand(
    delta: Delta, rule: decision.Rule, scope: slices.Scope, gaps: missing.MissingReport, *, strict: bool
) -> Standing:
    """What the rule makes of the arm; slices and absent rows can only take an outcome away."""
    # No saving is registered here: "no worse" is all that is asked.
    decided = decision.decide(delta, rule, reason_to_ship=True)
    text, effect = _sentence(delta, rule, decided), decision.effect_text(delta)
    standing = Standing("ship" if decided.outcome == "pass" else decided.outcome, decided.reason, text)
    flagged = ", ".join(shown(name) for name in scope.flagged)
    if scope.outcome == "scope" and scope.delta is not None:
        rest = decision.effect_text(scope.delta)
        text = f"{effect} in all, {rest} without {flagged}, which may lose more than allowed."
    else:
        text = f"{text} But {flagged} may lose more than allowed, and the rest alone does not show it."
    standing = standing.unless(scope.outcome != "ship", scope.outcome, "slice_flagged", text)
    absent = f"{effect} on the paired rows, but {{}} if all that is absent went {{}} the arm."
    lost = strict and not bool(rule.passes(gaps.worst.estimate, gaps.worst.low))
    text = absent.format(decision.effect_text(gaps.worst), "against")
    standing = standing.unless(lost, "inconclusive", "missing_scores", text)
    if standing.outcome == "kill" and not gaps.complete and not bool(rule.kills(gaps.best.high)):
        text = absent.format(decision.effect_text(gaps.best), "for")
        return Standing("inconclusive", "missing_scores", text)
    return standing


def _outcome(standing: Standing, goal: decision.Goal) -> Outcome:
    """In retrospective words: never "ship", and that no gain is worth it is no reason against an arm."""
    if standing.outcome in {"ship", "scope"}:
        return "retrospective: better" if goal == "better" else "retrospective: no worse"
    return "retrospective: worse" if standing.reason == "harmful" else "retrospective: inconclusive"


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
