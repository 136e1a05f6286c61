"""The row-diff inspector: a baseline beside another arm, row by row. Rows stay in the kernel.

The browser asks with custom messages and gets the rows that it shows; only the selected row's id and the
view's settings are synchronised, so a saved notebook holds nothing else. Whatever the browser sends is
checked, and text of a hidden row leaves the kernel only after its reveal has been recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from itera_nb.diagnosis.diffs import DIFFERENCES, KINDS
from itera_nb.exceptions import IteraError

from .row_views import LONGEST_SEARCH, Query, RowView, Views
from .rows import RowTable, block, detail, full_text, whole

MOST_ROWS, MOST_SLICES, MOST_REVEALED, MOST_TRIALS = 500, 400, 500, 10_000
KIND_FILTERS = ("", "different", *KINDS)


class Inspector(anywidget.AnyWidget):  # type: ignore[misc]
    """The widget over some tables, one a part.

    Args:
        tables: Part -> its rows, the first one shown first; each with a baseline and at least one other arm.
        reveal: Records that these rows' text is shown, and why; without it hidden rows stay hidden. It raises
            an `IteraError` where that is not allowed.

    Attributes:
        selected: The selected row's id.
        settings: The view's settings, for the next time that it is drawn.
    """

    _esm = Path(__file__).with_name("row_diff.js")
    _css = Path(__file__).with_name("row_diff.css")
    selected = traitlets.Unicode("").tag(sync=True)
    settings = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        tables: Mapping[str, RowTable],
        reveal: Callable[[Sequence[str], str], object] | None = None,
    ) -> None:
        super().__init__()
        self._record = reveal
        self._views = {part: Views(table) for part, table in tables.items()}
        self._asked(self._first())  # the slow part of the first answer, before it is asked for
        self.on_msg(self._on_message)

    def _on_message(self, _: object, content: Any, __: object) -> None:
        number = content.get("n") if isinstance(content, dict) else None
        if type(number) is not int:
            return
        try:
            answer = self.answer(content)
        except IteraError as error:
            answer = {"error": str(error)}
        except (KeyError, ValueError, TypeError):
            answer = {"error": "this question was not understood; run the cell again"}
        self.send({"n": number, **answer})

    def answer(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one message of the browser.

        Raises:
            KeyError, ValueError, TypeError: The message is none that the browser's part of this widget sends.
            IteraError: A reveal that is not allowed.
        """
        answers = {
            "start": self._start,
            "view": self._answer_view,
            "rows": self._answer_rows,
            "difference": self._answer_difference,
            "detail": self._answer_detail,
            "text": self._answer_text,
            "reveal": self._answer_reveal,
        }
        return answers[_text(content, "ask", 20)](content)

    def _first(self) -> dict[str, Any]:
        part, views = next(iter(self._views.items()))
        return {"part": part, "arm": views.table.candidates[0]}

    def _start(self, content: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "view": self._answer_view({**self._first(), "count": content.get("count")}),
            "parts": [
                {
                    "name": part,
                    "guarded": table.hidden is not None,
                    "baseline": table.baseline,
                    "arms": table.candidates,
                    "slices": views.slice_ids[:MOST_SLICES],
                    "labels": {name: [whole(x, 200) for x in s.names] for name, s in table.slices.items()},
                    "modes": list(table.modes),
                }
                for part, views in self._views.items()
                for table in [views.table]
            ],
            "kinds": list(KINDS),
            "differences": list(DIFFERENCES),
            "most": MOST_REVEALED,
            "mayReveal": self._record is not None,
        }

    def _answer_view(self, content: Mapping[str, Any]) -> dict[str, Any]:
        view = self._asked(content)
        table = view.table
        return {
            "total": len(view.order),
            "of": len(table),
            "unread": table.unread,
            "hidden": len(view.hidden),
            "counts": view.counts,
            "summaries": view.summaries,
            "columns": table.columns(view.arm),
            "block": self._answer_rows(content),
        }

    def _answer_rows(self, content: Mapping[str, Any]) -> dict[str, Any]:
        view = self._asked(content)
        first = _number(content, "first", 0, len(view.order))
        return block(view.table, view.arm, view.order, first, _number(content, "count", 0, MOST_ROWS))

    def _answer_difference(self, content: Mapping[str, Any]) -> dict[str, Any]:
        view = self._asked(content)
        at = _number(content, "at", -1, len(view.order))
        return {"at": view.difference(at, 1 if _number(content, "step", -1, 1) > 0 else -1)}

    def _answer_detail(self, content: Mapping[str, Any]) -> dict[str, Any]:
        view = self._asked(content)
        return detail(view.table, view.arm, _row(content, view), _number(content, "trial", 0, MOST_TRIALS))

    def _answer_text(self, content: Mapping[str, Any]) -> dict[str, Any]:
        table = self._views[_one_of(content, "part", self._views)].table
        arm = None if content.get("side") is None else _one_of(content, "side", table.arms)
        row, trial = _number(content, "row", 0, len(table) - 1), _number(content, "trial", 0, MOST_TRIALS)
        found = full_text(table, row, _text(content, "title", 200), arm, trial)
        if found is None:
            raise ValueError("no such text")
        return {"text": found}

    def _answer_reveal(self, content: Mapping[str, Any]) -> dict[str, Any]:
        view, why = self._asked(content), _text(content, "why", 2_000)
        hidden = view.table.hidden
        if hidden is None or self._record is None:
            raise ValueError("nothing is hidden here")
        if content.get("at") is None:
            rows = view.hidden
            if len(rows) != _number(content, "expected", 1, MOST_REVEALED):
                raise ValueError("the view has changed")
        else:
            rows = [_row(content, view)]
        self._record([str(view.table.ids[row]) for row in rows], why)
        hidden[rows] = False
        return {"revealed": len(rows), "unread": view.table.unread}

    def _asked(self, content: Mapping[str, Any]) -> RowView:
        """The view that a message is about, each value of its query one that this widget offers."""
        views = self._views[_one_of(content, "part", self._views)]
        arm = _one_of(content, "arm", views.table.candidates)
        descending = content.get("descending", False)
        if type(descending) is not bool:
            raise TypeError("descending")
        query = Query(
            arm=arm,
            kind=_one_of(content, "kind", KIND_FILTERS),
            slice=_one_of(content, "slice", ["", *views.slice_ids]),
            mode=_one_of(content, "mode", ["", *views.table.modes]),
            text=_text(content, "text", LONGEST_SEARCH),
            sort=_one_of(content, "sort", ["", *views.table.columns(arm)]),
            descending=descending,
        )
        return views.make(query)


def _row(content: Mapping[str, Any], view: RowView) -> int:
    return int(view.order[_number(content, "at", 0, len(view.order) - 1)])


def _text(content: Mapping[str, Any], name: str, longest: int) -> str:
    value = content.get(name, "")
    if not isinstance(value, str) or len(value) > longest:
        raise ValueError(name)
    return value


def _one_of(content: Mapping[str, Any], name: str, known: Any) -> str:
    value = content.get(name, "")
    if not isinstance(value, str) or value not in known:
        raise ValueError(name)
    return value


def _number(content: Mapping[str, Any], name: str, low: int, high: int) -> int:
    value = content.get(name, 0)
    if type(value) is not int or not low <= value <= high:
        raise ValueError(name)
    return value
