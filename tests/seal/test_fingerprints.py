"""Fingerprints find rows in whatever writing, and say nothing without their key."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itera_nb.seal.fingerprints import Index, IndexBuilder, readable

WORDS = [
    f"{a}{b}{c}"
    for a in ("ba", "ke", "lo", "mi")
    for b in ("ra", "ste", "no", "vi")
    for c in ("t", "s", "lm")
]


def prose(words, seed):
    draw = random.Random(seed)
    return " ".join(draw.choice(WORDS) + str(draw.randrange(100)) for _ in range(words))


ROWS = [prose(40, n) for n in range(50)]
GREETING = "Dear team, thank you for contacting us about your order, we will answer as soon as we can. "
SHORT = "Fee 23,50 waived for ACME?"


def index(rows=ROWS, key=b"k" * 32):
    builder = IndexBuilder(key)
    builder.add([f"r{n}" for n in range(len(rows))], ([r] if isinstance(r, str) else r for r in rows))
    return builder.build()


INDEX = index([*ROWS, SHORT])


def found(text, within=INDEX):
    hits = within.find(text if isinstance(text, bytes) else text.encode())
    return hits.passages | hits.wholes


@pytest.mark.parametrize(
    "written",
    [
        str,
        str.upper,
        lambda t: t.replace(" ", "\n> "),
        lambda t: "".join(f"{c}\u200b" for c in t),
        lambda t: "".join(chr(ord(c) + 0xFEE0) if c.isalnum() else c for c in t),
        lambda t: t.replace(" ", "-"),
        lambda t: "before " + t + " after",
        lambda t: t.encode("utf-16-le"),
        lambda t: b"\x80\x04\x95" + t.encode() + b"\x94.",
    ],
    ids=[
        "as it is",
        "upper case",
        "wrapped",
        "zero width",
        "full width",
        "signs",
        "inside",
        "utf-16",
        "binary",
    ],
)
@pytest.mark.parametrize("row", [3, 50])
def test_rows_are_found_in_any_writing(written, row):
    assert found(written([*ROWS, SHORT][row])) == {row}


def test_a_changed_word_and_half_a_row_are_found():
    words = ROWS[7].split()
    assert found(" ".join([*words[:20], "changed", *words[21:]])) == {7}
    assert found(" ".join(words[:20])) == {7}


def test_a_short_row_is_found_only_as_a_whole():
    hits = INDEX.find(f"few shot: {SHORT.lower()} yes".encode())
    assert (hits.passages, hits.wholes) == (set(), {50})
    assert found(SHORT[:-6]) == set()


def test_other_text_is_not_found():
    assert found("\n".join(prose(60, n) for n in range(1000, 1200))) == set()


@given(st.text(max_size=300))
@settings(max_examples=150)
def test_a_long_enough_row_finds_itself(text):
    kept = sum(c.isalnum() for c in text)
    within = index([text, ROWS[0]])
    assert (0 in found(text, within)) == (0 in set(within.passages.rows) | set(within.wholes.rows))
    if kept >= 100 and text.isascii():
        assert 0 in found(text.swapcase(), within)


def test_cells_are_found_together_and_apart():
    within = index([[prose(30, 1), "short but long enough"], [prose(30, 2), "another cell of words"]])
    assert found(f'{{"body": "{prose(30, 1)}", "label": 1}}', within) == {0}
    assert found("title: another cell of words", within) == {1}


def test_what_readable_rows_hold_too_does_not_count():
    within = index([GREETING + ROWS[0], *ROWS[1:]])
    assert found(GREETING, within) == {0}
    cleared = within.without([(GREETING + prose(40, 99)).encode()])
    assert found(GREETING, cleared) == set()
    assert found(ROWS[4], cleared) == {4}


def test_what_several_rows_share_betrays_none_but_a_duplicate():
    within = index([*(GREETING + row for row in ROWS), ROWS[0], ROWS[0]])
    assert found(GREETING, within) == set()
    assert found(GREETING + ROWS[4], within) == {4}
    assert found(ROWS[0], within) == {0, 50, 51}


def test_a_row_that_pandas_printed_is_found():
    import pandas as pd

    frame = pd.DataFrame({"text": [ROWS[4], "something else"], "n": [1, 2]})
    assert found(str(frame)) == found(frame._repr_html_()) == {4}


@pytest.mark.parametrize("width", [30, 46, 47])
def test_a_row_that_a_table_cuts_short_is_found(width):
    shown = f"0  {ROWS[4][:width]}...\n1  something else"
    assert found(shown) == {4}
    assert found(shown.replace("...", "\N{HORIZONTAL ELLIPSIS}")) == {4}
    assert found(shown.replace("...", "")) == set(), "the beginning alone is a phrase that anybody may write"


def test_a_beginning_that_rows_share_betrays_none():
    rows = [f"Dear customer service, I would like to know whether {text}" for text in ROWS]
    built = index(rows[:40])
    cut = f"0 {rows[3][:47]}..."
    assert found(cut, built) == set()
    lone = index(rows[:1])
    assert found(cut, lone) == {0}
    assert found(cut, lone.without([readable([[rows[45]]])])) == set()


def test_half_a_row_without_spaces_is_found():
    row = "".join(chr(0x4E00 + random.Random(n).randrange(5000)) for n in range(60))
    built = index([row])
    assert found(row[:30], built) == found(row[31:], built) == {0}
    assert found(row[:20], built) == set()


def test_blind_rows_are_counted():
    assert index(["yes", ROWS[0]]).blind == 1


def test_fingerprints_depend_on_the_key():
    one, other = INDEX, index([*ROWS, SHORT], b"o" * 32)
    for name in ("passages", "grams", "wholes"):
        assert not set(getattr(one, name).hashes.tolist()) & set(getattr(other, name).hashes.tolist())


def test_the_file_holds_the_same_index_and_no_text():
    data = INDEX.to_bytes()
    again = Index.from_bytes(data)
    assert found(ROWS[11], again) == {11}
    assert found(SHORT, again) == {50}
    for word in ROWS[11].split():
        assert word.encode() not in data


def test_thinned_out_fingerprints_still_find_every_row(monkeypatch):
    monkeypatch.setattr("itera_nb.seal.fingerprints.MAX_PRINTS", 1500)
    within = index([*ROWS, SHORT])
    assert within.passages.every > 1
    assert [n for n, row in enumerate([*ROWS, SHORT]) if n not in found(row, within)] == []


def test_rows_larger_than_a_block(monkeypatch):
    monkeypatch.setattr("itera_nb.seal.fingerprints.SLICE", 1000)
    monkeypatch.setattr("itera_nb.seal.fingerprints.OVERLAP", 500)
    within = index([prose(2000, 5), ROWS[0]])
    assert found(" ".join(prose(2000, 5).split()[1500:1530]), within) == {0}
    assert found("x " * 490 + ROWS[0], within) == {1}
