"""Small tables that phase cells show: the same figures as HTML for a notebook and as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from itera_nb.exceptions import printable
from itera_nb.report.view import View
from itera_nb.report.wording import shorten

WIDEST = 76
STYLE = (
    "<style>.itera-t{border-collapse:collapse;font-size:.92em;margin:.4em 0}"
    ".itera-t th{text-align:left;font-weight:600;border-bottom:1px solid currentColor}"
    ".itera-t th{padding:.2em .9em .2em 0}"
    ".itera-t td{text-align:left;vertical-align:top;padding:.15em .9em .15em 0;white-space:pre-wrap;"
    "overflow-wrap:break-word;max-width:40em}.itera-n{opacity:.8;margin:.3em 0}</style>"
)


def clean(value: object) -> str:
    """A value as printable text: control characters escaped, so that a row cannot draw on a terminal."""
    return printable("" if value is None else str(value))


def table(
    headers: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = "", notes: Sequence[str] = ()
) -> View:
    """A table with a title and notes below; every cell is shown literally."""
    if not headers:
        return framed("", (), title=title, notes=notes)
    headers = [clean(h) for h in headers]
    cells = [[clean(value) for value in row] for row in rows]
    return framed(_html(headers, cells), _text([headers, *cells]), title=title, notes=notes)


def message(*lines: str, title: str = "") -> View:
    """Sentences without a table."""
    return framed("", (), title=title, notes=lines)


def framed(
    html: str, lines: Sequence[str], *, title: str = "", notes: Sequence[str] = (), style: str = STYLE
) -> View:
    """A body, as HTML and as lines of text, between its title and its notes, which are shown literally."""
    above, below = [clean(title)] if title else [], [clean(note) for note in notes]
    head = "".join(f"<h4>{escape(line)}</h4>" for line in above)
    foot = "".join(f'<p class="itera-n">{escape(line)}</p>' for line in below)
    return View(f"{style}{head}{html}{foot}", "\n".join([*above, *lines, *below]))


def stacked(*views: View, between: str = "\n") -> View:
    """Views one below the other."""
    return View("".join(v.html for v in views), between.join(v.text for v in views))


def _html(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(h)}</th>" for h in headers)
    body = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in rows)
    return f'<table class="itera-t"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _text(rows: Sequence[Sequence[str]]) -> list[str]:
    flat = [[c.replace("\n", " ") for c in row] for row in rows]
    widths = [min(max(map(len, column)), WIDEST) for column in zip(*flat, strict=True)]
    return [
        "  ".join(shorten(c, w).ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in flat
    ]
