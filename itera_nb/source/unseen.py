"""Rows that are in no part yet and like none that is: what a reseal and the registered top-up seal."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from itera_nb.exceptions import DataError, RecordError
from itera_nb.experiment import Experiment
from itera_nb.seal.custody import Secret
from itera_nb.seal.parquet import file_sha256, read_sealed
from itera_nb.source.duplicates import units_of
from itera_nb.source.relation import MAX_KEY, DuckDBRelation
from itera_nb.source.seal_split import SealWriter
from itera_nb.source.slices import text_of
from itera_nb.source.split import seed_commitment
from itera_nb.spec import SourceSpec

Mask: TypeAlias = NDArray[np.bool_]


def read_parts(experiment: Experiment, secret: Secret) -> dict[str, pa.Table]:
    """Train, dev and the sealed test rows, as the latest sealing recorded them.

    Raises:
        RecordError: A file or the split seed is not the recorded one.
    """
    sealed = experiment.state.the("sealed")
    if seed_commitment(secret.seed) != sealed.body["seed_commitment"]:
        raise RecordError("the split seed is not the one that was committed to", record=sealed.seq)
    parts = {}
    for part in ("train", "dev"):
        path = experiment.path("data", f"{part}.parquet")
        if not path.is_file() or file_sha256(path) != sealed.body["files"][part]:
            raise RecordError(
                f"data/{part}.parquet is not the file that was recorded", record=sealed.seq, fix="put it back"
            )
        parts[part] = pq.read_table(path, partitioning=None)
    sha256 = sealed.body["sealed"]["sha256"]
    parts["test"] = read_sealed(experiment.path("sealed", "test.parquet"), secret.identity, sha256=sha256)
    return parts


def as_keys(table: pa.Table, columns: Iterable[str]) -> pa.Table:
    """Columns of a part as `DuckDBRelation.keys` gives them: text, long values as a hash."""
    return pa.table({column: _key_texts(table.column(column)) for column in columns})


def _key_texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    texts = [None if value is None else text_of(value) for value in column.to_pylist()]
    keys = [
        t if t is None or len(t) <= MAX_KEY else f"sha256:{hashlib.sha256(t.encode()).hexdigest()}"
        for t in texts
    ]
    return pa.chunked_array([pa.array(keys, pa.string())])


def unseen(
    relation: DuckDBRelation,
    keys: pa.Table,
    parts: Mapping[str, pa.Table],
    tuned: Sequence[pa.Table],
    source: SourceSpec,
    inputs: list[str],
    seed: bytes,
) -> pa.Table:
    """Those of `keys` whose row is in no part, like no row of a part, and in no cluster that was tuned on.

    `keys` are those of some rows of `relation`, in source order. Rows are alike by the rule that kept
    duplicates on one side, in the columns `inputs`. What was tuned on rows of a customer is not tested
    on that customer: the clusters of `tuned` are left out, which are train, dev and rows that leaked.
    """
    known = list(parts.values())
    fresh = ~_among(keys, source.id, known)
    if source.cluster:
        fresh &= ~_among(keys, source.cluster, [as_keys(table, [source.cluster]) for table in tuned])
    keys = keys.filter(pa.array(fresh))
    old = [batch.select(inputs) for table in known for batch in table.to_batches()]
    new = (batch.select(inputs) for batch in relation.rows(keys.column(source.id), inputs))
    units = units_of(chain(old, new), seed).codes
    held = sum(batch.num_rows for batch in old)
    return keys.filter(pa.array(~np.isin(units[held:], units[:held])))


def _among(keys: pa.Table, column: str, known: Sequence[pa.Table]) -> Mask:
    """Which values occur in the same column of a known table; a missing value occurs nowhere."""
    held = {value for table in known for value in table.column(column).to_pylist()} - {None}
    return np.array([value in held for value in keys.column(column).to_pylist()], np.bool_)


def rows_like(relation: DuckDBRelation, ids: pa.ChunkedArray, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows with these ids (in source order), in the columns and types of a sealed part.

    Raises:
        DataError: A column is of another kind now.
    """
    for batch in relation.rows(ids, schema.names):
        try:
            table = pa.table(batch).select(schema.names).cast(schema)
        except pa.ArrowException:
            failed = True  # its message quotes a value
        else:
            failed = False
            yield from table.to_batches()
        if failed:
            raise DataError(
                "the new rows have columns of another kind than the sealed ones",
                fix="export them as the first file was exported",
            )


def seal_rows(
    path: Path,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    recipients: Sequence[str],
    watch: Callable[[pa.RecordBatch], None],
) -> dict[str, Any]:
    """Write rows encrypted to `recipients`; what a record says of the file."""
    with SealWriter(path, schema, recipients, watch) as writer:
        for batch in batches:
            writer.write(batch)
        return writer.seal()
