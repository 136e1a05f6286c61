"""The registered rule on constructed evidence: every outcome, every veto, and what may not matter."""

import json
from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itera_nb.exceptions import ArmError
from itera_nb.scoring.evidence import Evidence, slice_masks
from itera_nb.scoring.runs import strata_table
from itera_nb.stats.paired import paired_delta
from itera_nb.verdict.rule import evaluate

N = 400
ROW = np.arange(N)
BASE = (ROW % 2 == 0).astype(float)  # right on half of the rows
ACME = ROW % 10 < 7
SLICES = {"tenant=acme": ACME, "tenant=zeta": ~ACME}
NAN = float("nan")


def gain(share, lost=0.0, where=None):
    """Scores that are right on `share` more rows than BASE and wrong on `lost` of its right ones."""
    where = np.ones(N, bool) if where is None else where
    won, gone = np.flatnonzero((BASE == 0) & where), np.flatnonzero((BASE == 1) & where)
    scores = BASE.copy()
    scores[won[: round(share * N)]] = 1
    scores[gone[: round(lost * N)]] = 0
    return scores


@pytest.fixture
def decide(make_spec, make_evidence):
    def of(better, rule='extension = "none"', *, base=BASE, weights=None, dev=None, spec=None, **keys):
        scores = {"base": base} | (better if isinstance(better, dict) else {"better": better})
        spec = spec or make_spec(rule)
        evidence = make_evidence(scores, **{"slices": SLICES} | keys)
        return evaluate(spec, evidence, weights or {}, dev or {}, np.random.default_rng(1))

    return of


@pytest.fixture
def standing(decide):
    def of(*arguments, **keys):
        record = decide(*arguments, **keys).records[0]
        return record.outcome, record.reason

    return of


def test_slices_are_named_as_they_were_when_sealed():
    """Rows without a value are a slice of their own: none leaves the slice rule."""
    rows = pd.DataFrame(
        {"vip": [True, None, False, True], "tenant": [None, "a", None, None], "none": [None] * 4}
    )
    masks = slice_masks(rows, ["vip", "tenant", "none"])
    assert {name: mask.tolist() for name, mask in masks.items()} == {
        "vip=true": [True, False, False, True],
        "vip=": [False, True, False, False],
        "vip=false": [False, False, True, False],
        "tenant=": [True, False, True, True],
        "tenant=a": [False, True, False, False],
        "none=": [True] * 4,
    }


def test_whole_numbers_with_a_gap_name_slices_as_they_were_sealed():
    source = SimpleNamespace(id="id", slices=["tier"], cluster=None, severity=None)
    rows = [{"id": str(n), "tier": tier} for n, tier in enumerate((1, None, 2))]
    table = strata_table(SimpleNamespace(spec=SimpleNamespace(source=source)), rows)
    assert set(slice_masks(table, ["tier"])) == {"tier=1", "tier=2", "tier="}


# the aggregate ----------------------------------------------------------------------------------------------


def test_ship(decide):
    verdict = decide(gain(0.2))
    assert (verdict.outcome, verdict.arm) == ("ship", "better")
    record = verdict.records[0]
    assert (record.reason, record.b, record.c, record.n) == ("shown", 80, 0, N)
    assert record.estimate == pytest.approx(0.2)
    assert record.low > 0
    assert record.alpha == 0.05
    assert record.literal.outcome == "ship"
    assert {s.level for s in record.slices} == {"cleared"}


def test_kill_because_it_is_harmful(standing):
    assert standing(gain(0, lost=0.2)) == ("kill", "harmful")


def test_kill_because_it_is_not_worth_it(standing):
    assert standing(gain(0.005, lost=0.005)) == ("kill", "not_worth_it")
    assert standing(BASE) == ("kill", "not_worth_it")


def test_inconclusive_because_nothing_is_shown(standing):
    assert standing(gain(0.12, lost=0.10)) == ("inconclusive", "not_shown")


