import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from itera_nb.stats.decision import (
    LiteralRule,
    Rule,
    cautions,
    decide,
    effect_text,
    literal_rule,
    look_alpha,
    no_event_bound,
)
from itera_nb.stats.paired import paired_delta

COUNTS = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 300)).filter(lambda c: sum(c) > 0)
RULES = st.builds(
    Rule,
    min_effect=st.sampled_from([0.0, 0.02, 0.05, 0.10]),
    alpha=st.sampled_from([0.05, 0.0294]),
    proof=st.sampled_from(["shown", "above_min"]),
    goal=st.sampled_from(["better", "no_worse"]),
    margin=st.sampled_from([0.02, 0.05]),
)


def counts_to_delta(gained, lost, tied, alpha=0.05):
    d = np.repeat([1.0, -1.0, 0.0], [gained, lost, tied])
    return paired_delta(d, binary=True, alpha=alpha)


@given(COUNTS, RULES, st.sampled_from([True, False, None]))
def test_outcome_agrees_with_its_interval(counts, rule, reason):
    delta = counts_to_delta(*counts, alpha=rule.alpha)
    found = decide(delta, rule, reason_to_ship=reason)
    if found.outcome == "pass":
        assert delta.n >= 20
        assert delta.low > rule.null
    if found.outcome == "kill" and not (rule.goal == "no_worse" and reason is False):
        assert delta.high < rule.futile
        assert delta.n >= 20 or delta.high < 0
    if found.reason == "harmful":
        assert delta.high < 0


@given(COUNTS, RULES)
def test_a_gained_row_never_turns_a_pass_into_less(counts, rule):
    gained, lost, tied = counts
    if (
        lost
        and decide(counts_to_delta(*counts, alpha=rule.alpha), rule, reason_to_ship=True).outcome == "pass"
    ):
        better = counts_to_delta(gained, lost - 1, tied + 1, alpha=rule.alpha)
        assert decide(better, rule, reason_to_ship=True).outcome == "pass"


@pytest.mark.parametrize(
    ("counts", "rule", "outcome", "reason"),
    [
        ((30, 5, 165), Rule(), "pass", "shown"),
        ((30, 5, 165), Rule(proof="above_min"), "pass", "shown"),
        ((24, 5, 171), Rule(proof="above_min"), "inconclusive", "min_effect_not_reached"),
        ((5, 5, 590), Rule(), "kill", "not_worth_it"),
        ((2, 40, 158), Rule(), "kill", "harmful"),
        ((8, 3, 49), Rule(), "inconclusive", "not_shown"),
        ((60, 5, 2935), Rule(), "kill", "not_worth_it"),
        ((30, 10, 560), Rule(0.04), "inconclusive", "min_effect_not_reached"),
        ((12, 0, 0), Rule(), "inconclusive", "too_few_rows"),
        ((0, 12, 0), Rule(), "kill", "harmful"),
    ],
)
def test_outcomes(counts, rule, outcome, reason):
    found = decide(counts_to_delta(*counts), rule)
    assert (found.outcome, found.reason) == (outcome, reason)


@pytest.mark.parametrize(
    ("reason_to_ship", "outcome", "reason"),
    [
        (True, "pass", "no_worse_shown"),
        (False, "kill", "not_worth_it"),
        (None, "inconclusive", "reason_to_ship_unknown"),
    ],
)
def test_no_worse_needs_its_registered_reason(reason_to_ship, outcome, reason):
    rule = Rule(goal="no_worse", margin=0.03)
    found = decide(counts_to_delta(10, 12, 978), rule, reason_to_ship=reason_to_ship)
    assert (found.outcome, found.reason) == (outcome, reason)


def test_no_worse_kills_only_beyond_the_margin():
    rule = Rule(goal="no_worse", margin=0.05)
    assert decide(counts_to_delta(0, 60, 240), rule).reason == "harmful"
    slight = counts_to_delta(0, 30, 970)
    assert slight.high < 0
    assert decide(slight, rule, reason_to_ship=True).outcome == "pass"


def test_estimate_equal_to_the_threshold_counts():
    delta = counts_to_delta(10, 0, 190)
    assert delta.estimate == pytest.approx(0.05, abs=0)
    assert decide(delta, Rule(0.1 / 2)).outcome == "pass"


def test_few_clusters_cannot_conclude():
    d = np.r_[np.ones(60), np.zeros(40)]
    found = decide(paired_delta(d, np.arange(100) % 9), Rule())
    assert (found.outcome, found.reason) == ("inconclusive", "too_few_clusters")


def test_holm_can_withhold_a_pass():
    found = decide(counts_to_delta(30, 5, 165), Rule(), holm_rejected=False)
    assert found.reason == "not_shown_after_holm"


def test_interval_of_another_level_is_refused():
    with pytest.raises(ValueError, match="alpha"):
        decide(counts_to_delta(30, 5, 165), Rule(alpha=look_alpha(extension=True)))
    assert look_alpha(extension=False) == 0.05


@pytest.mark.parametrize("rule", [{"alpha": 0}, {"min_effect": 5}, {"goal": "no_worse"}])
def test_impossible_rules_are_refused(rule):
    with pytest.raises(ValueError):
        Rule(**rule)


def literal(delta, **changes):
    settings = {"min_effect": 0.05, "repeat_sd": 0.01, "slices": {}, "floor": 0.02, **changes}
    return literal_rule(delta, **settings)


def test_literal_rule_kills_for_every_broken_condition():
    good, weak = counts_to_delta(30, 5, 165), counts_to_delta(3, 3, 54)
    assert literal(good, slices={"all": good}) == LiteralRule(passed=True, reasons=())
    assert literal(weak).reasons == ("below_min_effect", "within_noise_floor")
    assert literal(good, repeat_sd=0.07).reasons == ("within_noise_floor",)
    assert literal(good, slices={"smb": weak, "all": good}).reasons == ("slice_floor:smb",)
    assert literal(good, top_arm=3, top_base=2).reasons == ("top_category_increased",)
    rule = Rule(proof="literal")
    assert decide(good, rule, literal=literal(good)).outcome == "pass"
    assert decide(good, rule, literal=literal(weak)).outcome == "kill"
    with pytest.raises(ValueError, match="literal_rule"):
        decide(good, rule)


def test_cautions():
    def said(delta, baseline_rate=0.5, **options):
        return " ".join(cautions(delta, baseline_rate=baseline_rate, **options))

    d = np.r_[np.ones(10), np.zeros(50)]
    assert said(paired_delta(d)) == ""
    assert said(paired_delta(d, np.arange(60) % 12)).startswith("Only 12 clusters")
    assert said(paired_delta(d, np.r_[np.zeros(20, int), np.arange(1, 41)])).startswith(
        "One cluster holds 33%"
    )
    perfect = cautions(paired_delta(np.zeros(60)), baseline_rate=0.98)
    assert perfect[0].startswith("The baseline already scores 98.0%")
    assert perfect[1:] == ("Arm and baseline agree on all 60 rows.",)
    assert said(paired_delta(d / 2), graded=True, worst=0.0).startswith("Tail not observed: up to 4.9%")
    assert said(paired_delta(d / 2), graded=True, worst=-0.9) == ""


def test_bound_without_events():
    assert no_event_bound(60) == pytest.approx(0.049, abs=5e-4)
    with pytest.raises(ValueError):
        no_event_bound(0)


def test_effects_read_in_percentage_points():
    assert effect_text(counts_to_delta(0, 0, 60)).startswith("+0.0 pp [\N{MINUS SIGN}4.")
