"""The registered rule on sealed evidence: one `ArmRecord` an arm, and the banner over all of them.

Order: the aggregate decides first; slices, the worst failure mode, severity, missing scores and guardrails
can only take a pass away.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from itera_nb.scoring.evidence import Comparison, Evidence, Floats, compare
from itera_nb.spec import Spec
from itera_nb.stats import decision, missing, modes, multiplicity, noise, slices
from itera_nb.stats.paired import Delta, row_means
from itera_nb.verdict import measures
from itera_nb.verdict.record import (
    ArmRecord,
    CostRecord,
    EffectRecord,
    LatencyRecord,
    LiteralRecord,
    SeverityRecord,
    Verdict,
)
from itera_nb.verdict.second_opinion import SecondJudge

ORDER = {"ship": 0, "scope": 1, "inconclusive": 2, "kill": 3}


@dataclass(frozen=True, slots=True)
class Standing:
    """What the rule makes of one arm so far; a later check may take a pass away, never give one."""

    outcome: str
    reason: str
    sentence: str

    def unless(self, stopped: bool, outcome: str, reason: str, sentence: str) -> Standing:
        """This standing, or the given one if it passed and the check stops it."""
        if stopped and self.outcome in {"ship", "scope"}:
            return Standing(outcome, reason, sentence)
        return self


def evaluate(
    spec: Spec,
    evidence: Evidence,
    weights: Mapping[str, float],
    dev: Mapping[str, Delta],
    rng: np.random.Generator,
    *,
    iterations: int = 0,
    second: SecondJudge | None = None,
) -> Verdict:
    """Apply the registered rule to every candidate in the evidence.

    Args:
        spec: The locked experiment.
        evidence: Sealed scores of the baseline, the locked candidates and the negative controls.
        weights: Failure mode -> severity weight.
        dev: Candidate -> its effect on dev, for the overfit contrast.
        rng: Source of the bootstrap intervals of cost and latency.
        iterations: Iterations that were scored on dev.
        second: Another judge's labels of some rows; an outcome that they change is inconclusive.
    """
    alpha = decision.look_alpha(spec.rule.extension == "once")
    rule = registered_rule(spec, missing.mean_score(evidence.complete(spec.baseline).scores[spec.baseline]))
    again = copy.deepcopy(rng)  # the same resamples, so that only the labels can make a difference
    records = _records(spec, evidence, rule, weights, dev, rng, iterations)
    if second is not None:
        others = _records(spec, second.evidence, rule, weights, dev, again, iterations)
        records = [second.beside(one, other) for one, other in zip(records, others, strict=True)]
    chosen, because = _choose(evidence, records, alpha)
    best = min(records, key=lambda r: ORDER[r.outcome])
    return Verdict(
        outcome=chosen.outcome if chosen else best.outcome,
        arm=chosen.arm if chosen else (best.arm if len(records) == 1 else None),
        chosen_because=because,
        records=records,
        controls=[
            _control(spec, evidence, arm, alpha, rule) for arm in spec.controls if arm in evidence.scores
        ],
        arms={arm: _summary(evidence, arm, spec.baseline) for arm in evidence.scores},
        pareto=measures.pareto_shares(evidence, rng),
        judge=asdict(evidence.judge) if evidence.judge else None,
    )


def _records(
    spec: Spec,
    evidence: Evidence,
    rule: decision.Rule,
    weights: Mapping[str, float],
    dev: Mapping[str, Delta],
    rng: np.random.Generator,
    iterations: int,
) -> list[ArmRecord]:
    candidates = [arm for arm in spec.candidates if arm in evidence.scores]
    compared = {arm: compare(evidence, arm, spec.baseline, rule.alpha) for arm in candidates}
    adjusted = multiplicity.holm([c.delta for c in compared.values()], rule)
    return [
        _arm_record(spec, evidence, compared[arm], rule, weights, holm, dev.get(arm), rng, iterations)
        for arm, holm in zip(candidates, adjusted, strict=True)
    ]


def retrospective(verdict: Verdict) -> Verdict:
    """The same figures where results had been seen before the frame: no outcome but this, never "ship"."""
    word = "retrospective"
    records = [replace(r, outcome=word, literal=replace(r.literal, outcome=word)) for r in verdict.records]
    return replace(verdict, outcome=word, records=records)


def registered_rule(spec: Spec, baseline: float) -> decision.Rule:
    """The rule as numbers; a relative `min_effect` is resolved with the baseline's value (fraction)."""
    return decision.Rule(
        min_effect=min(spec.rule.min_effect.absolute(baseline), 1.0),
        alpha=decision.look_alpha(spec.rule.extension == "once"),
        proof=spec.rule.proof,
        goal=spec.rule.goal,
        margin=spec.rule.margin or 0.0,
    )


