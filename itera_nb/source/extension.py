"""The registered top-up: a second sealed batch of rows that nobody has seen."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from itera_nb.exceptions import DataError
from itera_nb.seal.custody import Secret
from itera_nb.seal.parquet import Commitment, PartWriter
from itera_nb.source.duplicates import hash_inputs
from itera_nb.source.keys import derived_key, keyed_order
from itera_nb.source.relation import Relation, declared_columns
from itera_nb.source.seal_split import SALT_BYTES, Watcher, draw
from itera_nb.source.slices import slice_id
from itera_nb.spec import SourceSpec, SplitSpec


@dataclass(frozen=True, slots=True)
class Extension:
    """The second batch: counts, and what binds to it; no row text and no row id."""

    count: int
    slices: dict[str, int]
    known: int
    sha256: str
    commitment: str
    salt: str
    recipients: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The report as plain dictionaries and lists."""
        return asdict(self)


def seal_extension(
    relation: Relation,
    source: SourceSpec,
    split: SplitSpec,
    secret: Secret,
    path: Path,
    *,
    recipients: Sequence[str],
    known: Sequence[pa.Table],
    tuned: Sequence[pa.Table],
    inputs: Sequence[str],
    count: int,
    watch: Watcher,
) -> Extension:
    """Seal `count` rows that are in none of the parts so far, in the secret order of their ids.

    Rows whose id or normalised inputs are known are left out, and so are whole clusters of train or dev: what
    was tuned on rows of a customer is not tested on that customer.

    Args:
        relation: The file with the new rows; it may hold the old ones too.
        source: The `[source]` section.
        split: The `[split]` section.
        secret: The experiment's key and seed.
        path: Where the sealed batch goes.
        recipients: Public keys that open it: those of the first batch.
        known: Train, dev and the first test batch.
        tuned: Train and dev.
        inputs: The input columns.
        count: Rows wanted.
        watch: Gets the new rows, block by block, and the columns that hold their text.

    Raises:
        DataError: If there are fewer new rows than wanted.
    """
    keys = draw(relation, source, split, secret.seed).keys
    fresh = np.ones(keys.num_rows, dtype=bool)
    fresh &= ~_among(keys.column(source.id), [t.column(source.id) for t in known])
    if source.cluster:
        fresh &= ~_among(keys.column(source.cluster), [t.column(source.cluster) for t in tuned])
    salt_key = derived_key(secret.seed, "duplicates")
    seen = np.concatenate([hash_inputs(t.select(list(inputs)).to_batches(), salt_key) for t in known])
    blocks = (batch.select(list(inputs)) for batch in relation.rows(keys.column(source.id), list(inputs)))
    fresh &= ~np.isin(hash_inputs(blocks, salt_key), seen)
    if int(fresh.sum()) < count:
        raise DataError(
            f"{int(fresh.sum()):,} rows are new, {count:,} are needed for the registered top-up",
            fix="give a file with more rows that were in no part of this experiment",
        )
    order = keyed_order(derived_key(secret.seed, "extend"), keys.column(source.id))
    order = np.where(fresh, order, np.iinfo(order.dtype).max)
    chosen = np.zeros(keys.num_rows, dtype=bool)
    chosen[np.argsort(order, kind="stable")[:count]] = True
    keys = keys.filter(pa.array(chosen))
    columns = list(dict.fromkeys([*inputs, *declared_columns(source, split)]))
    salt = secrets.token_bytes(SALT_BYTES)
    compared = [c for c in inputs if c != source.id] or [source.id]
    sha256, commitment = _write(
        relation, keys.column(source.id), columns, path, recipients, salt, lambda rows: watch(rows, compared)
    )
    return Extension(
        count,
        _slices(keys, source.slices),
        int((~fresh).sum()),
        sha256,
        commitment,
        salt.hex(),
        tuple(recipients),
    )


def _among(values: pa.ChunkedArray, known: Sequence[pa.ChunkedArray]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Mask of the non-null values that occur in any of the known columns, compared as text."""
    texts = pa.concat_arrays([c.cast(pa.string()) for column in known for c in column.chunks])
    found = pc.is_in(values.cast(pa.string()), value_set=texts.drop_null())
    mask: np.ndarray[Any, np.dtype[np.bool_]] = found.to_numpy(zero_copy_only=False).astype(bool)
    return mask


def _write(
    relation: Relation,
    ids: pa.ChunkedArray,
    columns: Sequence[str],
    path: Path,
    recipients: Sequence[str],
    salt: bytes,
    collect: Callable[[pa.RecordBatch], None],
) -> tuple[str, str]:
    batches = relation.rows(ids, columns)
    first = next(iter(batches))
    promise = Commitment(salt, first.schema)
    with PartWriter(path, first.schema, recipients) as writer:
        for batch in (first, *batches):
            promise.update(batch)
            collect(batch)
            writer.write(batch)
        return writer.finish().sha256, promise.hexdigest()


def _slices(keys: pa.Table, columns: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for column in columns:
        counted = keys.column(column).fill_null("").value_counts().to_pylist()
        found |= {slice_id(column, x["values"]): x["counts"] for x in counted}
    return dict(sorted(found.items()))
