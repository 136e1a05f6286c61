import numpy as np
import pytest

from itera_nb.stats.noise import repeat_sd, rerun_noise, sd_multipliers, trial_anova, trial_drift
from itera_nb.stats.paired import paired_delta, row_differences


def unstable(rng, n, trials, p):
    return (rng.random((n, trials)) < np.asarray(p)[:, None]).astype(float)


def test_rerun_se_matches_the_spread_of_repeated_experiments():
    rng = np.random.default_rng(5)
    p = np.clip(rng.random(60), 0.1, 0.9)
    gaps, found = [], []
    for _ in range(2_000):
        arm, base = unstable(rng, 60, 3, p), unstable(rng, 60, 3, p)
        gaps.append(arm.mean() - base.mean())
        found.append(rerun_noise(arm, base).se)
    assert np.mean(found) == pytest.approx(np.std(gaps), rel=0.05)
    assert np.std(found) / np.mean(found) < 0.2


def test_share_and_determinism():
    rng = np.random.default_rng(6)
    fixed = np.repeat(rng.integers(0, 2, (50, 1)), 3, axis=1)
    still = rerun_noise(fixed, 1 - fixed)
    assert still.deterministic
    assert still.se == 0
    arm, base = unstable(rng, 50, 3, np.full(50, 0.5)), unstable(rng, 50, 3, np.full(50, 0.5))
    noise = rerun_noise(arm, base)
    share = noise.share(paired_delta(row_differences(arm, base)))
    assert not noise.deterministic
    assert 0.6 < share <= 1
    assert still.share(paired_delta(row_differences(fixed, 1 - fixed))) == 0


def test_absent_trials_are_left_out():
    full = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    ragged = np.column_stack([full, np.full(3, np.nan)])
    assert rerun_noise(ragged, full) == rerun_noise(full, full)
    with pytest.raises(ValueError, match="two trials"):
        rerun_noise(full[:, :1], full)


def test_components_recover_a_known_mixture():
    rng = np.random.default_rng(7)
    y = rng.normal(0, 0.3, (4_000, 1)) + rng.normal(0, 0.2, (4_000, 4))
    found = trial_anova(y)
    assert found.var_row == pytest.approx(0.09, rel=0.1)
    assert found.var_resid == pytest.approx(0.04, rel=0.1)
    assert found.icc == pytest.approx(0.09 / 0.13, rel=0.05)


@pytest.mark.parametrize("graded", [False, True])
def test_drift_is_seen_and_its_variance_reported(graded):
    rng = np.random.default_rng(8)
    y = (rng.random((300, 3)) < [0.5, 0.5, 0.7]).astype(float)
    y = y * 0.9 if graded else y
    found = trial_drift(y)
    assert found.test == ("ANOVA F" if graded else "Cochran Q")
    assert not found.exchangeable
    assert found.added_variance > 0
    calm = trial_drift((rng.random((300, 3)) < 0.5).astype(float))
    assert (calm.exchangeable, calm.added_variance) == (True, 0.0)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.3])
def test_identical_trials_do_not_drift(value):
    found = trial_drift(np.full((10, 3), value))
    assert (found.exchangeable, found.p) == (True, 1.0)
    assert trial_anova(np.full((10, 3), value)).icc == 1.0


def test_noise_floor_of_the_method():
    y = np.array([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
    assert repeat_sd(y) == pytest.approx(np.std([1.0, 0.5, 1.0], ddof=1))
    assert sd_multipliers(30).high < 1.4
    with pytest.raises(ValueError):
        repeat_sd([1.0, 0.0])
    with pytest.raises(ValueError):
        sd_multipliers(1)
    with pytest.raises(ValueError, match="complete"):
        trial_anova([[1.0, np.nan], [0.0, 1.0]])


def test_cochran_q_is_that_of_statsmodels():
    from statsmodels.stats.contingency_tables import cochrans_q

    rng = np.random.default_rng(5)
    for trials in (2, 3, 5):
        y = (rng.random((40, trials)) < np.linspace(0.3, 0.6, trials)).astype(float)
        found, expected = trial_drift(y), cochrans_q(y)
        assert found.statistic == pytest.approx(float(expected.statistic))
        assert found.p == pytest.approx(float(expected.pvalue))
