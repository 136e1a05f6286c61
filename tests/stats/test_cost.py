import numpy as np
import pytest

from itera_nb.stats.cost import mean_difference, quantile_difference


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def test_method_follows_the_data(rng):
    few, many = rng.choice([0.0, 1.0, 4.0], 100), rng.lognormal(size=100)
    assert mean_difference(np.full(30, 2.0), rng).method == "constant"
    assert mean_difference(few, rng).method == "multinomial BCa"
    assert mean_difference(many, rng).method == "BCa"
    assert mean_difference(many, rng, np.arange(100) // 2).method == "t"
    assert mean_difference(many[:10], rng).method == "t"
    assert mean_difference(rng.lognormal(size=5_001), rng).method == "t"


def test_counts_give_the_interval_of_the_rows(rng):
    """The multinomial shortcut has the law of scipy's BCa on the rows."""
    from scipy import stats

    x = rng.choice([0.0, 0.0, 0.0, 1.0, 9.0], 200)
    found = mean_difference(x, rng, resamples=20_000)
    slow = stats.bootstrap(
        (x,), np.mean, n_resamples=20_000, method="BCa", batch=500, rng=rng
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((slow.low, slow.high), abs=0.06)


def test_same_seed_same_interval():
    x = np.random.default_rng(1).lognormal(size=60)
    assert mean_difference(x, np.random.default_rng(2)) == mean_difference(x, np.random.default_rng(2))


def test_intervals_cover(rng):
    truth, hits = np.exp(0.5), 0
    for _ in range(200):
        found = mean_difference(rng.lognormal(size=150), rng, resamples=500)
        hits += found.low <= truth <= found.high
    assert hits / 200 > 0.87


@pytest.mark.parametrize("n", [400, 12_000])
def test_p95_difference_covers_its_truth(rng, n):
    shift, hits = 2.0, 0
    for _ in range(60):
        base = rng.exponential(size=n)
        found = quantile_difference(base[rng.permutation(n)] + shift, base, rng, resamples=300)
        hits += found.low <= shift <= found.high
    assert hits >= 53


def test_clusters_widen_the_quantile(rng):
    base, vendor = rng.exponential(size=600), np.repeat(np.arange(30), 20)
    arm = base + np.repeat(rng.exponential(3, 30), 20)
    free, tied = quantile_difference(arm, base, rng), quantile_difference(arm, base, rng, vendor)
    assert tied.high - tied.low > 1.5 * (free.high - free.low)
    assert free.estimate == tied.estimate


def test_bad_values_are_refused(rng):
    with pytest.raises(ValueError):
        mean_difference([1.0], rng)
    with pytest.raises(ValueError):
        mean_difference([1.0, np.nan], rng)
    with pytest.raises(ValueError):
        quantile_difference([1.0, 2.0], [1.0], rng)
    with pytest.raises(ValueError, match="3 cluster labels for 2 rows"):
        quantile_difference([1.0, 2.0], [1.0, 2.0], rng, ["a", "b", "c"])
