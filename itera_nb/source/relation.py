"""A source of rows behind two questions: which keys, which chosen rows.

What a person can get wrong in a file is answered with columns, row ids and counts; never with the text of a
row, which may become a test row. The engine's own messages quote rows and are therefore never passed on.
"""

# ruff: noqa: S608 - file and column names cannot be bound in a view; _name and _literal quote them

from __future__ import annotations

import csv
import difflib
import gzip
import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from itera_nb.exceptions import DataError
from itera_nb.source.parts import JSON_FIELD
from itera_nb.spec import SourceSpec, SplitSpec

MAX_ROWS = 20_000_000
MAX_BYTES = 32 * 2**30
MAX_CELL = 4_000_000
MAX_ID = 256
MAX_KEY = 64
MEMORY = (2**28, 2**30)
"""Bytes that the engine may use: the least, and the most where the row groups of a Parquet file are large."""
BATCH_ROWS = 16_384
BATCH_BYTES = 2**28
EXTENSIONS = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", ".json")
INTEGERS = re.compile(r"U?(TINYINT|SMALLINT|INTEGER|BIGINT|HUGEINT)")
INTEGER_TEXT = r"0|-?[1-9][0-9]{0,17}"
NUMBER_TEXT = r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ColumnInfo:
    """What may be said of a column before the split: no values. `distinct` is an estimate (HyperLogLog)."""

    name: str
    type: str
    nulls: int
    distinct: int


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """The preview of a source: number of rows, and its columns."""

    rows: int
    columns: tuple[ColumnInfo, ...]


