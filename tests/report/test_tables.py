"""Tables of phase cells: the same figures twice, and nothing of a cell acted upon."""

import html
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itera_nb.report.tables import WIDEST, clean, message, table

HOSTILE = [
    "<script>alert(1)</script>",
    "a & b",
    '" onload="x',
    "\x1b[31mred\x1b[0m",
    "\r\x08\x07",
    "=cmd()",
    "{{x}}",
    "\u202e",
]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


class Cells(HTMLParser):
    """Text of every cell of the parsed HTML, and the tags seen."""

    def __init__(self):
        super().__init__()
        self.cells, self.tags, self._open = [], set(), False

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self._open = tag == "td"
        if self._open:
            self.cells.append("")

    def handle_endtag(self, tag):
        self._open = False

    def handle_data(self, data):
        if self._open:
            self.cells[-1] += data


def parsed(view):
    found = Cells()
    found.feed(view.html)
    return found


@pytest.mark.parametrize("value", HOSTILE)
def test_a_cell_is_shown_literally(value):
    view = table([value], [[value]], title=value, notes=[value])
    found = parsed(view)
    assert found.cells == [clean(value)]
    assert found.tags <= {"style", "h4", "table", "thead", "tbody", "tr", "th", "td", "p"}
    assert not set(view.text + view.html) & set("\x1b\r\x07\x08\u202e")


def test_control_characters_are_escaped_everywhere():
    view = table(["h"], [["\x1b[31mred"], ["a\rb"], ["bell\x07"]], notes=["\x1b[2J"])
    for shown in (view.text, html.unescape(view.html)):
        assert not set(shown) & set("\x1b\r\x07\x08")
        assert "\\x1b[31mred" in shown
        assert "\\x1b[2J" in shown


@given(st.lists(st.lists(TEXT, min_size=2, max_size=2), max_size=5))
def test_html_holds_every_cell_and_text_every_row(rows):
    view = table(["one", "two"], rows)
    assert parsed(view).cells == [clean(c) for row in rows for c in row]
    lines = view.text.split("\n")
    assert len(lines) == 1 + len(rows)
    assert all(len(line) <= 2 * WIDEST + 2 for line in lines)


def test_columns_of_a_text_stand_under_each_other():
    lines = table(["arm", "effect"], [["base", 1], ["a-longer-name", 2.5]]).text.split("\n")
    assert len({line.index(x) for line, x in zip(lines, ("effect", "1", "2.5"), strict=True)}) == 1


def test_nothing_is_an_empty_cell():
    assert parsed(table(["a"], [[None]])).cells == [""]
    assert clean(None) == ""


def test_messages():
    view = message("one", "two <b>", title="T")
    assert view.text == "T\none\ntwo <b>"
    assert "two &lt;b&gt;" in view.html
    assert "<table" not in view.html
