import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from itera_nb.stats.paired import cluster_codes, cluster_mean, paired_delta, row_differences, row_means, wald

GRID = st.sampled_from([-1.0, -2 / 3, -1 / 3, 0.0, 1 / 3, 2 / 3, 1.0])
DIFFERENCES = st.lists(GRID, min_size=1, max_size=60).map(np.array)
OPTIONS = st.fixed_dictionaries({"graded": st.booleans(), "quantile": st.sampled_from(["t", "z"])})


@st.composite
def clustered(draw):
    d = draw(DIFFERENCES)
    return d, np.array(draw(st.lists(st.integers(0, 8), min_size=d.size, max_size=d.size)))


def close(a, b):
    for name in ("estimate", "centre", "se", "low", "high", "df"):
        assert getattr(a, name) == pytest.approx(getattr(b, name), abs=1e-9), name


@given(clustered(), OPTIONS)
def test_interval_holds_its_centre_inside_the_possible_range(data, options):
    d, cluster = data
    delta = paired_delta(d, cluster, **options)
    assert -1 <= delta.low < delta.centre < delta.high <= 1
    assert delta.n == d.size
    assert delta.clusters == np.unique(cluster).size


@given(clustered(), OPTIONS)
def test_swapping_arm_and_baseline_mirrors_the_interval(data, options):
    d, cluster = data
    there, back = paired_delta(d, cluster, **options), paired_delta(-d, cluster, **options)
    assert (back.estimate, back.low, back.high) == pytest.approx((-there.estimate, -there.high, -there.low))
    assert there.p_greater() == pytest.approx(back.p_less())


@given(clustered(), st.randoms(use_true_random=False))
def test_row_order_and_cluster_names_do_not_matter(data, random):
    d, cluster = data
    order = np.array(random.sample(range(d.size), d.size))
    names = np.array(random.sample([f"vendor {i}" for i in range(9)], 9), dtype=object)
    delta = paired_delta(d, cluster)
    close(delta, paired_delta(d[order], cluster[order]))
    close(delta, paired_delta(d, names[cluster]))


@given(DIFFERENCES, st.data())
def test_a_row_that_improves_never_lowers_the_effect(d, data):
    better = d.copy()
    better[data.draw(st.integers(0, d.size - 1))] = 1.0
    before, after = paired_delta(d), paired_delta(better)
    assert after.estimate >= before.estimate
    assert after.centre >= before.centre - 1e-12


@given(st.integers(0, 40), st.integers(1, 40), st.integers(0, 80))
def test_binary_lower_bound_rises_with_a_regained_row(gained, lost, tied):
    d = np.repeat([1.0, -1.0, 0.0], [gained, lost, tied])
    better = np.repeat([1.0, -1.0, 0.0], [gained, lost - 1, tied + 1])
    assert paired_delta(better, binary=True).low >= paired_delta(d, binary=True).low - 1e-12


@given(DIFFERENCES)
def test_one_cluster_a_row_is_the_same_as_no_clusters(d):
    close(paired_delta(d), paired_delta(d, np.arange(d.size)))


@given(DIFFERENCES, st.sampled_from([0.01, 0.0294, 0.05, 0.2]), st.sampled_from([-0.05, 0.0, 0.05]))
def test_p_value_and_interval_cannot_contradict(d, alpha, null):
    delta = paired_delta(d, alpha=alpha)
    assume(delta.low > -1 and delta.high < 1)
    assume(min(abs(delta.low - null), abs(delta.high - null)) > 1e-9)
    assert (delta.low > null) == (delta.p_greater(null) < alpha / 2)
    assert (delta.high < null) == (delta.p_less(null) < alpha / 2)


def test_null_labels_are_clusters_of_their_own():
    labels = np.array(["a", None, "b", None, "a", float("nan")], dtype=object)
    codes = cluster_codes(labels)
    assert np.unique(codes).size == 5
    assert codes[0] == codes[4]
    assert np.unique(cluster_codes(np.array([1.5, np.nan, np.nan, 1.5]))).size == 3
    assert paired_delta([1, 0, -1, 0, 1, 0], labels).clusters == 5
    assert np.unique(cluster_codes(["a", float("nan"), float("nan"), "a"])).size == 3


def test_integer_labels_may_be_sparse_or_negative():
    d = np.tile([1.0, 0.0, -1.0], 4)
    small, huge = np.repeat([0, 1, 2, 3], 3), np.repeat([-7, 10**12, 5, 3], 3)
    close(paired_delta(d, small), paired_delta(d, huge))


def test_no_discordant_row_still_has_an_interval():
    """The published width at n = 60 is about 4.5 pp, not zero."""
    delta = paired_delta(np.zeros(60), binary=True)
    assert delta.high == -delta.low == pytest.approx(0.045, abs=0.002)


