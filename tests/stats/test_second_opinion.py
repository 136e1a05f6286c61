import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from itera_nb.stats.agreement import cohen_kappa, gwet_ac1, krippendorff_alpha
from itera_nb.stats.second_opinion import (
    direction_agreement,
    draw_sample,
    paired_opinion,
    single_opinion,
)


def directions(agreeing, rows, *, ties=0):
    """Both judges' differences: `agreeing` of `rows` discordant rows in the same direction, then shared ties."""
    first = np.r_[np.ones(rows), np.zeros(ties)]
    second = np.r_[np.ones(agreeing), -np.ones(rows - agreeing), np.zeros(ties)]
    return first, second


@pytest.mark.parametrize(("k", "n"), [(13, 15), (17, 20), (23, 30), (30, 40)])
def test_fewest_agreeing_rows_that_support_a_direction(k, n):
    assert direction_agreement(*directions(k, n)).supported
    assert not direction_agreement(*directions(k - 1, n)).supported


@pytest.mark.parametrize(
    ("agreeing", "rows", "rule_of_thumb", "supported"),
    [
        (4, 5, True, False),
        (3, 5, False, False),
        (12, 15, True, False),
        (24, 30, True, True),
        (4, 4, None, False),
    ],
)
def test_rule_of_thumb_stands_beside_the_bound(agreeing, rows, rule_of_thumb, supported):
    found = direction_agreement(*directions(agreeing, rows))
    assert (found.agreeing, found.rows) == (agreeing, rows)
    assert (found.rule_of_thumb, found.supported) == (rule_of_thumb, supported)


@pytest.mark.parametrize(("true", "passes"), [(0.6, 0.04), (0.8, 0.76), (0.9, 0.99)])
def test_how_often_thirty_rows_support_a_judge(true, passes):
    """statistics.md: 4, 76 and 99 % at true agreement .6, .8 and .9."""
    supported = [k for k in range(31) if direction_agreement(*directions(k, 30)).supported]
    assert binom.pmf(supported, 30, true).sum() == pytest.approx(passes, abs=0.006)


def test_a_coin_passes_the_rule_of_thumb_one_time_in_five():
    holds = [k for k in range(6) if direction_agreement(*directions(k, 5)).rule_of_thumb]
    assert binom.pmf(holds, 5, 0.5).sum() == pytest.approx(0.19, abs=0.005)


def test_full_agreement_is_not_certainty():
    found = paired_opinion(*directions(20, 20, ties=10)).ac1
    assert found.value == 1
    assert 0.8 < found.low < 0.9
    assert paired_opinion(*directions(2, 2)).ac1.low < 0.2


def test_a_tie_of_the_second_is_no_agreement_and_a_missing_label_no_row():
    found = direction_agreement([1, 1, -1, 0, np.nan, 1], [1, 0, -1, 1, 1, np.nan])
    assert (found.agreeing, found.rows) == (2, 3)
    assert direction_agreement([0, 0, np.nan], [1, -1, 1]) is None


@given(st.integers(1, 60), st.integers(0, 60))
def test_direction_bounds_hold_the_share(rows, agreeing):
    found = direction_agreement(*directions(min(agreeing, rows), rows))
    assert 0 <= found.low <= found.agreeing / rows <= found.high <= 1
    assert not (found.supported and found.refuted)


def test_two_judges_of_the_same_mind_are_trusted_from_thirty_rows_on():
    assert paired_opinion(*directions(20, 20, ties=10)).level == "trusted"
    assert paired_opinion(*directions(15, 15, ties=14)).level == "unclear"


def test_agreement_on_concordant_rows_cannot_hide_a_direction_that_is_refuted():
    """15 of 200 rows decide; the second judge sees no difference on any of them."""
    first = np.r_[np.ones(15), np.zeros(185)]
    found = paired_opinion(first, np.zeros(200))
    assert found.ac1.reading == "trusted"
    assert found.direction.refuted
    assert found.level == "restart"


def test_a_direction_that_nobody_needed_is_not_supported():
    found = paired_opinion(np.zeros(40), np.zeros(40))
    assert found.direction is None
    assert found.level == "unclear"


