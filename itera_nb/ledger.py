"""The experiment's record: a hash chain of canonical JSON lines, append-only and durable.

A line is the RFC 8785 form of ``{seq, prev, type, ts, body}``; ``prev`` is the SHA-256 of the line before
it, as bytes. Time is a claim, order is the chain. A chain proves nothing against deletion and a fresh start:
that is what the heads remembered outside the folder are for (`itera_nb.seal.heads`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import rfc8785
from filelock import FileLock

from itera_nb.exceptions import RecordError

GENESIS = "0" * 64
MAX_LINE = 16 * 1024 * 1024
FIELDS = {"seq": int, "prev": str, "type": str, "ts": str, "body": dict}


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the ledger; `hash` is the SHA-256 of its bytes without the newline."""

    seq: int
    prev: str
    type: str
    ts: str
    body: dict[str, Any]
    hash: str


def canonical(value: Any) -> bytes:
    """RFC 8785 bytes of a JSON value.

    Raises:
        RecordError: If the value holds NaN, infinities or integers beyond 2**53.
    """
    try:
        return bytes(rfc8785.dumps(value))
    except rfc8785.CanonicalizationError as error:
        raise RecordError(f"cannot be recorded: {error}") from None


def digest(value: Any) -> str:
    """SHA-256 (hex) of the canonical form of a JSON value."""
    return hashlib.sha256(canonical(value)).hexdigest()


class Ledger:
    """The file `ledger.jsonl` of one experiment."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known = _Known((-1, -1), 0, hashlib.sha256(), ())

    def records(self) -> tuple[Record, ...]:
        """All whole records, with the chain checked.

        Where the file begins with the very bytes that this object has checked before, only what follows is
        checked; whoever trusts nothing opens a new `Ledger`.

        Raises:
            RecordError: Naming the first record that is not what was written.
        """
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return ()
        stamp = (stat.st_size, stat.st_mtime_ns)
        if self._known.stamp != stamp:
            data = self.path.read_bytes()
            self._known = _extend(self._known, stamp, memoryview(data)[: data.rfind(b"\n") + 1])
        return self._known.records

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the ledger against other processes; re-entrant, and freed if this process dies."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock", is_singleton=True):
            self._repair()
            yield

    def append(self, type_: str, body: dict[str, Any]) -> Record:
        """Write one record and return once it is on disk.

        Raises:
            RecordError: If the chain before it is broken or the body is not canonical JSON.
            OSError: If the disk refuses; the file is then as it was.
        """
        with self.locked():
            return self._write(type_, body)

    def _write(self, type_: str, body: dict[str, Any]) -> Record:
        records = self.records()
        seq = len(records) + 1
        prev = records[-1].hash if records else GENESIS
        ts = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = canonical({"seq": seq, "prev": prev, "type": type_, "ts": ts, "body": body})
        if len(line) > MAX_LINE:
            raise RecordError(f"a {type_} record of {len(line)} bytes is larger than {MAX_LINE}")
        record = _written(line, seq)
        is_new = not self.path.exists()
        with self.path.open("ab", buffering=0) as file:
            before = file.seek(0, os.SEEK_END)
            try:
                remaining = memoryview(line + b"\n")
                while remaining:
                    remaining = remaining[file.write(remaining) :]
                os.fsync(file.fileno())
            except OSError:
                file.truncate(before)
                raise
        if is_new:
            sync_folder(self.path.parent)
        return record

    def _repair(self) -> None:
        """Move a half-written last line aside, so that the next append does not make it unreadable."""
        if not self.path.exists():
            return
        with self.path.open("r+b") as file:
            data = file.read()
            end = data.rfind(b"\n") + 1
            if end == len(data):
                return
            torn = next(
                p for n in range(1, 10_000) if not (p := self.path.with_name(f"ledger.torn-{n}")).exists()
            )
            torn.write_bytes(data[end:])
            file.truncate(end)
            os.fsync(file.fileno())
        if end == 0:
            return  # nothing was ever recorded, and the first record can only be `created`
        self._write("recovered", {"bytes": len(data) - end, "kept_in": torn.name})


def sync_folder(folder: Path) -> None:
    """Make a new or renamed file's directory entry durable."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@dataclass(frozen=True, slots=True)
