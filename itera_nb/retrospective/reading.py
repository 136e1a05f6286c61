"""Both sides as text: from two files or DataFrames, or from one table that holds both arms."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itera_nb.exceptions import DataError, IteraError
from itera_nb.retrospective.finding import find
from itera_nb.retrospective.sides import Cell, Columns, Side, Table, shown
from itera_nb.source.relation import DuckDBRelation, require_columns
from itera_nb.source.slices import text_of


@dataclass(frozen=True, slots=True)
class Source:
    """A file or DataFrame: `read` gives the id column, if one is named, and the others as text."""

    where: str
    columns: tuple[str, ...]
    read: Callable[[Sequence[str], str | None], Table]


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
        sources = [_source(baseline, "the baseline"), _source(arm, "the arm")]
        cut = _namer(baseline, arm, baseline_name, arm_name)
    else:
        sources = [_source(baseline, "the table")]
        require_columns(sources[0].columns, [arm_column], sources[0].where)
        cut = _cutter(sources[0], arm_column, baseline_name, arm_name)
    common = [c for c in sources[0].columns if all(c in s.columns for s in sources)]
    strata = [*wanted.slices, *([wanted.cluster] if wanted.cluster else [])]
    _require(sources, wanted, strata)
    if not (wanted.id and wanted.score):
        taken = {*strata, wanted.trial, wanted.id, wanted.score, arm_column}
        whole = cut([source.read(common, None) for source in sources])
        wanted = find(whole, [c for c in common if c not in taken], wanted)
    needed = [c for c in (wanted.score, wanted.trial, *strata, arm_column) if c]
    return cut([s.read([c for c in needed if c in s.columns], wanted.id) for s in sources]), wanted


def _require(sources: Sequence[Source], wanted: Columns, strata: Sequence[str]) -> None:
    for source in sources:
        named = [c for c in (wanted.id, wanted.score, wanted.trial) if c]
        require_columns(source.columns, named, source.where)
    everywhere = list(dict.fromkeys(c for s in sources for c in s.columns))
    require_columns(everywhere, strata, " and ".join(s.where for s in sources))


def _source(given: Any, where: str) -> Source:
    if isinstance(given, str | os.PathLike):
        return _file(Path(given))
    if not hasattr(given, "columns"):
        raise IteraError(f"{where} is neither a path nor a DataFrame", fix="compare('a.csv', 'b.csv')")
    named = {str(c): c for c in given.columns}
    if len(named) < len(list(given.columns)):
        raise DataError(f"{where} has columns of the same name", fix="rename them")

    def read(columns: Sequence[str], id_column: str | None) -> Table:
        chosen = dict.fromkeys([*([id_column] if id_column else []), *columns])
        return {c: [_text(value) for value in given[named[c]]] for c in chosen}

    return Source(where, tuple(named), read)


def _file(path: Path) -> Source:
    if not path.is_file():
        raise DataError(f"{path} does not exist or is not a file", fix="itera compare a.csv b.csv")
    columns = DuckDBRelation(path, None).columns

    def read(wanted: Sequence[str], id_column: str | None) -> Table:
        # As text: one file's 007 or 1.50 must not become a number that the other file's is not.
        found = DuckDBRelation(path, id_column, text=columns).keys(wanted)
        return {c: found.column(c).to_pylist() for c in found.column_names}

    return Source(str(path), columns, read)


def _text(value: Any) -> Cell:
    """A DataFrame's cell as the text that a file would hold; None for every kind of missing value."""
    if value is None or type(value).__name__ in {"NAType", "NaTType"}:
        return None
    if isinstance(value, float):
        # A column of integers with one missing value is a column of floats in pandas.
        return None if math.isnan(value) else str(int(value)) if value.is_integer() else repr(float(value))
    return text_of(value)


def _namer(
    baseline: Any, arm: Any, baseline_name: str | None, arm_name: str | None
) -> Callable[[list[Table]], tuple[Side, Side]]:
    paths = [x if isinstance(x, str | os.PathLike) else None for x in (baseline, arm)]
    one, two = (Path(x).stem if x is not None else "" for x in paths)
    if not one or not two or one == two:
        one, two = "baseline", "arm"
    one, two = baseline_name or one, arm_name or two
    where = [str(x) if x is not None else name for x, name in zip(paths, (one, two), strict=True)]
    return lambda read: (Side(one, where[0], read[0]), Side(two, where[1], read[1]))


def _cutter(
    source: Source, column: str, baseline_name: str | None, arm_name: str | None
) -> Callable[[list[Table]], tuple[Side, Side]]:
    present = sorted({a for a in source.read([column], None)[column] if a is not None})
    names = "it has: " + ", ".join(shown(a) for a in present[:12])
    if baseline_name is not None and arm_name is None and len(present) == 2:
        arm_name = next((a for a in present if a != baseline_name), None)
    if baseline_name is None or arm_name is None or baseline_name == arm_name:
        raise IteraError(
            f"which arms of column {column!r} of {source.where}?", fix=f"--baseline and --arm; {names}"
        )
    for name in (baseline_name, arm_name):
        if name not in present:
            raise DataError(f"{source.where}: column {column!r} has no {shown(name)!r}", fix=names)

    def side(name: str, table: Table) -> Side:
        keep = [i for i, value in enumerate(table[column]) if value == name]
        own = {c: [values[i] for i in keep] for c, values in table.items() if c != column}
        return Side(name, f"{source.where} ({shown(name)})", own)

    return lambda read: (side(baseline_name, read[0]), side(arm_name, read[0]))
