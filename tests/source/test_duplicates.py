"""Same inputs in other writing are one unit, and hang together with declared clusters."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from itera_nb.source.duplicates import group_units, hash_inputs, normalise


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
