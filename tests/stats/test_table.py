import pytest
from hypothesis import given
from hypothesis import strategies as st

from itera_nb.stats import table as t

COUNT = st.integers(0, 40)
TABLES = st.builds(t.PairedTable, COUNT, COUNT, COUNT, st.integers(1, 40))
INTERVALS = [
    t.agresti_min_interval,
    t.bonett_price_interval,
    t.newcombe_interval,
    t.tango_interval,
    t.wald_interval,
]


@pytest.mark.parametrize("interval", INTERVALS)
@given(table=TABLES)
def test_interval_lies_in_range_and_mirrors(interval, table):
    swapped = t.PairedTable(table.both_correct, table.base_only, table.arm_only, table.neither)
    there, back = interval(table), interval(swapped)
    assert -1 <= there.low <= there.high <= 1
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low), abs=1e-9)


@given(table=TABLES)
def test_tango_interval_inverts_the_score_test(table):
    found = t.tango_interval(table)
    for end, sign in ((found.low, 1), (found.high, -1)):
        if abs(end) < 0.999:
            assert t.score_z(table, end) == pytest.approx(sign * 1.959963985, abs=1e-5)


@given(table=TABLES)
def test_midp_lies_between_half_and_all_of_the_exact_p(table):
    midp, exact = t.mcnemar_midp(table), t.mcnemar_exact(table)
    assert 0 < midp <= exact + 1e-12
    assert midp >= exact / 2


def test_no_discordant_row_gives_p_one():
    table = t.PairedTable(50, 0, 0, 10)
    assert t.mcnemar_midp(table) == t.mcnemar_exact(table) == t.mcnemar_asymptotic(table) == 1.0


def test_counting_scores():
    table = t.PairedTable.from_scores([1, 1, 0, 0, 1], [1, 0, 1, 0, 0])
    assert table == t.PairedTable(both_correct=1, arm_only=2, base_only=1, neither=1)
    assert table.estimate == pytest.approx(0.2)


@pytest.mark.parametrize(("arm", "base"), [([1, 0.5], [1, 1]), ([1], [1, 0]), ([], [])])
def test_other_scores_are_refused(arm, base):
    with pytest.raises(ValueError):
        t.PairedTable.from_scores(arm, base)
