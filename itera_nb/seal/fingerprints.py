"""Keyed fingerprints of rows' text, and which rows stand in other text, whatever its case, signs and breaks.

Text counts as its letters and digits alone (NFKC, case folded). Looked for are every 50 characters of a row,
every eight words of it, and short rows as a whole. A hash is a polynomial under a secret base, mixed: all
windows of a text cost a few array operations (Rabin and Karp 1987), and without the key no short row can be
guessed from it.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import secrets
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Hashes: TypeAlias = NDArray[np.uint64]
Places: TypeAlias = NDArray[np.int64]
WINDOW = 50
GRAM_WORDS = 8
GRAM_CHARACTERS = (24, 256)
WHOLE = (16, 128)
"""Letters and digits of a row that is looked for as a whole; shorter ones would be found everywhere."""
MOST = 0.4
"""Share of a row's hashes that betrays it although other rows have them too: half a row, or its duplicate."""
MAX_PRINTS = 2**22
"""Hashes kept of one kind: beyond it only those that a growing power of two divides."""
SLICE, OVERLAP = 2**20, 2**12
KEY_BYTES = 32
BREAK = 0x1E
KINDS = ("passages", "grams", "wholes", "starts", "heads")
HEADS = (47, 46, 30)
"""Characters of a long cell that pandas (with and without its space) and polars print before their dots."""
DOT, IDEOGRAPHS = 0x2E, 0x2E80
_SEPARATOR, _LETTER, _FORMAT = range(3)


@dataclass(frozen=True, slots=True)
class Found:
    """Rows (numbers in the index) found in a text: by a passage of it, or as a whole short row."""

    passages: frozenset[int]
    wholes: frozenset[int]


@dataclass(frozen=True, slots=True)
class Prints:
    """Sorted hashes with the row of each; only multiples of `every` (a power of two) are kept.

    `shared` hashes are those of several rows; `totals` are the hashes of each row.
    """

    hashes: Hashes
    rows: NDArray[np.int32]
    every: int
    filter: NDArray[np.bool_]
    shared: NDArray[np.bool_]
    totals: Places

    @classmethod
    def of(cls, hashes: Hashes, rows: NDArray[np.int32], every: int = 1) -> Prints:
        """Sort hashes that come row after row, and drop what is there twice."""
        order = np.argsort(hashes, kind="stable")
        hashes, rows = hashes[order], rows[order]
        new = np.ones(len(hashes), np.bool_)
        new[1:] = (hashes[1:] != hashes[:-1]) | (rows[1:] != rows[:-1])
        return cls.sorted(hashes[new], rows[new], every)

    @classmethod
    def sorted(cls, hashes: Hashes, rows: NDArray[np.int32], every: int) -> Prints:
        """Hashes that are in order and different already."""
        bits = min(max(int(len(hashes) * 4).bit_length(), 10), 24)
        filter_ = np.zeros(2**bits, np.bool_)
        filter_[hashes >> np.uint64(64 - bits)] = True
        same = np.r_[False, hashes[1:] == hashes[:-1]]
        shared = same | np.r_[same[1:], False]
        return cls(hashes, rows, every, filter_, shared[: len(hashes)], np.bincount(rows))

    def find(self, wanted: Hashes) -> Places:
        """Places of the hashes that are among `wanted`."""
        if self.every > 1:
            wanted = wanted[(wanted & np.uint64(self.every - 1)) == 0]
        shift = np.uint64(65 - len(self.filter).bit_length())
        wanted = np.unique(wanted[self.filter[wanted >> shift]])
        first, last = (np.searchsorted(self.hashes, wanted, side) for side in ("left", "right"))
        counts = last - first
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        places: Places = np.repeat(first, counts) + offsets
        return places

    def rows_at(self, places: Places, least: int) -> NDArray[np.int32]:
        """Rows that these places betray: by `least` hashes of their own, or by most of what they have.

        What several rows have in common (a template, a greeting) does not tell which of them was there.
        """
        own, counts = np.unique(self.rows[places[~self.shared[places]]], return_counts=True)
        rows, held = np.unique(self.rows[places], return_counts=True)
        most = rows[(held >= least) & (held >= MOST * self.totals[rows])]
        return np.union1d(own[counts >= least], most)

    def without(self, places: Places) -> Prints:
        """The same, less the hashes at these places and their like in other rows."""
        if not len(places):
            return self
        kept = ~np.isin(self.hashes, self.hashes[places])
        return Prints.sorted(self.hashes[kept], self.rows[kept], self.every)