class DuckDBRelation:
    """A CSV, TSV, Parquet or JSON(-lines) file, read by DuckDB in bounded memory and without any spill file.

    A CSV has no types: a column whose every value is an integer without leading zeros is an integer column,
    one whose every value is a decimal number a float column, everything else is text, and so are the columns
    named in `text`. Lists and objects of a JSON file are kept as they are (see `parts.to_rows`); a CSV keeps
    them as text.

    Args:
        path: The file; ``.gz`` may follow the extension of CSV and JSON.
        id_column: The column that identifies a row; None for a table of counts.
        text: Columns of a CSV that stay text, for example slices such as ``007``.

    Raises:
        DataError: The file is missing, of another kind, or too large.
    """

    def __init__(self, path: Path, id_column: str | None, *, text: Collection[str] = ()) -> None:
        self._path, self._id = path, id_column
        self._text = {*text, id_column}
        self._json: set[str] = set()
        if not path.is_file():
            raise DataError(
                f"the source {path} does not exist", fix="[source] uri is relative to experiment.toml"
            )
        self._kind = _kind(path)
        self._connection = duckdb.connect(
            ":memory:",
            config={
                "memory_limit": f"{MEMORY[0]}B",
                # No spill file can ever hold a row; nothing below sorts or joins wide columns.
                "temp_directory": "",
                "preserve_insertion_order": True,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            },
        )
        self._connection.execute("SET enable_progress_bar = false")  # on by itself in a notebook's kernel
        self._types = self._guarded(self._load)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns, in source order."""
        return tuple(self._types)

    def keys(self, columns: Sequence[str]) -> pa.Table:
        """The id and the given columns of every row, as text, in source order.

        Values longer than `MAX_KEY` characters are replaced by a hash: a key is compared, never shown.
        """
        chosen = [c for c in dict.fromkeys(columns) if c != self._id]
        require_columns(self.columns, [*([self._id] if self._id else []), *chosen], self._path.name)
        self._check_size()
        selected = [f"CAST({_name(self._id)} AS VARCHAR) AS {_name(self._id)}"] if self._id else []
        selected += [f"{self._key(c)} AS {_name(c)}" for c in chosen]
        query = f"SELECT {', '.join(selected)} FROM source"
        return self._guarded(lambda: self._connection.sql(query).to_arrow_table())

    def rows(self, ids: pa.ChunkedArray, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The id and the given columns, in their own types, of the rows whose ids are given in source order.

        Raises:
            DataError: A cell or the whole is too large, or the file is no longer the one that gave the ids.
        """
        done = size = 0
        for batch in self._stream([c for c in dict.fromkeys(columns) if c != self._id]):
            size += batch.nbytes
            if size > MAX_BYTES:
                raise DataError(
                    f"the source unpacks to more than {MAX_BYTES // 2**30} GiB", fix="use a smaller file"
                )
            # The ids come in source order, so no more than the next `num_rows` of them can be in this batch.
            ahead = ids.slice(done, batch.num_rows)
            wanted = batch.filter(pc.is_in(batch.column(0), value_set=ahead.combine_chunks()))
            if not pa.chunked_array([wanted.column(0)], pa.string()).equals(ahead.slice(0, wanted.num_rows)):
                break
            done += wanted.num_rows
            if wanted.num_rows:
                yield wanted
        if done != len(ids):
            raise DataError(
                f"{self._path.name} changed while it was read", fix="run the command again on a file at rest"
            )

    def describe(self) -> SourceInfo:
        """Columns with type, null count and approximate distinct count, and the number of rows; no values."""
        parts = [f"count({_name(c)}), approx_count_distinct({_name(c)})" for c in self.columns]
        query = f"SELECT count(*), {', '.join(parts)} FROM source"
        total, *figures = self._one(query)
        names = zip(self._types.items(), figures[::2], figures[1::2], strict=True)
        infos = [
            ColumnInfo(name, "JSON" if name in self._json else kind, total - count, distinct)
            for (name, kind), count, distinct in names
        ]
        return SourceInfo(total, tuple(infos))

    def fingerprint(self) -> str:
        """SHA-256 of the file's bytes (hex)."""
        with self._path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _load(self) -> dict[str, str]:
        loaders = {"parquet": self._load_parquet, "json": self._load_json, "csv": self._load_csv}
        self._connection.execute(f"CREATE VIEW source AS {loaders[self._kind]()}")
        described = self._connection.execute("DESCRIBE source").fetchall()
        return {name: kind for name, kind, *_ in described}

    def _load_parquet(self) -> str:
        path = _literal(self._path)
        # The footer's byte sizes are no defence against a bomb; its row count is what readers go by.
        (rows,) = self._one(f"SELECT sum(num_rows) FROM parquet_file_metadata({path})")
        _check_rows(self._path, int(rows or 0))
        (group,) = self._one(f"SELECT max(row_group_bytes) FROM parquet_metadata({path})")
        limit = min(max(4 * int(group or 0), MEMORY[0]), MEMORY[1])
        self._connection.execute(f"SET memory_limit = '{limit}B'")
        return f"SELECT * FROM read_parquet({path}, hive_partitioning = false)"

    def _load_csv(self) -> str:
        names, delimiter = _header(self._path)
        struct = ", ".join(f"{_literal(n)}: 'VARCHAR'" for n in names)
        scan = (
            f"read_csv({_literal(self._path)}, auto_detect = false, header = true, "
            f"delim = {_literal(delimiter)}, quote = '\"', escape = '\"', strict_mode = true, "
            f"allow_quoted_nulls = false, columns = {{{struct}}}, max_line_size = {MAX_CELL})"
        )
        open_ = [n for n in names if n not in self._text]
        tests = "".join(
            f", bool_and(regexp_full_match({_name(n)}, {_literal(p)}))"
            for n in open_
            for p in (INTEGER_TEXT, NUMBER_TEXT)
        )
        rows, *matches = self._one(f"SELECT count(*){tests} FROM {scan}")
        _check_rows(self._path, rows)
        types = {
            n: "BIGINT" if i else "DOUBLE"
            for n, i, d in zip(open_, matches[::2], matches[1::2], strict=True)
            if i or d
        }
        selected = [
            f"CAST({_name(n)} AS {types[n]}) AS {_name(n)}" if n in types else _name(n) for n in names
        ]
        return f"SELECT {', '.join(selected)} FROM {scan}"

    def _load_json(self) -> str:
        lines = self._path.name.removesuffix(".gz").endswith(("l", ".ndjson"))
        form = "newline_delimited" if lines else "auto"
        scan = f"read_json({_literal(self._path)}, format = '{form}', maximum_depth = 1, sample_size = -1)"
        names = [name for name, *_ in self._connection.execute(f"DESCRIBE FROM {scan}").fetchall()]
        # No name here means records that are not objects; the missing id column then says what is wrong.
        parts = ", ".join(
            f"list(DISTINCT json_type({_name(n)})), "
            f"bool_and({_name(n)} ->> '$' IS NULL OR TRY_CAST({_name(n)} ->> '$' AS BIGINT) IS NOT NULL)"
            for n in names
        )
        rows, *figures = self._one(f"SELECT count(*), {parts} FROM {scan}")
        _check_rows(self._path, rows)
        selected = []
        for name, kinds, fits in zip(names, figures[::2], figures[1::2], strict=True):
            kind = _json_type({k for k in kinds or () if k is not None}, fits)
            if kind is None:
                self._json.add(name)
                selected.append(f"nullif(CAST({_name(name)} AS VARCHAR), 'null') AS {_name(name)}")
            else:
                selected.append(f"CAST({_name(name)} ->> '$' AS {kind}) AS {_name(name)}")
        return f"SELECT {', '.join(selected)} FROM {scan}"

    def _stream(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        require_columns(self.columns, columns, self._path.name)
        chosen = "".join(f", {_name(c)}" for c in columns)
        query = (
            f"SELECT CAST({_name(str(self._id))} AS VARCHAR) AS {_name(str(self._id))}{chosen} FROM source"
        )
        # `sql`, not `execute`: the latter holds the whole result before the first block.
        cursor = self._connection.cursor()
        rows = self._batch_rows
        reader = self._guarded(lambda: cursor.sql(query).to_arrow_reader(rows))
        fields = [f.with_metadata(JSON_FIELD) if f.name in self._json else f for f in reader.schema]
        schema = pa.schema(fields)
        while (batch := self._guarded(lambda: next(reader, None))) is not None:
            yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)

    @cached_property
    def _batch_rows(self) -> int:
        """Rows of a block, so that even blocks of the longest cells stay small; checks the longest cell."""
        parts = ", ".join(f"max(strlen(CAST({_name(c)} AS VARCHAR)))" for c in self.columns)
        longest = self._one(f"SELECT {parts} FROM source")
        for column, size in zip(self.columns, longest, strict=True):
            if size is not None and size > MAX_CELL:
                raise DataError(
                    f"the column {column!r} has a cell of {size:,} bytes (at most {MAX_CELL:,})",
                    fix="shorten or drop it",
                )
        return min(max(BATCH_BYTES // max(sum(n or 0 for n in longest), 1), 64), BATCH_ROWS)

    def is_nested(self, column: str) -> bool:
        """Whether a column holds lists or objects."""
        kind = self._types[column]
        return column in self._json or kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "UNION"))

    def _check_size(self) -> None:
        if self._id is None:
            return
        kind = self._types[self._id]
        if kind not in {"VARCHAR", "UUID"} and not INTEGERS.fullmatch(kind):
            raise DataError(
                f"the id column {self._id!r} is of type {kind}: ids are text or integers",
                fix="floats and dates print differently in every tool; write the id as text",
            )
        rows, longest = self._one(
            f"SELECT count(*), max(strlen(CAST({_name(self._id)} AS VARCHAR))) FROM source"
        )
        _check_rows(self._path, rows)
        if longest is not None and longest > MAX_ID:
            raise DataError(
                f"the id column {self._id!r} has values of {longest} bytes (at most {MAX_ID})",
                fix="name another id column",
            )

    def _key(self, column: str) -> str:
        text = f"CAST({_name(column)} AS VARCHAR)"
        return f"CASE WHEN length({text}) > {MAX_KEY} THEN 'sha256:' || sha256({text}) ELSE {text} END"

    def _one(self, query: str) -> tuple[Any, ...]:
        return self._guarded(lambda: tuple(self._connection.execute(query).fetchall()[0]))

    def _guarded(self, action: Callable[[], T]) -> T:
        """Run `action`. What the engine says quotes rows and stays here: no chain, since raised outside."""
        try:
            return action()
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            failure = _explain(self._path, error)
        raise failure


