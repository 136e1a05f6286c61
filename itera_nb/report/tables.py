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
    headers, title = [clean(h) for h in headers], clean(title)
    cells = [[clean(value) for value in row] for row in rows]
    return View(html=_html(headers, cells, title, notes), text=_text(headers, cells, title, notes))


def message(*lines: str, title: str = "") -> View:
    """Sentences without a table."""
    return table((), (), title=title, notes=lines)


def _html(headers: Sequence[str], rows: list[list[str]], title: str, notes: Sequence[str]) -> str:
    parts = [STYLE]
    if title:
        parts.append(f"<h4>{escape(title)}</h4>")
    if headers:
        head = "".join(f"<th>{escape(h)}</th>" for h in headers)
        body = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in rows)
        parts.append(f'<table class="itera-t"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>')
    parts += [f'<p class="itera-n">{escape(clean(note))}</p>' for note in notes]
    return "".join(parts)


def _text(headers: Sequence[str], rows: list[list[str]], title: str, notes: Sequence[str]) -> str:
    lines = [title] if title else []
    if headers:
        flat = [[c.replace("\n", " ") for c in row] for row in [list(headers), *rows]]
        widths = [min(max(len(row[i]) for row in flat), WIDEST) for i in range(len(headers))]
        lines += [
            "  ".join(shorten(c, w).ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
            for row in flat
        ]
    return "\n".join([*lines, *(clean(note) for note in notes)])