@dataclass(frozen=True, slots=True)
class Index:
    """The fingerprints of some rows, under a key of their own.

    `ids` are the rows' ids; `starts` are the first 16 characters of what `wholes` looks for, in `lengths`;
    `heads` are the beginnings of cells, which count where dots cut them short.
    """

    key: bytes
    ids: tuple[str, ...]
    passages: Prints
    grams: Prints
    wholes: Prints
    starts: Prints
    heads: Prints
    lengths: tuple[int, ...]

    @property
    def blind(self) -> int:
        """Rows that nothing would find: too short, or all of it stands in readable rows too."""
        held = [p.rows for p in (self.passages, self.grams, self.wholes)]
        return len(self.ids) - len(np.unique(np.concatenate(held)))

    def find(self, text: bytes) -> Found:
        """Rows whose text stands in `text` (UTF-8)."""
        places = self._places(text)
        # One run of eight words is a phrase that anybody may write.
        by_words = self.grams.rows_at(places["grams"], 2)
        heads = places["heads"]
        cut_short = self.heads.rows[heads[~self.heads.shared[heads]]]
        found = frozenset(np.r_[self.passages.rows_at(places["passages"], 1), by_words, cut_short].tolist())
        return Found(found, frozenset(np.unique(self.wholes.rows[places["wholes"]]).tolist()) - found)

    def without(self, texts: Iterable[bytes]) -> Index:
        """The index less what these texts hold too: it says nothing about where it was read."""
        held = [self._places(text) for text in texts]
        if not held:
            return self
        kept = {
            kind: getattr(self, kind).without(np.unique(np.concatenate([places[kind] for places in held])))
            for kind in held[0]
        }
        return replace(self, **kept)

    def _places(self, text: bytes) -> dict[str, Places]:
        """Kind -> places in it of the hashes that the text has."""
        hasher, found = _hasher(self.key), list[dict[str, Places]]()
        for at in range(0, max(len(text), 1), SLICE):
            stream = _Stream.of(text[at : at + SLICE + OVERLAP], hasher)
            passages, grams = self.passages.find(stream.windows(WINDOW)), self.grams.find(stream.grams()[0])
            wholes, heads = self._wholes(stream), self._heads(stream)
            found.append({"passages": passages, "grams": grams, "wholes": wholes, "heads": heads})
        return {kind: np.unique(np.concatenate([f[kind] for f in found])) for kind in found[0]}

    def _wholes(self, stream: _Stream) -> Places:
        none: Places = np.empty(0, np.int64)
        if not self.lengths:
            return none
        begins = stream.windows(WHOLE[0])
        starts = np.flatnonzero(np.isin(begins, self.starts.hashes[self.starts.find(begins)]))
        found = [none]
        for length in self.lengths if len(starts) else ():
            inside = starts[starts + length <= len(stream.codes)]
            found.append(self.wholes.find(stream.spans(inside, inside + length)))
        return np.concatenate(found)

    def _heads(self, stream: _Stream) -> Places:
        lengths = np.arange(WHOLE[0], 2 * HEADS[0] + 1)
        first = (stream.cuts[:, None] - lengths).ravel()
        last = np.repeat(stream.cuts, len(lengths))[first >= 0]
        return self.heads.find(stream.spans(first[first >= 0], last))

    def to_bytes(self) -> bytes:
        """The index as one file (NumPy's npz): to be encrypted, since it holds the key."""
        arrays: dict[str, Any] = {
            "key": np.frombuffer(self.key, np.uint8),
            "ids": np.frombuffer(json.dumps(self.ids).encode(), np.uint8),
            "lengths": np.array(self.lengths, np.int64),
        }
        for name in KINDS:
            prints: Prints = getattr(self, name)
            arrays |= {f"{name}_hashes": prints.hashes, f"{name}_rows": prints.rows}
            arrays[f"{name}_every"] = np.array(prints.every)
        file = io.BytesIO()
        np.savez(file, **arrays)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Index:
        """The index that `to_bytes` wrote."""
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            prints = {
                name: Prints.sorted(file[f"{name}_hashes"], file[f"{name}_rows"], int(file[f"{name}_every"]))
                for name in KINDS
            }
            ids, lengths = json.loads(file["ids"].tobytes()), tuple(file["lengths"].tolist())
            return cls(file["key"].tobytes(), tuple(ids), **prints, lengths=lengths)