def test_ac1_decides_between_trusted_unclear_and_restart():
    def of(table):
        cells = [(i, j) for i in (0, 1) for j in (0, 1) for _ in range(table[i][j])]
        found = single_opinion(*np.array(cells, float).T)
        assert found.ac1 == gwet_ac1(table)
        assert found.kappa == pytest.approx(cohen_kappa(table))
        return found

    prevalent = of([[118, 5], [2, 0]])  # statistics.md: kappa -0.02 at 94 % raw agreement
    assert prevalent.kappa == pytest.approx(-0.02, abs=0.005)
    assert prevalent.raw == pytest.approx(0.944)
    assert prevalent.level == "trusted"
    assert of([[40, 9], [6, 45]]).level == "unclear"
    assert of([[20, 15], [15, 20]]).level == "restart"
    assert of([[9, 1], [1, 9]]).level == "unclear"  # too few rows for either word
    assert of([[2, 7], [7, 2]]).level == "restart"


def test_graded_scores_have_an_alpha_and_labels_have_none():
    rng = np.random.default_rng(3)
    one = rng.random(60)
    two = np.clip(one + rng.normal(0, 0.05, 60), 0, 1)
    found = single_opinion(one, two)
    assert found.alpha == pytest.approx(krippendorff_alpha([one, two], "interval"))
    assert found.alpha > 0.9
    assert single_opinion(one.round(), two.round()).alpha is None


def test_few_rows_that_stand_for_many_are_no_proof_of_disagreement():
    """28 discordant rows, and two that stand for all the other 1,972: one of these differs."""
    first = np.r_[np.ones(28), 0, 0]
    second = np.r_[np.ones(28), 0, 1]
    weight = np.r_[np.ones(28), 986, 986]
    assert paired_opinion(first, second, weight).level == "unclear"
    assert paired_opinion(first, -second, weight).level == "restart", "the direction is refuted"
    assert paired_opinion(first, first, weight).level == "unclear"
    assert paired_opinion(first, first).level == "trusted"


def test_a_row_that_stands_for_nearly_all_others_leaves_the_precision_of_one():
    """29 discordant rows, and one that stands for 971: AC1 has less than two effective rows."""
    first, weight = np.r_[np.ones(29), 0], np.r_[np.ones(29), 971]
    found = paired_opinion(first, first, weight)
    assert (found.rows, found.raw, found.ac1, found.level) == (30, 1.0, None, "unclear")
    assert found.direction.supported
    assert paired_opinion(first, -first, weight).level == "restart", "the direction is refuted"


def test_weights_bring_an_enriched_sample_back_to_all_rows():
    """Judges agree on 60 % of discordant and 95 % of concordant rows; a tenth of 20,000 rows is discordant."""
    rng = np.random.default_rng(11)
    n = 20_000
    first = np.where(np.arange(n) < n // 10, 1.0, 0.0)
    agrees = rng.random(n) < np.where(first == 1, 0.6, 0.95)
    second = np.where(agrees, first, -1.0)
    sample = draw_sample(first != 0, 3_000, rng)
    drawn = sample.index
    found = paired_opinion(first[drawn], second[drawn], sample.weight)
    assert found.raw == pytest.approx(0.6 * 0.1 + 0.95 * 0.9, abs=0.02)
    assert paired_opinion(first[drawn], second[drawn]).raw < 0.75
    whole = gwet_ac1(table_of(first, second))
    assert found.ac1.low < whole.value < found.ac1.high
    assert found.ac1.se > whole.se


def table_of(first, second):
    table = np.zeros((3, 3))
    np.add.at(table, (first.astype(int) + 1, second.astype(int) + 1), 1)
    return table


@given(
    st.lists(st.sampled_from([True, False, None]), min_size=1, max_size=80),
    st.integers(1, 90),
    st.integers(0, 2**32),
)
def test_sample_takes_discordant_rows_first_and_its_weights_sum_to_what_it_stands_for(rows, size, seed):
    discordant = np.array([r is True for r in rows])
    usable = np.array([r is not None for r in rows])
    found = draw_sample(discordant, size, np.random.default_rng(seed), usable=usable)
    drawn = set(found.index.tolist())
    assert len(drawn) == found.index.size == min(size, usable.sum())
    assert usable[found.index].all()
    split = discordant[found.index]
    assert split.sum() == min(size, discordant.sum())
    strata = [discordant.sum(), usable.sum() - discordant.sum()]
    for mask, whole in ((split, strata[0]), (~split, strata[1])):
        if mask.any():
            assert found.weight[mask].sum() == pytest.approx(whole)


def test_sample_is_in_random_order_and_repeatable():
    discordant = np.arange(100) < 20
    one, two = (draw_sample(discordant, 40, np.random.default_rng(5)) for _ in range(2))
    assert (one.index == two.index).all()
    assert not discordant[one.index][:20].all()