def open_source(
    source: SourceSpec, split: SplitSpec, root: Path, *, text: Collection[str] = ()
) -> DuckDBRelation:
    """The relation of a `[source]`; `root` is the folder of experiment.toml, `text` more columns of text.

    Raises:
        DataError: The file is missing, of an unsupported kind, or lacks a declared column.
    """
    declared = declared_columns(source, split)
    if "://" in source.uri:
        raise DataError(
            f"[source] uri {source.uri!r} is not a file", fix="export the rows to CSV, Parquet or JSON lines"
        )
    named = [c for c in declared if c not in {source.expected, source.severity, *source.inputs}]
    relation = DuckDBRelation(root / source.uri, source.id, text=[*named, *source.slices, *text])
    require_columns(relation.columns, declared, Path(source.uri).name)
    if nested := [c for c in (*source.slices, *split.stratify) if relation.is_nested(c)]:
        raise DataError(
            f"{nested[0]!r} holds lists or objects: it cannot name slices or strata",
            fix="use a column of short categories",
        )
    return relation


def declared_columns(source: SourceSpec, split: SplitSpec) -> tuple[str, ...]:
    """Every column that `[source]` and `[split]` name, without the id, each once."""
    single = (source.expected, source.cluster, source.cap_by, source.severity)
    named = [*source.inputs, *source.slices, *single, *split.stratify, *(r.column for r in split.require)]
    return tuple(dict.fromkeys(c for c in named if c and c != source.id))