def test_inconclusive_because_the_gain_is_too_small(standing):
    assert standing(gain(0.04), 'min_effect = 0.05\nextension = "none"') == (
        "inconclusive",
        "min_effect_not_reached",
    )
    assert standing(gain(0.04), 'min_effect = 0.03\nextension = "none"') == ("ship", "shown")


def test_a_stricter_proof_asks_the_interval(standing):
    assert standing(gain(0.06), 'proof = "above_min"\nextension = "none"')[0] == "inconclusive"
    assert standing(gain(0.20), 'proof = "above_min"\nextension = "none"') == ("ship", "shown")


def test_too_few_rows_carry_no_conclusion(decide):
    few = np.ones(19)
    verdict = decide(few, base=np.zeros(19), slices={})
    assert (verdict.outcome, verdict.records[0].reason) == ("inconclusive", "too_few_rows")
    assert decide(np.ones(20), base=np.zeros(20), slices={}).outcome == "ship"


def test_few_clusters_carry_no_conclusion(standing):
    assert standing(gain(0.2), cluster=ROW % 9) == ("inconclusive", "too_few_clusters")
    assert standing(gain(0.2), cluster=ROW % 40) == ("ship", "shown")


def test_a_relative_effect_is_resolved_with_the_baselines_test_value(decide):
    record = decide(gain(0.08), 'min_effect = "20%"\nextension = "none"').records[0]
    assert record.tau == pytest.approx(0.10)
    assert record.outcome == "inconclusive"
    absolute = decide(gain(0.08), 'min_effect = 0.10\nextension = "none"').records[0]
    assert record.n_needed == absolute.n_needed, "the hoped-for effect is resolved too"
    assert decide(gain(0.08), 'min_effect = "10%"\nextension = "none"').outcome == "ship"


def test_a_relative_effect_beyond_every_score_is_the_whole_scale(decide):
    assert (
        decide(np.ones(N), 'min_effect = "300%"\nextension = "none"', base=np.full(N, 0.5)).records[0].tau
        == 1.0
    )


def test_a_registered_top_up_spends_alpha_at_the_first_look(decide):
    once, none = decide(gain(0.2), 'extension = "once"').records[0], decide(gain(0.2)).records[0]
    assert once.alpha == pytest.approx(0.0294)
    assert once.low < none.low


# slices -----------------------------------------------------------------------------------------------------


def test_scope_where_one_slice_loses(decide):
    better = gain(0.25, where=ACME)
    better[~ACME & (BASE == 1)] = np.where(ROW[~ACME & (BASE == 1)] % 20 < 10, 0, 1)
    verdict = decide(better)
    record = verdict.records[0]
    assert (verdict.outcome, verdict.arm, record.reason) == ("scope", "better", "slice_flagged")
    assert record.scope == ["tenant=acme"]
    assert {s.id: s.level for s in record.slices} == {"tenant=acme": "cleared", "tenant=zeta": "flagged"}
    assert record.scope_effect.estimate > record.estimate
    assert record.scope_effect.low > 0
    assert "tenant=zeta may lose more than allowed" in record.sentence


def test_a_flagged_slice_without_a_gain_on_the_rest_is_inconclusive(standing):
    """Four noisy slices, each with a loss that its own interval does not exclude, and a fifth without a gain."""
    better, parts = BASE.copy(), {}
    for k in range(4):
        part = k == ROW // 75
        parts[f"tenant={k}"] = part
        better[np.flatnonzero(part & (BASE == 0))[:24]] = 1
        better[np.flatnonzero(part & (BASE == 1))[:15]] = 0
    rule = 'slice_rule = "literal"\nextension = "none"'
    assert standing(better, rule, slices=parts | {"tenant=4": ROW >= 300}) == (
        "inconclusive",
        "slice_flagged",
    )
    assert standing(better, slices={}) == ("ship", "shown")


