import numpy as np
import pytest

from itera_nb.stats.decision import EXTENSION_ALPHA, Rule
from itera_nb.stats.multiplicity import best_of_k_bias, equivalence, holm, pocock_alpha
from itera_nb.stats.paired import cluster_mean, paired_delta


def delta(gained, lost, tied):
    return paired_delta(np.repeat([1.0, -1.0, 0.0], [gained, lost, tied]), binary=True)


def test_constants_of_the_best_of_k():
    published = {1: 0.0, 2: 0.564, 3: 0.846, 5: 1.163, 9: 1.485}
    assert {k: best_of_k_bias(k) for k in published} == pytest.approx(published, abs=5e-4)
    with pytest.raises(ValueError):
        best_of_k_bias(0)


def test_level_of_two_looks():
    assert pocock_alpha() == pytest.approx(EXTENSION_ALPHA, abs=2e-5)
    assert 0.025 < pocock_alpha(first_share=0.3) < pocock_alpha(first_share=0.7) < 0.05


def test_holm_over_arms():
    arms = [delta(30, 5, 165), delta(14, 5, 181), delta(8, 8, 184)]
    found = holm(arms, Rule())
    assert [x.rejected for x in found] == [True, False, False]
    assert arms[1].low > 0
    assert found[0].adjusted == pytest.approx(3 * found[0].p)
    assert holm([arms[1]], Rule())[0].rejected
    assert holm([], Rule()) == ()


def test_equivalence_is_shown_by_both_sides():
    assert equivalence(delta(3, 3, 994), 0.05).shown
    assert not equivalence(delta(3, 3, 54), 0.05).shown
    assert not equivalence(delta(120, 20, 860), 0.05).shown
    with pytest.raises(ValueError):
        equivalence(delta(3, 3, 54), 0.0)


def test_equivalence_agrees_with_statsmodels():
    from statsmodels.stats.weightstats import ttost_paired

    d = np.random.default_rng(2).normal(0.01, 0.2, 80)
    found = equivalence(cluster_mean(d), 0.05)
    assert found.p == pytest.approx(ttost_paired(d, np.zeros(80), -0.05, 0.05)[0])
