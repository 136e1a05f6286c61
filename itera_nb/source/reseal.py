"""Resealing: leaked rows go from the sealed test set to dev; rows that nobody was shown take their place.

Ids, the registered split and the secret seed decide everything, so that no choice is left to whoever asks.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from itera_nb.exceptions import DataError, IteraError, RecordError, StoppedError
from itera_nb.experiment import Experiment
from itera_nb.ledger import Record
from itera_nb.protocol import seen
from itera_nb.seal.fingerprints import texts_of
from itera_nb.seal.parquet import Commitment, PartWriter, file_sha256, read_sealed
from itera_nb.source.contamination import Watch, index_file, input_columns, look, write_index
from itera_nb.source.duplicates import Shingles, group_units, hash_inputs
from itera_nb.source.keys import derived_key, keyed_order
from itera_nb.source.relation import MAX_KEY, DuckDBRelation, Relation, declared_columns, open_source
from itera_nb.source.seal_split import FOLD, SALT_BYTES
from itera_nb.source.slices import slice_id, text_of
from itera_nb.source.split import seed_commitment
from itera_nb.spec import SourceSpec

PARTS = ("train", "dev", "test")
NEXT = ".next"
Mask = NDArray[np.bool_]


def reseal(experiment: Experiment, ids: Sequence[str], why: str) -> Record:
    """Move leaked rows to dev and seal fresh ones; in the isolated process.

    Args:
        experiment: The experiment, sealed and not opened.
        ids: Rows that leaked, beside those that a scan has found. Their duplicates and clusters go with them.
        why: What happened, for rows that are named; the conclusion prints it.

    Raises:
        Refusal: SG02 once the test set is open.
        IteraError: No row is known to have leaked, an id is not in the test set, or none would be left.
    """
    with _alone(experiment):
        return _reseal(experiment, ids, why)


def _reseal(experiment: Experiment, ids: Sequence[str], why: str) -> Record:
    experiment.require("resealed")
    _finish(experiment)
    state, secret = experiment.state, experiment.secret
    sealed = state.the("sealed")
    if seed_commitment(secret.seed) != sealed.body["seed_commitment"]:
        raise RecordError("the split seed is not the one that was committed to", record=sealed.seq)
    id_column = experiment.spec.source.id
    inputs = input_columns(experiment)
    parts = _parts(experiment, sealed, secret.identity)
    test = parts["test"]
    leaked = {*ids, *(id_ for found in state.found.values() for id_ in found)}
    _require_rows(leaked, test.column(id_column).to_pylist())
    moved = _with_their_like(test, leaked, experiment.spec.source, inputs, secret.seed)
    gone = test.filter(pa.array(moved))
    fresh = _fresh(experiment, parts, gone, inputs, secret.seed)
    kept = pa.concat_tables([test.filter(pa.array(~moved)), *fresh])
    if not kept.num_rows:
        raise IteraError("every test row has leaked", fix="new rows, new experiment: itera new NAME")
    parts |= {"test": kept, "dev": _with_folds(parts["dev"], gone, id_column, secret.seed)}
    body = {key: sealed.body[key] for key in sealed.body if key not in MADE_BY_A_RESEAL}
    body |= _write(experiment, parts, inputs, sealed)
    body |= _counts(experiment, parts, sealed)
    body |= {
        "moved": sorted(gone.column(id_column).to_pylist()),
        "fresh": sum(table.num_rows for table in fresh),
        "why": why,
        "seen": seen(state),
        "asks": [],
    }
    with experiment.ledger.locked():
        record = experiment.record("resealed", body)
        _finish(experiment)
    look(experiment, "resealing")
    return record


MADE_BY_A_RESEAL = {"moved", "fresh", "why", "seen"}


def finish(experiment: Experiment) -> None:
    """Give the files of the latest record their names: all of it that a crash may have left undone.

    Raises:
        StoppedError: Another process is resealing.
    """
    if any(path.with_name(path.name + NEXT).exists() for path in _paths(experiment).values()):
        with _alone(experiment):
            _finish(experiment)


@contextlib.contextmanager
def _alone(experiment: Experiment) -> Iterator[None]:
    """One process at a time writes the parts anew; a dead one's lock is freed."""
    try:
        with FileLock(experiment.path("sealed", "reseal.lock"), timeout=0):
            yield
    except Timeout:
        raise StoppedError("another process is resealing", fix="wait for it, then: itera status") from None