def test_slices_never_rescue_a_kill(standing):
    better = gain(0.05, where=~ACME)
    better[ACME & (BASE == 1)] = 0
    assert standing(better) == ("kill", "harmful")


# vetoes and guardrails --------------------------------------------------------------------------------------


@pytest.fixture
def severity(make_spec):
    return make_spec('extension = "none"', source='severity = "amount"')


def test_severity_vetoes_a_gain_in_cheap_rows(decide, severity):
    better = gain(0.2, lost=0.05)
    weights = np.where(better < BASE, 50.0, 1.0)
    assert decide(better).outcome == "ship"
    record = decide_weighted(decide, better, severity, weights).records[0]
    assert (record.outcome, record.reason) == ("kill", "severity_veto")
    assert record.severity.vetoes
    assert record.severity.high < 0


def decide_weighted(decide, better, spec, weights):
    def with_weights(make_evidence):
        return make_evidence({"base": BASE, "better": better}, slices=SLICES, weights=weights)

    return evaluate(spec, with_weights(decide.make_evidence), {}, {}, np.random.default_rng(1))


@pytest.fixture(autouse=True)
def _hand_over(decide, make_evidence):
    decide.make_evidence = make_evidence


def test_severity_that_agrees_does_not_stop(decide, severity):
    record = decide_weighted(decide, gain(0.2), severity, np.where(ROW % 3 == 0, 5.0, 1.0)).records[0]
    assert (record.outcome, record.severity.vetoes) == ("ship", False)
    assert record.severity.note == "same direction"


@pytest.mark.parametrize("weights", [np.zeros(N), np.where(ROW == 0, 1.0, 0.0)])
def test_severity_without_weight_does_not_break_the_verdict(decide, severity, weights):
    verdict = decide_weighted(decide, gain(0.2), severity, weights)
    assert verdict.outcome in {"ship", "kill"}
    json.dumps(verdict.as_json(), allow_nan=False)


