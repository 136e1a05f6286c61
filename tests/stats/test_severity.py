import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from itera_nb.stats.paired import cluster_mean
from itera_nb.stats.severity import disagreement, weighted_delta

ROWS = st.lists(st.tuples(st.sampled_from([-1.0, 0.0, 1.0]), st.floats(0.1, 100)), min_size=2, max_size=40)


@given(ROWS, st.floats(0.1, 10))
def test_the_unit_of_the_weights_does_not_matter(rows, unit):
    d, w = (np.array(x) for x in zip(*rows, strict=True))
    one, other = weighted_delta(d, w), weighted_delta(d, w * unit)
    assert (one.estimate, one.se, one.n_eff) == pytest.approx((other.estimate, other.se, other.n_eff))
    assert -1 <= one.low <= one.estimate <= one.high <= 1


def test_equal_weights_are_the_plain_mean():
    d, cluster = np.tile([1.0, 0.0, -1.0, 1.0], 10), np.arange(40) // 4
    for labels in (None, cluster):
        found, plain = weighted_delta(d, np.full(40, 7.0), labels), cluster_mean(d, labels)
        assert (found.estimate, found.se, found.df) == pytest.approx((plain.estimate, plain.se, plain.df))
    assert not disagreement(d, np.ones(40)).declared
    assert disagreement(d, np.ones(40)).estimate == pytest.approx(0)


def test_few_heavy_rows_may_veto_but_not_carry():
    d = np.r_[-np.ones(3), np.ones(57)]
    heavy = weighted_delta(d, np.r_[np.full(3, 1_000.0), np.ones(57)])
    assert heavy.few_rows
    assert heavy.n_eff < 4
    even = weighted_delta(-d, np.ones(60))
    assert not even.few_rows
    assert even.vetoes


def test_disagreement_needs_opposite_signs_beyond_noise():
    d = np.r_[-np.ones(60), np.ones(140)]
    weight = np.r_[np.full(60, 10.0), np.ones(140)]
    assert disagreement(d, weight).declared
    assert not disagreement(-np.abs(d), weight).declared
    assert not disagreement(d[55:65], weight[55:65] / 3).declared


@pytest.mark.parametrize(
    ("d", "weight"),
    [([1.0, 0.0], [1.0, -1.0]), ([1.0, 0.0], [0.0, 0.0]), ([1.0], [1.0]), ([1.0], [1.0, 2.0])],
)
def test_bad_weights_are_refused(d, weight):
    with pytest.raises(ValueError):
        weighted_delta(d, weight)