def _finish(experiment: Experiment) -> None:
    sealed = experiment.state.the("sealed")
    for part, path in _paths(experiment).items():
        new = path.with_name(path.name + NEXT)
        if new.exists():
            if file_sha256(new) == sealed.body["files"][part]:
                new.replace(path)
            else:
                new.unlink()


def _paths(experiment: Experiment) -> dict[str, Path]:
    return {
        "dev": experiment.path("data", "dev.parquet"),
        "test": experiment.path("sealed", "test.parquet"),
        "scan": experiment.path(index_file(1)),
    }


def _parts(experiment: Experiment, sealed: Record, identity: str) -> dict[str, pa.Table]:
    parts = {}
    for part in ("train", "dev"):
        path = experiment.path("data", f"{part}.parquet")
        if not path.is_file() or file_sha256(path) != sealed.body["files"][part]:
            raise RecordError(
                f"data/{part}.parquet is not the file that was recorded", record=sealed.seq, fix="put it back"
            )
        parts[part] = pq.read_table(path, partitioning=None)
    sha256 = sealed.body["sealed"]["sha256"]
    parts["test"] = read_sealed(experiment.path("sealed", "test.parquet"), identity, sha256=sha256)
    return parts


def _require_rows(leaked: set[str], known: Sequence[str]) -> None:
    if not leaked:
        raise IteraError(
            "no sealed row is known to have leaked",
            fix="look for some: itera scan   or name them: itera reseal --ids ID,ID --why …",
        )
    if strange := sorted(leaked - set(known)):
        raise IteraError(
            f"not in the sealed test set: {', '.join(strange[:5])}", fix="name ids of sealed rows"
        )


def _with_their_like(
    test: pa.Table, leaked: set[str], source: SourceSpec, inputs: Sequence[str], seed: bytes
) -> Mask:
    """The leaked rows and all that may not stand on another side: same or nearly same input, same cluster."""
    batches = test.select(list(inputs)).to_batches()
    shingles = Shingles()
    for texts in texts_of(batches, inputs):
        shingles.add(texts)
    clusters = _column(test, source.cluster) if source.cluster else None
    units = group_units(
        hash_inputs(batches, derived_key(seed, "duplicates")), clusters, shingles.pairs()
    ).codes
    named = np.isin(np.array(test.column(source.id).to_pylist(), object), list(leaked))
    return np.isin(units, units[named])


def _fresh(
    experiment: Experiment, parts: Mapping[str, pa.Table], gone: pa.Table, inputs: Sequence[str], seed: bytes
) -> list[pa.Table]:
    """Rows of the source that are in no part, as many of each stratum as leave it, or as there are."""
    spec = experiment.spec
    try:
        relation = open_source(spec.source, spec.split, experiment.folder)
    except DataError:
        return []  # removed or sealed: the test set shrinks, and the record says so
    if relation.fingerprint() != experiment.state.the("sampled").body["fingerprint"]:
        return []
    wanted = _strata(experiment, gone)
    keys = _candidates(experiment, relation, parts, gone, inputs, seed)
    chosen: list[int] = []
    for place, stratum in enumerate(_strata(experiment, keys)):
        if stratum in wanted:
            wanted.remove(stratum)
            chosen.append(place)
    if not chosen:
        return []
    picked = set(keys.take(chosen).column(spec.source.id).to_pylist())
    every = relation.keys([]).column(spec.source.id)
    ids = every.filter(pc.is_in(every, value_set=pa.array(sorted(picked))))
    schema = parts["test"].schema
    columns = [c for c in schema.names if c != spec.source.id]
    return [pa.table(b).select(schema.names).cast(schema) for b in _blocks(relation, ids, columns)]


