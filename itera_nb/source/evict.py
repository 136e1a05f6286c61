"""The raw source out of reach: raw rows less train and dev are the test rows, whatever seals those.

Sealed beside them, or removed: what was done, and what had been seen by then, is recorded.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pyrage

from itera_nb.exceptions import DataError, IteraError, Refusal
from itera_nb.experiment import Experiment
from itera_nb.ledger import sync_folder
from itera_nb.protocol import seen
from itera_nb.seal.parquet import file_sha256
from itera_nb.seal.recipients import private_key, public_keys
from itera_nb.seal.scan import project_root

SEALED_SOURCE = "sealed/source.age"


def exposed(experiment: Experiment) -> str | None:
    """The raw source as the folder names it, if it lies inside the project; else None."""
    source = experiment.outside(experiment.spec.source.uri)
    inside = source.is_relative_to(project_root(experiment.folder))
    return os.path.relpath(source, experiment.folder) if inside and source.is_file() else None


def evict(experiment: Experiment, how: str) -> int:
    """Take the raw source away; returns the number of the record.

    Args:
        experiment: The experiment, sealed.
        how: "seal" encrypts it beside the test rows, to those who open them, and removes the plain file once
            the encrypted one has been read back; "remove" only removes it.

    Raises:
        IteraError: `how` is neither.
        DataError: The file is not there, or not the one that was sampled.
    """
    if how not in {"seal", "remove"}:
        raise IteraError(
            f"{how!r} is no way to take the source away", fix='"seal" or "remove"; "restore" later'
        )
    experiment.require("evicted")
    source = experiment.outside(experiment.spec.source.uri)
    if not source.is_file():
        raise DataError(f"the source {source} is not there", fix="nothing needs to be done")
    sha256 = file_sha256(source)
    if sha256 != experiment.state.the("sampled").body["fingerprint"]:
        raise DataError(f"{source.name} is not the file that was sampled", fix="take it away by hand")
    body: dict[str, Any] = {"file": os.path.relpath(source, experiment.folder), "how": how, "sha256": sha256}
    if how == "seal":
        recipients = experiment.state.the("sealed").body["sealed"]["recipients"]
        body["files"] = {SEALED_SOURCE: _seal(source, experiment.path(SEALED_SOURCE), recipients, sha256)}
    record = experiment.record("evicted", body | {"seen": seen(experiment.state)})
    source.unlink()
    return record.seq


def restore(experiment: Experiment) -> str:
    """Put a sealed source back after the verdict; returns its path.

    Raises:
        Refusal: SG01 before the verdict, or without the key.
        IteraError: It was not sealed, or a file is in its place.
    """
    state = experiment.state
    record = state.last("evicted")
    if record is None or record.body["how"] != "seal":
        raise IteraError("the source was not sealed here", fix="itera evict")
    if not state.decided:
        experiment.refuse(
            Refusal(
                "SG01",
                "the raw source comes back after the verdict.",
                why="raw rows less train and dev are the test rows.",
                instead="decide first:           itera verdict",
            )
        )
    source = experiment.outside(record.body["file"])
    if source.exists():
        raise IteraError(f"{source} is there already", fix="move it away first")
    partial = source.with_name(f".{source.name}.partial")
    with experiment.path(SEALED_SOURCE).open("rb") as sealed, partial.open("wb") as plain:
        pyrage.decrypt_io(sealed, plain, [private_key(experiment.secret.identity)])
    partial.replace(source)
    return str(source)


def _seal(source: Path, into: Path, recipients: list[str], sha256: str) -> str:
    """Encrypt a file and read it back with a key that is then forgotten; the SHA-256 of what was written."""
    proof = pyrage.x25519.Identity.generate()
    partial = into.with_name(f".{into.name}.partial")
    with source.open("rb") as plain, partial.open("wb") as sealed:
        pyrage.encrypt_io(plain, sealed, [*public_keys(recipients), proof.to_public()])
        sealed.flush()
        os.fsync(sealed.fileno())
    again = _Digest()
    with partial.open("rb") as sealed:
        pyrage.decrypt_io(sealed, again, [proof])
    if again.value.hexdigest() != sha256:
        partial.unlink()
        raise IteraError("the sealed source could not be read back, so the plain one stays", fix="try again")
    partial.replace(into)
    sync_folder(into.parent)
    return file_sha256(into)


class _Digest:
    """A file that only hashes what is written to it."""

    def __init__(self) -> None:
        self.value = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.value.update(data)
        return len(data)

    def flush(self) -> None:
        pass