def _arm_record(
    spec: Spec,
    evidence: Evidence,
    compared: Comparison,
    rule: decision.Rule,
    weights: Mapping[str, float],
    holm: multiplicity.HolmResult,
    dev: Delta | None,
    rng: np.random.Generator,
    iterations: int,
) -> ArmRecord:
    arm, base, d, delta = compared.arm, spec.baseline, compared.d, compared.delta
    alpha, pairs = rule.alpha, compared.evidence
    cluster = pairs.cluster
    parts = slices.slice_deltas(
        d, pairs.slices, cluster, alpha=alpha, graded=evidence.graded, binary=compared.binary
    )
    judged = slices.judge_slices(parts, margin=spec.rule.max_slice_loss, rule=spec.rule.slice_rule)
    top = max(weights, key=lambda m: weights[m]) if weights else None
    shifts = modes.mode_shifts(
        {m: (pairs.modes[arm][m], pairs.modes[base][m]) for m in weights},
        top=top,
        margin=spec.rule.max_worst_mode_increase,
        cluster=cluster,
        alpha=alpha,
    )
    literal = _literal(spec, compared, parts, shifts, top, rule)
    cost = measures.cost_record(evidence, arm, base, rng)
    latency = measures.latency_record(evidence, arm, base, rng)
    decided = decision.decide(
        delta,
        rule,
        reason_to_ship=_reason_to_ship(spec, cost),
        holm_rejected=holm.rejected,
        literal=literal,
    )
    outcome = "ship" if decided.outcome == "pass" else decided.outcome
    standing = Standing(outcome, decided.reason, decided.sentence)
    scope = None
    if rule.proof != "literal":  # which has a floor of its own for every slice, and no scope
        scope = slices.scope(
            d,
            pairs.slices,
            judged,
            rule,
            cluster,
            graded=evidence.graded,
            binary=compared.binary,
            drift=compared.drift,
            reason_to_ship=_reason_to_ship(spec, cost),
        )
        standing = _with_slices(standing, scope)
    weighted = measures.severity_record(spec, pairs, d, alpha)
    gaps = missing.bounds(
        evidence.scores[arm],
        evidence.scores[base],
        evidence.cluster,
        alpha=alpha,
        graded=evidence.graded,
        binary=compared.binary,
        pairwise=evidence.pairwise,
    )
    standing = _with_vetoes(standing, shifts, top, weighted, gaps, rule, spec, cost, latency)
    kept = scope if standing.outcome == "scope" else None
    return ArmRecord(
        arm=arm,
        outcome=standing.outcome,
        reason=standing.reason,
        sentence=standing.sentence,
        tau=rule.min_effect,
        alpha=alpha,
        n=delta.n,
        clusters=delta.clusters,
        trials=evidence.scores[arm].shape[1],
        b=int((d > 0).sum()) if compared.binary else None,
        c=int((d < 0).sum()) if compared.binary else None,
        estimate=delta.estimate,
        low=delta.low,
        high=delta.high,
        df=delta.df,
        holm_p=holm.adjusted,
        scope=list(kept.slices) if kept else [],
        scope_effect=EffectRecord(kept.delta.estimate, kept.delta.low, kept.delta.high)
        if kept and kept.delta
        else None,
        slices=[measures.slice_record(s) for s in judged],
        failure_modes=[
            measures.mode_record(s, weights[s.name], evidence.scores[arm].shape[1]) for s in shifts
        ],
        severity=weighted,
        missing=measures.missing_record(evidence, arm, spec.baseline, gaps, rule, compared.binary),
        overfit=measures.overfit_record(delta, dev, iterations),
        noise=measures.noise_record(pairs, arm, base, delta),
        cost=cost,
        latency=latency,
        n_needed=measures.rows_needed(spec, compared.d, rule),
        power_expected=None,
        literal=LiteralRecord("ship" if literal.passed else "kill", list(literal.reasons)),
        warnings=measures.warnings(pairs, arm, base, delta, d),
        appendix=measures.appendix(pairs, arm, base, rule.alpha),
    )


