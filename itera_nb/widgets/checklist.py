"""A checklist that ticks itself: read again after every cell that runs, or at the press of a button."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from itera_nb.report.view import View
from itera_nb.widgets.live import after_each_cell, column, live


def checklist_view(key: str | None, read: Callable[[], View]) -> View:
    """What `read` says now; live, it can be read again.

    Args:
        key: Names the checklist that is read again after every cell (an older display of the same one then
            stops ticking); None: only at the press of the button, because reading it is slow.
        read: The checklist as it is at the moment.
    """
    return live(read(), lambda: Checklist(key, read).widget)


class Checklist:
    """The widget: the list, and a button for what happened outside this notebook."""

    def __init__(self, key: str | None, read: Callable[[], View]) -> None:
        import ipywidgets

        self._read = read
        self.list = ipywidgets.HTML()
        self.again = ipywidgets.Button(description="Check again", tooltip="Read the record again")
        self.again.on_click(lambda _: self.refresh())
        self.widget: Any = column(self.list, self.again)
        self.refresh()
        if key:
            after_each_cell(key, self.refresh)

    def refresh(self) -> None:
        """Tick what holds by now."""
        self.list.value = self._read().html
