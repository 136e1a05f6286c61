"""Rows with the same or nearly the same input: kept on one side of the split, never dropped."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import sys
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from itera_nb.seal.fingerprints import texts_of
from itera_nb.source.keys import Codes, Order, codes_of, derived_key

Pairs: TypeAlias = NDArray[np.int64]
NEAR = 0.7
"""Jaccard similarity of three-word shingles; one changed word in forty leaves 0.89 at the median."""
MAX_NEAR = 200_000
"""Rows: with more, nobody looks for near duplicates (about 10,000 rows of 40 words a CPU-second)."""
MAX_SHINGLES = 20_000_000
"""Three-word runs in all: the same for few but long rows."""
ALIKE_ROWS, ALIKE_SHARE = 10, 0.02
PERMUTATIONS, BANDS = 128, 32
WORD = re.compile(r"\w+")
DIGESTED = 8_192
"""Rows whose MinHash values are Python numbers at one time."""


@dataclass(frozen=True, slots=True)
class DuplicateReport:
    """Counts of exact duplicates: `groups` of same inputs hold `rows` rows, the largest `largest` rows.

    `joined_clusters` declared clusters hang together with another one because they share an input.
    `near_groups` of nearly the same inputs hold `near_rows` rows; `alike` rows hang together in groups too
    large to be one leak (a template that production fills in), and stay apart. `near_groups` is None where
    there were too many rows to look.
    """

    groups: int
    rows: int
    largest: int
    joined_clusters: int
    near_groups: int | None = 0
    near_rows: int = 0
    alike: int = 0


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


def units_of(
    batches: Iterable[pa.RecordBatch], seed: bytes, clusters: pa.ChunkedArray | None = None
) -> Units:
    """The units of a stream of rows: same inputs, nearly the same ones, and declared clusters hang together.

    `batches` have the columns that are compared, and no others; `seed` is the secret one.
    """
    shingles = Shingles()
    hashes = hash_inputs(shingles.through(batches), derived_key(seed, "duplicates"))
    return group_units(hashes, clusters, shingles.pairs())


def group_units(hashes: Order, clusters: pa.ChunkedArray | None, near: Pairs | None = None) -> Units:
    """Join duplicates with declared clusters: components of rows that share an input or a cluster.

    Args:
        hashes: One for each of n rows, from `hash_inputs`.
        clusters: n cluster names as text, or None; a row without a cluster is one of its own.
        near: Pairs of rows with nearly the same input, from `Shingles.pairs`; None if nobody looked.
    """
    _, inputs, sizes = np.unique(hashes, return_inverse=True, return_counts=True)
    many = sizes[sizes > 1]
    codes: Codes = inputs.astype(np.int64)
    report = DuplicateReport(len(many), int(many.sum()), int(many.max(initial=0)), 0, near_groups=None)
    if near is not None:
        codes, report = _with_near(codes, near, report)
    if clusters is not None:
        names = codes_of(clusters, missing_apart=True)
        codes, joined = _components(names, codes)
        report = replace(report, joined_clusters=joined)
    return Units(codes, report)


def _with_near(codes: Codes, near: Pairs, report: DuplicateReport) -> tuple[Codes, DuplicateReport]:
    """The codes with near duplicates joined, except where so many hang together that it is a template."""
    if not len(near):
        return codes, replace(report, near_groups=0)
    units = int(codes.max(initial=-1)) + 1
    group = _connected(codes[near[:, 0]], codes[near[:, 1]], units)
    rows, inputs = np.bincount(group[codes]), np.bincount(group)
    several = inputs > 1
    large = several & (rows > max(ALIKE_ROWS, ALIKE_SHARE * len(codes)))
    joined = several & ~large
    apart = np.where(large[group], units + np.arange(units), group)
    found = replace(
        report,
        near_groups=int(joined.sum()),
        near_rows=int(rows[joined].sum()),
        alike=int(rows[large].sum()),
    )
    return np.unique(apart[codes], return_inverse=True)[1].astype(np.int64), found


class Shingles:
    """The words of rows, three by three, collected block by block, and which rows share most of them."""

    def __init__(self) -> None:
        self._sets: list[NDArray[np.uint32]] = []
        self._count = 0

    def add(self, texts: Iterable[Sequence[str]]) -> None:
        """Add rows by their cells; rows of fewer than three words are near nothing."""
        for cells in () if self._too_many() else texts:
            words = WORD.findall(unicodedata.normalize("NFKC", " ".join(cells)).casefold())
            found = {zlib.crc32(" ".join(words[i : i + 3]).encode()) for i in range(len(words) - 2)}
            self._sets.append(np.sort(np.fromiter(found, np.uint32, len(found))))
            self._count += len(found)

    def through(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Pass blocks of rows on, and add their rows by the cells of all columns."""
        for batch in batches:
            for texts in texts_of([batch], batch.schema.names):
                self.add(texts)
            yield batch

    def _too_many(self) -> bool:
        return len(self._sets) > MAX_NEAR or self._count > MAX_SHINGLES

    def pairs(self) -> Pairs | None:
        """Pairs of rows with a Jaccard similarity of at least 0.7; None for too many rows or words.

        Candidates share one of 32 bands of four of 128 MinHash values (found with probability 0.9998 at 0.7;
        Leskovec, Rajaraman & Ullman, ch. 3); each is checked exactly. Rows of one band are compared with
        their neighbour and their first, which is enough for the groups that follow from the pairs.
        """
        if self._too_many():
            return None
        rows = np.array([i for i, found in enumerate(self._sets) if len(found)], np.int64)
        near = [(a, b) for a, b in self._candidates(rows) if jaccard(self._sets[a], self._sets[b]) >= NEAR]
        return np.array(near, np.int64).reshape(-1, 2)

    def _candidates(self, rows: Codes) -> list[tuple[int, int]]:
        from rensa import RMinHash

        if len(rows) < 2:
            return []
        blocks = []
        for at in range(0, len(rows), DIGESTED):
            sets = [self._sets[row] for row in rows[at : at + DIGESTED].tolist()]
            starts = np.cumsum([0, *map(len, sets)]).astype(np.uint64)
            words = np.concatenate(sets).astype(np.uint64)
            digests = RMinHash.digest_matrix_from_flat_token_hashes(words, starts, PERMUTATIONS, 1)
            blocks.append(np.array(digests.to_rows(), np.uint32))
        values = np.concatenate(blocks)
        by_content = np.lexsort(values.T)  # neighbours are the same whatever the order of the rows
        rows, values = rows[by_content], values[by_content].reshape(len(rows), BANDS, -1)
        found: set[tuple[int, int]] = set()
        for band in range(BANDS):
            keys = (
                np.ascontiguousarray(values[:, band]).view(np.dtype((np.void, values.shape[2] * 4))).ravel()
            )
            order = np.argsort(keys, kind="stable")
            same = keys[order[1:]] == keys[order[:-1]]
            begins = np.maximum.accumulate(np.where(np.r_[False, same], 0, np.arange(len(order))))[1:]
            for other in (order[:-1], order[begins]):
                found.update(zip(rows[other[same]].tolist(), rows[order[1:][same]].tolist(), strict=True))
        return sorted(found)