def require_columns(present: Sequence[str], wanted: Sequence[str], where: str) -> None:
    """Check that columns exist.

    Raises:
        DataError: With the missing columns, and the nearest name of each.
    """
    missing = [c for c in wanted if c not in present]
    if not missing:
        return
    lower = {c.lower(): c for c in present}
    near = {c: difflib.get_close_matches(c.lower(), lower, n=1) for c in missing}
    hints = [f"{c!r} (did you mean {lower[near[c][0]]!r}?)" if near[c] else repr(c) for c in missing]
    raise DataError(f"{where} has no column {', '.join(hints)}", fix=f"columns: {', '.join(present[:40])}")


def _kind(path: Path) -> str:
    name = path.name.lower()
    if re.search(r"[*?\[\]{}]", str(path)):
        raise DataError(
            f"the path {path} contains a wildcard character",
            fix="rename the file: * ? [ ] { } are not allowed",
        )
    plain = name.removesuffix(".gz")
    if not plain.endswith(EXTENSIONS) or (name.endswith(".parquet.gz")):
        raise DataError(
            f"cannot tell what kind of file {path.name} is",
            fix=f"known: {' '.join(EXTENSIONS)} (text also .gz)",
        )
    if path.stat().st_size == 0:
        raise DataError(f"{path.name} is empty", fix="export the rows again")
    return "parquet" if plain.endswith(".parquet") else "csv" if plain.endswith((".csv", ".tsv")) else "json"


