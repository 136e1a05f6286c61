"""Sealed rows in files that an arm, or the one who writes it, can read: looked for, recorded, never shown.

Runs in the isolated processes: at sealing, at the lock, before the claim, and when a person asks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from itera_nb.exceptions import Refusal
from itera_nb.experiment import Experiment
from itera_nb.seal import burned
from itera_nb.seal import index_file as prints
from itera_nb.seal.custody import has_identity
from itera_nb.seal.fingerprints import Index, IndexBuilder, readable, texts_of
from itera_nb.seal.scan import Scan, Scanner, below, project_files, project_root, tell_stderr
from itera_nb.source.duplicates import hash_inputs
from itera_nb.source.keys import Order

CACHE = "runs/scan-cache.json"
SCAN_LIMIT = "a paraphrase or a translation of a row would not be found"


def index_file(batch: int) -> str:
    """The fingerprints of one sealed batch (1, 2)."""
    return "sealed/scan.age" if batch == 1 else f"sealed/scan-{batch}.age"


class Watch:
    """What is kept of the test rows as they are sealed: fingerprints, and hashes of rows opened before."""

    def __init__(self, id_column: str) -> None:
        self._id = id_column
        self.builder = IndexBuilder()
        self.columns: tuple[str, ...] = ()
        self._burned: list[Order] = []

    def add(self, rows: pa.RecordBatch, columns: Sequence[str]) -> None:
        """Add sealed rows, whose text stands in these columns."""
        self.columns = tuple(columns)
        for texts in texts_of([rows], columns):
            self.builder.add(rows.column(self._id).to_pylist(), texts)
        self._burned.append(hash_inputs([rows.select(list(columns))], burned.key()))

    def burned(self, experiment: Experiment) -> dict[str, int]:
        """Earlier experiment of this user -> how many of the rows its verdict has opened."""
        return burned.met(experiment.genesis, np.concatenate([*self._burned, np.empty(0, np.uint64)]))


def burn(experiment: Experiment, opened: pa.Table) -> None:
    """Remember opened rows for this user's later experiments."""
    columns = input_columns(experiment)
    hashes = hash_inputs(opened.select(columns).to_batches(), burned.key())
    burned.remember(experiment.genesis, experiment.name, hashes)


def input_columns(experiment: Experiment) -> list[str]:
    """The columns whose text is looked for: the inputs, or the id where it is the only one."""
    id_column = experiment.spec.source.id
    return [c for c in experiment.state.the("sealed").body["inputs"] if c != id_column] or [id_column]


def write_index(
    experiment: Experiment,
    watch: Watch,
    readable: Sequence[Path],
    recipients: Sequence[str],
    *,
    own_key: bool,
    name: str = "",
) -> tuple[Index, str]:
    """Write the encrypted fingerprints of the sealed rows; returns them and the file's SHA-256.

    Text of the `readable` parts does not count: a window that train or dev holds too betrays nothing. With
    `own_key` (local custody) a key of this user opens the fingerprints too, before the claim.
    """
    index = watch.builder.build().without(_texts(readable, watch.columns))
    data = prints.encrypt(index, recipients, experiment.genesis, own_key=own_key)
    return index, experiment.write_bytes(name or index_file(1), data)


def _texts(parts: Sequence[Path], inputs: Sequence[str]) -> Iterator[bytes]:
    for part in parts:
        batches = pq.ParquetFile(part).iter_batches(batch_size=4096, columns=list(inputs))
        for rows in texts_of(batches, inputs):
            yield readable(rows)


def can_look(experiment: Experiment) -> bool:
    """Whether the rows can be looked for here: under escrow only by who has a recipient's private key."""
    if not experiment.state.has("sealed"):
        return False
    return prints.own_key(experiment.genesis) is not None or not experiment.custody.escrow or has_identity()


