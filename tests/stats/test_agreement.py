import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from itera_nb.stats.agreement import (
    cohen_kappa,
    direction_lower_bound,
    gwet_ac1,
    krippendorff_alpha,
    ppi_mean,
    wilson_interval,
)

TABLES = st.tuples(*[st.integers(0, 50)] * 4).filter(lambda c: sum(c) >= 2)


@pytest.mark.parametrize(("k", "n"), [(13, 15), (17, 20), (23, 30), (30, 40)])
def test_fewest_agreeing_rows_for_a_supported_judge(k, n):
    assert direction_lower_bound(k, n) > 0.60 >= direction_lower_bound(k - 1, n)


@pytest.mark.parametrize(("k", "n"), [(5, 5), (9, 10), (15, 20), (20, 30)])
def test_fewest_agreeing_rows_for_better_than_a_coin(k, n):
    assert direction_lower_bound(k, n) > 0.50
    assert direction_lower_bound(k - 1, n) <= 0.50


@given(TABLES)
def test_ac1_is_bounded_and_symmetric(cells):
    table = np.array(cells).reshape(2, 2)
    found = gwet_ac1(table)
    assert found.low <= found.value <= 1 + 1e-12
    assert found.value == pytest.approx(gwet_ac1(table.T).value)
    assert found.value == pytest.approx(gwet_ac1(table[::-1, ::-1]).value)


def test_prevalence_breaks_kappa_but_not_ac1():
    table = [[118, 5], [2, 0]]
    assert cohen_kappa(table) < 0
    assert gwet_ac1(table).reading == "trusted"
    assert gwet_ac1([[20, 15], [15, 20]]).reading == "restart"
    assert gwet_ac1([[40, 9], [6, 45]]).reading == "weak"
    assert math.isnan(cohen_kappa([[9, 0], [0, 0]]))


KRIPPENDORFF = [
    [np.nan, np.nan, np.nan, np.nan, np.nan, 3, 4, 1, 2, 1, 1, 3, 3, np.nan, 3],
    [1, np.nan, 2, 1, 3, 3, 4, 3] + [np.nan] * 7,
    [np.nan, np.nan, 2, 1, 3, 4, 4, np.nan, 2, 1, 1, 3, 3, np.nan, 4],
]


def test_alpha_of_the_published_example():
    assert krippendorff_alpha(KRIPPENDORFF) == pytest.approx(0.691, abs=5e-4)
    assert krippendorff_alpha(KRIPPENDORFF, "interval") == pytest.approx(0.811, abs=5e-4)


def test_alpha_of_perfect_and_of_no_agreement():
    assert krippendorff_alpha([[1, 2, 3], [1, 2, 3]]) == pytest.approx(1)
    assert krippendorff_alpha([[1, 1], [1, 1]]) == 1
    assert krippendorff_alpha([[1, 2], [2, 1]]) < 0
    with pytest.raises(ValueError, match="two ratings"):
        krippendorff_alpha([[1, np.nan], [np.nan, 2]])


def test_a_good_judge_sharpens_human_labels():
    rng = np.random.default_rng(16)
    truth = rng.choice([-1.0, 0.0, 1.0], 1_040, p=[0.1, 0.7, 0.2])
    judge = np.where(rng.random(1_040) < 0.95, truth, 0.0)
    found = ppi_mean(truth[:40], judge[:40], judge[40:])
    plain = truth[:40].std() / np.sqrt(40)
    assert found.se < 0.6 * plain
    assert 0 < found.weight <= 1
    useless = ppi_mean(truth[:40], rng.permutation(judge)[:40] * 0, judge[40:])
    assert useless.weight == 0
    assert useless.se == pytest.approx(plain)


def test_bad_input_is_refused():
    for call in (
        lambda: direction_lower_bound(6, 5),
        lambda: wilson_interval(0, 0),
        lambda: gwet_ac1([[1, 2]]),
        lambda: gwet_ac1([[1, 0], [0, 0]]),
        lambda: ppi_mean([1.0], [1.0], [1.0, 0.0]),
        lambda: krippendorff_alpha([1.0]),
    ):
        with pytest.raises(ValueError):
            call()
