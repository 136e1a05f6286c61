"""What a notebook cell displays: static HTML and text, never a widget, so that saving keeps it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = Path(__file__).with_name("page")


@dataclass(frozen=True, slots=True, repr=False)
class View:
    """Something to look at: `html` in a notebook, `text` in a terminal, and the `figure` if there is one."""

    html: str
    text: str
    figure: Figure | None = None

    def _repr_mimebundle_(
        self,
        include: Collection[str] | None = None,  # noqa: ARG002 - IPython passes both and filters itself
        exclude: Collection[str] | None = None,  # noqa: ARG002
    ) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": self.text}

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"View({self.text.partition(chr(10))[0]!r})"


@cache
def style_tag() -> str:
    """The page's style sheet in a `<style>` element: light, dark and paper, no external resource."""
    css = (PAGE / "style.css").read_text(encoding="utf-8")
    return f"<style>\n{css}</style>\n"
