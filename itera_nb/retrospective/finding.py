"""The id and the score column where nobody named them: only where exactly one is sensible."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence

from itera_nb.exceptions import DataError
from itera_nb.retrospective.sides import Columns, Side, score_of, shown

ID_NAME = re.compile(r"(?i:(?:.*[_ .-])?(?:id|key|uuid|idx|index)|uid|qid|rowid)|.*[a-z]I[dD]")
SCORE_NAME = re.compile(
    r"(?i:(?:.*[_ .-])?(?:score|correct|correctness|accuracy|passed|pass|success|match|em|f1|mrr)"
    r"|(?:ndcg|recall).*)"
)


def find(sides: tuple[Side, Side], free: Sequence[str], wanted: Columns) -> Columns:
    """`wanted` with its id and score, chosen among the `free` columns that both sides have.

    Raises:
        DataError: No column or several columns fit; the columns are listed.
    """
    found, id_, score = [], wanted.id, wanted.score
    if not id_:
        id_ = _only("id", _ids(sides, free, wanted.trial), free)
        found.append("id")
    if not score:
        score = _only("score", _scores(sides, [c for c in free if c != id_]), free)
        found.append("score")
    return dataclasses.replace(wanted, id=id_, score=score, found=tuple(found))


def _only(role: str, candidates: Sequence[str], free: Sequence[str]) -> str:
    if len(candidates) == 1:
        return candidates[0]
    which = f"it could be {' or '.join(candidates[:12])}" if candidates else "no column is surely it"
    columns = ", ".join(shown(c) for c in free[:40]) or "none that both have"
    raise DataError(f"which column is the {role}? {shown(which)}", fix=f"--{role} COLUMN; columns: {columns}")


def _ids(sides: tuple[Side, Side], free: Sequence[str], trial: str | None) -> list[str]:
    shared = [c for c in free if _names_rows(sides, c)]
    unique = [c for c in shared if all(_unique(side, c, trial) for side in sides)]
    named = [c for c in unique if ID_NAME.fullmatch(c)]
    return named or unique or [c for c in shared if ID_NAME.fullmatch(c)]


def _names_rows(sides: tuple[Side, Side], column: str) -> bool:
    """Whether a column is never empty and at least half of the smaller side's values stand in the other."""
    one, two = (set(side.table[column]) for side in sides)
    return not {None, ""} & (one | two) and 2 * len(one & two) >= min(len(one), len(two)) > 0


def _unique(side: Side, column: str, trial: str | None) -> bool:
    cells = side.table[column]
    lines = list(zip(cells, side.table[trial], strict=True)) if trial else cells
    return len(set(lines)) == len(lines)


def _scores(sides: tuple[Side, Side], free: Sequence[str]) -> list[str]:
    named, binary = [], []
    for column in free:
        values = {score_of(text) for side in sides for text in set(side.table[column])}
        known = {v for v in values if v is not None and not math.isnan(v)}
        if None in values or not known:
            continue
        if SCORE_NAME.fullmatch(column):
            named.append(column)
        elif known <= {
            0.0,
            1.0,
        }:  # a graded column without a telling name may be anything: a share, a latency
            binary.append(column)
    return named or binary
