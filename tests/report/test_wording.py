import re
from html import unescape

import mistune
import pytest
from hypothesis import given
from hypothesis import strategies as st

from itera_nb.report.wording import (
    clean,
    count,
    interval,
    level,
    markdown,
    markdown_code,
    milliseconds,
    moment,
    percent,
    points,
    prose_html,
    prose_markdown,
    short_hash,
    shorten,
    threshold,
    usd,
)

RENDER = mistune.create_markdown(
    escape=False, plugins=["table", "strikethrough", "url", "task_lists", "footnotes", "math"]
)
PLAIN = re.compile(r"<p>(.*)</p>\n", re.DOTALL)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (points(0.0534), "+5.3"),
        (points(-0.13), "−13.0"),
        (points(-0.0002), "0.0"),
        (interval(-0.019, 0.103), "[−1.9, +10.3]"),
        (threshold(0.05), "+5"),
        (threshold(-0.025), "−2.5"),
        (percent(0.7123), "71.2\u00a0%"),
        (level(0.05), "95\u00a0%"),
        (level(0.0294), "97.1\u00a0%"),
        (count(3880), "3,880"),
        (count(36.1), "36.1"),
        (usd(0.0), "$0"),
        (usd(0.02, sign=True), "+$0.02"),
        (usd(-2.2, sign=True), "−$2.20"),
        (usd(0.0018), "$0.0018"),
        (usd(0.0000352), "$0.000035"),
        (milliseconds(-1060.0, sign=True), "−1,060\u00a0ms"),
        (milliseconds(0.4), "0.4\u00a0ms"),
        (moment("2026-11-21T15:02:11+01:00"), "21 Nov 2026 14:02"),
        (moment("yesterday"), "yesterday"),
        (short_hash("91d2c7a04e5b8f66d407"), "91d2c7a0…07"),
        (shorten("a long name", 7), "a long…"),
    ],
)
def test_a_figure_is_written_as_its_readers_write_it(written, expected):
    assert written == expected


def test_cleaning_removes_what_hides_or_moves_text():
    assert clean("\u202eevil\u202c \u2067x\u2069\n\x1b[31mred\x07\ud800\u200b") == "evil x [31mred\ufffd"


def test_cleaning_keeps_scripts_that_need_joiners():
    assert clean("می\u200cخواهم 日本語") == "می\u200cخواهم 日本語"


@given(st.text())
def test_cleaned_text_is_one_line_and_stays_so(text):
    assert clean(clean(text)) == clean(text)
    assert len(clean(text).splitlines()) <= 1


@given(
    st.text(alphabet=st.sampled_from(list("ab1 \\`*_[]()<>#|!~$&^{}:/.-+=@\"'xw")), min_size=1, max_size=30)
)
def test_markdown_shows_any_text_literally(text):
    text = "x " + clean(text)  # a line of the page never begins with somebody's text
    found = PLAIN.fullmatch(RENDER(markdown(text)))
    assert found
    assert "<" not in found[1]
    assert unescape(found[1]).strip() == text.strip()


@pytest.mark.parametrize(
    "text",
    ["[click](http://evil.example)", "<script>x</script>", "![i](x.png)", "https://evil.example", "www.evil.example",
     "$\\frac{x}{0}$", "~~gone~~", "[x]: http://evil.example", "[^1]: note", "# head", "- item", "&lt;b&gt;"],
)  # fmt: skip
def test_known_attacks_are_literal_even_at_the_start_of_a_line(text):
    found = PLAIN.fullmatch(RENDER(markdown(text)))
    assert found
    assert "<" not in found[1]
    assert unescape(found[1]) == text


def test_a_pipe_does_not_open_a_table_cell():
    table = RENDER(f"| h | k |\n|--|--|\n| {markdown('a | b')} | {markdown_code('c|d')} |\n")
    assert table.count("<td>") == 2
    assert "a | b" in table
    assert "c|d" in table


@given(st.text(alphabet=st.sampled_from(list("ab `|*<&\\")), min_size=1, max_size=20).map(clean).filter(bool))
def test_a_code_span_shows_any_text_literally(text):
    shown = re.sub(r"</?(?:p|code)>", "", RENDER("x " + markdown_code(text)))
    assert "<" not in shown
    assert unescape(shown).removeprefix("x").strip() == text.strip()


def test_our_sentences_keep_code_spans_and_nothing_else():
    assert prose_html("put `a<b` *first* <i>") == "put <code>a&lt;b</code> *first* &lt;i&gt;"
    assert prose_markdown("put `a<b` *first*") == "put `a<b` \\*first\\*"