def _header(path: Path) -> tuple[list[str], str]:
    """Column names and delimiter of a CSV, from its first record."""
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            first = file.readline(MAX_CELL)
            bare = re.sub(r'"[^"]*"', "", first)
            tab = path.name.lower().removesuffix(".gz").endswith(".tsv")
            delimiter = "\t" if tab else max(",;\t|", key=bare.count)
            file.seek(0)
            names = next(csv.reader(file, delimiter=delimiter, strict=True), [])
    except UnicodeDecodeError as error:
        failure = _not_utf8(path, f"byte {error.start}")
    except (csv.Error, OSError, EOFError):
        failure = DataError(
            f"the header of {path.name} cannot be read", fix="export the file again, with one header line"
        )
    else:
        wrong = sorted(
            {n or "(no name)" for n in names if not n or [m.lower() for m in names].count(n.lower()) > 1}
        )
        if not wrong:
            return names, delimiter
        failure = DataError(
            f"{path.name} has columns without a name or of the same name: {', '.join(wrong)}",
            fix="rename them",
        )
    raise failure


def _json_type(kinds: set[str], fits: bool | None) -> str | None:
    """The column type of JSON values of these kinds; None: kept as JSON."""
    if kinds <= {"VARCHAR"}:
        return "VARCHAR"
    if kinds == {"BOOLEAN"}:
        return "BOOLEAN"
    if kinds <= {"UBIGINT", "BIGINT"} and fits:
        return "BIGINT"
    return "DOUBLE" if kinds <= {"UBIGINT", "BIGINT", "DOUBLE"} and "DOUBLE" in kinds else None


def _check_rows(path: Path, rows: int) -> None:
    if rows > MAX_ROWS:
        raise DataError(
            f"{path.name} has {rows:,} rows (at most {MAX_ROWS:,})", fix="draw a sample of it first"
        )


_LOOKED_AT = 65_536
LINE = re.compile(r"CSV Error on Line: (\d+)|in line (\d+)|at line (\d+)")
CAUSES: Mapping[str, str] = {
    "Expected Number of Columns": "has a row with another number of fields than the header",
    "unterminated quote": "has a quotation mark that is not closed",
    "Maximum line size": f"has a row longer than {MAX_CELL:,} bytes",
    "maximum_object_size": "has a record longer than 16 MiB",
    "Malformed JSON": "is not valid JSON",
    "Out of Memory": f"needs more than {MEMORY[1] >> 20} MiB of memory to read",
    "magic bytes": "is not a Parquet file",
    "is encrypted": "is encrypted",
}


def _explain(path: Path, error: Exception) -> DataError:
    """Our own words for an engine error; of its text only the line number is taken over."""
    message = str(error)
    match = LINE.search(message)
    where = f"line {next(g for g in match.groups() if g)}" if match else ""
    if re.search(r"not utf-8|invalid unicode|invalid UTF", message, re.IGNORECASE):
        return _not_utf8(path, where)
    cause = next(
        (words for sign, words in CAUSES.items() if sign.lower() in message.lower()), "cannot be read"
    )
    return DataError(
        f"{path.name} {cause}{f' ({where})' if where else ''}",
        fix="repair or export the file again; rows are never shown here because they may become test rows",
    )


def _not_utf8(path: Path, where: str) -> DataError:
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    with opener(path, "rb") as file:
        begin = file.read(_LOOKED_AT)
    wide = begin.startswith((b"\xff\xfe", b"\xfe\xff"))  # UTF-16, which is text with zeros
    if b"\0" in begin and not wide:
        return DataError(
            f"{path.name} is not a text table: it holds binary data",
            fix="export the rows as CSV, or name the file by what it is (.parquet)",
        )
    return DataError(
        f"{path.name} is not UTF-8{f' ({where})' if where else ''}",
        fix=f"iconv -f {'utf-16' if wide else 'latin1'} -t utf-8 {path.name} > utf8.csv",
    )


def _name(column: str | None) -> str:
    return '"' + str(column).replace('"', '""') + '"'


def _literal(text: object) -> str:
    return "'" + str(text).replace("'", "''") + "'"
