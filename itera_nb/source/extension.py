"""The registered top-up: a second sealed batch of rows that nobody has seen."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa

from itera_nb.exceptions import DataError
from itera_nb.experiment import Experiment
from itera_nb.source.contamination import Watch, index_file, input_columns, write_index
from itera_nb.source.keys import derived_key, keyed_order
from itera_nb.source.relation import open_source
from itera_nb.source.seal_split import draw
from itera_nb.source.slices import slice_id
from itera_nb.source.unseen import read_parts, rows_like, seal_rows, unseen


def extend(experiment: Experiment, file: str) -> int:
    """Seal as many new rows of a file as the first batch has, in the secret order of their ids.

    Left out are rows of the parts so far, rows like one of them, and whole clusters of train and dev. The
    registered size of the sample does not hold: the file may hold the old rows too.

    Returns:
        The number of the record.

    Raises:
        DataError: There are fewer new rows, or their columns are of other kinds.
    """
    experiment.require("extended")
    spec, secret = experiment.spec, experiment.secret
    sealed = experiment.state.the("sealed").body
    parts = read_parts(experiment, secret)
    schema, count = parts["test"].schema, sealed["counts"]["test"]
    source = spec.source.model_copy(update={"uri": file, "sample": None})
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    relation = open_source(source, spec.split, experiment.folder, text=texts)
    keys = draw(relation, source, spec.split, secret.seed).keys
    inputs = input_columns(experiment)
    tuned = (parts["train"], parts["dev"])
    fresh = unseen(relation, keys, parts, tuned, source, inputs, secret.seed)
    if fresh.num_rows < count:
        raise DataError(
            f"{fresh.num_rows:,} rows are new, {count:,} are needed for the registered top-up",
            fix="give a file with more rows that were in no part of this experiment",
        )
    chosen = _first(fresh, keyed_order(derived_key(secret.seed, "extend"), fresh.column(source.id)), count)
    watch = Watch(source.id)
    batch = seal_rows(
        experiment.path("sealed", "test-2.parquet"),
        schema,
        rows_like(relation, chosen.column(source.id), schema),
        sealed["sealed"]["recipients"],
        lambda rows: watch.add(rows, inputs),
    )
    open_parts = [experiment.path("data", f"{part}.parquet") for part in ("train", "dev")]
    own_key = not experiment.custody.escrow
    _, scan = write_index(
        experiment, watch, open_parts, batch["recipients"], own_key=own_key, name=index_file(2)
    )
    body = {
        "count": count,
        "slices": _slices(chosen, source.slices),
        "left_out": keys.num_rows - fresh.num_rows,
        "fingerprint": relation.fingerprint(),
        "scan": scan,
        "burned": watch.burned(experiment),
        "sealed": batch,
    }
    return experiment.record("extended", body).seq


def _first(keys: pa.Table, order: np.ndarray, count: int) -> pa.Table:
    """The first rows in an order, as they stand in the source."""
    return keys.take(pa.array(np.sort(np.argsort(order, kind="stable")[:count])))


def _slices(keys: pa.Table, columns: list[str]) -> dict[str, int]:
    names = Counter(
        slice_id(column, value) for column in columns for value in keys.column(column).to_pylist()
    )
    return dict(sorted(names.items()))