class IndexBuilder:
    """Collects the fingerprints of rows, block by block.

    Args:
        key: 32 secret bytes; drawn if none are given.
    """

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key or secrets.token_bytes(KEY_BYTES)
        self._ids: list[str] = []
        self._lengths: set[int] = set()
        self._kept = {name: _Kept() for name in KINDS}

    def add(self, ids: Sequence[str], texts: Iterable[Sequence[str]]) -> None:
        """Add rows: the id of each, and its cells, which count one after the other and each alone."""
        units: list[tuple[int, bytes]] = []
        heads: list[tuple[int, bytes]] = []
        size = 0
        for row, cells in enumerate(texts, start=len(self._ids)):
            units += [(row, _plain(unit)) for unit in dict.fromkeys([" ".join(cells), *cells])]
            heads += [(row, _plain(head)) for head in _heads(cells)]
            size += sum(map(len, cells))
            if size > SLICE:
                self._add(units, heads)
                units, heads, size = [], [], 0
        self._add(units, heads)
        self._ids += ids

    def build(self) -> Index:
        """The index of the rows so far."""
        prints = {name: kept.prints() for name, kept in self._kept.items()}
        return Index(self._key, tuple(self._ids), **prints, lengths=tuple(sorted(self._lengths)))

    def _add(self, units: Sequence[tuple[int, bytes]], heads: Sequence[tuple[int, bytes]]) -> None:
        rows, data = _joined(units)
        if not rows.size:
            return
        hasher = _hasher(self._key)
        if heads:
            cut, beginnings = _joined(heads)
            self._collect_whole("heads", _Stream.of(beginnings, hasher), cut)
        if len(data) <= SLICE + OVERLAP or len(units) > 1:
            self._collect(_Stream.of(data, hasher), rows)
            return
        for at in range(0, len(data), SLICE):
            self._collect(_Stream.of(data[at : at + SLICE + OVERLAP], hasher), rows)

    def _collect(self, stream: _Stream, rows: NDArray[np.int32]) -> None:
        unit = stream.units
        whole = stream.windows(WINDOW)
        same = unit[: len(whole)] == unit[WINDOW - 1 :]
        self._kept["passages"].add(whole[same], rows[unit[: len(whole)][same]])
        grams, first, last = stream.grams()
        same = unit[first] == unit[last - 1]
        self._kept["grams"].add(grams[same], rows[unit[first][same]])
        begins, lengths = self._collect_whole("wholes", stream, rows)
        self._kept["starts"].add(stream.spans(begins, begins + WHOLE[0]), np.zeros(len(begins), np.int32))
        self._lengths.update(lengths.tolist())

    def _collect_whole(self, kind: str, stream: _Stream, rows: NDArray[np.int32]) -> tuple[Places, Places]:
        """Keep the hashes of units that are neither too short nor too long; where they begin, and lengths."""
        lengths = np.bincount(stream.units, minlength=len(rows))
        ends = np.cumsum(lengths)
        short = (lengths >= WHOLE[0]) & (lengths <= WHOLE[1])
        begins = (ends - lengths)[short]
        self._kept[kind].add(stream.spans(begins, ends[short]), rows[short])
        return begins, lengths[short]