def _blocks(relation: Relation, ids: pa.ChunkedArray, columns: Sequence[str]) -> list[pa.Table]:
    return [pa.Table.from_batches([batch]) for batch in relation.rows(ids, columns)]


def _candidates(
    experiment: Experiment,
    relation: DuckDBRelation,
    parts: Mapping[str, pa.Table],
    gone: pa.Table,
    inputs: Sequence[str],
    seed: bytes,
) -> pa.Table:
    """Keys of rows that no part holds, like none of them, in the secret order and within the caps."""
    spec = experiment.spec
    source, known = spec.source, list(parts.values())
    keys = relation.keys(declared_columns(source.model_copy(update={"inputs": []}), spec.split))
    ids = keys.column(source.id)
    fresh = ~_among(ids, [t.column(source.id) for t in known])
    if source.cluster:
        tuned = [parts["train"], parts["dev"], gone]
        fresh &= ~_among(keys.column(source.cluster), [_column(t, source.cluster) for t in tuned])
    key = derived_key(seed, "duplicates")
    seen_ = np.concatenate([hash_inputs(t.select(list(inputs)).to_batches(), key) for t in known])
    shingles = Shingles()
    for table in known:
        for texts in texts_of(table.to_batches(), inputs):
            shingles.add(texts)
    left = keys.filter(pa.array(fresh))
    hashes = []
    for batch in relation.rows(left.column(source.id), list(inputs)):
        hashes.append(hash_inputs([batch.select(list(inputs))], key))
        for texts in texts_of([batch], inputs):
            shingles.add(texts)
    usable = ~np.isin(np.concatenate([*hashes, np.empty(0, np.uint64)]), seen_)
    old = len(seen_)
    for one, other in (p for p in (shingles.pairs(),) if p is not None for p in p.tolist()):
        if one < old <= other or other < old <= one:
            usable[max(one, other) - old] = False
    left = left.filter(pa.array(usable))
    order = keyed_order(derived_key(seed, "sample"), left.column(source.id))
    left = left.take(pa.array(np.argsort(order, kind="stable")))
    return left.filter(pa.array(_within_cap(left, source, known)))


def _within_cap(keys: pa.Table, source: SourceSpec, known: Sequence[pa.Table]) -> Mask:
    """Rows that leave no entity with more than `cap` in all parts."""
    if source.cap_by is None:
        return np.ones(keys.num_rows, np.bool_)
    held: dict[str, int] = {}
    for table in known:
        for name in _column(table, source.cap_by).drop_null().to_pylist():
            held[name] = held.get(name, 0) + 1
    fits = np.ones(keys.num_rows, np.bool_)
    for place, name in enumerate(keys.column(source.cap_by).to_pylist()):
        if name is not None:
            held[name] = held.get(name, 0) + 1
            fits[place] = held[name] <= source.cap
    return fits


def _strata(experiment: Experiment, rows: pa.Table) -> list[tuple[str, ...]]:
    """Slices, declared strata and class of each row, as text."""
    spec, sealed = experiment.spec, experiment.state.the("sealed")
    label = [spec.source.expected] if spec.source.expected and sealed.body["classes"] else []
    names = list(dict.fromkeys([*spec.source.slices, *spec.split.stratify, *label]))
    columns = [[text_of(value) for value in rows.column(name).to_pylist()] for name in names]
    return list(zip(*columns, strict=True)) if names else [()] * rows.num_rows


