"""Worksheets for a person: a CSV that a spreadsheet can fill and cannot be attacked through; blind ratings.

Pure functions. An item's code says nothing of the arm; equal outputs of one row are one item.
"""

from __future__ import annotations

import csv
import io
import math
import re
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from itera_nb.exceptions import DataError
from itera_nb.metrics.judge import TIE

SKIP = "?"
RATING, ITEM, NUMBER = "rating", "item", "number"
_FORMULA = re.compile(r"^[\s'\u200b-\u200d\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20]|^[\t\r\n]")
_FIRST = 5


class Question(Protocol):
    """One line of a worksheet: its code, which says nothing of the answer, and what is to be read."""

    @property
    def code(self) -> str:
        """Names the item."""

    @property
    def shown(self) -> Mapping[str, str]:
        """Heading -> text; the same headings for every item."""


@dataclass(frozen=True, slots=True)
class Item:
    """One question to a person.

    Args:
        code: Names the item, and nothing else.
        inputs: The row's input columns.
        outputs: One output to rate, or two to compare.
        expected: The row's label, shown as a reference; None for none.
    """

    code: str
    inputs: Mapping[str, Any]
    outputs: tuple[str, ...]
    expected: Any = None

    @property
    def pairwise(self) -> bool:
        """Whether two outputs are compared."""
        return len(self.outputs) == 2

    @property
    def shown(self) -> dict[str, str]:
        """What the person reads: heading -> text."""
        parts = {f"input: {name}": _text(value) for name, value in self.inputs.items()}
        if self.expected is not None:
            parts["reference"] = _text(self.expected)
        names = ("output A", "output B") if self.pairwise else ("output",)
        return parts | dict(zip(names, self.outputs, strict=True))


def wanted(items: Sequence[Item], scale: int) -> str:
    """What a rating may be, in words."""
    what = "A, B or tie" if items and items[0].pairwise else f"a number from 0 (worst) to {scale} (best)"
    return f"{what}; {SKIP} where you cannot tell"


def to_csv(items: Sequence[Question], said: Mapping[str, str] | None = None, *, answer: str = RATING) -> str:
    """The worksheet, with the answers given so far (by code); a byte-order mark tells Excel its encoding."""
    given = said or {}
    headings = list(items[0].shown) if items else []
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow([NUMBER, ITEM, *map(_safe, headings), answer])
    for number, item in enumerate(items, start=1):
        cells = [_safe(value) for value in item.shown.values()]
        writer.writerow([str(number), item.code, *cells, _safe(given.get(item.code, ""))])
    return "\ufeff" + text.getvalue()


def from_csv(data: bytes, items: Sequence[Item], scale: int) -> dict[str, str]:
    """The ratings of a worksheet, as written, by code; what is empty or absent is not rated.

    Raises:
        DataError: It is no worksheet of these items, or ratings do not fit; lines are named, never texts.
    """
    return read_answers(
        data,
        {item.code for item in items},
        lambda said: value_of(said, scale, pairwise=items[0].pairwise) is not None,
        answer=RATING,
        wanted=wanted(items, scale),
    )


def read_answers(
    data: bytes, codes: Collection[str], fits: Callable[[str], bool], *, answer: str, wanted: str
) -> dict[str, str]:
    """The answers of a worksheet, as written, by code; what is empty or absent is not answered.

    Args:
        data: The file.
        codes: The items' codes.
        fits: Whether an answer is one that may be given.
        answer: Heading of the answers.
        wanted: What an answer may be, in words.

    Raises:
        DataError: It is no worksheet of these items, or answers do not fit; lines are named, never texts.
    """
    lines = _lines(data)
    if not lines or answer not in lines[0] or ITEM not in lines[0]:
        raise DataError(
            f"the worksheet has no columns {ITEM!r} and {answer!r}",
            fix="fill the file as it was written, and save it as CSV",
        )
    item, given = lines[0].index(ITEM), lines[0].index(answer)
    found: dict[str, str] = {}
    strange: list[int] = []
    wrong: list[int] = []
    for number, cells in enumerate(lines[1:], start=2):
        if not any(cells):
            continue
        code, said = (cells[i].strip() if i < len(cells) else "" for i in (item, given))
        if code not in codes:
            strange.append(number)
        elif said and (not fits(said) or found.get(code, said) != said):
            wrong.append(number)
        elif said:
            found[code] = said
    if strange:
        raise DataError(
            f"{len(strange)} lines of the worksheet are of other items (first lines: {_listed(strange)})",
            fix="move it away and make a new one",
        )
    if wrong:
        raise DataError(f"{len(wrong)} {answer}s cannot be read (first lines: {_listed(wrong)})", fix=wanted)
    return found


def value_of(said: str, scale: int, *, pairwise: bool) -> float | None:
    """A rating as a fraction of the scale, or 1 for A and -1 for B; NaN for "?", None for no rating."""
    said = said.strip().removeprefix("'").casefold()
    if said == SKIP:
        return math.nan
    if pairwise:
        return {"a": 1.0, "b": -1.0, TIE: 0.0}.get(said)
    try:
        value = float(said.replace(",", "."))
    except ValueError:
        return None
    return value / scale if 0 <= value <= scale else None


def _lines(data: bytes) -> list[list[str]]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError("the worksheet is not UTF-8", fix='save it as "CSV UTF-8"') from None
    head = text.partition("\n")[0]
    # Spreadsheets of some countries save with semicolons.
    delimiter = ";" if head.count(";") > head.count(",") else ","
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # the texts are as long as they are
    try:
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error:
        raise DataError("the worksheet is no CSV", fix='save it as "CSV UTF-8"') from None


def _safe(text: str) -> str:
    """A cell that no spreadsheet takes for a formula, and no terminal for a command."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    clean = "".join(c if _is_harmless(c) else "\N{REPLACEMENT CHARACTER}" for c in lines)
    return f"'{clean}" if _FORMULA.match(clean) else clean


def _is_harmless(char: str) -> bool:
    """Whether a character can be shown: spaces of all widths, and what joins emoji and letters, too."""
    return char.isprintable() or char in "\n\t\u200c\u200d" or unicodedata.category(char) == "Zs"


def _text(value: Any) -> str:
    from itera_nb.source.slices import text_of

    return "" if value is None else value if isinstance(value, str) else text_of(value)


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:_FIRST])) + (
        " \N{HORIZONTAL ELLIPSIS}" if len(numbers) > _FIRST else ""
    )
