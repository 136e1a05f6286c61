"""Two tables of results as text: from files, DataFrames, or one table that holds both arms."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itera_nb.exceptions import DataError, IteraError
from itera_nb.report.tables import one_line as shown
from itera_nb.source.relation import DuckDBRelation, require_columns
from itera_nb.source.slices import text_of


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that were used; `found` names those that nobody named ("id", "score")."""

    id: str
    score: str
    trial: str | None
    slices: tuple[str, ...]
    cluster: str | None
    found: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Side:
    """One arm's lines as text, without any column that is not used."""

    name: str
    where: str
    table: Table


@dataclass(frozen=True, slots=True)
class Source:
    """A file or DataFrame: `read` gives the id column (if any) and others as text."""

    where: str
    columns: tuple[str, ...]
    read: Callable[[Sequence[str], str | None], Table]


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
        found = DuckDBRelation(path, id_column, text=columns).keys(wanted)
        return {c: found.column(c).to_pylist() for c in found.column_names}

    return Source(str(path), columns, read)


def _text(value: Any) -> Cell:
    """A DataFrame's cell as the same text that a file would hold; None for every kind of missing value."""
    if value is None or type(value).__name__ in {"NAType", "NaTType"}:
        return None
    if isinstance(value, float):
        # A column of integers with one missing value is a column of floats in pandas.
        return None if math.isnan(value) else str(int(value)) if value.is_integer() else repr(float(value))
    return text_of(value)


def load(
    baseline: Any,
    arm: Any,
    wanted: Columns,
    arm_column: str | None,
    baseline_name: str | None,
    arm_name: str | None,
) -> tuple[tuple[Side, Side], Columns]:
    """Read both sides, with the columns that nobody named filled in.

    Raises:
        DataError: A file cannot be read, or a column or arm is not there.
        IteraError: Neither two tables nor one with its arm column are given.
    """
    if (arm is None) == (arm_column is None):
        fix = "itera compare a.csv b.csv, or itera compare both.csv --arm-column model --baseline v1 --arm v2"
        raise IteraError("give two tables, or one and its arm column", fix=fix)
    if arm is None:
        one = _source(baseline, "the table")
        require_columns(one.columns, [str(arm_column)], one.where)
        cut = _cutter(one, str(arm_column), baseline_name, arm_name)
        sources: tuple[Source, ...] = (one,)
    else:
        sources = (_source(baseline, "the baseline"), _source(arm, "the arm"))
        cut = _namer(baseline, arm, baseline_name, arm_name)
    common = [c for c in sources[0].columns if all(c in s.columns for s in sources)]
    for source in sources:
        named = [c for c in (wanted.id, wanted.score, wanted.trial) if c]
        require_columns(source.columns, named, source.where)
    everywhere = list(dict.fromkeys(c for s in sources for c in s.columns))
    strata = [*wanted.slices, *([wanted.cluster] if wanted.cluster else [])]
    require_columns(everywhere, strata, " and ".join(s.where for s in sources))
    if not (wanted.id and wanted.score):
        taken = {*strata, wanted.trial, wanted.id, wanted.score, arm_column}
        extra = [arm_column] if arm_column else []
        whole = cut([source.read(list(dict.fromkeys([*common, *extra])), None) for source in sources])
        wanted = find(whole, [c for c in common if c not in taken], wanted)
    needed = [wanted.score, *([wanted.trial] if wanted.trial else []), *strata]
    needed += [arm_column] if arm_column else []
    read = [s.read([c for c in needed if c in s.columns], wanted.id) for s in sources]
    return cut(read), wanted


def _namer(
    baseline: Any, arm: Any, baseline_name: str | None, arm_name: str | None
) -> Callable[[list[Table]], tuple[Side, Side]]:
    stems = [Path(x).stem if isinstance(x, str | os.PathLike) else "" for x in (baseline, arm)]
    if not all(stems) or stems[0] == stems[1]:
        stems = ["baseline", "arm"]
    names = (baseline_name or stems[0], arm_name or stems[1])
    where = [
        str(x) if isinstance(x, str | os.PathLike) else n for x, n in zip((baseline, arm), names, strict=True)
    ]
    return lambda read: (Side(names[0], where[0], read[0]), Side(names[1], where[1], read[1]))


def _cutter(
    source: Source, column: str, baseline_name: str | None, arm_name: str | None
) -> Callable[[list[Table]], tuple[Side, Side]]:
    present = Counter(source.read([column], None)[column])
    arms = sorted(a for a in present if a is not None)
    if baseline_name and arm_name is None:
        others = [a for a in arms if a != baseline_name]
        arm_name = others[0] if len(others) == 1 else None
    if baseline_name is None or arm_name is None or baseline_name == arm_name:
        present_arms = ", ".join(shown(a) for a in arms[:12])
        raise IteraError(
            f"{source.where}: which arms of column {column!r}?",
            fix=f"--baseline and --arm, of: {present_arms}",
        )
    for name in (baseline_name, arm_name):
        if name not in present:
            present_arms = ", ".join(shown(a) for a in arms[:12])
            raise DataError(
                f"{source.where}: column {column!r} has no {shown(name)!r}", fix=f"it has: {present_arms}"
            )

    def side(name: str, table: Table) -> Side:
        keep = [i for i, value in enumerate(table[column]) if value == name]
        own = {c: [values[i] for i in keep] for c, values in table.items() if c != column}
        return Side(name, f"{source.where} ({column}={shown(name)})", own)

    return lambda read: (side(baseline_name, read[0]), side(arm_name, read[0]))
