import math

import pytest

from itera_nb.exceptions import DataError
from itera_nb.report.reading import read

PUBLISHED = [
    "experiment", "experiment.name", "experiment.question", "experiment.metric", "experiment.threshold_pct",
    "experiment.threshold_rule", "experiment.test_set_n", "experiment.trials_per_arm", "arms", "slices",
    "failure_modes", "failure_modes.categories", "failure_modes.test_set_counts", "variance_trials",
    "variance_trials.char-lr", "test_set_aggregate", "test_set_aggregate.char-lr", "test_set_per_slice",
    "test_set_per_slice.char-lr", "effect_sizes", "effect_sizes.char-lr.aggregate",
    "effect_sizes.char-lr.aggregate.ci_low", "effect_sizes.char-lr.per_slice", "verdict", "verdict.killed",
    "verdict.rationale", "severity.test_set_weighted_accuracy",
]  # fmt: skip


def parent(data, path):
    *above, last = path.split(".")
    for key in above:
        data = data[key]
    return data, last


@pytest.mark.parametrize("path", PUBLISHED)
def test_a_missing_published_key_is_named(load, path):
    data = load("published-only")
    table, key = parent(data, path)
    del table[key]
    with pytest.raises(DataError, match=path.replace(".", r"\.")):
        read(data)


@pytest.mark.parametrize("path", PUBLISHED)
def test_a_published_key_of_the_wrong_type_is_named(load, path):
    data = load("published-only")
    table, key = parent(data, path)
    table[key] = object()
    with pytest.raises(DataError, match=path.replace(".", r"\.")):
        read(data)


@pytest.mark.parametrize("value", [math.nan, math.inf, True, "0.7", None])
def test_only_a_finite_number_is_a_score(load, value):
    data = load("published-only")
    data["test_set_aggregate"]["lexicon"] = value
    with pytest.raises(DataError, match=r"test_set_aggregate\.lexicon: expected a finite number"):
        read(data)


def test_an_effect_of_an_unknown_arm_or_slice_is_refused(load):
    data = load("published-only")
    data["effect_sizes"]["ghost"] = data["effect_sizes"]["char-lr"]
    with pytest.raises(DataError, match=r"effect_sizes\.ghost: no such arm"):
        read(data)
    data = load("published-only")
    data["effect_sizes"]["char-lr"]["per_slice"]["mars"] = {"delta": 0, "ci_low": 0, "ci_high": 0}
    with pytest.raises(DataError, match="mars: no such slice"):
        read(data)


@pytest.mark.parametrize("value", [None, 3, "experiment", [{}]])
def test_a_file_that_is_no_table_is_refused(value):
    with pytest.raises(DataError, match=r"data\.json"):
        read(value)


def test_an_arm_that_stands_twice_is_refused(load):
    data = load("published-only")
    data["arms"].append(data["arms"][0])
    with pytest.raises(DataError, match="stands twice"):
        read(data)


def test_no_value_of_the_file_is_repeated_in_the_message(load):
    data = load("published-only")
    data["test_set_aggregate"]["lexicon"] = "ROW-TEXT"
    with pytest.raises(DataError) as caught:
        read(data)
    assert "ROW-TEXT" not in str(caught.value)


def test_without_flags_the_arm_without_an_effect_is_the_baseline(load):
    results = read(load("published-only"))
    assert results.baseline.id == "lexicon"
    assert [arm.id for arm in results.candidates] == ["char-lr"]
    assert results.candidates[0].harmed == {"domain=tweets"}


def test_scores_and_thresholds_are_fractions(load):
    results = read(load("scope"))
    assert results.min_effect == pytest.approx(0.03)
    assert results.max_slice_loss == pytest.approx(0.02)
    assert results.needed == pytest.approx(results.baseline.score + 0.03)


def test_the_verdict_names_the_lead_and_what_it_flagged(load):
    results = read(load("kill"))
    assert results.lead.id == "haiku"
    assert len(results.lead.harmed) == 3
    assert [arm.id for arm in results.arms if arm.control] == ["sonnet-again"]
