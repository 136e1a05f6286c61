"""Same inputs in other writing are one unit, and hang together with declared clusters."""

import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from itera_nb.source.duplicates import Shingles, group_units, hash_inputs, normalise


def hashes(key=b"k", **columns):
    return hash_inputs(pa.table(columns).to_batches(max_chunksize=2), key)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Hello World", "hello  world\n"),
        ("STRASSE", "straße"),
        ("ﬁn①", "fin1"),
        ("a\u200bb\ufeff", "ab"),
        ("é", "e\u0301"),
        ("\u00a0x\u2003", "x"),
        ("\u017f", "S"),
    ],
)
def test_same_up_to_writing(one, other):
    assert normalise(one) == normalise(other)


def test_different_text_stays_different():
    assert len({normalise(t) for t in ("ab", "a-b", "é", "e", "1", "")}) == 6


@given(st.text())
def test_normalising_twice_changes_nothing_visible(text):
    assert normalise(normalise(text)) == normalise(text)


def test_columns_are_kept_apart_and_all_types_count():
    got = hashes(a=["ab", "a", "ab", None], b=["c", "bc", "C", None])
    assert got[0] == got[2]
    assert len(set(got.tolist())) == 3
    lists = hashes(a=[["x", "y"], ["x"], ["X", "y"]], n=[1, 1, 1])
    assert lists[0] == lists[2] != lists[1]


def test_hash_needs_the_key():
    assert hashes(a=["x"])[0] != hashes(key=b"other", a=["x"])[0]


def test_duplicates_join_clusters_into_one_unit():
    same = hashes(text=["p", "q", "Q", "r", "s", "s", "t"])
    clusters = pa.chunked_array([["A", "A", "B", "B", "C", None, None]])
    units = group_units(same, clusters)
    assert len(set(units.codes[[0, 1, 2, 3]])) == 1
    assert units.codes[4] == units.codes[5]
    assert len(set(units.codes.tolist())) == 3
    report = units.report
    assert (report.groups, report.rows, report.largest, report.joined_clusters) == (2, 4, 2, 4)


def test_without_clusters_a_unit_is_an_input():
    units = group_units(hashes(text=["p", "q", "P"]), None)
    assert units.codes[0] == units.codes[2] != units.codes[1]
    assert units.report.joined_clusters == 0


@given(
    st.lists(st.tuples(st.integers(0, 8), st.one_of(st.none(), st.integers(0, 8))), min_size=1, max_size=40)
)
def test_units_are_the_components(rows):
    inputs = np.array([a for a, _ in rows], np.uint64)
    clusters = pa.chunked_array([pa.array([None if c is None else str(c) for _, c in rows], pa.string())])
    codes = group_units(inputs, clusters).codes
    label = list(range(len(rows)))
    for _ in rows:
        for i, (a, c) in enumerate(rows):
            for j, (b, d) in enumerate(rows):
                if a == b or (c is not None and c == d):
                    label[i] = label[j] = min(label[i], label[j])
    for i in range(len(rows)):
        for j in range(len(rows)):
            assert (codes[i] == codes[j]) == (label[i] == label[j])
    assert sorted(set(codes.tolist())) == list(range(len(set(label))))


WORDS = [
    f"{a}{b}" for a in ("ba", "ke", "lo", "mi", "nu", "so") for b in ("rat", "sten", "nov", "vil", "dam")
]


def sentence(words, seed):
    draw = random.Random(seed)
    return [f"{draw.choice(WORDS)}{draw.randrange(50)}" for _ in range(words)]


def near(rows):
    shingles = Shingles()
    shingles.add([row] for row in rows)
    return {frozenset(pair) for pair in shingles.pairs().tolist()}


def test_rows_that_share_most_of_their_words_are_near():
    rows = [sentence(40, n) for n in range(200)]
    changed = [[*row[:20], "otherwise", *row[21:]] for row in rows[:50]]
    found = near([" ".join(row) for row in (*rows, *changed)])
    assert found == {frozenset({n, 200 + n}) for n in range(50)}


def test_short_and_different_rows_are_near_nothing():
    assert (
        near(["yes", "yes", "no thanks", "", " ".join(sentence(30, 1)), " ".join(sentence(30, 2))]) == set()
    )


def test_writing_does_not_matter():
    text = " ".join(sentence(12, 3))
    assert near([text, text.upper().replace(" ", ",\n")]) == {frozenset({0, 1})}


def test_near_rows_stay_together_and_templates_do_not():
    rows = [" ".join(sentence(40, n)) for n in range(60)]
    template = (
        "dear customer your order with the number {} has left our house today and will be with you soon"
    )
    rows += [template.format(n) for n in range(40)]
    rows += [rows[0] + " thanks", rows[0] + " regards"]
    shingles = Shingles()
    shingles.add([row] for row in rows)
    units = group_units(hashes(text=rows), None, shingles.pairs())
    assert len({int(units.codes[i]) for i in (0, 100, 101)}) == 1
    assert len(set(units.codes.tolist())) == 100
    report = units.report
    assert (report.near_groups, report.near_rows, report.alike) == (1, 3, 40)


def test_pairs_do_not_depend_on_the_order_of_rows():
    rows = [" ".join(sentence(30, n // 3)[: 30 - n % 3]) for n in range(90)]
    mixed = rows.copy()
    random.Random(5).shuffle(mixed)
    by_text = [{frozenset(rows_[i] for i in pair) for pair in near(rows_)} for rows_ in (rows, mixed)]
    assert by_text[0] == by_text[1]


def test_too_many_rows_are_not_looked_at(monkeypatch):
    monkeypatch.setattr("itera_nb.source.duplicates.MAX_NEAR", 3)
    shingles = Shingles()
    shingles.add([" ".join(sentence(9, n))] for n in range(9))
    assert shingles.pairs() is None
    assert group_units(hashes(text=["a", "b"]), None, None).report.near_groups is None
