"""The one-page conclusion: its sections as HTML for notebooks, Markdown for review, terminal text."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.environment import Template

from itera_nb.report.story import tell
from itera_nb.report.wording import (
    Marked,
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
_PAGE = Path(__file__).with_name("page")


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the page: an HTML fragment with its picture inlined, Markdown, text, and the picture."""

    html: str
    markdown: str
    text: str
    figure: Figure | None


def section(data: Mapping[str, Any], name: SectionName) -> Section:
    """One section of the page; only the pictures that it shows are drawn.

    Raises:
        DataError: A key is missing or of the wrong type; the message names it.
    """
    from itera_nb.report.charts import CHARTS

    figure = CHARTS[_DRAWN[name]](data) if name in _DRAWN else None
    context = _context(data, figure)
    return Section(
        html=_block(_html_template(), name, context),
        markdown=_block(_markdown_template(), name, context),
        text=_block(_text_template(), name, context),
        figure=figure,
    )


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


@cache
def _html_template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_PAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["prose"] = prose_html
    return environment.get_template("sections.html.j2")


@cache
def _markdown_template() -> Template:
    # Every value is escaped as it is printed (`finalize`); what is Markdown already says so by its type.
    environment = Environment(  # noqa: S701 - HTML is escaped with the rest of Markdown's syntax
        loader=FileSystemLoader(templates_dir()),
        finalize=_escape_once,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"prose": prose_markdown, "code": markdown_code, "label": markdown_label}
    return environment.get_template("conclusion.md.j2")


def _escape_once(value: object) -> Marked:
    return value if isinstance(value, Marked) else markdown(value)


@cache
def _text_template() -> Template:
    environment = Environment(  # noqa: S701 - plain text; control characters were removed on reading
        loader=FileSystemLoader(_PAGE), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("sections.txt.j2")
