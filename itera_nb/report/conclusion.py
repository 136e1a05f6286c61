"""The one-page conclusion: its sections as HTML for notebooks and terminal text, the whole as Markdown."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.environment import Template

from itera_nb.report.story import tell
from itera_nb.report.view import PAGE, View, style_tag
from itera_nb.report.wording import (
    markdown,
    markdown_code,
    markdown_label,
    prose_html,
    prose_markdown,
)
from itera_nb.scoring.package import templates_dir

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SectionName: TypeAlias = Literal["verdict", "forest", "slices", "cost_accuracy", "conclusion"]
SECTIONS: tuple[SectionName, ...] = ("verdict", "forest", "slices", "cost_accuracy", "conclusion")
_DRAWN = {"forest": "forest-plot", "cost_accuracy": "cost-vs-accuracy", "conclusion": "arm-bar"}


def section(data: Mapping[str, Any], name: SectionName) -> View:
    """One section of the page, styled, as a cell shows it; only the picture that it shows is drawn.

    Raises:
        DataError: A key of `data` is missing or of the wrong type; the message names it.
    """
    from itera_nb.report.charts import CHARTS

    figure = CHARTS[_DRAWN[name]](data) if name in _DRAWN else None
    context = _context(data, figure)
    html, text = (_block(template(), name, context) for template in (_html_template, _text_template))
    return View(style_tag() + html, text, figure)


def conclusion_md(data: Mapping[str, Any]) -> str:
    """The whole page as Markdown; pictures are referenced as `charts/*.png`.

    Raises:
        DataError: A key is missing or of the wrong type; the message names it.
    """
    return _markdown_template().render(_context(data, None))


def _context(data: Mapping[str, Any], figure: Figure | None) -> dict[str, Any]:
    from itera_nb.report.charts import alt_text, png

    uri = "data:image/png;base64," + base64.b64encode(png(figure)).decode() if figure else ""
    return {"it": tell(data), "alt": partial(alt_text, data), "picture": uri}


def _block(template: Template, name: SectionName, context: dict[str, Any]) -> str:
    return "".join(template.blocks[name](template.new_context(context))).strip() + "\n"


def _environment(folder: Path, **options: Any) -> Environment:
    # What is not HTML is plain text, whose control characters are gone since reading, or Markdown, see below.
    return Environment(  # noqa: S701
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **options,
    )


@cache
def _html_template() -> Template:
    environment = _environment(PAGE, autoescape=True)
    environment.filters["prose"] = prose_html
    return environment.get_template("sections.html.j2")


@cache
def _text_template() -> Template:
    return _environment(PAGE).get_template("sections.txt.j2")


@cache
def _markdown_template() -> Template:
    # Every value is escaped as it is printed (`finalize`); what is Markdown already says so by its type.
    environment = _environment(templates_dir(), finalize=markdown, keep_trailing_newline=True)
    environment.filters |= {"prose": prose_markdown, "code": markdown_code, "label": markdown_label}
    return environment.get_template("conclusion.md.j2")
