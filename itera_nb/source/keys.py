"""Keyed hashes that decide who goes where, and the checks of the key columns before anything is drawn."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from itera_nb.exceptions import DataError
from itera_nb.source.relation import MAX_KEY
from itera_nb.spec import SourceSpec, SplitSpec

Codes: TypeAlias = NDArray[np.int64]
Order: TypeAlias = NDArray[np.uint64]
BLOCK = 65_536
FEW = 5
MAX_CLASSES = 20
NUMBER = r"^([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][-+]?[0-9]+)?$"
"""A number of 0 or more, as it stands in a file."""


def derived_key(seed: bytes, purpose: str) -> bytes:
    """HMAC-SHA256 of a purpose under the secret seed: knowing one key says nothing of another."""
    return hmac.new(seed, purpose.encode(), hashlib.sha256).digest()


def keyed_order(key: bytes, ids: pa.ChunkedArray) -> Order:
    """The place of every id (n text values) in a secret random order, as n numbers to sort by.

    The number is the first 16 digits of hex SHA-256 of key in hex, ``|`` and the id: the same in any language
    and in any order of the rows. Two of a million ids share one with probability 3e-8.
    """
    start, places = hashlib.sha256(key.hex().encode() + b"|"), np.empty(len(ids), np.uint64)
    for at in range(0, len(ids), BLOCK):
        digests = []
        for value in ids.slice(at, BLOCK).cast(pa.binary()).to_pylist():
            digest = start.copy()
            digest.update(value)
            digests.append(digest.digest()[:8])
        places[at : at + len(digests)] = np.frombuffer(b"".join(digests), ">u8")
    return places


def codes_of(column: pa.ChunkedArray, *, missing_apart: bool) -> Codes:
    """One integer for each distinct text of a column of n values.

    Args:
        column: Text values.
        missing_apart: A missing value is an entity of its own (clusters, caps), or all of them are one
            (strata).
    """
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    codes: Codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    missing, first = codes < 0, len(encoded.dictionary)
    codes[missing] = first + (np.arange(missing.sum()) if missing_apart else 0)
    return codes


def check_ids(ids: pa.ChunkedArray, name: str) -> None:
    """Check that there are rows and that each has an id.

    Raises:
        DataError: No rows, or missing ids, with the count.
    """
    if not len(ids):
        raise DataError("the source has no rows", fix="check [source] uri, and the filter that made the file")
    if ids.null_count:
        what = f"{ids.null_count} of {len(ids)} rows have no {name!r}"
        raise DataError(what, fix="every row needs its own id")


def check_keys(keys: pa.Table, order: Order, source: SourceSpec, split: SplitSpec) -> str | None:
    """Check ids, labels, slices and severity of every row; return the label column if its values are classes.

    A label is a class when it has at most 20 distinct values.

    Raises:
        DataError: No rows; missing or repeated ids; missing labels; one class only; a slice or stratum with
            long text; a severity that is not a number of 0 or more. With columns, counts and the first few
            ids.
    """
    ids = keys.column(source.id)
    check_ids(ids, source.id)
    _unique(ids, order, source.id)
    for column in dict.fromkeys([*source.slices, *split.stratify]):
        if (pc.max(pc.utf8_length(keys.column(column))).as_py() or 0) > MAX_KEY:
            raise DataError(
                f"{column!r} has values longer than {MAX_KEY} characters: it cannot name slices or strata",
                fix="use a column of short categories",
            )
    if source.severity:
        _check_severity(keys, source.id, source.severity)
    return _check_labels(keys, source.id, source.expected) if source.expected else None


def _unique(ids: pa.ChunkedArray, order: Order, name: str) -> None:
    # Comparing their hashes first: a table of all ids would cost several times the memory.
    places = np.sort(order)
    if not (places[1:] == places[:-1]).any():
        return
    counted = ids.value_counts()
    values, counts = counted.field(0), counted.field(1)
    repeated = values.filter(pc.greater(counts, 1))
    if not len(repeated):
        return
    raise DataError(
        f"{len(repeated)} values of {name!r} stand in more than one row: {_few(repeated)}",
        fix="name the column that is unique, or drop the repeated rows",
    )


def _check_labels(keys: pa.Table, id_column: str, expected: str) -> str | None:
    labels = keys.column(expected)
    if labels.null_count:
        ids = keys.column(id_column).filter(pc.is_null(labels))
        raise DataError(
            f"{labels.null_count} of {len(labels)} rows have no label {expected!r}: {id_column} {_few(ids)}",
            fix="label these rows or leave them out of the file; a missing label is not a class",
        )
    distinct = pc.count_distinct(labels).as_py()
    if distinct == 1 and len(labels) > 1:
        raise DataError(
            f"all {len(labels)} rows have the same label {expected!r}: any constant answer would be perfect",
            fix="add rows of the other classes, or name another column in [source] expected",
        )
    return expected if distinct <= MAX_CLASSES else None


def _check_severity(keys: pa.Table, id_column: str, severity: str) -> None:
    column = keys.column(severity)
    number = pc.match_substring_regex(column, NUMBER)
    wrong = pc.invert(pc.fill_null(number, False))
    if pc.any(wrong).as_py():
        ids = keys.column(id_column).filter(wrong)
        raise DataError(
            f"{len(ids)} rows have a {severity!r} that is not a number of 0 or more: {id_column} {_few(ids)}",
            fix="give every row a weight, or remove `severity`",
        )


def _few(ids: Sequence[object] | pa.Array) -> str:
    shown = [str(value) for value in ids[:FEW]]
    return ", ".join(shown) + (", …" if len(ids) > FEW else "")
