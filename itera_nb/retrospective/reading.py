"""Both sides of a comparison as text: from two files or DataFrames, or one table that holds both arms."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from itera_nb.exceptions import DataError, IteraError
from itera_nb.report.tables import clean
from itera_nb.report.wording import shorten
from itera_nb.source.relation import DuckDBRelation, require_columns
from itera_nb.source.slices import text_of

Cell: TypeAlias = str | None
Table: TypeAlias = dict[str, list[Cell]]
"""Column name -> one cell a line."""

FIRST_IDS = 5
ID_NAME = re.compile(r"(?i:(?:.*[_ .-])?(?:id|key|uuid|idx|index)|uid|qid|rowid)|.*[a-z]I[dD]")
SCORE_NAME = re.compile(
    r"(?i:(?:.*[_ .-])?(?:score|correct|correctness|accuracy|passed|pass|success|match|em|f1|mrr)"
    r"|(?:ndcg|recall).*)"
)
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


@dataclass(frozen=True, slots=True)
class _Source:
    """One arm's lines before they are read: `read` gives the id column, if one is named, and the others."""

    name: str
    where: str
    columns: tuple[str, ...]
    read: Callable[[tuple[str, ...], str | None], Table]


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


def text_cell(value: Any) -> Cell:
    """A typed cell as the text that a file would hold; None for every kind of missing value."""
    if value is None or type(value).__name__ in {"NAType", "NaTType"}:
        return None
    if isinstance(value, float):
        # A column of integers with one missing value is a column of floats in pandas.
        return None if math.isnan(value) else str(int(value)) if value.is_integer() else repr(float(value))
    return text_of(value)


def shown(text: str) -> str:
    """A name or id from a file on one line, control characters as their escapes."""
    return clean(text).replace("\n", "\\n")


def listed(ids: Sequence[str], total: int | None = None) -> str:
    """The first few ids; `total` is their number where `ids` are cut already."""
    more = ", …" if (total or len(ids)) > FIRST_IDS else ""
    return ", ".join(shorten(shown(x), 40) for x in ids[:FIRST_IDS]) + more


def present_ids(cells: Sequence[Cell], column: str, where: str) -> list[str]:
    """The ids of all lines.

    Raises:
        DataError: A line has none, or there are no lines.
    """
    if not cells:
        raise DataError(f"{where} has no rows: there are no lines with data", fix="export the file again")
    ids = [c for c in cells if c]
    if len(ids) < len(cells):
        what = f"column {column!r} is empty on {len(cells) - len(ids)} of {len(cells)} lines"
        raise DataError(f"{where}: {what}", fix="give every line an id")
    return ids


def load(
    baseline: Any,
    arm: Any,
    wanted: Columns,
    arm_column: str | None,
    baseline_name: str | None,
    arm_name: str | None,
) -> tuple[tuple[Side, Side], Columns]:
    """Read both sides; the columns that nobody named are filled in.

    Raises:
        DataError: A file cannot be read, or a column or an arm is not there.
        IteraError: Given are neither two tables nor one with its arm column.
    """
    if (arm is None) == (arm_column is None):
        fix = "itera compare a.csv b.csv, or itera compare both.csv --arm-column model --baseline v1 --arm v2"
        raise IteraError("give two tables, or one and its arm column", fix=fix)
    if arm_column is None:
        one, two = _two_tables(baseline, arm, baseline_name, arm_name)
    else:
        one, two = _two_parts(_source(baseline, "the table"), arm_column, baseline_name, arm_name)
    common = tuple(c for c in one.columns if c in two.columns)
    strata = [*wanted.slices, *([wanted.cluster] if wanted.cluster else [])]
    _require((one, two), wanted, strata)
    if not (wanted.id and wanted.score):
        taken = {*strata, wanted.trial, wanted.id, wanted.score}
        tables = one.read(common, None), two.read(common, None)
        wanted = find(tables, [c for c in common if c not in taken], wanted)
    needed = [c for c in (wanted.score, wanted.trial, *strata) if c]

    def side(source: _Source) -> Side:
        table = source.read(tuple(c for c in needed if c in source.columns), wanted.id)
        return Side(source.name, source.where, table)

    return (side(one), side(two)), wanted


def _require(sources: Sequence[_Source], wanted: Columns, strata: Sequence[str]) -> None:
    for source in sources:
        named = [c for c in (wanted.id, wanted.score, wanted.trial) if c]
        require_columns(source.columns, named, source.where)
    everywhere = list(dict.fromkeys(c for s in sources for c in s.columns))
    require_columns(everywhere, strata, " and ".join(s.where for s in sources))


def _source(given: Any, where: str) -> _Source:
    """A file or DataFrame, named after the file."""
    if isinstance(given, str | os.PathLike):
        return _file(Path(given))
    if not hasattr(given, "columns"):
        raise IteraError(f"{where} is neither a path nor a DataFrame", fix="compare('a.csv', 'b.csv')")
    named = {str(c): c for c in given.columns}
    if len(named) < len(list(given.columns)):
        raise DataError(f"{where} has columns of the same name", fix="rename them")

    def read(columns: tuple[str, ...], id_column: str | None) -> Table:
        chosen = dict.fromkeys([*([id_column] if id_column else []), *columns])
        return {c: [text_cell(value) for value in given[named[c]]] for c in chosen}

    return _Source("", where, tuple(named), read)


