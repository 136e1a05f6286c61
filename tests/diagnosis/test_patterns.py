"""The four patterns on evidence in which each was planted, and in which it was not."""

import numpy as np
import pytest

from itera_nb.diagnosis.patterns import find_patterns

N = 200
HALF = np.arange(N) < N // 2
SLICES = {"tenant=acme": HALF, "tenant=zeta": ~HALF}
MIXED, BOTH, UNIFORM, SEEN = range(4)


@pytest.fixture
def patterns(make_spec, make_evidence):
    def of(base, better, revealed=(), **keys):
        evidence = make_evidence({"base": base, "better": better}, **{"slices": SLICES} | keys)
        return find_patterns(make_spec(), evidence, "better", alpha=0.05, revealed=revealed)

    return of


def test_wins_here_and_losses_there(patterns):
    base = np.tile([1, 0], N // 2)
    better = np.where(HALF, 1, 0)
    mixed = patterns(base, better)[MIXED]
    assert mixed.found is True
    assert "tenant=acme +50.0 pp" in mixed.evidence.partition("losses")[0]
    assert "tenant=zeta −50.0 pp" in mixed.evidence.partition("losses")[2]
    assert patterns(base, np.ones(N))[MIXED].found is False
    assert patterns(base, base)[MIXED].found is False


@pytest.mark.parametrize(("shared", "found"), [(60, True), (30, False), (0, False)])
def test_both_fail_on_more_than_half_of_the_baselines_failures(patterns, shared, found):
    base = np.where(np.arange(N) < 100, 0, 1)
    better = np.where(np.arange(N) < shared, 0, 1)
    assert patterns(base, better)[BOTH].found is found


def test_a_perfect_baseline_shares_no_failure(patterns):
    assert patterns(np.ones(N), np.ones(N))[BOTH].found is False


def test_a_small_gain_everywhere_is_told_from_a_gain_in_one_slice(patterns):
    base = np.zeros(N)
    uniform = np.where(np.arange(N) % 50 == 0, 1, 0)
    assert patterns(base, uniform)[UNIFORM].found is True
    assert patterns(base, np.where(np.arange(N) % 2 == 0, 1, 0))[UNIFORM].found is False
    assert patterns(base, base)[UNIFORM].found is False
    assert patterns(uniform, base)[UNIFORM].found is False, "a loss is no small gain"


def test_a_gain_below_twice_the_noise_of_repeats_is_small(patterns):
    rng = np.random.default_rng(5)
    flips = rng.random((N, 3)) < 0.5
    better = (rng.random((N, 3)) < 0.53).astype(float)
    found = patterns(flips.astype(float), better)[UNIFORM]
    assert "twice the re-run noise is" in found.evidence
    assert "noise is 0.0" not in found.evidence


def test_a_gain_in_rows_that_were_read(patterns):
    ids = [f"r{i:04d}" for i in range(40)]
    gain_there = np.where(np.arange(N) < 40, 1, 0)
    assert patterns(np.zeros(N), gain_there, revealed=ids)[SEEN].found is True
    gain_elsewhere = np.where(np.arange(N) >= 40, 1, 0)
    assert patterns(np.zeros(N), gain_elsewhere, revealed=ids)[SEEN].found is False


def test_too_few_read_rows_say_nothing(patterns):
    assert patterns(np.zeros(N), np.ones(N), revealed=["r0001"])[SEEN].found is None
    assert patterns(np.zeros(N), np.ones(N))[SEEN].found is False


def test_read_rows_of_one_cluster_cannot_be_compared(patterns):
    ids = [f"r{i:04d}" for i in range(40)]
    cluster = np.where(np.arange(N) < 40, 0, np.arange(N))
    assert patterns(np.zeros(N), np.where(HALF, 1, 0), revealed=ids, cluster=cluster)[SEEN].found is None


def test_failures_of_graded_scores_are_counted_as_rows_below_the_line(patterns):
    both = patterns(np.full(N, 0.8), np.full(N, 0.8))[BOTH]
    assert both.found is False
    assert "0.0% of the rows fail in both; the baseline fails on 0.0%" in both.evidence