def jaccard(one: NDArray[np.uint32], other: NDArray[np.uint32]) -> float:
    """Shared share of two sorted sets (fraction)."""
    shared = len(np.intersect1d(one, other, assume_unique=True))
    return shared / (len(one) + len(other) - shared)


def _components(names: Codes, inputs: Codes) -> tuple[Codes, int]:
    first = int(names.max(initial=-1)) + 1
    labels = _connected(names, inputs + first, first + int(inputs.max(initial=-1)) + 1)
    per_unit = np.bincount(labels[np.unique(names)])
    codes = np.unique(labels[names], return_inverse=True)[1]
    return codes.astype(np.int64), int(per_unit[per_unit > 1].sum())


def _connected(one: Codes, other: Codes, size: int) -> Codes:
    """The component of each of `size` nodes, where one[i] and other[i] are linked."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    links = coo_matrix((np.ones(len(one), np.int8), (one, other)), shape=(size, size))
    labels: Codes = connected_components(links.tocsr(), directed=False)[1].astype(np.int64)
    return labels


def _texts(column: pa.Array) -> list[str]:
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return ["" if value is None else normalise(value) for value in column.to_pylist()]
    return [normalise(json.dumps(value, sort_keys=True, default=str)) for value in column.to_pylist()]


@functools.cache
def _removed() -> Mapping[int, None]:
    return {c: None for c in range(sys.maxunicode + 1) if unicodedata.category(chr(c)) == "Cf"}