def test_pseudo_rows_are_whole_rows_unless_graded_scores_mostly_differ():
    """A row of 0/1 scores can change by a whole answer, however small the mean changes drawn so far."""
    thirds = np.r_[np.zeros(40), np.full(20, 1 / 3)]
    centre = thirds.sum() / 62
    squares = ((thirds - centre) ** 2).sum() + (1 - centre) ** 2 + (1 + centre) ** 2
    assert paired_delta(thirds).se == pytest.approx(np.sqrt(squares * 62 / 61) / 62)
    tied, apart = np.r_[np.zeros(85), np.full(15, 0.1)], np.r_[np.zeros(15), np.full(85, 0.1)]
    close(paired_delta(tied, graded=True), paired_delta(tied))
    assert paired_delta(apart, graded=True).se < paired_delta(apart).se / 3


@given(clustered())
def test_graded_scores_never_widen_the_interval(data):
    d, cluster = data
    assert paired_delta(d, cluster, graded=True).se <= paired_delta(d, cluster).se + 1e-12


def test_a_dominant_cluster_costs_degrees_of_freedom():
    d = np.tile([1.0, 0.0, 0.0], 20)
    even, uneven = np.repeat(np.arange(20), 3), np.r_[np.zeros(20, int), np.arange(1, 41)]
    assert paired_delta(d, even).df == pytest.approx(21)
    assert paired_delta(d, uneven).df < 10
    assert paired_delta(d, uneven).largest_cluster == pytest.approx(1 / 3)


def test_drift_widens_and_never_moves_the_centre():
    delta = paired_delta(np.tile([1.0, 0.0, -1.0, 0.0], 20))
    wide = delta.widened(0.01)
    assert (wide.centre, wide.estimate) == (delta.centre, delta.estimate)
    assert wide.low < delta.low < delta.high < wide.high
    close(delta, delta.widened(0.0))


def test_row_means_ignore_absent_trials_and_keep_absent_rows():
    y = [[1, 0, np.nan], [np.nan] * 3, [1, 1, 1]]
    np.testing.assert_array_equal(row_means(y), [0.5, np.nan, 1.0])


def test_equal_trials_in_another_order_are_a_tie():
    a = np.array([[0.1, 0.2, 0.3], [0.3, 0.6, 0.7]])
    d = row_differences(a, a[:, ::-1])
    np.testing.assert_array_equal(d, 0.0)


@pytest.mark.parametrize(
    ("d", "options"),
    [
        ([], {}),
        ([0.0, np.nan], {}),
        ([2.0], {}),
        ([[0.0, 1.0]], {}),
        ([0.5], {"binary": True}),
        ([0.0, 1.0], {"cluster": [1]}),
    ],
)
def test_bad_input_is_refused(d, options):
    with pytest.raises(ValueError):
        paired_delta(d, **options)


def test_other_bad_input_is_refused():
    with pytest.raises(ValueError, match="same rows"):
        row_differences([1.0], [1.0, 0.0])
    with pytest.raises(ValueError, match="two clusters"):
        cluster_mean([1.0, 2.0], ["a", "a"])
    with pytest.raises(ValueError, match="finite"):
        cluster_mean([1.0, np.inf])
    with pytest.raises(ValueError, match="negative"):
        paired_delta([0.0]).widened(-1.0)


def test_wald_is_the_textbook_interval():
    d = np.r_[np.ones(6), -np.ones(16), np.zeros(139)]
    assert wald(paired_delta(d, binary=True)).low == pytest.approx(-0.1184, abs=1e-6)


def test_recommended_interval_covers_where_wald_fails():
    """Specification 2.1: at least 94.9 % in every cell, Wald down to 64 %; here n = 20, D = 10 %, no effect."""
    rng = np.random.default_rng(3)
    d = rng.choice([-1.0, 0.0, 1.0], p=[0.05, 0.90, 0.05], size=(4_000, 20))
    found = [paired_delta(x, binary=True) for x in d]
    covers = np.mean([x.low <= 0 <= x.high for x in found])
    naive = np.mean([wald(x).low <= 0 <= wald(x).high and x.discordant > 0 for x in found])
    assert covers > 0.945
    assert naive < 0.93


def test_several_trials_cover_where_nearly_every_change_is_a_gain():
    """Pseudo-rows as small as the changes seen cover 92 % here; n = 60, three trials, D = 5 %, true +3."""
    rng = np.random.default_rng(5)
    kind = rng.choice(4, p=[0.05, 0.0317, 0.0017, 0.9166], size=(4_000, 60))
    runs = rng.random((2, 4_000, 60, 3)) < rng.random((4_000, 60, 1))
    unstable = runs[0].mean(axis=2) - runs[1].mean(axis=2)
    d = np.select([kind == 0, kind == 1, kind == 2], [unstable, 1.0, -1.0], 0.0)
    found = [paired_delta(x) for x in d]
    assert np.mean([x.low <= 0.03 <= x.high for x in found]) > 0.945


def test_interval_is_the_same_to_the_bit_whatever_the_number_of_blas_threads():
    code = (
        "import numpy as np; from itera_nb.stats.paired import paired_delta;"
        "rng = np.random.default_rng(0); d = rng.uniform(-1, 1, 400_000);"
        "x = paired_delta(d, np.arange(d.size) // 2); print(x.se.hex(), x.df.hex(), x.variance.hex())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"OPENBLAS_NUM_THREADS": threads},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for threads in ("1", "2", "4")
    }
    assert len(found) == 1