def _with_slices(standing: Standing, scope: slices.Scope) -> Standing:
    if standing.outcome != "ship" or scope.outcome == "ship":
        return standing
    names = ", ".join(scope.flagged)
    if scope.outcome == "scope" and scope.delta is not None:
        text = f"{decision.effect_text(scope.delta)} on the other slices; {names} may lose more than allowed."
        return Standing("scope", "slice_flagged", text)
    text = f"{standing.sentence} But {names} may lose more than allowed, and the rest alone shows no gain."
    return Standing("inconclusive", "slice_flagged", text)


def _with_vetoes(
    standing: Standing,
    shifts: tuple[modes.ModeResult, ...],
    top: str | None,
    weighted: SeverityRecord | None,
    gaps: missing.MissingReport,
    rule: decision.Rule,
    spec: Spec,
    cost: CostRecord,
    latency: LatencyRecord,
) -> Standing:
    rescued = rule.proof != "literal" and not gaps.complete and not bool(rule.kills(gaps.best.high))
    if standing.outcome == "kill" and rescued:
        text = "Shown to be of no use, but not if the missing scores are all successes."
        standing = Standing("inconclusive", "missing_scores", text)
    worse = any(s.name == top and s.level == "flagged" for s in shifts)
    standing = standing.unless(
        worse,
        "inconclusive",
        "worst_mode_flagged",
        f"A gain, but {top} (the worst failure mode) may have risen.",
    )
    vetoed = weighted is not None and weighted.vetoes
    standing = standing.unless(
        vetoed, "kill", "severity_veto", "More rows right, but weighted by severity the arm is shown to lose."
    )
    lost = gaps.worst_must_pass and not bool(rule.passes(gaps.worst.estimate, gaps.worst.low))
    standing = standing.unless(
        lost, "inconclusive", "missing_scores", "A gain, but not if the missing scores are all failures."
    )
    return _with_guardrails(standing, spec, cost, latency)


def _with_guardrails(standing: Standing, spec: Spec, cost: CostRecord, latency: LatencyRecord) -> Standing:
    """A limit that is shown to be passed kills; one that is not shown to be kept leaves it open."""
    guards = (
        ("cost", spec.rule.max_cost_increase, cost.relative_low, cost.relative_high),
        ("latency", spec.rule.max_latency_p95_increase_ms, latency.low_ms, latency.high_ms),
    )
    for name, limit, low, high in guards:
        if limit is None:
            continue
        if low is None or high is None:
            text = f"The {name} is unknown, or the baseline's is 0, so its guardrail cannot be checked."
            standing = standing.unless(True, "inconclusive", f"{name}_guardrail", text)
            continue
        text = f"The {name} is shown to rise above the registered limit."
        standing = standing.unless(low > limit, "kill", f"{name}_guardrail", text)
        text = f"The {name} is not shown to stay within the registered limit."
        standing = standing.unless(high > limit, "inconclusive", f"{name}_guardrail", text)
    return standing


def _reason_to_ship(spec: Spec, cost: CostRecord) -> bool | None:
    """Whether the registered saving is shown (True), ruled out (False), or neither."""
    wanted, low, high = spec.rule.min_saving, cost.relative_low, cost.relative_high
    if spec.rule.goal != "no_worse" or wanted is None or low is None or high is None:
        return None
    if -high >= wanted:
        return True
    return False if -low < wanted else None


