"""Resealing: leaked rows go from the sealed test set to dev; rows that nobody was shown take their place.

Ids, the registered split and the secret seed decide everything, so that no choice is left to whoever asks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock, Timeout

from itera_nb.exceptions import DataError, IteraError, StoppedError
from itera_nb.experiment import Experiment
from itera_nb.ledger import Record
from itera_nb.protocol import seen
from itera_nb.seal.parquet import PartWriter, file_sha256
from itera_nb.source.contamination import Watch, index_file, input_columns, look, write_index
from itera_nb.source.duplicates import units_of
from itera_nb.source.keys import Codes, derived_key, keyed_order
from itera_nb.source.relation import declared_columns, open_source
from itera_nb.source.seal_split import FOLD, by_part
from itera_nb.source.split import PARTS, requirements
from itera_nb.source.unseen import Mask, as_keys, read_parts, rows_like, seal_rows, unseen
from itera_nb.spec import SourceSpec

NEXT = ".next"


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
    parts = read_parts(experiment, secret)
    id_column, test = experiment.spec.source.id, parts["test"]
    inputs = input_columns(experiment)
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
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(FileLock(experiment.path("sealed", "reseal.lock"), timeout=0))
        except Timeout:
            raise StoppedError(
                "another process is resealing", fix="wait for it, then: itera status"
            ) from None
        yield


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
    test: pa.Table, leaked: set[str], source: SourceSpec, inputs: list[str], seed: bytes
) -> Mask:
    """The leaked rows and all that may not stand on another side: same or nearly same input, same cluster."""
    clusters = as_keys(test, [source.cluster]).column(0) if source.cluster else None
    units = units_of(test.select(inputs).to_batches(), seed, clusters).codes
    named = np.isin(np.array(test.column(source.id).to_pylist(), object), list(leaked))
    return np.isin(units, units[named])


def _fresh(
    experiment: Experiment, parts: Mapping[str, pa.Table], gone: pa.Table, inputs: list[str], seed: bytes
) -> list[pa.Table]:
    """Rows of the source that are in no part, as many of each stratum as leave it, or as there are."""
    spec = experiment.spec
    try:
        relation = open_source(spec.source, spec.split, experiment.folder)
    except DataError:
        return []  # removed or sealed: the test set shrinks, and the record says so
    if relation.fingerprint() != experiment.state.the("sampled").body["fingerprint"]:
        return []
    source, schema = spec.source, parts["test"].schema
    names = declared_columns(source.model_copy(update={"inputs": []}), spec.split)
    tuned = (parts["train"], parts["dev"], gone)  # whoever is in a cluster with rows that leaked was, too
    fresh = unseen(relation, relation.keys(names), parts, tuned, source, inputs, seed)
    order = keyed_order(derived_key(seed, "sample"), fresh.column(source.id))
    place = np.argsort(order, kind="stable")
    fits = _within_cap(fresh.take(pa.array(place)), source, list(parts.values()))
    chosen = _same_strata(experiment, fresh, place[fits], as_keys(gone, names))
    batches = rows_like(relation, fresh.take(pa.array(np.sort(chosen))).column(source.id), schema)
    return [pa.Table.from_batches([batch]) for batch in batches]


def _same_strata(experiment: Experiment, keys: pa.Table, places: Codes, gone: pa.Table) -> Codes:
    """The first of these places whose strata left, as many of each as left."""
    wanted, strata = _strata(experiment, gone), _strata(experiment, keys)
    chosen = []
    for place in places.tolist():
        if strata[place] in wanted:
            wanted.remove(strata[place])
            chosen.append(place)
    return np.array(chosen, np.int64)


def _within_cap(keys: pa.Table, source: SourceSpec, known: Sequence[pa.Table]) -> Mask:
    """Rows that leave no entity with more than `cap` in all parts."""
    if source.cap_by is None:
        return np.ones(keys.num_rows, np.bool_)
    held: dict[str, int] = {}
    for table in known:
        for name in as_keys(table, [source.cap_by]).column(0).drop_null().to_pylist():
            held[name] = held.get(name, 0) + 1
    fits = np.ones(keys.num_rows, np.bool_)
    for place, name in enumerate(keys.column(source.cap_by).to_pylist()):
        if name is not None:
            held[name] = held.get(name, 0) + 1
            fits[place] = held[name] <= source.cap
    return fits


def _strata(experiment: Experiment, keys: pa.Table) -> list[tuple[str, ...]]:
    """Slices, declared strata and class of each row, as text."""
    spec, sealed = experiment.spec, experiment.state.the("sealed")
    label = [spec.source.expected] if spec.source.expected and sealed.body["classes"] else []
    names = list(dict.fromkeys([*spec.source.slices, *spec.split.stratify, *label]))
    columns = [keys.column(name).fill_null("").to_pylist() for name in names]
    return list(zip(*columns, strict=True)) if names else [()] * keys.num_rows


def _with_folds(dev: pa.Table, gone: pa.Table, id_column: str, seed: bytes) -> pa.Table:
    """Dev with the leaked rows, which are dealt to its folds if it has some."""
    if FOLD in dev.schema.names and FOLD not in gone.schema.names:
        folds = int(pc.max(dev.column(FOLD)).as_py()) + 1
        order = keyed_order(derived_key(seed, "split"), gone.column(id_column).cast(pa.string()))
        gone = gone.append_column(FOLD, pa.array((order % np.uint64(folds)).astype(np.int8)))
    return pa.concat_tables([dev, gone.select(dev.schema.names).cast(dev.schema)])


def _write(
    experiment: Experiment, parts: Mapping[str, pa.Table], inputs: list[str], sealed: Record
) -> dict[str, Any]:
    """Write dev, the sealed rows and their fingerprints beside the old ones; what the record says of them."""
    paths = {name: path.with_name(path.name + NEXT) for name, path in _paths(experiment).items()}
    watch = Watch(experiment.spec.source.id)
    with PartWriter(paths["dev"], parts["dev"].schema) as writer:
        for batch in parts["dev"].to_batches():
            writer.write(batch)
        dev = writer.finish()
    test = seal_rows(
        paths["test"],
        parts["test"].schema,
        parts["test"].to_batches(),
        sealed.body["sealed"]["recipients"],
        lambda rows: watch.add(rows, inputs),
    )
    readable = [experiment.path("data", "train.parquet"), paths["dev"]]
    _, scan = write_index(
        experiment,
        watch,
        readable,
        test["recipients"],
        own_key=not experiment.custody.escrow,
        name=f"{index_file(1)}{NEXT}",
    )
    return {
        "burned": watch.burned(experiment),
        "files": sealed.body["files"] | {"dev": dev.sha256, "test": test["sha256"], "scan": scan},
        "sealed": test,
    }


def _counts(experiment: Experiment, parts: Mapping[str, pa.Table], sealed: Record) -> dict[str, Any]:
    """Rows of each part, slice, class and required condition after the move."""
    spec = experiment.spec
    columns = declared_columns(spec.source.model_copy(update={"inputs": []}), spec.split)
    keys = pa.concat_tables([as_keys(parts[part], columns) for part in PARTS])
    of_row = np.repeat(np.arange(len(PARTS), dtype=np.int8), [parts[part].num_rows for part in PARTS])
    label = [str(spec.source.expected)]
    return {
        "counts": {part: parts[part].num_rows for part in PARTS},
        "slices": by_part(keys, spec.source.slices, of_row, named=True),
        "classes": by_part(keys, label, of_row, named=False) if sealed.body["classes"] else None,
        "requirements": [asdict(r) for r in requirements(keys, of_row, spec.split)],
    }
