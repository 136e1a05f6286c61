"""Filtering, sorting and summing up a `RowTable`: what stands above and in the grid of the inspector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itera_nb.diagnosis.diffs import DIFFERENCES, KINDS
from itera_nb.scoring.evidence import Floats
from itera_nb.source.slices import slice_id

from .rows import OUTPUTS, RowTable, Texts, text, whole

BINS, BARS, CHUNK, KEPT_VIEWS = 24, 8, 100_000, 4
LONGEST_SEARCH = 200
Order = NDArray[np.int32]
_DIFFERENT = np.array([KINDS.index(kind) for kind in DIFFERENCES], dtype=np.int8)


@dataclass(frozen=True, slots=True)
class Query:
    """What a person wants to see of one arm beside the baseline.

    Attributes:
        arm: The arm.
        kind: Only rows of this kind, or of each that `diffs.DIFFERENCES` names ("different"); "" for all.
        slice: Only rows of this slice, by its id; "" for all.
        mode: Only rows on which the arm or the baseline shows this failure mode; "" for all.
        text: Only rows whose id, or text that may be read, holds this; letter case does not matter.
        sort: A column's key; "" for the order of the file.
        descending: From the largest; missing values and hidden text stay last.
    """

    arm: str
    kind: str = ""
    slice: str = ""
    mode: str = ""
    text: str = ""
    sort: str = ""
    descending: bool = False


@dataclass(frozen=True)
class RowView:
    """The rows of a query.

    Attributes:
        order: Positions in the table, in the order of the grid.
        counts: Rows of each kind before the filter by kind.
        summaries: Column key -> what stands in its header.
    """

    table: RowTable
    arm: str
    order: Order
    counts: dict[str, int]
    summaries: dict[str, dict[str, Any]]

    @property
    def hidden(self) -> list[int]:
        """Its rows whose text may not be shown yet."""
        hidden = self.table.hidden
        rows: list[int] = [] if hidden is None else self.order[hidden[self.order]].tolist()
        return rows

    @cached_property
    def _differences(self) -> NDArray[np.int64]:
        return np.flatnonzero(np.isin(self.table.kinds(self.arm)[self.order], _DIFFERENT))

    def difference(self, position: int, step: int) -> int | None:
        """Position of the next (`step` 1) or previous (-1) win, loss or flaky row, or None."""
        found = self._differences
        at = int(np.searchsorted(found, position, "right" if step > 0 else "left")) - (step < 0)
        return int(found[at]) if 0 <= at < len(found) else None


class Views:
    """Makes the views of one table; keeps what is slow to make and small: views, bins, and the last sort."""

    def __init__(self, table: RowTable) -> None:
        self.table = table
        self._kept = lru_cache(KEPT_VIEWS)(self._make)
        self._sorted = lru_cache(1)(self._sort)
        self._bins = cache(lambda arm, number: _Bins.of(table.values(arm, number)))
        self._slices = {
            slice_id(column, name): (column, code)
            for column, labels in table.slices.items()
            for code, name in enumerate(labels.names)
        }

    @property
    def slice_ids(self) -> list[str]:
        """The slices that a query may name."""
        return list(self._slices)

    def make(self, query: Query) -> RowView:
        """The rows of a query, counted and summed up; the last few views are kept.

        Raises:
            KeyError: An arm, slice, mode or column that the table does not have.
        """
        return self._kept(query, self.table.unread)

    def _make(self, query: Query, _unread: int) -> RowView:
        table, kinds = self.table, self.table.kinds(query.arm)
        mask = self._mask(query)
        found = np.bincount(kinds if mask is None else kinds[mask], minlength=len(KINDS))
        counts = {kind: int(n) for kind, n in zip(KINDS, found, strict=True)}
        if query.kind:
            wanted = _DIFFERENT if query.kind == "different" else [KINDS.index(query.kind)]
            of_kind = np.isin(kinds, wanted)
            mask = of_kind if mask is None else mask & of_kind
        order = self._sorted(query.arm, query.sort, query.descending, table.unread)
        order = order if mask is None else order[mask[order]]
        return RowView(table, query.arm, order, counts, self._summaries(query.arm, order))

    def _mask(self, query: Query) -> NDArray[np.bool_] | None:
        table, masks = self.table, []
        if query.slice:
            column, code = self._slices[query.slice]
            masks.append(table.slices[column].codes == code)
        if query.mode:
            if query.mode not in table.modes:
                raise KeyError(query.mode)
            bit = 1 << table.modes.index(query.mode)
            sides = [table.arms[arm].modes for arm in (query.arm, table.baseline)]
            masks.append(np.logical_or.reduce([m & bit != 0 for m in sides if m is not None]))
        if query.text:
            masks.append(self._search(query.text, query.arm))
        return np.logical_and.reduce(masks) if masks else None

    def _search(self, wanted: str, arm: str) -> NDArray[np.bool_]:
        """Rows whose id or readable text holds `wanted`; hidden text is not looked at."""
        table = self.table
        found = np.zeros(len(table), dtype=np.bool_)
        every = np.arange(len(table), dtype=np.int32)
        readable = every if table.hidden is None else np.flatnonzero(~table.hidden)
        sides = (table.arms[arm], table.arms[table.baseline])
        columns = [
            *table.texts.values(),
            *(trial for side in sides for trial in side.output),
            *(trial for side in sides for note in side.notes.values() for trial in note),
        ]
        for column, rows in [(table.ids, every), *((column, readable) for column in columns)]:
            for at in _chunks(rows):
                found[at] |= _holds(column, at, wanted)
        return found

    def _sort(self, arm: str, column: str, descending: bool, _unread: int) -> Order:
        table = self.table
        if not column:
            return np.arange(len(table), dtype=np.int32)
        if column not in table.columns(arm):
            raise KeyError(column)
        if column == "id":
            return _sorted_texts(table.ids, None, descending=descending)
        if column in OUTPUTS:
            side = table.arms[arm if column == "output:arm" else table.baseline]
            return _sorted_texts(side.output[0], table.hidden, descending=descending)
        values: NDArray[Any]
        if column == "kind":
            values = table.kinds(arm)
        elif column == "modes":
            values = _modes(table, arm)
        elif column.startswith("slice:"):
            values = table.slices[column.removeprefix("slice:")].codes
        else:
            values = table.values(arm, column)
        return np.argsort(-values if descending else values, kind="stable").astype(np.int32)

    def _summaries(self, arm: str, order: Order) -> dict[str, dict[str, Any]]:
        table, every = self.table, len(order) == len(self.table)
        found: dict[str, dict[str, Any]] = {}
        for number in table.numbers(arm):
            found[number] = self._bins(arm, number).summary(None if every else order)
        for column, labels in table.slices.items():
            total = np.bincount(labels.codes, minlength=len(labels.names))
            shown = total if every else np.bincount(labels.codes[order], minlength=len(labels.names))
            found[f"slice:{column}"] = _bars(labels.names, shown, total)
        if table.modes:
            total = _mode_counts(table, _modes(table, arm))
            shown = total if every else _mode_counts(table, _modes(table, arm)[order])
            found["modes"] = _bars(table.modes, shown, total)
        return found


@dataclass(frozen=True, slots=True)
class _Bins:
    """A numeric column in equal bins: one byte a row, so that any selection is counted in a moment."""

    codes: NDArray[np.uint8]
    low: float
    high: float
    total: NDArray[np.int64]

    @staticmethod
    def of(values: Floats) -> _Bins:
        known = np.isfinite(values)
        if not known.any():
            codes = np.full(len(values), BINS, dtype=np.uint8)
            return _Bins(codes, 0.0, 0.0, np.zeros(BINS, dtype=np.int64))
        low = float(values.min(where=known, initial=np.inf))
        high = float(values.max(where=known, initial=-np.inf))
        scaled = (values - low) * (BINS / ((high - low) or 1.0))
        codes = np.where(known, np.minimum(np.nan_to_num(scaled), BINS - 1), BINS).astype(np.uint8)
        return _Bins(codes, low, high, np.bincount(codes, minlength=BINS + 1)[:BINS])

    def summary(self, order: Order | None) -> dict[str, Any]:
        shown = self.total
        if order is not None:
            shown = np.bincount(self.codes[order], minlength=BINS + 1)[:BINS]
        return {"low": self.low, "high": self.high, "total": self.total.tolist(), "shown": shown.tolist()}


def _bars(names: Sequence[str], shown: NDArray[np.int64], total: NDArray[np.int64]) -> dict[str, Any]:
    first = [[whole(n, 80), int(s), int(t)] for n, s, t in zip(names, shown, total, strict=True)][:BARS]
    rest = int(shown[BARS:].sum()), int(total[BARS:].sum())
    return {"bars": first, "rest": [max(len(names) - BARS, 0), *rest]}


def _modes(table: RowTable, arm: str) -> NDArray[np.int32]:
    modes = table.arms[arm].modes
    return np.zeros(len(table), dtype=np.int32) if modes is None else modes


def _mode_counts(table: RowTable, masks: NDArray[np.int32]) -> NDArray[np.int64]:
    return np.array([np.count_nonzero(masks & 1 << bit) for bit in range(len(table.modes))], dtype=np.int64)


def _chunks(rows: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for first in range(0, len(rows), CHUNK):
        yield rows[first : first + CHUNK]


def _arrow(column: Texts, at: NDArray[Any]) -> Any:
    """These rows of a column of text in Arrow's form."""
    import pyarrow as pa

    if hasattr(column, "take"):
        try:
            taken = pa.array(column.take(at), from_pandas=True)
            if pa.types.is_string(taken.type) or pa.types.is_large_string(taken.type):
                return taken
        except (pa.ArrowException, UnicodeError):
            pass  # values of several types, or half of a surrogate pair: one by one, as they are shown
    return pa.array([whole(text(column[i])) for i in at], pa.large_string())


def _holds(column: Texts, at: NDArray[Any], wanted: str) -> NDArray[np.bool_]:
    import pyarrow.compute as pc

    hits = pc.match_substring(_arrow(column, at), wanted, ignore_case=True)
    found: NDArray[np.bool_] = pc.fill_null(hits, False).to_numpy(zero_copy_only=False)
    return found


def _sorted_texts(column: Texts, hidden: NDArray[np.bool_] | None, *, descending: bool) -> Order:
    """Positions by text; hidden ones last, in the order of the file: their text takes no part."""
    import pyarrow.compute as pc

    every = np.arange(len(column), dtype=np.int32)
    readable = every if hidden is None else every[~hidden]
    order = "descending" if descending else "ascending"
    places = pc.array_sort_indices(_arrow(column, readable), order=order).to_numpy()
    tail = every[:0] if hidden is None else every[hidden]
    return np.concatenate([readable[places], tail])
