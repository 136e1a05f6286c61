"""The checks before anything is drawn, and the secret order."""

import hashlib

import numpy as np
import pyarrow as pa
import pytest

from itera_nb.exceptions import DataError
from itera_nb.source.keys import check_keys, codes_of, derived_key, keyed_order
from itera_nb.spec import SourceSpec, SplitSpec

SOURCE = SourceSpec(uri="a", id="id", expected="y", slices=["s"], severity="w")


def check(source=SOURCE, **columns):
    good = {"id": ["a", "b", "c", "d"], "y": list("xyxy"), "s": list("ppqq"), "w": ["1", "0", "2.5", "1e3"]}
    keys = pa.table({k: pa.chunked_array([pa.array(v, pa.string())]) for k, v in (good | columns).items()})
    order = keyed_order(b"k", keys["id"].fill_null(""))
    return check_keys(keys, order, source, SplitSpec())


def test_good_keys_name_the_class_column():
    assert check() == "y"
    many = [str(i) for i in range(30)]
    assert check(id=many, y=many, s=many, w=["1"] * 30) is None


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": [], "y": [], "s": [], "w": []}, "no rows"),
        ({"id": ["a", None, "c", None]}, "2 of 4 rows have no 'id'"),
        ({"id": ["a", "a", "b", "b"]}, "2 values of 'id' stand in more than one row: a, b"),
        ({"y": ["x", None, "y", None]}, "2 of 4 rows have no label 'y': id b, d"),
        ({"y": ["x"] * 4}, "all 4 rows have the same label 'y'"),
        ({"s": ["p", "sha256:" + "0" * 64, None, "q"]}, "'s' has values longer than 64"),
        ({"w": ["1.", "1.2.3", ".5", "."]}, "2 rows have a 'w' that is not a number of 0 or more: id b, d"),
        ({"w": ["1", "-2", "nan", None]}, "3 rows have a 'w' that is not a number of 0 or more: id b, c, d"),
    ],
)
def test_what_does_not_fit_is_named(columns, message):
    with pytest.raises(DataError) as caught:
        check(**columns)
    assert message in str(caught.value)


def test_only_the_first_few_ids_are_named():
    ids = [str(i) for i in range(90)]
    with pytest.raises(DataError, match="id 0, 1, 2, 3, 4, …") as caught:
        check(id=ids, y=[None] * 90, s=["p"] * 90, w=["1"] * 90)
    assert "\n" not in caught.value.what


def test_order_is_hex_sha256_of_key_bar_id():
    key = derived_key(b"seed", "sample")
    ids = ["1", "ünïque", "a|b"]
    places = keyed_order(key, pa.chunked_array([ids[:1], ids[1:]]))
    expected = [int(hashlib.sha256(f"{key.hex()}|{i}".encode()).hexdigest()[:16], 16) for i in ids]
    assert places.tolist() == expected
    assert derived_key(b"seed", "split") != key != derived_key(b"other", "sample")


def test_missing_values_are_apart_or_one():
    column = pa.chunked_array([["a", None, "b"], [None, "a"]])
    apart, together = codes_of(column, missing_apart=True), codes_of(column, missing_apart=False)
    assert len(np.unique(apart)) == 4
    assert len(np.unique(together)) == 3
    assert apart[0] == apart[4]