def _file(path: Path) -> _Source:
    if not path.is_file():
        raise DataError(f"{path} does not exist or is not a file", fix="itera compare a.csv b.csv")
    columns = DuckDBRelation(path, None).columns

    def read(wanted: tuple[str, ...], id_column: str | None) -> Table:
        # As text: one file's 007 or 1.50 must not become a number that the other file's is not.
        found = DuckDBRelation(path, id_column, text=columns).keys(wanted)
        return {c: found.column(c).to_pylist() for c in found.column_names}

    return _Source(path.stem, str(path), columns, read)


def _two_tables(
    baseline: Any, arm: Any, baseline_name: str | None, arm_name: str | None
) -> tuple[_Source, _Source]:
    one, two = _source(baseline, "the baseline"), _source(arm, "the arm")
    names = one.name, two.name
    if not all(names) or len(set(names)) == 1:
        names = "baseline", "arm"
    first = dataclasses.replace(one, name=baseline_name or names[0])
    return first, dataclasses.replace(two, name=arm_name or names[1])


def _two_parts(
    source: _Source, column: str, baseline_name: str | None, arm_name: str | None
) -> tuple[_Source, _Source]:
    """Both arms of one table, whose names stand in a column."""
    require_columns(source.columns, [column], source.where)
    read = functools.cache(source.read)  # both arms ask for the same columns
    present = sorted({a for a in read((column,), None)[column] if a is not None})
    names = f"it has: {listed(present)}"
    if baseline_name is not None and arm_name is None and len(present) == 2:
        arm_name = next((a for a in present if a != baseline_name), None)
    if baseline_name is None or arm_name is None or baseline_name == arm_name:
        raise IteraError(
            f"which arms of column {column!r} of {source.where}?", fix=f"--baseline and --arm; {names}"
        )
    for name in (baseline_name, arm_name):
        if name not in present:
            raise DataError(f"{source.where}: column {column!r} has no {shown(name)!r}", fix=names)
    columns = tuple(c for c in source.columns if c != column)

    def part(name: str) -> _Source:
        def of_arm(wanted: tuple[str, ...], id_column: str | None) -> Table:
            table = read((*wanted, column), id_column)
            keep = [i for i, value in enumerate(table[column]) if value == name]
            return {c: [values[i] for i in keep] for c, values in table.items() if c != column}

        return _Source(name, f"{source.where} ({shown(name)})", columns, of_arm)

    return part(baseline_name), part(arm_name)


def find(tables: tuple[Table, Table], free: Sequence[str], wanted: Columns) -> Columns:
    """`wanted` with its id and score, chosen among the `free` columns only where exactly one is sensible.

    Raises:
        DataError: No column or several columns fit; the columns are listed.
    """
    found, id_, score = [], wanted.id, wanted.score
    if not id_:
        id_ = _only("id", _id_columns(tables, free, wanted.trial), free)
        found.append("id")
    if not score:
        score = _only("score", _score_columns(tables, [c for c in free if c != id_]), free)
        found.append("score")
    return dataclasses.replace(wanted, id=id_, score=score, found=tuple(found))


def _only(role: str, candidates: Sequence[str], free: Sequence[str]) -> str:
    if len(candidates) == 1:
        return candidates[0]
    which = f"it could be {' or '.join(candidates[:12])}" if candidates else "no column is surely it"
    columns = ", ".join(shown(c) for c in free[:40]) or "none that both have"
    raise DataError(f"which column is the {role}? {shown(which)}", fix=f"--{role} COLUMN; columns: {columns}")


def _id_columns(tables: tuple[Table, Table], free: Sequence[str], trial: str | None) -> list[str]:
    shared = [c for c in free if _names_rows(tables, c)]
    unique = [c for c in shared if all(_unique(table, c, trial) for table in tables)]
    named = [c for c in unique if ID_NAME.fullmatch(c)]
    return named or unique or [c for c in shared if ID_NAME.fullmatch(c)]


def _names_rows(tables: tuple[Table, Table], column: str) -> bool:
    """Whether a column is never empty and at least half of the smaller side's values stand in the other."""
    one, two = (set(table[column]) for table in tables)
    return not {None, ""} & (one | two) and 2 * len(one & two) >= min(len(one), len(two)) > 0


def _unique(table: Table, column: str, trial: str | None) -> bool:
    cells = table[column]
    lines = list(zip(cells, table[trial], strict=True)) if trial else cells
    return len(set(lines)) == len(lines)


def _score_columns(tables: tuple[Table, Table], free: Sequence[str]) -> list[str]:
    named, binary = [], []
    for column in free:
        values = {score_of(text) for table in tables for text in set(table[column])}
        known = {v for v in values if v is not None and not math.isnan(v)}
        if None in values or not known:
            continue
        if SCORE_NAME.fullmatch(column):
            named.append(column)
        elif known <= {0.0, 1.0}:  # a graded column without a telling name may be a share or a latency
            binary.append(column)
    return named or binary
