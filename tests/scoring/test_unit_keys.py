import datetime as dt
from decimal import Decimal

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from itera_nb.scoring import keys

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), values))
def test_the_order_of_columns_does_not_matter(row):
    assert keys.digest(row) == keys.digest(dict(reversed(row.items())))


def test_different_values_have_different_digests():
    seen = [
        keys.digest({"x": x})
        for x in (
            1,
            "1",
            True,
            None,
            "",
            "None",
            1.5,
            b"1",
            dt.date(2026, 1, 1),
            "2026-01-01",
            Decimal(1),
            [1],
            {1},
        )
    ]
    assert len(set(seen)) == len(seen)
    assert keys.digest(np.int64(3)) == keys.digest(3)


def test_rows_have_an_order_and_borders():
    assert keys.rows_digest([{"a": 1}, {"a": 2}]) != keys.rows_digest([{"a": 2}, {"a": 1}])
    assert keys.rows_digest([]) == ""


def test_files_and_folders_go_by_content(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("1")
    before = keys.path_digest(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x").write_text("1")
    assert keys.path_digest(tmp_path / "b") == before
    (tmp_path / "b" / "x").rename(tmp_path / "b" / "y")
    assert keys.path_digest(tmp_path / "b") != before
    assert keys.resources_digest({}) == ""
    assert keys.resources_digest({"a": tmp_path / "a"}) != keys.resources_digest({"b": tmp_path / "a"})
