"""Digests that decide whether an answer may be reused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from itera_nb._typing import Row

_BLOCK = 1 << 20


def canonical(value: Any) -> bytes:
    """Bytes that are equal for equal values; what JSON has no form for goes by type and text."""
    return _ENCODE(value).encode()


def digest(value: Any) -> str:
    """SHA-256 of a value's canonical bytes, in hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


def rows_digest(rows: Sequence[Row]) -> str:
    """SHA-256 over rows in their order, in hex; empty for no rows."""
    return _joined(canonical(dict(row)) for row in rows) if rows else ""


def files_in(folder: Path) -> dict[str, Path]:
    """Every file of a folder by its relative path, without bytecode."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return {file.relative_to(folder).as_posix(): file for file in files}


def path_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, or of a folder's relative paths and bytes, in hex.

    Raises:
        OSError: It cannot be read.
    """
    if path.is_dir():
        return _joined(f"{name} {path_digest(file)}".encode() for name, file in files_in(path).items())
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            hasher.update(block)
    return hasher.hexdigest()


def resources_digest(resources: Mapping[str, Path]) -> str:
    """SHA-256 over resources' names and contents, in hex; empty for none."""
    return digest({name: path_digest(path) for name, path in resources.items()}) if resources else ""


def _joined(parts: Iterable[bytes]) -> str:
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(len(part).to_bytes(8, "big") + part)
    return hasher.hexdigest()


def _tagged(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return {"bytes": bytes(value).hex()}
    if isinstance(value, set | frozenset):
        return {"set": sorted(map(repr, value))}
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return value.tolist()
    return {type(value).__qualname__: str(value)}


_ENCODE = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=_tagged).encode