def _with_folds(dev: pa.Table, gone: pa.Table, id_column: str, seed: bytes) -> pa.Table:
    """Dev with the leaked rows, which are dealt to its folds if it has some."""
    if FOLD in dev.schema.names and FOLD not in gone.schema.names:
        folds = int(pc.max(dev.column(FOLD)).as_py()) + 1
        order = keyed_order(derived_key(seed, "split"), gone.column(id_column).cast(pa.string()))
        gone = gone.append_column(FOLD, pa.array((order % np.uint64(folds)).astype(np.int8)))
    return pa.concat_tables([dev, gone.select(dev.schema.names).cast(dev.schema)])


def _write(
    experiment: Experiment, parts: Mapping[str, pa.Table], inputs: Sequence[str], sealed: Record
) -> dict[str, Any]:
    """Write dev, the sealed rows and their fingerprints beside the old ones; what the record says of them."""
    paths = {name: path.with_name(path.name + NEXT) for name, path in _paths(experiment).items()}
    recipients, salt = list(sealed.body["sealed"]["recipients"]), secrets.token_bytes(SALT_BYTES)
    promise, watch = Commitment(salt, parts["test"].schema), Watch(experiment.spec.source.id)
    with PartWriter(paths["dev"], parts["dev"].schema) as writer:
        for batch in parts["dev"].to_batches():
            writer.write(batch)
        dev = writer.finish()
    with PartWriter(paths["test"], parts["test"].schema, recipients) as writer:
        for batch in parts["test"].to_batches():
            promise.update(batch)
            writer.write(batch)
            watch.add(batch, inputs)
        test = writer.finish()
    readable = [experiment.path("data", "train.parquet"), paths["dev"]]
    _, scan = write_index(
        experiment,
        watch,
        readable,
        recipients,
        own_key=not experiment.custody.escrow,
        name=f"{index_file(1)}{NEXT}",
    )
    return {
        "burned": watch.burned(experiment),
        "files": sealed.body["files"] | {"dev": dev.sha256, "test": test.sha256, "scan": scan},
        "sealed": {
            "sha256": test.sha256,
            "commitment": promise.hexdigest(),
            "salt": salt.hex(),
            "recipients": recipients,
        },
    }


def _counts(experiment: Experiment, parts: Mapping[str, pa.Table], sealed: Record) -> dict[str, Any]:
    """Rows of each part, slice, class and required condition after the move."""
    source = experiment.spec.source

    def by_part(column: str, named: bool) -> dict[str, dict[str, int]]:
        counts: dict[str, dict[str, int]] = {}
        for part in PARTS:
            for value in parts[part].column(column).to_pylist():
                name = slice_id(column, value) if named else text_of(value)
                counts.setdefault(name, dict.fromkeys(PARTS, 0))[part] += 1
        return dict(sorted(counts.items()))

    required = []
    for rule in experiment.spec.split.require:
        held = by_part(rule.column, named=False).get(rule.value, dict.fromkeys(PARTS, 0))
        met = all(n >= rule.count for n in held.values())
        required.append({"column": rule.column, "value": rule.value, "count": rule.count, "met": met} | held)
    return {
        "counts": {part: parts[part].num_rows for part in PARTS},
        "slices": {k: v for column in source.slices for k, v in by_part(column, named=True).items()},
        "classes": by_part(str(source.expected), named=False) if sealed.body["classes"] else None,
        "requirements": required,
    }


def _column(table: pa.Table, name: str) -> pa.ChunkedArray:
    """A column as text, as keys compare."""
    texts = [None if value is None else text_of(value) for value in table.column(name).to_pylist()]
    keys = [
        t if t is None or len(t) <= MAX_KEY else f"sha256:{hashlib.sha256(t.encode()).hexdigest()}"
        for t in texts
    ]
    return pa.chunked_array([pa.array(keys, pa.string())])


def _among(values: pa.ChunkedArray, known: Sequence[pa.ChunkedArray]) -> Mask:
    held = {v for column in known for v in column.to_pylist() if v is not None}
    return np.array([v in held for v in values.to_pylist()], np.bool_)
