import csv
import io
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itera_nb.exceptions import DataError
from itera_nb.scoring.ratings import Item, from_csv, to_csv, value_of, wanted

HOSTILE = [
    '=HYPERLINK("http://127.0.0.1/?"&A1,"click")',
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "  =1",
    "'=1",
    "\uff1d1",
    "\ufeff=1",
    "\x1b[2J=1",
]


def items(outputs=("Refund it.", "No."), *, pairwise=False):
    if pairwise:
        return [Item(f"c{i}", {"body": f"row {i}"}, (text, "other")) for i, text in enumerate(outputs)]
    return [Item(f"c{i}", {"body": f"row {i}"}, (text,), expected="refund") for i, text in enumerate(outputs)]


def cells(text):
    return list(csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline="")))


def filled(asked, *ratings):
    """The worksheet as a person saves it."""
    lines = cells(to_csv(asked))
    for line, rating in zip(lines[1:], ratings, strict=False):
        line[-1] = rating
    text = io.StringIO()
    csv.writer(text).writerows(lines)
    return text.getvalue().encode()


def test_worksheet_holds_what_a_rater_needs_and_nothing_else():
    head, first, second = cells(to_csv(items()))
    assert head == ["number", "item", "input: body", "reference", "output", "rating"]
    assert first == ["1", "c0", "row 0", "refund", "Refund it.", ""]
    assert second[4] == "No."
    assert cells(to_csv(items(pairwise=True)))[0] == [
        "number", "item", "input: body", "output A", "output B", "rating",
    ]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_no_cell_starts_a_formula(text):
    asked = [Item("c0", {text: text}, (text,), expected=text)]
    for line in cells(to_csv(asked)):
        for cell in line:
            assert not cell or cell.lstrip(" \n\t")[:1] not in set("=+-@\uff1d\ufeff\x1b"), cell
    assert "\x1b" not in to_csv(asked)


@given(st.lists(st.text(max_size=30), min_size=1, max_size=6, unique=True))
def test_any_text_survives_a_round_trip_of_ratings(texts):
    asked = items(texts)
    said = {item.code: "7" for item in asked[::2]}
    again = to_csv(asked, said).encode()
    assert from_csv(again, asked, 10) == said
    assert len(cells(to_csv(asked))) == len(texts) + 1


def test_half_filled_worksheet_gives_what_is_there():
    asked = items(("a", "b", "c"))
    assert from_csv(filled(asked, "8", "", "?"), asked, 10) == {"c0": "8", "c2": "?"}


def test_reordered_lines_further_columns_and_semicolons_do_no_harm():
    asked = items(("a", "b", "c"))
    lines = cells(filled(asked, "1", "2", "3").decode())
    lines = [[*lines[0], "note"], *([*line, "mine; and, mine"] for line in reversed(lines[1:]))]
    text = io.StringIO()
    csv.writer(text, delimiter=";").writerows(lines)
    assert from_csv(b"\xef\xbb\xbf" + text.getvalue().encode(), asked, 10) == {
        "c0": "1",
        "c1": "2",
        "c2": "3",
    }


@pytest.mark.parametrize("said", ["eleven", "11", "-1", "nan", "inf", "A", "1e999"])
def test_ratings_off_the_scale_are_named_by_line_and_never_quoted(said):
    asked = items(("secret words", "b"))
    with pytest.raises(DataError) as error:
        from_csv(filled(asked, "3", said), asked, 10)
    assert "1 ratings cannot be read (first lines: 3)" in str(error.value)
    assert "0 (worst) to 10 (best)" in str(error.value)
    assert "secret" not in str(error.value)


def test_worksheet_of_other_outputs_is_refused():
    asked = items()
    with pytest.raises(DataError, match="2 lines of the worksheet are of other items"):
        from_csv(to_csv([Item("x1", {}, ("a",)), Item("x2", {}, ("b",))]).encode(), asked, 10)


@pytest.mark.parametrize("data", [b"", b"\xff\xfe\x00", b"a,b\r\n1,2\r\n", b"PK\x03\x04"])
def test_other_files_are_refused(data):
    with pytest.raises(DataError, match="worksheet"):
        from_csv(data, items(), 10)


def test_two_ratings_of_one_item_must_agree():
    asked = items(("a",))
    twice = cells(to_csv(asked, {"c0": "4"}))
    text = io.StringIO()
    csv.writer(text).writerows([*twice, [*twice[1][:-1], "9"]])
    with pytest.raises(DataError, match="first lines: 3"):
        from_csv(text.getvalue().encode(), asked, 10)


def test_what_a_rater_reads_is_the_text_as_it_stands():
    text = "Dear Ms Weiß,\r\n10\u00a0€ and 5\u202f% are refunded \U0001f469\u200d\U0001f4bb\rYours"
    shown = "Dear Ms Weiß,\n10\u00a0€ and 5\u202f% are refunded \U0001f469\u200d\U0001f4bb\nYours"
    assert cells(to_csv(items((text,))))[1][4] == shown
    assert cells(to_csv(items(("a\u202eb\x07c",))))[1][4] == "a\ufffdb\ufffdc", (
        "nothing that hides or commands"
    )


def test_a_worksheet_of_long_texts_is_read_back():
    asked = items(("long " * 40_000,))
    assert from_csv(to_csv(asked, {"c0": "3"}).encode(), asked, 10) == {"c0": "3"}


def test_values():
    assert value_of(" 7,5 ", 10, pairwise=False) == pytest.approx(0.75)
    assert value_of("0", 10, pairwise=False) == 0
    assert math.isnan(value_of("?", 10, pairwise=False))
    assert [value_of(x, 10, pairwise=True) for x in ("A", "b", "TIE", "7")] == [1, -1, 0, None]
    assert wanted(items(pairwise=True), 10).startswith("A, B or tie")
