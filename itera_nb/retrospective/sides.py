"""What both sides of a comparison are made of, before anything is paired: lines of text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from itera_nb.report.tables import clean
from itera_nb.report.wording import shorten

Cell: TypeAlias = str | None
Table: TypeAlias = dict[str, list[Cell]]
"""Column name -> one cell a line."""

FIRST_IDS = 5
_WORDS = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}
_ABSENT = {"", "na", "n/a", "nan", "null", "none"}


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that are used; `found` names the roles that nobody named ("id", "score")."""

    id: str
    score: str
    trial: str | None
    slices: tuple[str, ...]
    cluster: str | None
    found: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Side:
    """One arm's lines; `where` says in an error where they come from."""

    name: str
    where: str
    table: Table


def score_of(text: Cell) -> float | None:
    """A score in [0, 1], NaN where it is absent, None where the text is no score."""
    word = (text or "").strip().lower()
    if word in _ABSENT:
        return math.nan
    if word in _WORDS:
        return _WORDS[word]
    try:
        value = float(word)
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None


def shown(text: str) -> str:
    """A name or id from a file on one line, control characters as their escapes."""
    return clean(text).replace("\n", "\\n")


def listed(ids: Sequence[str], total: int | None = None) -> str:
    """The first few ids; `total` is their number where `ids` are cut already."""
    more = ", …" if (total or len(ids)) > FIRST_IDS else ""
    return ", ".join(shorten(shown(x), 40) for x in ids[:FIRST_IDS]) + more
