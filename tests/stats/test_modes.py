import numpy as np
import pytest

from itera_nb.stats.modes import mode_shifts


def flags(n, failed, trials=1):
    return np.repeat((np.arange(n) < failed).astype(float)[:, None], trials, axis=1)


def test_counts_shift_and_test_of_one_trial():
    [found] = mode_shifts({"a": (flags(60, 6)[::-1], flags(60, 4))})
    assert (found.arm_count, found.base_count) == (6, 4)
    assert found.delta.estimate == pytest.approx(2 / 60)
    assert found.midp == pytest.approx(0.5488281, abs=1e-6)
    assert (found.p_above, found.level) == (None, None)
    assert not found.regression


@pytest.mark.parametrize(
    ("arm", "base", "level"), [(40, 4, "flagged"), (4, 40, "cleared"), (14, 12, "unresolved")]
)
def test_top_category_has_three_levels(arm, base, level):
    shifts = mode_shifts({"top": (flags(400, arm, 3)[::-1], flags(400, base, 3))}, top="top")
    assert shifts[0].level == level
    assert shifts[0].midp is None


def test_unchanged_category_rarely_blocks_a_large_test():
    """The count rule blocks nearly half of the arms that changed nothing, at any size."""
    rng = np.random.default_rng(4)
    blocked = increased = 0
    for _ in range(300):
        arm, base = (rng.random((2, 1_500)) < 0.05).astype(float)
        [found] = mode_shifts({"top": (arm, base)}, top="top")
        blocked += found.level == "flagged"
        increased += found.arm_count > found.base_count
    assert blocked / 300 < 0.12 < 0.38 < increased / 300


def test_regression_is_corrected_for_the_number_of_categories():
    quiet = (flags(300, 3), flags(300, 3))
    loud = (flags(300, 13), flags(300, 3))
    alone = mode_shifts({"loud": loud})
    assert alone[0].regression
    among = mode_shifts({"loud": loud, **{f"quiet {i}": quiet for i in range(30)}})
    assert not among[0].regression
    assert among[0].holm_p > alone[0].holm_p


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="top"):
        mode_shifts({"a": (flags(5, 1), flags(5, 1))}, top="top")
    with pytest.raises(ValueError, match="0 and 1"):
        mode_shifts({"a": ([0.5], [1.0])})
    assert mode_shifts({}) == ()