class _Kept:
    """Hashes of one kind, thinned out as they grow."""

    def __init__(self) -> None:
        self._hashes: list[Hashes] = []
        self._rows: list[NDArray[np.int32]] = []
        self._count, self._every = 0, 1

    def add(self, hashes: Hashes, rows: NDArray[np.int32]) -> None:
        kept = (hashes & np.uint64(self._every - 1)) == 0
        self._hashes.append(hashes[kept])
        self._rows.append(rows[kept])
        self._count += int(kept.sum())
        if self._count > MAX_PRINTS:
            self._every *= 2
            held = [(h & np.uint64(self._every - 1)) == 0 for h in self._hashes]
            self._hashes = [h[k] for h, k in zip(self._hashes, held, strict=True)]
            self._rows = [r[k] for r, k in zip(self._rows, held, strict=True)]
            self._count = sum(map(len, self._hashes))

    def prints(self) -> Prints:
        none: tuple[Hashes, NDArray[np.int32]] = (np.empty(0, np.uint64), np.empty(0, np.int32))
        return Prints.of(
            np.concatenate([*self._hashes, none[0]]), np.concatenate([*self._rows, none[1]]), self._every
        )


@dataclass(frozen=True, slots=True)
class _Stream:
    """Letters and digits of a text: where words begin, the unit of each, and sums that give every window.

    An ideograph counts twice: it says more than a letter. `cuts` are the ends of what dots cut short.
    """

    codes: NDArray[Any]
    begins: Places
    cuts: Places
    units: NDArray[np.int32]
    sums: Hashes
    hasher: _Hasher

    @classmethod
    def of(cls, data: bytes, hasher: _Hasher) -> _Stream:
        if data.isascii():
            codes: NDArray[Any] = _LOWER[np.frombuffer(data, np.uint8)]
            kinds = _ASCII[codes]
        else:
            text = unicodedata.normalize("NFKC", data.decode("utf-8", "replace")).casefold()
            text = unicodedata.normalize("NFKC", text)
            codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
            kinds = _kinds(codes)
            times = (kinds != _FORMAT) * (1 + ((codes >= IDEOGRAPHS) & (kinds == _LETTER)))
            codes, kinds = np.repeat(codes, times), np.repeat(kinds, times)
        kept = np.flatnonzero(kinds == _LETTER)
        units = np.cumsum(codes == BREAK, dtype=np.int32)[kept]
        begins = np.flatnonzero(np.diff(kept, prepend=-2) > 1)
        dot = codes == DOT
        cuts = np.unique(np.searchsorted(kept, np.flatnonzero(dot[:-2] & dot[1:-1] & dot[2:])))
        codes = codes[kept]
        return cls(codes, begins, cuts, units, hasher.sums(codes), hasher)

    def windows(self, size: int) -> Hashes:
        """The hash of every `size` characters."""
        last = len(self.codes) - size
        if last < 0:
            return np.empty(0, np.uint64)
        return self.hasher.mixed(
            (self.sums[size:] - self.sums[: last + 1]) * self.hasher.inverses[: last + 1]
        )

    def spans(self, first: Places, last: Places) -> Hashes:
        """The hash of each stretch of characters; as that of `windows`."""
        return self.hasher.mixed((self.sums[last] - self.sums[first]) * self.hasher.inverses[first])

    def grams(self) -> tuple[Hashes, Places, Places]:
        """The hashes of every eight words, where each begins and ends."""
        bounds = np.append(self.begins, len(self.codes))
        first, last = bounds[:-GRAM_WORDS], bounds[GRAM_WORDS:]
        fits = (last - first >= GRAM_CHARACTERS[0]) & (last - first <= GRAM_CHARACTERS[1])
        return self.spans(first[fits], last[fits]), first[fits], last[fits]


