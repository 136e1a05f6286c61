import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from itera_nb.stats.decision import Rule, decide
from itera_nb.stats.missing import bounds, mean_score, tipping_point
from itera_nb.stats.paired import paired_delta

SCORES = hnp.arrays(float, (12, 3), elements=st.sampled_from([0.0, 0.5, 1.0, np.nan]))


@given(SCORES, SCORES)
def test_the_effect_is_over_complete_pairs_and_the_bounds_over_all_rows(arm, base):
    found = bounds(arm, base, list("aabbccddeeff"))
    pairs = np.isfinite(arm).any(axis=1) & np.isfinite(base).any(axis=1)
    assert found.worst.estimate <= found.best.estimate + 1e-12
    assert found.worst.n == found.best.n == 12
    if not pairs.any():
        assert found.itt is None
        return
    d = np.nanmean(arm[pairs], axis=1) - np.nanmean(base[pairs], axis=1)
    assert (found.itt.estimate, found.itt.n) == (pytest.approx(d.mean()), pairs.sum())


@given(SCORES, SCORES)
def test_bounds_are_those_of_any_completion(arm, base):
    rng = np.random.default_rng(0)
    found = bounds(arm, base)
    filled = [np.where(np.isnan(x), rng.random(x.shape), x) for x in (arm, base)]
    effect = (filled[0] - filled[1]).mean()
    assert found.worst.estimate - 1e-9 <= effect <= found.best.estimate + 1e-9


def test_complete_scores_have_one_effect():
    arm, base = np.array([1.0, 0.0, 1.0]), np.array([0.0, 0.0, 1.0])
    found = bounds(arm, base, binary=True)
    assert found.complete
    assert found.itt == found.worst == found.best == paired_delta(arm - base, binary=True)
    assert not found.worst_must_pass


def test_many_or_lopsided_gaps_ask_for_the_worst_bound():
    scores = np.ones(200)

    def lost(n):
        return np.where(np.arange(200) < n, np.nan, scores)

    assert bounds(lost(11), lost(11)).worst_must_pass
    assert bounds(lost(8), scores).worst_must_pass
    assert not bounds(lost(8), lost(7)).worst_must_pass


def test_a_failed_call_counts_and_a_missing_score_is_not_zero():
    assert mean_score([[np.nan, np.nan], [1.0, np.nan], [0.0, 0.0]]) == 0.5
    with pytest.raises(ValueError, match="no row has a score"):
        mean_score([[np.nan, np.nan]])


def test_tipping_point_is_where_the_pass_is_lost():
    def passes(d):
        return decide(paired_delta(d, binary=True), Rule()).outcome == "pass"

    base = np.repeat([0.0, 1.0], [40, 60])
    arm = np.r_[np.ones(70), np.full(30, np.nan)]
    found = tipping_point(arm, base, passes)
    assert 0 < found < 30
    for failures, expected in ((found, True), (found + 1, False)):
        filled = np.r_[np.ones(70), np.where(np.arange(30) < failures, 0.0, 1.0)]
        d = filled - base
        assert passes(d) is expected
    assert tipping_point(base, base, passes) is None
    assert tipping_point(np.ones(100), base, passes) == 0


def test_other_rows_are_refused():
    with pytest.raises(ValueError, match="same rows"):
        bounds(np.ones((3, 2)), np.ones((4, 2)))
