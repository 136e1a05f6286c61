"""The measures of a verdict record that do not decide alone: each a pure function of the evidence."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from itera_nb.scoring.evidence import Evidence, Floats
from itera_nb.spec import Spec
from itera_nb.stats import cost as cost_stats
from itera_nb.stats import (
    decision,
    missing,
    modes,
    noise,
    overfit,
    paired,
    pareto,
    power,
    severity,
    slices,
    table,
)
from itera_nb.stats.paired import Delta
from itera_nb.verdict.record import (
    AppendixRecord,
    CostRecord,
    LatencyRecord,
    MissingRecord,
    ModeRecord,
    NoiseRecord,
    OverfitRecord,
    SeverityRecord,
    SliceRecord,
)


def slice_record(result: slices.SliceResult) -> SliceRecord:
    """One judged slice."""
    delta = result.delta
    return SliceRecord(
        result.name,
        delta.n,
        delta.estimate,
        delta.low,
        delta.high,
        result.shrunken,
        result.p_harm,
        result.level,
        result.wording,
    )


def mode_record(result: modes.ModeResult, weight: float, trials: int) -> ModeRecord:
    """One failure mode; counts are means over the trials."""
    delta = result.delta
    return ModeRecord(
        result.name,
        weight,
        result.base_count / trials,
        result.arm_count / trials,
        delta.estimate,
        delta.low,
        delta.high,
        result.p_above,
        result.level or "not assessed",
    )


def severity_record(spec: Spec, evidence: Evidence, d: Floats, alpha: float) -> SeverityRecord | None:
    """The severity-weighted effect, or None where none is declared or it carries no weight."""
    if evidence.weights is None or spec.source.severity is None:
        return None
    if paired.dense_codes(evidence.cluster, d.size).max() < 1 or not evidence.weights.any():
        return None
    weighted = severity.weighted_delta(d, evidence.weights, evidence.cluster, alpha=alpha)
    apart = severity.disagreement(d, evidence.weights, evidence.cluster, alpha=alpha)
    if apart.declared:
        note = "weighted and unweighted effects contradict each other"
    elif weighted.estimate * float(d.mean()) < 0:
        note = "signs differ, but the difference is within noise"
    else:
        note = "same direction"
    if weighted.few_rows:
        note += "; the weighted result rests on few rows: it may veto, not carry a claim"
    return SeverityRecord(
        spec.source.severity,
        weighted.estimate,
        weighted.low,
        weighted.high,
        weighted.n_eff,
        weighted.largest_share,
        weighted.few_rows,
        weighted.vetoes,
        apart.declared,
        note,
    )


def missing_record(
    evidence: Evidence, arm: str, base: str, gaps: missing.MissingReport, rule: decision.Rule, binary: bool
) -> MissingRecord:
    """Failed calls, missing scores, the bounds, and how many missing scores a pass tolerates as failures."""
    scores = evidence.scores[arm]
    unscored = int(np.isnan(scores).sum())
    tolerated = None
    if not gaps.complete:

        def passes(d: Floats) -> bool:
            delta = paired.paired_delta(
                d, evidence.cluster, alpha=rule.alpha, graded=evidence.graded, binary=binary
            )
            return bool(rule.passes(delta.estimate, delta.low))

        tolerated = missing.tipping_point(scores, evidence.scores[base], passes, pairwise=evidence.pairwise)
    return MissingRecord(
        evidence.failed[arm],
        unscored,
        0 if evidence.pairwise else int(np.isnan(evidence.scores[base]).sum()),
        len(evidence.ids),
        gaps.worst.estimate,
        gaps.best.estimate,
        gaps.worst_must_pass,
        tolerated,
    )


def overfit_record(delta: Delta, dev: Delta | None, iterations: int) -> OverfitRecord | None:
    """Dev against test; None where the arm has no dev effect. The arm itself counts as a try on dev."""
    if dev is None:
        return None
    gap = overfit.dev_test_gap(dev, delta, iterations=iterations + 1)
    note = {
        "none": "dev and test agree within their noise",
        "alarm": "dev looks better than test: some of the dev gain was tuning",
        "strong": "dev looks much better than test: most of the dev gain may have been tuning",
    }[gap.level]
    if iterations:
        inflation = 100 * gap.expected_inflation
        note += (
            f"; the best of {iterations + 1} tries on dev looks {inflation:.1f} points too good on average"
        )
    return OverfitRecord(dev.estimate, dev.low, dev.high, gap.gap, gap.z, gap.level, note)


def noise_record(evidence: Evidence, arm: str, base: str, delta: Delta) -> NoiseRecord:
    """Re-run noise of the effect; `floor` is that of the baseline against itself.

    A preference has no noise of the baseline alone: its floor is that of the net win rate, which both sides'
    re-runs make.
    """
    one, two = evidence.scores[arm], evidence.scores[base]
    if not evidence.repeated(arm, base):
        return NoiseRecord(0.0, 0.0, None, False, None)
    both = noise.rerun_noise(one, two)
    alone = both if evidence.pairwise else noise.rerun_noise(two, two)
    drift = None if both.deterministic else evidence.drift(arm)
    return NoiseRecord(alone.se, both.se, both.share(delta), both.deterministic, drift.p if drift else None)


def cost_record(evidence: Evidence, arm: str, base: str, rng: np.random.Generator) -> CostRecord:
    """Cost against the baseline; unknown prices stay unknown. Relative figures are shares of its price."""
    one, two = evidence.cost[arm], evidence.cost[base]
    unknown = partial(CostRecord, None, None, None, None, None, None)
    if one is None or two is None:
        return unknown("the price of at least one call is unknown")
    if one.size < 2:
        return unknown("one row: its price is not a mean")
    # To a picodollar: where every row costs the same amount more, rounding errors are no spread to resample.
    found = cost_stats.mean_difference(np.round(one - two, 12), rng, evidence.cluster)
    price, alike = float(two.mean()), float(one.mean()) == float(two.mean())
    each, low, high = (1000 * x for x in (found.estimate, found.low, found.high))
    if price == 0:
        same = 0.0 if alike else None
        note = None if alike else "the baseline costs nothing, so there is no relative change"
        return CostRecord(each, low, high, same, same, same, note)
    scale = 1000 * price
    return CostRecord(each, low, high, each / scale, low / scale, high / scale, None)


def latency_record(evidence: Evidence, arm: str, base: str, rng: np.random.Generator) -> LatencyRecord:
    """p95 latency against the baseline."""
    one, two = evidence.latency[arm], evidence.latency[base]
    if one.size < 2 or np.isnan(one).any() or np.isnan(two).any():
        return LatencyRecord(None, None, None)
    found = cost_stats.quantile_difference(one, two, rng, evidence.cluster)
    return LatencyRecord(found.estimate, found.low, found.high)


def pareto_shares(evidence: Evidence, rng: np.random.Generator) -> dict[str, dict[str, float]] | None:
    """Arm -> share of resamples in which it lies on the cost-accuracy frontier, and in which it is dominated.

    Over the rows that every arm has a score for. None where there is none, where a price is unknown, or where
    all arms cost the same and only accuracy is left to compare.
    """
    arms = list(evidence.scores)
    costs = [evidence.cost[arm] for arm in arms]
    known = [c for c in costs if c is not None]
    if len(known) < len(costs) or len({float(c.mean()) for c in known}) == 1:
        return None
    if not evidence.scored(*arms).any():
        return None
    evidence = evidence.complete(*arms)
    known = [c for c in map(evidence.cost.get, arms) if c is not None]
    scores = [paired.row_means(evidence.scores[arm]) for arm in arms]
    found = pareto.frontier(np.column_stack(known), np.column_stack(scores), rng, evidence.cluster)
    shares = zip(arms, found.on_frontier, found.dominated, strict=True)
    return {arm: {"on_frontier": float(on), "dominated": float(off)} for arm, on, off in shares}


def rows_needed(spec: Spec, d: Floats, rule: decision.Rule) -> int | None:
    """Test rows for 80 % power at the registered expected effect and the row variance seen here."""
    expected = spec.expected_effect(rule.min_effect)
    if rule.goal != "better" or expected <= rule.null:
        return None
    variance = float(d.var(ddof=1)) if d.size > 1 else 0.0
    # An effect of e needs at least a share e of rows that differ, however few differed here.
    variance = max(variance, expected - expected**2)
    if variance == 0:
        return None
    rows = power.closed_form_rows(expected, variance, null=rule.null, alpha=rule.alpha / len(spec.candidates))
    return math.ceil(rows)


def warnings(evidence: Evidence, arm: str, base: str, delta: Delta, d: Floats) -> list[str]:
    """Cautions about the data behind the interval, in words."""
    rate = missing.mean_score(evidence.scores[base])
    found = list(decision.cautions(delta, baseline_rate=rate, graded=evidence.graded, worst=float(d.min())))
    for name in (arm, base):
        drift = evidence.drift(name)
        if drift is not None and not drift.exchangeable:
            found.append(f"The trials of {name} move all rows together; the interval is widened for it.")
    return found


def appendix(evidence: Evidence, arm: str, base: str, alpha: float) -> AppendixRecord:
    """McNemar mid-p, Newcombe and Tango for one trial of a 0/1 score; empty otherwise."""
    if evidence.pairwise or not evidence.binary(arm, base):
        return AppendixRecord()
    one, two = (paired.row_means(evidence.scores[name]) for name in (arm, base))
    counts = table.PairedTable.from_scores(one, two)
    newcombe, tango = table.newcombe_interval(counts, alpha), table.tango_interval(counts, alpha)
    return AppendixRecord(table.mcnemar_midp(counts), [newcombe.low, newcombe.high], [tango.low, tango.high])
