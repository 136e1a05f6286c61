import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itera_nb.exceptions import ArmError
from itera_nb.metrics import scorers
from itera_nb.spec import MetricSpec


def score(name, output, expected, **options):
    return scorers.built_in(name, MetricSpec(**options))(output, expected)


@pytest.mark.parametrize(
    ("output", "expected", "options", "want"),
    [
        (" fees ", "fees\n", {}, 1),
        ("Fees", "fees", {}, 0),
        ("Fees", "fees", {"ignore_case": True}, 1),
        (1, "1", {}, 1),
        ("2", 2.0, {}, 1),
        ({"b": 1, "a": 2}, {"a": 2, "b": 1}, {}, 1),
        (True, "True", {}, 1),
        (None, "x", {}, 0),
    ],
)
def test_exact(output, expected, options, want):
    assert score("exact", output, expected, **options) == want
    assert score("accuracy", output, expected, **options) == want


@pytest.mark.parametrize("name", ["exact", "set", "regex", "numeric", "recall@5", "ndcg@5", "mrr"])
@pytest.mark.parametrize("missing", [None, math.nan])
def test_a_missing_label_cannot_be_scored(name, missing):
    with pytest.raises(ValueError):
        score(name, "x", missing)


@pytest.mark.parametrize(
    ("output", "expected", "want"),
    [
        ("a", ["a", "b"], 1),
        ("c", ["a", "b"], 0),
        ("a", '["a", "b"]', 1),
        (["b", "a"], ["a", "b"], 1),
        (["a"], ["a", "b"], 0),
        (["a", "b", "c"], '["a", "b"]', 0),
        ("a", "a", 1),
        ("[not json", "[not json", 1),
    ],
)
def test_set(output, expected, want):
    assert score("set", output, expected) == want


def test_regex_searches_and_a_bad_pattern_is_the_labels_fault():
    assert score("regex", "order 4711 found", r"\b\d{4}\b") == 1
    assert score("regex", "none", r"\d") == 0
    assert score("regex", "ABC", "abc", ignore_case=True) == 1
    with pytest.raises(Exception, match="unterminated"):
        score("regex", "x", "(")


@pytest.mark.parametrize(
    ("output", "expected", "options", "want"),
    [
        ("10.4", 10, {"tolerance": 0.5}, 1),
        (10.6, "10", {"tolerance": 0.5}, 0),
        (110, 100, {"relative_tolerance": 0.1}, 1),
        (111, 100, {"relative_tolerance": 0.1}, 0),
        (5, 5, {}, 1),
        ("ten", 10, {"tolerance": 99}, 0),
        ("nan", 10, {"tolerance": 99}, 0),
        pytest.param(10**400, 10, {"tolerance": 99}, 0, id="too large for a float"),
    ],
)
def test_numeric(output, expected, options, want):
    assert score("numeric", output, expected, **options) == want


def test_ranking_by_hand():
    ranked, graded = ["x", "a", "b", "y"], {"a": 3, "b": 1, "c": 2}
    assert score("recall@3", ranked, ["a", "b", "c"]) == pytest.approx(2 / 3)
    assert score("mrr", ranked, ["b", "a"]) == pytest.approx(1 / 2)
    # DCG = 7/log2(3) + 1/log2(4); ideal 7/log2(2) + 3/log2(3) + 1/log2(4), worked by hand
    got = 7 / math.log2(3) + 1 / 2
    ideal = 7 + 3 / math.log2(3) + 1 / 2
    assert score("ndcg@10", ranked, graded) == pytest.approx(got / ideal)
    assert score("ndcg@1", ranked, graded) == 0
    assert score("mrr", ["x"], ["a"]) == 0
    assert score("ndcg@3", ["c", "b", "a"], '{"a": 0, "b": 1, "c": 2}') == 1


def test_an_id_counts_at_its_first_place_only():
    assert score("recall@2", ["a", "a", "b"], ["a", "b"]) == 1
    assert score("ndcg@3", ["a", "a", "a"], ["a", "b", "c"]) < 0.5


def test_no_relevant_id_is_no_question():
    for name in ("recall@5", "ndcg@5", "mrr"):
        with pytest.raises(ValueError, match="no relevant id"):
            score(name, ["a"], [])


@given(
    st.lists(st.sampled_from("abcdefgh"), max_size=8),
    st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 4), min_size=1),
    st.integers(1, 10),
)
def test_ranking_metrics_are_fractions_and_best_for_the_ideal_order(ranked, grades, k):
    ideal = sorted(grades, key=grades.get, reverse=True)
    for name in (f"ndcg@{k}", f"recall@{k}", "mrr"):
        assert 0 <= score(name, ranked, grades) <= score(name, ideal, grades) <= 1
    assert score(f"ndcg@{k}", ideal, grades) == pytest.approx(1)


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(ArmError, match="exact"):
        scorers.built_in("exakt", MetricSpec())
    with pytest.raises(ArmError):
        scorers.built_in("ndcg@0", MetricSpec())


def test_words_are_counted_for_a_secondary_metric():
    assert score("words", "two  words\n", None) == 2
    assert score("words", {"a": 1}, "label") == 2
