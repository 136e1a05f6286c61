"""Rows of `train.parquet`, `dev.parquet` and the opened test set as Python values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

JSON_FIELD = {b"itera": b"json"}
"""Metadata of a text column that holds JSON: lists and objects of a JSON source, exactly as they were."""


def read_part(path: Path) -> list[dict[str, Any]]:
    """The rows of a plain part as dictionaries: lists and objects are Python lists and dicts again."""
    return to_rows(pq.read_table(path, partitioning=None))


def to_rows(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of a part (also of `read_sealed`) as dictionaries, in file order."""
    columns = {field.name: _values(field, table.column(i)) for i, field in enumerate(table.schema)}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _values(field: pa.Field, column: pa.ChunkedArray) -> list[Any]:
    values = column.to_pylist(maps_as_pydicts="strict")
    if (field.metadata or {}).get(b"itera") == b"json":
        return [None if value is None else json.loads(value) for value in values]
    return list(values)
