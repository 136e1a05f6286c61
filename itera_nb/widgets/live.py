"""A view that is a widget while a person works with it, and the same as static HTML everywhere else."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from itera_nb.exceptions import IteraError
from itera_nb.report.view import View
from itera_nb.scoring.progress import headless
from itera_nb.widgets.forms import button


def attended() -> bool:
    """Whether a person can work with a widget: a notebook's kernel runs this, not the notebook runner."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return not headless() and getattr(shell, "kernel", None) is not None


@dataclass(frozen=True, slots=True, repr=False)
class Live(View):
    """A static view with the widget that a person gets instead of it: `build` is called at each display.

    A saved notebook keeps the HTML and the text beside the widget's id; a headless run has only those.
    """

    build: Callable[[], Any] | None = None

    def _repr_mimebundle_(
        self,
        include: Collection[str] | None = None,
        exclude: Collection[str] | None = None,
    ) -> Any:
        static = View._repr_mimebundle_(self, include, exclude)
        if self.build is None or not attended():
            return static
        bundle = self.build()._repr_mimebundle_(include=include, exclude=exclude)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        return {**data, **static}, metadata


def live(view: View, build: Callable[[], Any]) -> View:
    """`view`, shown as the widget that `build` makes wherever a person can work with one."""
    return Live(view.html, view.text, view.figure, build)


_after: dict[str, Callable[[Any], None]] = {}


def after_each_cell(key: str, act: Callable[[], None]) -> None:
    """Call `act` after every cell that this kernel runs; only the latest of each `key` stays registered."""
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None:
        return
    if earlier := _after.pop(key, None):
        with contextlib.suppress(ValueError):  # another shell's
            shell.events.unregister("post_run_cell", earlier)

    def run(_result: object) -> None:
        with contextlib.suppress(IteraError):  # a broken record is said by the cell that needs it
            act()

    _after[key] = run
    shell.events.register("post_run_cell", run)


def something_happened() -> None:
    """As after a cell: what a button did is followed by every list that ticks itself."""
    for act in list(_after.values()):
        act(None)


STYLE = (
    "<style>.itera-w .widget-html-content{line-height:1.5}.itera-w h4,.itera-w h5{margin:.8em 0 .2em}"
    ".itera-w p{margin:.2em 0}.itera-w .itera-bad{color:var(--jp-error-color0,#b71c1c)}</style>"
)


def column(*children: Any) -> Any:
    """Widgets one below the other, with the sheet of style that their HTML needs."""
    import ipywidgets

    box = ipywidgets.VBox([ipywidgets.HTML(STYLE), *children])
    box.add_class("itera-w")
    return box


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
        self.again = button("Check again", "Read the record again", self.refresh, self.list)
        self.widget: Any = column(self.list, self.again)
        self.refresh()
        if key:
            after_each_cell(key, self.refresh)

    def refresh(self) -> None:
        """Tick what holds by now."""
        self.list.value = self._read().html
