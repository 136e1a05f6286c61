"""Preferences through the rule: the same differences decide the same, and what is missing is bounded from -1."""

from dataclasses import replace

import numpy as np
import pytest

from itera_nb.diagnosis.diffs import row_differences
from itera_nb.diagnosis.patterns import find_patterns
from itera_nb.scoring.evidence import compare
from itera_nb.stats.missing import bounds, tipping_point
from itera_nb.stats.noise import preference_noise
from itera_nb.verdict.rule import evaluate


def rng():
    return np.random.default_rng(7)


@pytest.fixture
def worlds(make_evidence):
    """Evidence of 0/1 scores, and of the preferences that they mean."""

    def make(trials, n=200, seed=3):
        draw = np.random.default_rng(seed)
        base = (draw.random((n, trials)) < 0.5).astype(float)
        arms = {
            "better": np.where(draw.random((n, trials)) < 0.25, 1.0, base),
            "other": (draw.random((n, trials)) < 0.55).astype(float),
        }
        slices = {"tenant=acme": np.arange(n) % 3 > 0, "tenant=zeta": np.arange(n) % 3 == 0}
        cluster = np.arange(n) // 2
        plain = make_evidence({"base": base, **arms}, slices=slices, cluster=cluster)
        signed = {arm: y - base for arm, y in arms.items()}
        pairs = make_evidence({"base": np.zeros_like(base), **signed}, slices=slices, cluster=cluster)
        return plain, replace(pairs, reference="base")

    return make


@pytest.mark.parametrize("trials", [1, 3])
def test_the_same_differences_decide_the_same(make_spec, worlds, trials):
    spec = make_spec(arms=("better", "other"))
    plain, pairs = (evaluate(spec, evidence, {}, {}, rng()) for evidence in worlds(trials))
    for one, two in zip(plain.records, pairs.records, strict=True):
        for name in (
            "outcome",
            "reason",
            "n",
            "clusters",
            "estimate",
            "low",
            "high",
            "df",
            "holm_p",
            "b",
            "c",
        ):
            assert getattr(one, name) == pytest.approx(getattr(two, name)), name
        assert [(s.id, s.level) for s in one.slices] == [(s.id, s.level) for s in two.slices]
        assert [s.estimate for s in one.slices] == pytest.approx([s.estimate for s in two.slices])
        assert two.appendix.midp is None
    assert plain.outcome == pairs.outcome == "ship"
    assert plain.arms["better"]["preference"] is None
    shares = pairs.arms["better"]["preference"]
    assert shares["won"] + shares["tied"] + shares["lost"] == pytest.approx(1)
    assert shares["won"] - shares["lost"] == pytest.approx(pairs.arms["better"]["mean"])


def test_the_noise_of_a_preference_is_that_of_both_sides(make_spec, worlds):
    spec = make_spec(arms=("better", "other"))
    plain, pairs = (evaluate(spec, evidence, {}, {}, rng()).records[1] for evidence in worlds(3))
    assert pairs.noise.floor == pairs.noise.rerun_sd > 0
    assert pairs.noise.rerun_sd == pytest.approx(plain.noise.rerun_sd, rel=0.1)
    assert "within_noise_floor" not in pairs.literal.reasons


def test_two_arms_are_compared_through_the_baseline(worlds):
    _, pairs = worlds(1)
    direct = compare(pairs, "better", "base", 0.05)
    indirect = compare(pairs, "better", "other", 0.05)
    assert np.abs(indirect.d).max() <= 1
    assert indirect.delta.estimate == pytest.approx(
        (direct.delta.estimate - compare(pairs, "other", "base", 0.05).delta.estimate) / 2
    )
    assert not indirect.binary


def test_missing_preferences_are_losses_at_worst_and_wins_at_best(make_spec, make_evidence):
    d = np.zeros(100)
    d[:40] = 1.0
    d[90:] = np.nan
    report = bounds(d, np.zeros(100), pairwise=True)
    assert (report.itt.estimate, report.worst.estimate, report.best.estimate) == pytest.approx(
        (40 / 90, 0.3, 0.5)
    )
    # One side cannot be missing more often than the other.
    assert (report.arm_missing, report.base_missing, report.midp) == (0.1, 0.1, 1.0)
    assert report.worst_must_pass
    assert tipping_point(d, np.zeros(100), lambda x: float(x.mean()) >= 0.35, pairwise=True) == 7
    evidence = replace(make_evidence({"base": np.zeros(100), "better": d}), reference="base")
    (record,) = evaluate(make_spec(), evidence, {}, {}, rng()).records
    assert (record.missing.worst, record.missing.best) == pytest.approx((0.3, 0.5))
    assert record.outcome == "ship"
    assert record.missing.tipping_point == 10


def test_a_pass_that_missing_preferences_could_undo_is_inconclusive(make_spec, make_evidence):
    d = np.zeros(100)
    d[:14] = 1.0
    d[86:] = np.nan
    evidence = replace(make_evidence({"base": np.zeros(100), "better": d}), reference="base")
    (record,) = evaluate(make_spec(), evidence, {}, {}, rng()).records
    assert (record.outcome, record.reason) == ("inconclusive", "missing_scores")


def test_the_noise_floor_of_a_preference():
    found = preference_noise([1, -1, 0, 0, float("nan")], 3)
    assert found.variance_arm == 0.5
    assert found.se == pytest.approx((0.5 / 12) ** 0.5)
    assert not found.deterministic
    assert preference_noise([0, 0], 1).deterministic
    with pytest.raises(ValueError, match="preference"):
        preference_noise([float("nan")], 1)


def test_rows_without_a_winner_are_ties_not_failures(make_spec, worlds):
    plain, pairs = worlds(1)
    frame = row_differences(pairs, "better", "base", 0.5)
    assert set(frame["kind"]) == {"win", "tie"}
    assert set(frame["kind"]) <= {"win", "loss", "flaky", "tie"}
    wins = [(x["kind"] == "win").sum() for x in (frame, row_differences(plain, "better", "base", 0.5))]
    assert wins[0] == wins[1]
    patterns = {p.name: p for p in find_patterns(make_spec(), pairs, "better", alpha=0.05, revealed=())}
    assert patterns["both fail on the same rows"].found is None