class _Known:
    """What was checked: the file's size and time, the bytes of whole lines, their hash, their records."""

    stamp: tuple[int, int]
    size: int
    sha256: hashlib._Hash
    records: tuple[Record, ...]


def _extend(known: _Known, stamp: tuple[int, int], data: memoryview) -> _Known:
    """What is known of a file that now holds `data`: the hash decides whether the old part is the same."""
    if hashlib.sha256(data[: known.size]).digest() != known.sha256.digest():
        known = _Known(stamp, 0, hashlib.sha256(), ())
    tail, sha256 = data[known.size :], known.sha256.copy()
    sha256.update(tail)
    return _Known(stamp, len(data), sha256, (*known.records, *_read(tail.tobytes(), known.records)))


def _read(data: bytes, before: tuple[Record, ...] = ()) -> Iterator[Record]:
    prev = before[-1].hash if before else GENESIS
    for seq, line in enumerate(data.split(b"\n")[:-1], start=len(before) + 1):
        record = _parse(line, seq)
        if record.prev != prev:
            raise RecordError(
                f"record {seq} does not follow record {seq - 1}: the ledger was edited",
                record=max(seq - 1, 1),
            )
        prev = record.hash
        yield record


def _written(line: bytes, seq: int) -> Record:
    """The record as it will be read: a float of 2**53 or more is written as an integer that is not."""
    try:
        return _parse(line, seq)
    except RecordError:
        raise RecordError("cannot be recorded: it would not be read back as it was") from None


def _parse(line: bytes, seq: int) -> Record:
    if len(line) > MAX_LINE:
        raise RecordError(f"record {seq} is larger than {MAX_LINE} bytes", record=seq)
    value = simple(line)
    surely_canonical = value is not None
    if not surely_canonical:
        try:
            value = json.loads(line, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            edited = f"record {seq} is not canonical JSON: the ledger was edited"
            raise RecordError(edited, record=seq) from None
    if (
        not isinstance(value, dict)
        or value.keys() != FIELDS.keys()
        or not all(isinstance(value[k], t) for k, t in FIELDS.items())
        or value["seq"] != seq
    ):
        raise RecordError(f"record {seq} is not a ledger record: the ledger was edited", record=seq)
    if not surely_canonical and not _is_canonical(value, line):
        raise RecordError(f"record {seq} is not in canonical form: the ledger was edited", record=seq)
    return Record(**value, hash=hashlib.sha256(line).hexdigest())


def _is_canonical(value: Any, line: bytes) -> bool:
    try:
        return canonical(value) == line
    except RecordError:
        return False


def simple(line: bytes) -> Any:
    """The value of a line that is certainly canonical, found in a third of the time; None if in doubt.

    Without fractions, exponents, integers of 16 digits and characters whose order in UTF-16 is another than
    by code point, the sorted compact JSON of the standard library is the RFC 8785 form.
    """
    if _DOUBTFUL.search(line):
        return None
    try:
        value = _DECODER.decode(line.decode())
        return value if _ENCODER.encode(value).encode() == line else None
    except (ValueError, RecursionError):
        return None


def _no_constant(name: str) -> Any:
    raise ValueError(name)


_DOUBTFUL = re.compile(rb"[0-9]{16}|[\xee-\xff]")
_DECODER = json.JSONDecoder(parse_float=_no_constant, parse_constant=_no_constant)
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("duplicate key")
    return dict(pairs)


def backward_times(records: tuple[Record, ...]) -> list[int]:
    """Sequence numbers of records whose clock stands before that of the record they follow."""
    return [after.seq for before, after in pairwise(records) if after.ts < before.ts]
