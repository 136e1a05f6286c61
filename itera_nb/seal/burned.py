"""Rows that a verdict has opened, remembered for this user: a later experiment over the same rows is told.

Only hashes under a key of this user are kept, one file an experiment, the oldest dropped beyond `MAX_BYTES`.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from itera_nb.seal.custody import named, private_folder, state_dir, write_private

KEY_BYTES = 32
MAX_BYTES = 64 * 2**20
ENDING = ".rows"


def key() -> bytes:
    """This user's secret key for hashing opened rows (32 bytes), drawn when first asked for."""
    path = _folder() / "key"
    if not path.exists():
        with suppress(FileExistsError):  # another process has just drawn it
            write_private(path, secrets.token_bytes(KEY_BYTES), exclusive=True)
    return path.read_bytes()


def remember(genesis_id: str, name: str, hashes: NDArray[np.uint64]) -> None:
    """Keep the hashes of opened rows of the experiment called `name`, with those of its earlier batch."""
    path = named("burned", genesis_id).with_suffix(ENDING)
    if path.exists():
        hashes = np.union1d(_read(path)[1], hashes)
    write_private(path, name.encode() + b"\n" + np.unique(hashes).tobytes())
    kept = 0
    for old in sorted(_folder().glob(f"*{ENDING}"), key=lambda p: p.stat().st_mtime_ns, reverse=True):
        kept += old.stat().st_size
        if kept > MAX_BYTES and old != path:
            old.unlink(missing_ok=True)  # another process drops the oldest too


def met(genesis_id: str, hashes: NDArray[np.uint64]) -> dict[str, int]:
    """Experiment -> how many of n rows with these hashes it has opened; the experiment itself left out."""
    found: dict[str, int] = {}
    for path in sorted(_folder().glob(f"*{ENDING}")):
        name, known = _read(path)
        if path.stem != genesis_id and (count := int(np.isin(hashes, known).sum())):
            found[name] = found.get(name, 0) + count
    return found


def _folder() -> Path:
    return private_folder(state_dir() / "burned")


def _read(path: Path) -> tuple[str, NDArray[np.uint64]]:
    name, _, data = path.read_bytes().partition(b"\n")
    return name.decode("utf-8", "replace"), np.frombuffer(data[: len(data) // 8 * 8], np.uint64)
