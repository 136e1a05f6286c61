"""Rows of a baseline and other arms side by side, column by column.

Columns are references to what a caller already holds: nothing is copied, and text is taken only for the rows
that somebody looks at. Text of a hidden row is never taken.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from itera_nb.diagnosis.diffs import kind_codes
from itera_nb.scoring.evidence import Floats
from itera_nb.source.slices import text_of
from itera_nb.stats.paired import row_means

if TYPE_CHECKING:
    import pandas as pd

OUTPUTS = ("output:base", "output:arm")
Texts: TypeAlias = Sequence[Any]
"""One value a row; whatever has a length and items."""

PREVIEW, CELL, WHOLE = 240, 20_000, 2_000_000
"""Characters of a text in the grid, beside the grid, and when a person asks for more."""
LEAD = 12
"""Characters before the first difference that a preview keeps."""


@dataclass(frozen=True, slots=True)
class Labels:
    """A column of few values: each row's place in `names`, the commonest first."""

    codes: NDArray[np.int32]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ArmColumns:
    """What one arm did, n rows each.

    Attributes:
        score: n or n x T scores; NaN = none.
        output: The outputs of each trial.
        notes: What else may be read of each trial, by title: errors, a judge's reasons.
        modes: n bit masks over the table's failure modes.
        cost: USD a call, the trials' mean.
        latency: Milliseconds, the trials' mean.
    """

    score: Floats
    output: tuple[Texts, ...]
    notes: Mapping[str, tuple[Texts, ...]] = field(default_factory=dict)
    modes: NDArray[np.int32] | None = None
    cost: Floats | None = None
    latency: Floats | None = None


@dataclass(frozen=True)
class RowTable:
    """n rows with several arms.

    Attributes:
        ids: Row ids.
        arms: Arm -> its columns; the baseline's too.
        baseline: The arm that the others are compared with.
        texts: What may be read of a row, by title: inputs, the expected output.
        slices: Column -> its labels.
        severity: Severity of each row, as its column has it.
        modes: Names of the failure modes, in the order of the arms' bits.
        fail_below: A row passes from this score on.
        pairwise: Scores are preferences over the baseline.
        hidden: n-mask of the rows whose text may not be shown yet; None where every row is open.
    """

    ids: Texts
    arms: Mapping[str, ArmColumns]
    baseline: str
    texts: Mapping[str, Texts] = field(default_factory=dict)
    slices: Mapping[str, Labels] = field(default_factory=dict)
    severity: Floats | None = None
    modes: tuple[str, ...] = ()
    fail_below: float = 0.5
    pairwise: bool = False
    hidden: NDArray[np.bool_] | None = None
    _kinds: dict[str, NDArray[np.int8]] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def candidates(self) -> list[str]:
        """The arms that are compared with the baseline."""
        return [arm for arm in self.arms if arm != self.baseline]

    @property
    def unread(self) -> int:
        """Rows whose text is hidden."""
        return 0 if self.hidden is None else int(self.hidden.sum())

    def is_hidden(self, row: int) -> bool:
        """Whether this row's text may not be shown yet."""
        return self.hidden is not None and bool(self.hidden[row])

    def shown_modes(self, arm: str, row: int) -> list[str]:
        """The failure modes that an arm shows on a row."""
        masks = self.arms[arm].modes
        mask = 0 if masks is None else int(masks[row])
        return [name for bit, name in enumerate(self.modes) if mask >> bit & 1]

    def kinds(self, arm: str) -> NDArray[np.int8]:
        """Each row's place in `KINDS` for an arm against the baseline; kept."""
        if arm not in self._kinds:
            one, two = self.arms[arm].score, self.arms[self.baseline].score
            self._kinds[arm] = kind_codes(one, two, self.fail_below, pairwise=self.pairwise)
        return self._kinds[arm]

    def numbers(self, arm: str) -> list[str]:
        """Names of the numeric columns beside an arm, in the order of the grid."""
        other = self.arms[arm]
        there = {"severity": self.severity, "cost": other.cost, "latency": other.latency}
        return ["delta", "base", "arm", *(name for name, values in there.items() if values is not None)]

    def columns(self, arm: str) -> list[str]:
        """Keys of the grid's columns, in their order."""
        scores, others = self.numbers(arm)[:3], self.numbers(arm)[3:]
        modes = ["modes"] if self.modes else []
        return ["id", "kind", *OUTPUTS, *scores, *modes, *(f"slice:{name}" for name in self.slices), *others]

    def values(self, arm: str, number: str, at: slice | NDArray[Any] = slice(None)) -> Floats:
        """A numeric column at these rows: fractions for scores, USD for cost, milliseconds for latency."""
        one, two = self.arms[arm], self.arms[self.baseline]
        if number == "delta":
            return row_means(one.score[at]) - row_means(two.score[at])
        if number in {"base", "arm"}:
            return row_means((two if number == "base" else one).score[at])
        found = {"severity": self.severity, "cost": one.cost, "latency": one.latency}[number]
        assert found is not None, number
        return found[at]