def look(
    experiment: Experiment, where: str, extra: Sequence[str] = (), *, index: Index | None = None
) -> dict[str, Any]:
    """Look for the sealed rows in the project, and record what is new: `contamination`.

    Args:
        experiment: It is sealed.
        where: When this is: "sealing", "lock", "verdict" or "scan".
        extra: More files and folders.
        index: The fingerprints, where the process has just made them; else they are opened.

    Returns:
        The `Scan` as JSON.
    """
    experiment.require("contamination")
    folder = experiment.folder
    root = project_root(folder)
    source = experiment.outside(experiment.spec.source.uri)
    experiment.path(CACHE).parent.mkdir(exist_ok=True)
    scanner = Scanner(
        index or _index(experiment),
        name=lambda path: os.path.relpath(path, folder),
        cache=experiment.path(CACHE),
        tell=tell_stderr,
        source=source if source.is_file() else None,
    )
    close = [path for path in (*below(folder), *_named(experiment)) if path.suffix != ".lock"]
    files = [*close, *(f for path in extra for f in below(Path(path).resolve())), *project_files(root)]
    # While it is there from the start, it is said once; one that comes back is a copy.
    left_out = _own(experiment) | ({source} if not experiment.state.has("evicted") else set())
    scan = scanner.scan((f for f in files if f not in left_out), history=root, close=close)
    _record(experiment, where, scan)
    return scan.to_json()


def _index(experiment: Experiment) -> Index:
    batches = experiment.state.batches
    identity = prints.own_key(experiment.genesis) or experiment.secret.identity
    return prints.decrypt(experiment.path(index_file(len(batches))), identity)


def _own(experiment: Experiment) -> set[Path]:
    """What is not looked at: the parts, what is encrypted, and recorded answers to all rows."""
    own = {experiment.path("data", f"{part}.parquet") for part in ("train", "dev")}
    own |= {*below(experiment.path("sealed")), experiment.path(CACHE)}
    own |= {experiment.outside(arm.file) for arm in experiment.spec.arms.values() if arm.file}
    return own


def _named(experiment: Experiment) -> Iterator[Path]:
    """Files outside the folder that arms are given: code, prompts, few-shot rows, resources."""
    spec = experiment.spec
    paths = [*spec.resources.values(), *spec.run.pythonpath]
    for arm in spec.arms.values():
        shots = arm.few_shot if isinstance(arm.few_shot, str) else None
        target = (arm.target or "").rpartition(":")[0]
        paths += [path for path in (arm.prompt, arm.tools, shots, target) if path and "\n" not in path]
    for path in paths:
        given = experiment.outside(path)
        # A folder of code may be the whole project; what it holds is looked at, but is not close to an arm.
        if given.is_file() or path in spec.resources.values():
            yield from below(given)


def _record(experiment: Experiment, where: str, scan: Scan) -> None:
    """Append what no record since the sealing says yet."""
    sealed = experiment.state.the("sealed")
    since = [r.body for r in experiment.state.all("contamination") if r.seq > sealed.seq]
    known = {(hit["file"], id_) for body in since for hit in body["found"] for id_ in _ids(hit)}
    copies = {file for body in since for file in body["copies"]}
    found = [
        {
            "file": hit.file,
            "passages": [i for i in hit.passages if (hit.file, i) not in known],
            "wholes": [i for i in hit.wholes if (hit.file, i) not in known],
        }
        for hit in scan.hits
    ]
    body = {
        "where": where,
        "found": [hit for hit in found if _ids(hit)],
        "copies": [file for file in scan.copies if file not in copies],
    }
    if body["found"] or body["copies"]:
        experiment.record("contamination", body)


def _ids(hit: dict[str, Any]) -> list[str]:
    return [*hit["passages"], *hit["wholes"]]


def figures(scan: dict[str, Any] | None) -> dict[str, int] | None:
    """What a record keeps of a scan: counts alone; None where nobody here can look."""
    return None if scan is None else {k: scan[k] for k in ("files", "objects", "left_out", "blind")}


def look_before(experiment: Experiment, event: str) -> dict[str, int] | None:
    """Look again before the lock, in a process of its own, and refuse what the protocol then refuses.

    Raises:
        Refusal: SG03, if sealed rows were found and neither moved nor accepted.
    """
    experiment.require(event)
    if not can_look(experiment):
        return None
    found = experiment.isolated("itera_nb.source", "scan", "lock", progress=tell_stderr)
    experiment.require(event)
    return figures(found)


def require_key(experiment: Experiment) -> None:
    """Refuse to look where the fingerprints cannot be opened.

    Raises:
        Refusal: SG03 under escrow, where only the custodian looks, before the claim.
    """
    experiment.require("contamination")
    if not can_look(experiment):
        raise Refusal(
            "SG03",
            "the fingerprints of the sealed rows are with their custodian.",
            why="whoever can ask which text is in the test set can find out what the test set is.",
            instead="nothing: the custodian's `itera verdict` looks before it opens the rows",
        )