class _Hasher:
    """Polynomial hashes of characters modulo 2**64 under a secret odd base, and the mixing that follows."""

    def __init__(self, key: bytes) -> None:
        words = np.frombuffer(hashlib.sha512(key).digest(), np.uint64)
        self._salts = words[1], words[2]
        base = int(words[0]) & ~7 | 5  # 5 modulo 8: the powers repeat only after 2**62
        self._bases = base, pow(base, -1, 2**64)
        self._powers = self.inverses = np.ones(1, np.uint64)
        self._letters = _mix(np.arange(128, dtype=np.uint64) ^ self._salts[0])

    def sums(self, codes: NDArray[Any]) -> Hashes:
        """Running sums of the characters' values times the powers of the base; one more than characters."""
        if len(codes) >= len(self._powers):
            size = 1 << (len(codes) + 1).bit_length()
            self._powers, self.inverses = (_powers(base, size) for base in self._bases)
        ascii_ = codes.dtype == np.uint8
        values = self._letters[codes] if ascii_ else _mix(codes.astype(np.uint64) ^ self._salts[0])
        found = np.zeros(len(codes) + 1, np.uint64)
        np.cumsum(values * self._powers[: len(codes)], out=found[1:])
        return found

    def mixed(self, hashes: Hashes) -> Hashes:
        """Hashes all of whose bits are good: the low ones of a polynomial are not."""
        return _mix(hashes ^ self._salts[1])


@functools.lru_cache(maxsize=2)
def _hasher(key: bytes) -> _Hasher:
    return _Hasher(key)


def _powers(base: int, size: int) -> Hashes:
    steps = np.full(size, base, np.uint64)
    steps[0] = 1
    return np.cumprod(steps, dtype=np.uint64)


def _mix(values: Hashes) -> Hashes:
    """The finaliser of SplitMix64, a bijection of 64-bit numbers (Steele, Lea & Flood 2014)."""
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Hashes = z ^ (z >> np.uint64(31))
    return mixed


def _kind(code: int) -> int:
    character = chr(code)
    if character.isalnum():
        return _LETTER
    return _FORMAT if unicodedata.category(character) == "Cf" else _SEPARATOR


_LOWER = np.array([ord(chr(c).lower()) for c in range(128)], np.uint8)
_ASCII = np.array([_kind(c) for c in range(128)], np.uint8)
_KINDS: dict[int, NDArray[np.uint8]] = {}


def _kinds(codes: NDArray[Any]) -> NDArray[np.uint8]:
    """Letter, format character or neither, looked up in pages of 256 that are made when first met."""
    pages = codes >> 8
    kinds = np.empty(len(codes), np.uint8)
    for page in np.flatnonzero(np.bincount(pages)).tolist():
        if page not in _KINDS:
            _KINDS[page] = np.array([_kind(c) for c in range(page << 8, (page + 1) << 8)], np.uint8)
        here = pages == page
        kinds[here] = _KINDS[page][codes[here] & 0xFF]
    return kinds


def texts_of(batches: Iterable[Any], columns: Sequence[str]) -> Iterator[list[list[str]]]:
    """The cells of each row of Arrow batches as text: strings as they are, anything else as JSON."""
    for batch in batches:
        cells = [[_cell(value) for value in batch.column(c).to_pylist()] for c in columns]
        yield [list(row) for row in zip(*cells, strict=True)]


def readable(rows: Iterable[Sequence[str]]) -> bytes:
    """Rows that betray nothing as text for `Index.without`: whole, and as a table cuts their cells short."""
    texts = [" ".join([*cells, *(f"\n{head}..." for head in _heads(cells))]) for cells in rows]
    return "\n".join(texts).encode("utf-8", "surrogatepass")


def _heads(cells: Sequence[str]) -> Iterator[str]:
    """The beginnings of cells as tables print them, which write a line break as two characters."""
    for cell in cells:
        shown = cell[: HEADS[0]].replace("\n", "\\n")
        yield from (shown[:size].replace("\\n", "\n") for size in HEADS if len(cell) > size)


def _plain(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass").replace(b"\x1e", b" ")


def _joined(units: Sequence[tuple[int, bytes]]) -> tuple[NDArray[np.int32], bytes]:
    """The row of each unit, and the units one after the other."""
    return np.array([row for row, _ in units], np.int32), bytes([BREAK]).join(unit for _, unit in units)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