def _literal(
    spec: Spec,
    compared: Comparison,
    parts: Mapping[str, Delta],
    shifts: tuple[modes.ModeResult, ...],
    top: str | None,
    rule: decision.Rule,
) -> decision.LiteralRule:
    # What re-runs do to a net win rate shows in the arm's own trials; the baseline's scores are all 0.
    evidence = compared.evidence
    repeats = evidence.scores[compared.arm if evidence.pairwise else spec.baseline]
    repeats = repeats[:, ~np.isnan(repeats).all(axis=0)]
    worst = next((s for s in shifts if s.name == top), None)
    return decision.literal_rule(
        compared.delta,
        min_effect=rule.min_effect,
        repeat_sd=noise.repeat_sd(repeats) if repeats.shape[1] > 1 else 0.0,
        slices=parts,
        floor=spec.rule.max_slice_loss,
        top_arm=worst.arm_count if worst else 0,
        top_base=worst.base_count if worst else 0,
    )


def _choose(evidence: Evidence, records: Sequence[ArmRecord], alpha: float) -> tuple[ArmRecord | None, str]:
    """The arm of the banner: better if that is shown, else the cheaper one.

    The larger of several passing estimates is not a reason: it is biased upward.
    """
    best = min((ORDER[r.outcome] for r in records), default=3)
    passing = [r for r in records if ORDER[r.outcome] == best and r.outcome in {"ship", "scope"}]
    if len(passing) < 2:
        return (passing[0] if passing else None), ""
    for one in passing:
        others = [other.arm for other in passing if other is not one]
        if all(_shown_better(evidence, one.arm, other, alpha) for other in others):
            return one, "shown to be better than the other arms that pass"
    known = [r for r in passing if evidence.cost[r.arm] is not None]
    if len(known) == len(passing):
        prices = {r.arm: float(np.mean(evidence.cost[r.arm])) for r in passing}  # type: ignore[arg-type]
        if len(set(prices.values())) > 1:
            return min(
                passing, key=lambda r: prices[r.arm]
            ), "the cheaper one; no difference between them is shown"
    fastest = min(passing, key=lambda r: float(np.median(evidence.latency[r.arm])))
    return fastest, "the faster one; no difference in score or price between them is shown"


def _shown_better(evidence: Evidence, one: str, other: str, alpha: float) -> bool:
    return bool(evidence.scored(one, other).any()) and compare(evidence, one, other, alpha).delta.low > 0


def _control(spec: Spec, evidence: Evidence, arm: str, alpha: float, rule: decision.Rule) -> dict[str, Any]:
    """A negative control: equivalence to the baseline, not the absence of a significant difference."""
    compared = compare(evidence, arm, spec.baseline, alpha)
    equal = multiplicity.equivalence(compared.delta, rule.min_effect)
    delta = compared.delta
    return {
        "arm": arm,
        "estimate": delta.estimate,
        "low": delta.low,
        "high": delta.high,
        "equivalent": equal.shown,
        "differs": delta.low > 0 or delta.high < 0,
    }


def _summary(evidence: Evidence, arm: str, baseline: str) -> dict[str, Any]:
    """Descriptive figures of one arm: scores are fractions by intention to treat, cost USD per 1,000 rows.

    Scores are over the rows that every arm has one for, cost and latency over all rows.
    """
    seen = evidence.described(arm, baseline)
    scores = seen.scores[arm]
    rows = row_means(scores)
    cost = evidence.cost[arm]
    weights = seen.weights
    weighted = None if weights is None or not weights.any() else float(np.average(rows, weights=weights))
    return {
        "mean": float(rows.mean()),
        "trials": [float(np.nanmean(x)) for x in scores.T if np.isfinite(x).any()],
        "per_slice": {name: float(rows[mask].mean()) for name, mask in seen.slices.items() if mask.any()},
        "weighted": weighted,
        "secondary": evidence.secondary[arm],
        "preference": _preference(scores) if evidence.pairwise else None,
        "modes": {m: float(np.nansum(x) / x.shape[1]) for m, x in seen.modes[arm].items()},
        "cost_per_1k_usd": None if cost is None else 1000 * float(cost.mean()),
        "latency_p50_ms": float(np.median(evidence.latency[arm])),
        "latency_p95_ms": float(np.quantile(evidence.latency[arm], 0.95)),
    }


def _preference(scores: Floats) -> dict[str, float]:
    """Shares of the comparisons with a preference that the arm won, tied and lost."""
    made = int(np.isfinite(scores).sum())
    won, tied, lost = (int(x.sum()) for x in (scores > 0, scores == 0, scores < 0))
    return {"won": won / made, "tied": tied / made, "lost": lost / made}
