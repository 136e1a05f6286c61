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

MOST_ROWS, MOST_SLICES, MOST_REVEALED, KEPT_VIEWS = 500, 400, 500, 4
KIND_FILTERS = ("", "different", *KINDS)


class Inspector(anywidget.AnyWidget):  # type: ignore[misc]
    """The widget over some tables, one a part.

    Args:
        tables: Part -> its rows, the first one shown first; each with a baseline and at least one other arm.
        reveal: Records that these rows' text is shown, and why; without it hidden rows stay hidden. It raises
            an `IteraError` where that is not allowed.
        arm: The arm shown first; without one, the first candidate.

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
        *,
        arm: str | None = None,
    ) -> None:
        super().__init__()
        self._tables, self._record, self._arm = dict(tables), reveal, arm
        self._views = {part: Views(table) for part, table in tables.items()}
        self._kept: dict[tuple[str, Query, int], RowView] = {}
        part = next(iter(tables))
        self._view(
            part, Query(self._first_arm(part))
        )  # the slow part of the first answer, before it is asked for
        self.on_msg(self._on_message)

    # messages ----------------------------------------------------------------------------------------------

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

    def _start(self, content: Mapping[str, Any]) -> dict[str, Any]:
        part = next(iter(self._tables))
        first = {"part": part, "arm": self._first_arm(part), "count": content.get("count")}
        return {
            "view": self._answer_view(first),
            "parts": [
                {
                    "name": part,
                    "rows": len(table),
                    "guarded": table.hidden is not None,
                    "baseline": table.baseline,
                    "arms": table.candidates,
                    "arm": self._first_arm(part),
                    "slices": self._views[part].slice_ids[:MOST_SLICES],
                    "labels": {name: [whole(x, 200) for x in s.names] for name, s in table.slices.items()},
                    "modes": list(table.modes),
                    "pairwise": table.pairwise,
                    "sides": list(table.texts),
                }
                for part, table in self._tables.items()
            ],
            "kinds": list(KINDS),
            "differences": list(DIFFERENCES),
            "most": MOST_REVEALED,
            "mayReveal": self._record is not None,
        }

    def _answer_view(self, content: Mapping[str, Any]) -> dict[str, Any]:
        part, query = self._question(content)
        table, view = self._tables[part], self._view(part, query)
        return {
            "total": len(view.order),
            "of": len(table),
            "unread": table.unread,
            "hidden": len(self._hidden(part, view)),
            "counts": view.counts,
            "summaries": view.summaries,
            "columns": self._views[part].columns(query.arm),
            "block": self._answer_rows(content),
        }

    def _answer_rows(self, content: Mapping[str, Any]) -> dict[str, Any]:
        part, query = self._question(content)
        view = self._view(part, query)
        first = _number(content, "first", 0, len(view.order))
        count = _number(content, "count", 0, MOST_ROWS)
        return block(self._tables[part], query.arm, view.order, first, count)

    def _answer_difference(self, content: Mapping[str, Any]) -> dict[str, Any]:
        part, query = self._question(content)
        view = self._view(part, query)
        at = _number(content, "at", -1, len(view.order))
        return {"at": view.difference(at, 1 if _number(content, "step", -1, 1) > 0 else -1)}

    def _answer_detail(self, content: Mapping[str, Any]) -> dict[str, Any]:
        part, query = self._question(content)
        view = self._view(part, query)
        row = int(view.order[_number(content, "at", 0, len(view.order) - 1)])
        return detail(self._tables[part], query.arm, row, _number(content, "trial", 0, 10_000))

    def _answer_text(self, content: Mapping[str, Any]) -> dict[str, Any]:
        part = _one_of(content, "part", self._tables)
        table = self._tables[part]
        arm = None if content.get("side") is None else _one_of(content, "side", table.arms)
        row, trial = _number(content, "row", 0, len(table) - 1), _number(content, "trial", 0, 10_000)
        found = full_text(table, row, _text(content, "title", 200), arm, trial)
        if found is None:
            raise ValueError("no such text")
        return {"text": found}

    def _answer_reveal(self, content: Mapping[str, Any]) -> dict[str, Any]:
        part, query = self._question(content)
        table, why = self._tables[part], _text(content, "why", 2_000)
        if table.hidden is None or self._record is None:
            raise ValueError("nothing is hidden here")
        view = self._view(part, query)
        if content.get("at") is None:
            rows = self._hidden(part, view)
            if len(rows) != _number(content, "expected", 1, MOST_REVEALED):
                raise ValueError("the view has changed")
        else:
            rows = [int(view.order[_number(content, "at", 0, len(view.order) - 1)])]
        self._record([str(table.ids[row]) for row in rows], why)
        table.hidden[rows] = False
        self._kept.clear()
        return {"revealed": len(rows), "unread": table.unread}

    # views -------------------------------------------------------------------------------------------------

    def _question(self, content: Mapping[str, Any]) -> tuple[str, Query]:
        """The part and the query of a message, each value one that this widget offers."""
        part = _one_of(content, "part", self._tables)
        table, views = self._tables[part], self._views[part]
        arm = _one_of(content, "arm", table.candidates)
        descending = content.get("descending", False)
        if type(descending) is not bool:
            raise TypeError("descending")
        return part, Query(
            arm=arm,
            kind=_one_of(content, "kind", KIND_FILTERS),
            slice=_one_of(content, "slice", ["", *views.slice_ids]),
            mode=_one_of(content, "mode", ["", *table.modes]),
            text=_text(content, "text", LONGEST_SEARCH),
            sort=_one_of(content, "sort", ["", *views.columns(arm)]),
            descending=descending,
        )

    def _view(self, part: str, query: Query) -> RowView:
        key = (part, query, self._tables[part].unread)
        if key not in self._kept:
            while len(self._kept) >= KEPT_VIEWS:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = self._views[part].make(query)
        return self._kept[key]

    def _hidden(self, part: str, view: RowView) -> list[int]:
        hidden = self._tables[part].hidden
        rows: list[int] = [] if hidden is None else view.order[hidden[view.order]].tolist()
        return rows

    def _first_arm(self, part: str) -> str:
        candidates = self._tables[part].candidates
        return self._arm if self._arm in candidates else candidates[0]


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