def labels_of(values: pd.Series[Any]) -> Labels:
    """The distinct values of a column as text, the commonest first, and each row's place among them."""
    import pandas as pd

    codes, found = pd.factorize(values, use_na_sentinel=False)
    order = np.argsort(-np.bincount(codes, minlength=len(found)), kind="stable")
    place = np.empty(len(order), dtype=np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    names = [text_of(None if pd.isna(value) else value) for value in found]
    return Labels(place[codes], tuple(names[i] for i in order))


def text(value: Any) -> str:
    """A value as a person reads it: text as it is, everything else as JSON, a missing value as nothing."""
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return json.dumps(value, ensure_ascii=False, default=str)


def block(table: RowTable, arm: str, order: NDArray[np.int32], first: int, count: int) -> dict[str, Any]:
    """The rows at `first` and after it in `order`, column by column; no text of hidden rows."""
    at = order[first : first + count]
    one, two = table.arms[arm], table.arms[table.baseline]
    pairs = [
        (None, None) if table.is_hidden(i) else previews(text(two.output[0][i]), text(one.output[0][i]))
        for i in at
    ]
    return {
        "first": first,
        "id": [whole(str(table.ids[i]), PREVIEW) for i in at],
        "hidden": [table.is_hidden(i) for i in at],
        "kind": table.kinds(arm)[at].tolist(),
        "output:base": [base for base, _ in pairs],
        "output:arm": [other for _, other in pairs],
        "modes": None if one.modes is None else one.modes[at].tolist(),
        **{f"slice:{name}": labels.codes[at].tolist() for name, labels in table.slices.items()},
        **{name: _plain(table.values(arm, name, at)) for name in table.numbers(arm)},
    }


def _plain(values: Floats) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values.tolist()]


def previews(one: str, two: str) -> tuple[str, str]:
    """The starts of two texts for one line of a grid, or what stands around their first difference."""
    same = _shared(one, two)
    start = 0 if one == two or same <= 2 * LEAD else same - LEAD
    return _preview(one, start), _preview(two, start)


def _shared(one: str, two: str) -> int:
    """Length of the common start, by bisection: slices are compared much faster than characters."""
    low, high = 0, min(len(one), len(two))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == two[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _preview(value: str, start: int) -> str:
    cut = value[start : start + PREVIEW]
    return whole(("…" if start else "") + cut + ("…" if start + PREVIEW < len(value) else ""), PREVIEW + 2)


def whole(value: str, longest: int = WHOLE) -> str:
    """At most `longest` characters that any transport can carry: half of a surrogate pair becomes "?"."""
    return value[:longest].encode("utf-8", "replace").decode("utf-8")


def detail(table: RowTable, arm: str, row: int, trial: int) -> dict[str, Any]:
    """Everything of one row: its texts, and both arms in one trial (each its last, if it has fewer)."""
    hidden = table.is_hidden(row)
    return {
        "row": row,
        "id": whole(str(table.ids[row]), CELL),
        "hidden": hidden,
        "kind": int(table.kinds(arm)[row]),
        "slices": [[name, labels.names[labels.codes[row]]] for name, labels in table.slices.items()],
        "severity": None if table.severity is None else _plain(table.severity[[row]])[0],
        "texts": [] if hidden else [_part(name, values[row]) for name, values in table.texts.items()],
        "sides": [_side(table, name, row, trial, hidden=hidden) for name in (table.baseline, arm)],
    }


def _side(table: RowTable, arm: str, row: int, trial: int, *, hidden: bool) -> dict[str, Any]:
    columns = table.arms[arm]
    scores = np.atleast_1d(columns.score[row])
    at = min(trial, len(columns.output) - 1)
    notes = {} if hidden else {title: values[at][row] for title, values in columns.notes.items()}
    return {
        "arm": arm,
        "trial": at,
        "trials": _plain(scores),
        "score": _plain(row_means(scores[None, :]))[0],
        "modes": table.shown_modes(arm, row),
        "cost": None if columns.cost is None else _plain(columns.cost[[row]])[0],
        "latency": None if columns.latency is None else _plain(columns.latency[[row]])[0],
        "output": None if hidden else _part("output", columns.output[at][row]),
        "notes": [_part(title, value) for title, value in notes.items() if text(value)],
    }


def _part(title: str, value: Any) -> dict[str, Any]:
    shown = text(value)
    return {"title": title, "text": whole(shown, CELL), "length": len(shown)}


def full_text(table: RowTable, row: int, title: str, arm: str | None, trial: int) -> str | None:
    """A long text of a row that is not hidden, up to `WHOLE` characters; None where there is no such text.

    Without an arm it is one of the row's own texts; with one its output, or the note of that title.
    """
    if table.is_hidden(row):
        return None
    if arm is None:
        values = table.texts.get(title)
        return None if values is None else whole(text(values[row]))
    columns = table.arms[arm]
    trials = columns.output if title == "output" else columns.notes.get(title, ())
    return whole(text(trials[trial][row])) if trial < len(trials) else None
