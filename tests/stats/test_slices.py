import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from itera_nb.stats.decision import Rule
from itera_nb.stats.paired import paired_delta
from itera_nb.stats.slices import detectable_harm, harm_posterior, judge_slices, scope, slice_deltas

EFFECT = st.floats(-0.5, 0.5)
PARTS = st.lists(st.tuples(EFFECT, st.floats(0.01, 0.3)), min_size=2, max_size=6)


def rows(gained, lost, tied):
    return np.repeat([1.0, -1.0, 0.0], [gained, lost, tied])


def levels(deltas, **options):
    return {x.name: x.level for x in judge_slices(deltas, **options)}


@given(PARTS, st.sampled_from([0.0, 0.02, 0.05]))
def test_probability_is_one_and_falls_with_the_margin(parts, margin):
    estimate, se = zip(*parts, strict=True)
    found = harm_posterior(estimate, se, margin=margin).probability
    assert np.all((found >= 0) & (found <= 1))
    assert np.all(harm_posterior(estimate, se, margin=margin + 0.03).probability <= found + 1e-12)


@given(PARTS)
def test_shrunken_effects_lie_between_the_extremes(parts):
    estimate, se = zip(*parts, strict=True)
    mean = harm_posterior(estimate, se).mean
    assert np.all(mean >= min(estimate) - 1e-9)
    assert np.all(mean <= max(estimate) + 1e-9)


@given(PARTS, st.floats(0.01, 0.3))
def test_a_worse_slice_is_more_probably_harmed(parts, drop):
    estimate, se = (np.array(x) for x in zip(*parts, strict=True))
    worse = estimate.copy()
    worse[0] -= drop
    before, after = harm_posterior(estimate, se).probability[0], harm_posterior(worse, se).probability[0]
    assert after >= before - 1e-9


def test_leading_axes_are_independent_experiments():
    rng = np.random.default_rng(0)
    estimate, se = rng.normal(0, 0.1, (5, 3)), rng.uniform(0.02, 0.1, (5, 3))
    together = harm_posterior(estimate, se)
    for i in range(5):
        np.testing.assert_allclose(together.probability[i], harm_posterior(estimate[i], se[i]).probability)


def test_three_levels_and_the_wording_of_harm():
    deltas = {
        "good": paired_delta(rows(60, 10, 330)),
        "bad": paired_delta(rows(10, 90, 300)),
        "thin": paired_delta(rows(2, 4, 14)),
        "tiny": paired_delta(rows(0, 3, 1)),
    }
    found = {x.name: x for x in judge_slices(deltas)}
    assert {name: x.level for name, x in found.items()} == {
        "good": "cleared", "bad": "flagged", "thin": "flagged", "tiny": "not assessed"
    }  # fmt: skip
    assert found["bad"].wording == "regression"
    assert found["thin"].wording in {"likely regression", "possible regression"}
    assert found["good"].wording is None
    assert found["tiny"].p_harm is found["tiny"].shrunken is None
    assert found["thin"].delta.estimate < found["thin"].shrunken < 0.1


def test_a_single_slice_uses_its_own_interval():
    delta = paired_delta(rows(8, 5, 47))
    [only] = judge_slices({"all": delta})
    assert only.p_harm == pytest.approx(delta.p_greater(-0.02))


def test_rules_differ_as_specified():
    """Literal wants proof of no harm, the test wants proof of harm, the posterior weighs both."""
    deltas = {"a": paired_delta(rows(14, 6, 80)), "b": paired_delta(rows(4, 10, 86))}
    assert levels(deltas, rule="raw_point") == {"a": "cleared", "b": "flagged"}
    assert levels(deltas, rule="harm_test") == {"a": "cleared", "b": "unresolved"}
    assert levels(deltas, rule="posterior") == {"a": "cleared", "b": "flagged"}
    thin = {"a": paired_delta(rows(8, 2, 30)), "b": paired_delta(rows(7, 5, 28))}
    assert levels(thin, rule="literal") == {"a": "cleared", "b": "flagged"}
    assert levels(thin, rule="raw_point")["b"] == "unresolved"


def test_scope_keeps_what_still_passes():
    d = np.r_[rows(60, 10, 230), rows(5, 45, 50)]
    members = {"en": np.arange(400) < 300, "de": np.arange(300, 400)}
    judged = judge_slices(slice_deltas(d, members))
    found = scope(d, members, judged, Rule())
    assert (found.outcome, found.slices, found.flagged) == ("scope", ("en",), ("de",))
    assert found.delta == paired_delta(d[:300])
    assert (
        scope(d, members, judge_slices(slice_deltas(d[:300], {"en": np.arange(300)})), Rule()).outcome
        == "ship"
    )
    strict = scope(d, members, judged, Rule(0.16, proof="above_min"))
    assert strict.outcome == "inconclusive"


def test_a_scope_is_widened_as_its_aggregate_is():
    d = np.r_[rows(60, 10, 230), rows(5, 45, 50)]
    members = {"en": np.arange(400) < 300, "de": np.arange(300, 400)}
    judged = judge_slices(slice_deltas(d, members))
    found = scope(d, members, judged, Rule(), drift=0.01)
    assert found.delta == paired_delta(d[:300]).widened(0.01)
    assert found.outcome == "inconclusive"


def test_nothing_left_is_inconclusive():
    d = rows(5, 45, 50)
    members = {"all": np.ones(100, dtype=bool)}
    found = scope(d, members, judge_slices(slice_deltas(d, members)), Rule())
    assert (found.outcome, found.delta) == ("inconclusive", None)


def test_clusters_follow_their_rows_and_empty_slices_are_left_out():
    d, cluster = rows(20, 10, 30), np.arange(60) % 20
    members = {"even": np.arange(60) % 2 == 0, "none": np.zeros(60, dtype=bool)}
    found = slice_deltas(d, members, cluster)
    assert found == {"even": paired_delta(d[::2], cluster[::2])}
    with pytest.raises(ValueError, match="mask"):
        slice_deltas(d, {"short": np.ones(5, dtype=bool)})


def test_detectable_harm_of_the_plan():
    assert detectable_harm(0.20, 30) == pytest.approx(0.23, abs=0.005)
    assert detectable_harm(0.15, 56) == pytest.approx(0.145, abs=0.001)


def test_no_slices():
    assert judge_slices({}) == ()
