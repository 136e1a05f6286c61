import numpy as np
import pytest

from itera_nb.stats.paired import paired_delta
from itera_nb.stats.pareto import cost_per_correct, frontier


@pytest.fixture
def rng():
    return np.random.default_rng(13)


def arms(rng, n):
    accuracy = (rng.random((n, 1)) < [0.6, 0.8, 0.6]).astype(float)
    cost = rng.uniform(0.9, 1.1, (n, 1)) * [1.0, 2.0, 3.0]
    return cost, accuracy


@pytest.mark.parametrize("n", [400, 6_000])
def test_dear_and_no_better_is_dominated(rng, n):
    cost, accuracy = arms(rng, n)
    accuracy[:, 2] = accuracy[:, 0]
    found = frontier(cost, accuracy, rng)
    assert found.on_frontier == pytest.approx([1.0, 1.0, 0.0], abs=0.01)
    assert found.surely_dominated == (False, False, True)
    assert found.dominated_by[2] == pytest.approx([1.0, 1.0, 0.0], abs=0.01)
    assert found.cost.shape == found.accuracy.shape == (2_000, 3)


def test_identical_arms_do_not_dominate_each_other(rng):
    same = np.repeat(rng.random((50, 1)), 2, axis=1)
    assert frontier(same, same, rng).on_frontier.tolist() == [1.0, 1.0]


def test_noise_is_not_called_dominance(rng):
    cost, accuracy = np.repeat(rng.random((60, 1)), 2, axis=1), (rng.random((60, 2)) < 0.5).astype(float)
    cost[:, 1] *= 1.01
    assert frontier(cost, accuracy, rng).surely_dominated == (False, False)


@pytest.mark.parametrize("n", [300, 9_000])
def test_resampled_means_have_the_cluster_robust_spread(rng, n):
    vendor = np.repeat(np.arange(n // 3), 3) if n == 300 else np.arange(n) // 1
    y = np.repeat(rng.normal(size=n // 3), 3)[:, None] + rng.normal(size=(n, 1))
    found = frontier(y, y, rng, vendor, resamples=4_000)
    sums = np.bincount(vendor, weights=y[:, 0] - y.mean())
    assert found.cost.std() == pytest.approx(np.sqrt(sums @ sums) / n, rel=0.1)


def test_cost_of_an_extra_correct_row(rng):
    cost, accuracy = arms(rng, 800)
    found = frontier(cost, accuracy, rng)
    gain = paired_delta(accuracy[:, 1] - accuracy[:, 0])
    ratio = cost_per_correct(found, 1, 0, gain)
    truth = (cost[:, 1] - cost[:, 0]).mean() / gain.estimate
    assert ratio.low < truth < ratio.high
    assert cost_per_correct(found, 2, 0, paired_delta(accuracy[:, 2] - accuracy[:, 0])) is None


def test_missing_values_are_refused(rng):
    with pytest.raises(ValueError, match="finite"):
        frontier([[1.0, np.nan]], [[1.0, 1.0]], rng)
