"""Rows with the same input, up to writing: kept on one side of the split, never dropped."""

from __future__ import annotations

import functools
import hashlib
import json
import sys
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from itera_nb.source.keys import Codes, Order, codes_of


@dataclass(frozen=True, slots=True)
class DuplicateReport:
    """Counts of exact duplicates: `groups` of same inputs hold `rows` rows, the largest `largest` rows.

    `joined_clusters` declared clusters hang together with another one because they share an input.
    """

    groups: int
    rows: int
    largest: int
    joined_clusters: int


@dataclass(frozen=True, slots=True)
class Units:
    """Rows that must stay together: one code (0 … units-1) for each of n rows, and what was found."""

    codes: Codes
    report: DuplicateReport


def normalise(text: str) -> str:
    """Text as it counts for duplicates: NFKC, case folded, without white space and format characters."""
    if text.isascii():
        return "".join(text.lower().split())
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return unicodedata.normalize("NFC", "".join(folded.translate(_removed()).split()))


def hash_inputs(batches: Iterable[pa.RecordBatch], key: bytes) -> Order:
    """A keyed 64-bit hash (BLAKE2b) of the normalised values of every row, in stream order.

    Args:
        batches: The input columns only.
        key: At most 64 secret bytes; without it short rows could be guessed from their hashes.
    """
    blocks = []
    start = hashlib.blake2b(key=key, digest_size=8)
    for batch in batches:
        columns = [_texts(column) for column in batch.columns]
        digests = []
        for row in zip(*columns, strict=True):
            digest = start.copy()
            digest.update("\x1f".join(row).encode("utf-8", "surrogatepass"))
            digests.append(digest.digest())
        blocks.append(np.frombuffer(b"".join(digests), np.uint64))
    return np.concatenate(blocks) if blocks else np.empty(0, np.uint64)


def group_units(hashes: Order, clusters: pa.ChunkedArray | None) -> Units:
    """Join duplicates with declared clusters: components of rows that share an input or a cluster.

    Args:
        hashes: One for each of n rows, from `hash_inputs`.
        clusters: n cluster names as text, or None; a row without a cluster is one of its own.
    """
    _, inputs, sizes = np.unique(hashes, return_inverse=True, return_counts=True)
    many = sizes[sizes > 1]
    joined = 0
    codes: Codes = inputs.astype(np.int64)
    if clusters is not None:
        names = codes_of(clusters, missing_apart=True)
        codes, joined = _components(names, codes)
    report = DuplicateReport(len(many), int(many.sum()), int(many.max(initial=0)), joined)
    return Units(codes, report)


def _components(names: Codes, inputs: Codes) -> tuple[Codes, int]:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    first = int(names.max(initial=-1)) + 1
    size = first + int(inputs.max(initial=-1)) + 1
    graph = coo_matrix((np.ones(len(names), np.int8), (names, inputs + first)), shape=(size, size))
    _, labels = connected_components(graph.tocsr(), directed=False)
    present = np.unique(names)
    per_unit = np.bincount(labels[present])
    codes = np.unique(labels[names], return_inverse=True)[1]
    return codes.astype(np.int64), int(per_unit[per_unit > 1].sum())


def _texts(column: pa.Array) -> list[str]:
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return ["" if value is None else normalise(value) for value in column.to_pylist()]
    return [normalise(json.dumps(value, sort_keys=True, default=str)) for value in column.to_pylist()]


@functools.cache
def _removed() -> Mapping[int, None]:
    return {c: None for c in range(sys.maxunicode + 1) if unicodedata.category(chr(c)) == "Cf"}
