import numpy as np
import pytest

from itera_nb.stats.overfit import (
    cluster_gate,
    concentrated,
    dev_test_gap,
    permutation_p,
    touched_gate,
    welch,
)
from itera_nb.stats.paired import paired_delta


def gained(share, n):
    return (np.arange(n) < round(share * n)).astype(float)


def test_gap_levels():
    dev, fair, poor = (paired_delta(gained(x, 200)) for x in (0.20, 0.19, 0.05))
    assert dev_test_gap(dev, fair).level == "none"
    assert dev_test_gap(dev, poor).level == "strong"
    middling = dev_test_gap(dev, paired_delta(gained(0.125, 200)))
    assert 1.645 < middling.z < 2.326
    assert middling.level == "alarm"
    assert dev_test_gap(dev, fair, iterations=9).expected_inflation == pytest.approx(1.485 * dev.se, rel=1e-3)
    assert dev_test_gap(dev, fair, shared_clusters=True).leak


def test_alarm_is_rare_without_overfitting():
    rng = np.random.default_rng(14)
    law = {"p": [0.12, 0.04, 0.84]}
    alarms = 0
    for _ in range(1_000):
        dev, test = rng.choice([1.0, -1.0, 0.0], 150, **law), rng.choice([1.0, -1.0, 0.0], 60, **law)
        alarms += dev_test_gap(paired_delta(dev), paired_delta(test)).level != "none"
    assert 0.03 < alarms / 1_000 < 0.085


def test_clusters_weaken_a_welch_test():
    seen, unseen = np.repeat(gained(0.5, 10), 4), np.repeat(gained(0.2, 10), 4)
    groups = np.repeat(np.arange(10), 4)
    assert welch(seen, unseen).p_one_sided < welch(seen, unseen, groups, groups).p_one_sided


@pytest.mark.parametrize(
    ("a", "b", "p"), [([1, 1], [0, 0], 0.0), ([0, 0], [0, 0], 0.5), ([0, 0], [1, 1], 1.0)]
)
def test_constant_groups(a, b, p):
    assert welch(a, b).p_one_sided == p


def test_permutation_agrees_with_welch():
    rng = np.random.default_rng(15)
    a, b = rng.normal(0.1, 0.4, 40), rng.normal(0, 0.4, 60)
    p = permutation_p(a, b, rng)
    assert p == pytest.approx(welch(a, b).p_one_sided, abs=0.02)
    assert permutation_p(b, a, rng) > 0.5


def test_gate_on_touched_rows():
    touched = np.arange(150) < 15
    hardcode = np.where(touched, gained(0.6, 15)[np.arange(150) % 15], 0.0)
    found = touched_gate(hardcode, touched)
    assert found.verdict == "hardcode suspected"
    assert found.gain_share == pytest.approx(1.0)
    universal = np.tile([1.0, 0.0, 0.0, 0.0, 0.0], 30)
    assert touched_gate(universal, touched).verdict == "survives"
    assert touched_gate(np.tile([1.0, -1.0, 0.0], 50), touched).verdict == "unclear"
    few = touched_gate(universal, np.arange(150) < 4)
    assert (few.verdict, few.p_one_sided) == ("not testable", None)
    assert touched_gate(universal, np.zeros(150, bool)).verdict == "not testable"


def test_a_gain_on_very_few_rows():
    few, all_rows = np.arange(150) < 3, np.ones(150, bool)
    assert concentrated(few.astype(float), few)
    assert concentrated(np.arange(150) == 0, np.arange(150) == 0)
    universal = np.tile([1.0, 0.0, 0.0, 0.0, 0.0], 30)
    assert not concentrated(universal, few)
    assert not concentrated(universal, all_rows)
    assert not concentrated(universal, ~all_rows)
    assert not concentrated(-universal, few)


def test_gate_counts_clusters_rather_than_rows():
    touched, vendor = np.arange(60) < 20, np.arange(60) // 20
    assert touched_gate(gained(0.3, 60), touched, vendor).verdict == "not testable"


def test_leave_one_cluster_out():
    vendor = np.repeat(np.arange(10), 10)
    even = np.tile(gained(0.2, 10), 10)
    assert cluster_gate(even, vendor).passed
    carried = np.where(vendor == 3, 1.0, np.where(np.arange(100) % 20 == 0, 1.0, 0.0))
    found = cluster_gate(carried, vendor)
    assert not found.passed
    assert found.top == 3
    assert found.top_gain_share > 0.5
    assert found.top_row_share == pytest.approx(0.1)
    lost = np.where(vendor < 3, 1 / 3, 0.0) - np.where(vendor == 9, 0.8, 0.0)
    assert not cluster_gate(lost, vendor).passed
    brute = [np.delete(even, vendor == g).mean() for g in range(10)]
    assert cluster_gate(even, vendor).lowest == pytest.approx(min(brute))
    assert cluster_gate(-even, vendor).top_gain_share is None
    with pytest.raises(ValueError, match="two clusters"):
        cluster_gate([1.0, 0.0], ["a", "a"])