def test_severity_where_some_rows_have_no_cluster(decide, severity):
    labels = np.where(ROW % 5 > 0, ROW // 3, None)
    evidence = decide.make_evidence(
        {"base": BASE, "better": gain(0.2)}, slices=SLICES, weights=np.ones(N), cluster=labels
    )
    record = evaluate(severity, evidence, {}, {}, np.random.default_rng(1)).records[0]
    assert record.severity.estimate == pytest.approx(record.estimate)
    alike = replace(evidence, weights=None, cluster=np.zeros(N))
    assert evaluate(severity, alike, {}, {}, np.random.default_rng(1)).records[0].severity is None


def test_a_rising_worst_mode_stops_a_gain(standing):
    better = gain(0.2)
    awful = np.where(ROW % 20 == 1, 1.0, 0.0)
    modes = {"base": {"mild": 1 - BASE, "awful": np.zeros(N)}, "better": {"mild": 1 - better, "awful": awful}}
    weights = {"mild": 1.0, "awful": 5.0}
    assert standing(better, modes=modes, weights=weights) == ("inconclusive", "worst_mode_flagged")
    harmless = {"mild": 5.0, "awful": 1.0}
    assert standing(better, modes=modes, weights=harmless) == ("ship", "shown")


def test_missing_scores_that_could_all_be_failures(decide):
    """The arm's failures count already; a baseline without scores could have been right there."""
    base = BASE.copy()
    base[(BASE == 0) & (ROW % 4 == 1)] = NAN
    record = decide(gain(0.2), base=base).records[0]
    assert (record.outcome, record.reason) == ("inconclusive", "missing_scores")
    assert record.missing.worst_must_pass
    assert record.missing.worst < record.estimate <= record.missing.best


def test_a_few_missing_scores_are_not_zero_and_leave_the_estimate(decide):
    better = gain(0.2)
    better[:8] = NAN
    record = decide(better, failed={"better": 3}).records[0]
    assert record.outcome == "ship"
    assert (record.n, record.missing.rows) == (N - 8, N)
    assert (record.missing.unscored, record.missing.baseline_unscored, record.missing.failed_calls) == (
        8,
        0,
        3,
    )
    assert record.estimate == pytest.approx((better - BASE)[8:].mean())
    whole = (better[8:].sum() - BASE.sum()) / N
    assert (record.missing.worst, record.missing.best) == pytest.approx((whole, whole + 8 / N))
    assert record.missing.tipping_point == 8


@pytest.mark.parametrize(
    ("prices", "expected"),
    [
        ((1.0, 1.2), ("ship", "shown")),
        ((1.0, 1.3), ("kill", "cost_guardrail")),
        ((0.0, 0.0), ("ship", "shown")),
        ((0.0, 1.0), ("inconclusive", "cost_guardrail")),
        ((1.0, None), ("inconclusive", "cost_guardrail")),
        ((None, 1.0), ("inconclusive", "cost_guardrail")),
    ],
)
def test_the_cost_guardrail(standing, prices, expected):
    cost = {a: None if p is None else np.full(N, p) for a, p in zip(("base", "better"), prices, strict=True)}
    assert standing(gain(0.2), 'max_cost_increase = 0.25\nextension = "none"', cost=cost) == expected
    assert standing(gain(0.2), cost=cost) == ("ship", "shown")


@pytest.mark.parametrize(
    ("ms", "expected"),
    [
        (59.0, ("ship", "shown")),
        (61.0, ("kill", "latency_guardrail")),
        (NAN, ("inconclusive", "latency_guardrail")),
    ],
)
def test_the_latency_guardrail(standing, ms, expected):
    latency = {"better": np.full(N, ms)}
    rule = 'max_latency_p95_increase_ms = 50\nextension = "none"'
    assert standing(gain(0.2), rule, latency=latency) == expected


def test_no_guardrail_rescues_a_kill(standing):
    rule = 'max_cost_increase = 0.25\nmax_latency_p95_increase_ms = 50\nextension = "none"'
    cost = {"base": np.ones(N), "better": np.ones(N)}
    assert standing(gain(0, lost=0.2), rule, cost=cost) == ("kill", "harmful")


# other rules ------------------------------------------------------------------------------------------------


def test_the_literal_rule_decides_alone_where_it_is_registered(decide):
    rule = 'proof = "literal"\nextension = "none"'
    assert decide(gain(0.2), rule).records[0].reason == "literal_rule"
    record = decide(gain(0.04), rule).records[0]
    assert (record.outcome, record.literal.reasons) == ("kill", ["below_min_effect"])
    unsafe = gain(0.25, where=ACME)
    unsafe[~ACME & (BASE == 1) & (ROW % 20 < 10)] = 0
    assert decide(unsafe, rule).records[0].literal.reasons == ["slice_floor:tenant=zeta"]


def test_the_literal_rule_is_shown_beside_any_other(decide):
    record = decide(gain(0.04), 'min_effect = 0.05\nextension = "none"').records[0]
    assert (record.outcome, record.literal.outcome) == ("inconclusive", "kill")


SAVING = 'goal = "no_worse"\nmargin = 0.05\nmin_saving = 0.5\nextension = "none"'


@pytest.mark.parametrize(
    ("better", "price", "expected"),
    [
        (gain(0.01, lost=0.01), 0.4, ("ship", "no_worse_shown")),
        (gain(0.01, lost=0.01), 0.6, ("kill", "not_worth_it")),
        (gain(0.01, lost=0.01), None, ("inconclusive", "reason_to_ship_unknown")),
        (gain(0.15, lost=0.17), 0.4, ("inconclusive", "not_shown")),
        (gain(0.0, lost=0.2), 0.4, ("kill", "harmful")),
    ],
)
def test_no_worse_needs_its_margin_and_its_reason(standing, better, price, expected):
    cost = {"base": np.ones(N), "better": None if price is None else np.full(N, price)}
    assert standing(better, SAVING, cost=cost, slices={}) == expected


# several arms -----------------------------------------------------------------------------------------------


@pytest.fixture
def two(make_spec):
    return make_spec(arms=("better", "other"))


def test_the_arm_that_is_shown_to_be_better_is_chosen(decide, make_spec):
    spec = make_spec('extension = "none"', arms=("better", "other"))
    verdict = decide({"better": gain(0.1), "other": gain(0.4)}, spec=spec)
    assert (verdict.outcome, verdict.arm) == ("ship", "other")
    assert verdict.chosen_because.startswith("shown to be better")


def test_of_equal_arms_the_cheaper_one_and_then_the_faster_one(decide, make_spec):
    spec = make_spec('extension = "none"', arms=("better", "other"))
    scores = {"better": gain(0.2), "other": gain(0.21)}
    cost = {"base": np.ones(N), "better": np.full(N, 1.0), "other": np.full(N, 2.0)}
    verdict = decide(scores, spec=spec, cost=cost)
    assert (verdict.arm, verdict.chosen_because.split(";")[0]) == ("better", "the cheaper one")
    latency = {"better": np.full(N, 30.0), "other": np.full(N, 20.0)}
    verdict = decide(scores, spec=spec, latency=latency)
    assert (verdict.arm, verdict.chosen_because.split(";")[0]) == ("other", "the faster one")
    assert decide(scores, spec=spec, cost=cost | {"better": None}, latency=latency).arm == "other"


def test_a_ship_goes_before_a_scope_and_no_pass_names_no_arm(decide, make_spec):
    spec = make_spec('extension = "none"', arms=("better", "other"))
    scoped = gain(0.25, where=ACME)
    scoped[~ACME & (BASE == 1) & (ROW % 20 < 10)] = 0
    verdict = decide({"better": scoped, "other": gain(0.15)}, spec=spec)
    assert [r.outcome for r in verdict.records] == ["scope", "ship"]
    assert (verdict.outcome, verdict.arm) == ("ship", "other")
    none = decide({"better": gain(0, lost=0.2), "other": gain(0.12, lost=0.10)}, spec=spec)
    assert (none.outcome, none.arm) == ("inconclusive", None)


def test_two_arms_share_the_error_rate(decide, make_spec):
    alone = decide(gain(0.05, lost=0.018), 'min_effect = 0.02\nextension = "none"', slices={}).records[0]
    spec = make_spec('min_effect = 0.02\nextension = "none"', arms=("better", "other"))
    both = decide({"better": gain(0.05, lost=0.018), "other": BASE}, spec=spec, slices={}).records[0]
    assert both.holm_p == pytest.approx(2 * alone.holm_p)
    assert (alone.estimate, alone.low) == (both.estimate, both.low)


def test_one_lucky_win_among_several_is_not_shipped(decide, make_spec):
    """An arm whose own interval just excludes 0 passes alone, and not beside two that do nothing."""
    rule = 'min_effect = 0.01\nextension = "none"'
    lucky = next(
        x
        for x in (gain(k / N, lost=0.03) for k in range(12, 80))
        if decide(x, rule, slices={}).outcome == "ship"
    )
    spec = make_spec(rule, arms=("better", "other", "third"))
    noise = gain(0.05, lost=0.05)
    record = decide({"better": lucky, "other": noise, "third": noise}, spec=spec, slices={}).records[0]
    assert (record.outcome, record.reason) == ("inconclusive", "not_shown_after_holm")


def test_a_negative_control_is_evidence_and_never_ships(decide, make_spec):
    spec = make_spec('extension = "none"', controls=("again",))
    verdict = decide({"better": BASE, "again": gain(0.3)}, spec=spec)
    assert [r.arm for r in verdict.records] == ["better"]
    assert verdict.outcome == "kill"
    assert verdict.controls[0] == verdict.controls[0] | {"arm": "again", "differs": True, "equivalent": False}
    calm = decide({"better": gain(0.2), "again": BASE}, spec=spec).controls[0]
    assert (calm["differs"], calm["equivalent"]) == (False, True)
    unsure = decide({"better": gain(0.2), "again": gain(0.15, lost=0.15)}, spec=spec).controls[0]
    assert (unsure["differs"], unsure["equivalent"]) == (False, False)


# beside the outcome -----------------------------------------------------------------------------------------


def test_dev_that_looked_better_than_test_is_an_alarm(decide):
    dev = paired_delta(gain(0.45) - BASE)
    record = decide(gain(0.05), dev={"better": dev}).records[0]
    assert record.overfit.alarm == "strong"
    assert record.overfit.gap == pytest.approx(0.40)
    assert (
        decide(gain(0.2), dev={"better": paired_delta(gain(0.2) - BASE)}).records[0].overfit.alarm == "none"
    )
    assert decide(gain(0.2)).records[0].overfit is None


def test_repeats_give_a_noise_floor(decide):
    rng = np.random.default_rng(3)
    base, better = (rng.random((N, 3)) < p for p in (0.5, 0.8))
    record = decide(better.astype(float), base=base.astype(float)).records[0]
    assert (record.trials, record.noise.deterministic) == (3, False)
    assert 0 < record.noise.floor < 0.1
    assert record.b is None
    assert decide(gain(0.2)).records[0].noise.floor == 0


def test_the_summary_of_every_arm(decide):
    verdict = decide(gain(0.2), cost={"better": np.full(N, 0.002)})
    arm = verdict.arms["better"]
    assert arm["mean"] == pytest.approx(0.7)
    assert arm["cost_per_1k_usd"] == pytest.approx(2.0)
    assert set(arm["per_slice"]) == set(SLICES)
    assert verdict.arms["base"]["mean"] == pytest.approx(0.5)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_hardly_any_rows_still_give_a_record(decide, severity, rows):
    for cluster in (None, ["a"] * rows):
        verdict = decide(np.ones(rows), base=np.zeros(rows), slices={}, cluster=cluster)
        assert verdict.outcome == "inconclusive"
        json.dumps(verdict.as_json(), allow_nan=False)


def test_a_failed_judge_moves_no_figure(decide, make_spec):
    """Every figure but the bounds is that of the rows that have a score on both sides."""
    better, base, kept = gain(0.2), BASE.copy(), ROW >= 20
    modes = {"base": {"awful": 1 - BASE}, "better": {"awful": 1 - better}}
    spec = make_spec('extension = "none"')

    def verdict(better, base, where):
        found = {arm: {m: x[where] for m, x in flags.items()} for arm, flags in modes.items()}
        slices = {name: np.asarray(mask)[where] for name, mask in SLICES.items()}
        return decide(
            better[where],
            base=base[where],
            slices=slices,
            modes=found,
            cluster=(ROW // 2)[where],
            spec=spec,
            weights={"awful": 2.0},
        )

    lost_better, lost_base = better.copy(), base.copy()
    lost_better[:12], lost_base[8:20] = NAN, NAN
    whole = verdict(lost_better, lost_base, np.ones(N, bool))
    scored = verdict(better, base, kept)
    one, two = whole.records[0], scored.records[0]
    same(
        {k: getattr(one, k) for k in ("n", "clusters", "estimate", "low", "high", "n_needed")},
        {k: getattr(two, k) for k in ("n", "clusters", "estimate", "low", "high", "n_needed")},
    )
    assert one.slices == two.slices
    assert one.failure_modes == two.failure_modes
    for arm in ("base", "better"):
        assert whole.arms[arm]["mean"] == pytest.approx(scored.arms[arm]["mean"])
        assert whole.arms[arm]["per_slice"] == pytest.approx(scored.arms[arm]["per_slice"])
    assert (one.missing.unscored, one.missing.baseline_unscored, one.missing.rows) == (12, 12, N)


def test_no_score_at_all_is_said_and_no_figure_is_made(decide):
    with pytest.raises(ArmError, match="no row has a score"):
        decide(np.full((N, 2), NAN), base=np.full((N, 2), NAN))
    with pytest.raises(ArmError, match=r"no row has a score for 'better' and for 'base'"):
        decide(np.where(ROW % 2, NAN, 1.0), base=np.where(ROW % 2, 1.0, NAN))


# what may not matter ----------------------------------------------------------------------------------------

CELLS = st.sampled_from([0.0, 1.0, 0.5, NAN])


@st.composite
def worlds(draw):
    """Evidence of 24 to 60 rows with a cluster, two slices, a mode and a severity."""
    n, trials = draw(st.integers(24, 60)), draw(st.integers(1, 2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    options = [0.0, 1.0, 0.5, NAN] if draw(st.booleans()) else [0.0, 1.0]
    scores = {arm: rng.choice(options, (n, trials)) for arm in ("base", "better", "other")}
    mask = rng.random(n) < 0.5
    failed = {arm: {"awful": (np.nan_to_num(y) < 0.5).astype(float)} for arm, y in scores.items()}
    return Evidence(
        ids=tuple(f"r{i}" for i in range(n)),
        scores=scores,
        failed=dict.fromkeys(scores, 0),
        slices={"tenant=a": mask, "tenant=b": ~mask},
        cluster=rng.integers(0, 20, n) if draw(st.booleans()) else None,
        weights=rng.random(n) + 0.1 if draw(st.booleans()) else None,
        modes=failed,
        cost={arm: np.full(n, 0.5) for arm in scores},
        latency={arm: np.full(n, 7.0) for arm in scores},
        secondary={arm: {} for arm in scores},
    )


def permuted(evidence, order):
    def turn(x):
        if isinstance(x, dict):
            return {k: turn(v) for k, v in x.items()}
        return np.asarray(x)[order] if isinstance(x, np.ndarray) and x.shape[:1] == order.shape else x

    turned = {f.name: turn(getattr(evidence, f.name)) for f in fields(evidence)}
    return replace(evidence, **turned | {"ids": tuple(np.array(evidence.ids)[order])})


def same(one, two, path=""):
    if isinstance(one, dict):
        assert one.keys() == two.keys()
        for key in one.keys() - {"sentence", "tipping_point"}:
            same(one[key], two[key], f"{path}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(two), path
        for a, b in zip(one, two, strict=True):
            same(a, b, path)
    elif isinstance(one, float):
        assert one == pytest.approx(two, abs=1e-9), path
    else:
        assert one == two, path


@settings(max_examples=30, deadline=None)
@given(worlds(), st.integers(0, 2**32))
def test_the_verdict_is_determined_and_does_not_depend_on_the_order_of_rows(weights_spec, evidence, seed):
    spec, weights = weights_spec, {"awful": 2.0}

    def verdict(x):
        return evaluate(spec, x, weights, {}, np.random.default_rng(7)).as_json()

    first = verdict(evidence)
    assert verdict(evidence) == first
    order = np.random.default_rng(seed).permutation(len(evidence.ids))
    same(first, verdict(permuted(evidence, order)))


@pytest.fixture(scope="module")
def weights_spec(tmp_path_factory):
    from itera_nb.spec import load_spec

    path = tmp_path_factory.mktemp("spec") / "experiment.toml"
    arms = "".join(
        f'[arms.{a}]\nfrom = "base"\ntarget = "b.py:f"\nchange = "c"\n' for a in ("better", "other")
    )
    path.write_text(
        '[frame]\nquestion = "Does better win?"\nhypothesis = "It answers more."\n'
        '[arms.base]\nbaseline = true\nkind = "python"\ntarget = "a.py:f"\nref = "a.py:1"\n'
        f'{arms}[source]\nuri = "d.csv"\nid = "id"\nexpected = "y"\nslices = ["tenant"]\nseverity = "w"\n',
        "utf-8",
    )
    return load_spec(path)
