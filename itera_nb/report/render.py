"""The executed verdict notebook as one HTML file that opens anywhere, offline, and prints on two pages."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from itera_nb.exceptions import DataError
from itera_nb.report.view import style_tag
from itera_nb.report.wording import clean
from itera_nb.scoring.package import templates_dir

_LEFT_OUT = {"remove_cell", "parameters", "injected-parameters"}
_SHOWN = ("text/html", "image/png")


def render_html(notebook: Path, out: Path) -> None:
    """Write an executed notebook as a self-contained page: what its cells show, no code, script or request.

    Cells tagged `remove_cell` (or as parameters) are left out, and so is every output that is neither HTML, a
    picture nor an error: progress bars, widgets and bare text. The page's title is its first heading.

    Args:
        notebook: An executed `.ipynb`.
        out: The HTML file; it appears whole or not at all.

    Raises:
        DataError: The notebook cannot be read, or shows nothing.
    """
    import nbformat

    try:
        book = nbformat.read(notebook, as_version=4)
    except Exception as error:  # noqa: BLE001 - a malformed file makes nbformat raise anything
        reason = type(error).__name__  # the message may repeat what the notebook holds
        raise DataError(
            f"{notebook}: not a readable notebook ({reason})", fix="run `itera verdict`"
        ) from None
    _strip(book)
    title = next(filter(None, (_first_heading(shown) for shown in _shown_html(book))), None)
    if title is None:
        raise DataError(f"{notebook} shows no conclusion", fix="run `itera verdict`, which executes it")
    _write(out, _convert(book, title))


def _convert(book: Any, title: str) -> str:
    from nbconvert.exporters import HTMLExporter
    from traitlets.config import Config

    config = Config()
    config.HTMLExporter.preprocessors = []
    config.HTMLExporter.exclude_input = True
    config.NbConvertBase.display_data_priority = list(_SHOWN)
    exporter = HTMLExporter(
        config=config, template_name="itera", extra_template_basedirs=[str(templates_dir() / "nbconvert")]
    )
    page, _ = exporter.from_notebook_node(book, resources={"page_title": title, "page_style": style_tag()})
    return str(page)


def _strip(book: Any) -> None:
    """Drop what the page does not show; widgets leave their HTML twin behind."""
    book.metadata.pop("widgets", None)
    book.cells = [c for c in book.cells if not _LEFT_OUT & set(c.metadata.get("tags", []))]
    for cell in book.cells:
        if cell.cell_type != "code":
            continue
        cell.outputs = [
            o for o in cell.outputs if o.output_type == "error" or o.get("data", {}).keys() & set(_SHOWN)
        ]
        for output in cell.outputs:
            data = output.get("data", {})
            output.update({"data": {k: data[k] for k in _SHOWN if k in data}} if data else {})
            if "text/html" in data:  # the page carries the style sheet once
                output.data["text/html"] = "".join(data["text/html"]).replace(style_tag(), "")


def _shown_html(book: Any) -> list[str]:
    return [
        output.data["text/html"]
        for cell in book.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "text/html" in output.get("data", {})
    ]


def _first_heading(shown: str) -> str:
    found = re.search(r"<h1\b[^>]*>(.*?)</h1>", shown, re.DOTALL)
    return clean(html.unescape(re.sub(r"<[^>]+>", "", found[1]))) if found else ""


def _write(out: Path, page: str) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_name(f".{out.name}.part")
    draft.write_text(page, encoding="utf-8")
    draft.replace(out)
