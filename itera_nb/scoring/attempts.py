"""The append-only log of attempts: what survives a killed run, and what every total is computed from.

Only an index is held in memory, about 200 bytes an attempt; attempts are read back from the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol, Self, overload

from filelock import FileLock, Timeout

from itera_nb._typing import JSON
from itera_nb.arms.caller import Status
from itera_nb.exceptions import RecordError, StoppedError

SYNC_EVERY = 64
SYNC_SECONDS = 1.0
_LENGTH_BITS = 32
_WIDTH = 20


@dataclass(frozen=True, slots=True)
class Attempt:
    """One finished unit of work: an arm on a row in a trial.

    Args:
        key: Digest of everything that could change the answer.
        arm: The arm's name.
        row_id: The row's id.
        trial: The trial, from 0.
        status: How it ended; only `ok` carries an output that is scored, all others score 0.
        output: The answer as a JSON value.
        error_type: The exception's type or the kind of failure, empty if `ok`.
        error: What happened, empty in quiet runs (it may hold row text).
        usage: One mapping a model call, the vendor's own fields.
        cost_usd: USD; `None` is unknown, never free.
        latency_ms: Milliseconds until the answer, without waits between retries; `None` if there was none.
        amortised: Whether `latency_ms` is a chunk's time divided by its rows.
        retries: Calls that failed before the one that counted.
        ts: UTC time of the end, ISO 8601.
        trace: What the arm reported beside its answer.
        first_token_ms: Milliseconds until the first token, if the arm reported it.
    """

    key: str
    arm: str
    row_id: str | int
    trial: int
    status: Status
    output: JSON = None
    error_type: str = ""
    error: str = ""
    usage: list[dict[str, Any]] = field(default_factory=list)
    cost_usd: float | None = None
    latency_ms: float | None = None
    amortised: bool = False
    retries: int = 0
    ts: str = ""
    trace: JSON = None
    first_token_ms: float | None = None


@dataclass(slots=True)
class Totals:
    """Sums over attempts: counts by status, known cost in USD, attempts of unknown cost, retries."""

    statuses: Counter[str] = field(default_factory=Counter)
    cost_usd: float = 0.0
    unknown_costs: int = 0
    retries: int = 0

    @property
    def count(self) -> int:
        """Attempts counted."""
        return self.statuses.total()

    def add(self, attempt: Attempt) -> None:
        """Count an attempt."""
        self.statuses[attempt.status] += 1
        self.retries += attempt.retries
        self.cost_usd += attempt.cost_usd or 0.0
        self.unknown_costs += attempt.cost_usd is None


def totals(attempts: Iterable[Attempt]) -> Totals:
    """Recompute every total from the attempts themselves."""
    found = Totals()
    for attempt in attempts:
        found.add(attempt)
    return found


class Codec(Protocol):
    """Turns a line into what is stored and back; the verdict encrypts with it. Neither may hold a newline."""

    def encode(self, text: str, /) -> str:
        """The stored form of one line."""
        ...

    def decode(self, text: str, /) -> str:
        """The line that `encode` was given; raises if it is damaged or was encoded otherwise."""
        ...


class AttemptLog:
    """Attempts as JSON lines, one `write` each, synced to disk in groups; one process at a time.

    A line that a crash cut off is removed on opening; whatever a killed process had recorded stays.

    Args:
        path: The log; its folder is created.
        codec: Encrypts every line, for rows that nobody may read.

    Attributes:
        totals: Sums over all attempts, computed from the file on opening and kept up since.
        cut_off: Calls of earlier runs that may have been paid without an answer on record.

    Raises:
        StoppedError: Another run writes this log.
        RecordError: A line is damaged, or was encoded otherwise.
    """

    def __init__(self, path: Path, codec: Codec | None = None) -> None:
        self.path = path
        self._codec = codec
        self._mutex = threading.RLock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(f"{path}.lock", timeout=0, thread_local=False)
        try:
            self._lock.acquire()
        except Timeout:
            raise StoppedError(
                f"another run is writing {path.name}",
                fix="wait for it, or stop it, then run the same command again",
            ) from None
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._calls_fd = os.open(f"{path}.calls", os.O_RDWR | os.O_CREAT, 0o600)
        self._unsynced, self._synced_at = 0, time.monotonic()
        self._syncer = ThreadPoolExecutor(1)
        self._syncing = self._syncer.submit(os.fsync, self._fd)
        self.totals = Totals()
        self._places: dict[bytes, int] = {}
        try:
            noted = os.pread(self._calls_fd, _WIDTH, 0).strip()
            self.cut_off = self._calls = int(noted) if noted.isdigit() else 0
            self._begin = self._end = self._read()
        except BaseException:
            self.close()
            raise

    @property
    def finished(self) -> Sequence[Attempt]:
        """The attempts that count, in the order of the file, read from it whenever they are looked at."""
        return _Recorded(self.path, self._codec, array("Q", self._places.values()))

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and _short(key) in self._places

    def append(self, attempt: Attempt) -> Attempt:
        """Record an attempt; the first one of a key counts, a second is not written.

        Returns:
            The attempt that counts for this key.

        Raises:
            StoppedError: The line could not be written (disk full); the log is left as it was.
        """
        line = _ENCODE({name: getattr(attempt, name) for name in _FIELDS})
        data = (self._codec.encode(line) if self._codec else line).encode() + b"\n"
        short = _short(attempt.key)
        with self._mutex:
            if short in self._places:
                return self.select([attempt.key])[0]
            begin = self._end
            self._write(data)
            self._places[short] = _place(begin, len(data))
            self.totals.add(attempt)
            self._unsynced += 1
            if self._unsynced >= SYNC_EVERY or time.monotonic() - self._synced_at >= SYNC_SECONDS:
                self._sync_soon()
        return attempt

    def in_flight(self, change: int) -> None:
        """Note that calls that may cost money were sent, or ended (negative); survives a killed process.

        Raises:
            StoppedError: It could not be written (disk full).
        """
        if not change:
            return
        with self._mutex:
            self._calls += change
            try:
                os.pwrite(self._calls_fd, f"{self._calls:>{_WIDTH}}".encode(), 0)
            except OSError as error:
                raise unwritable(self.path, error) from None

    def select(self, keys: Iterable[str]) -> Sequence[Attempt]:
        """The attempts of these keys, in this order, read as `finished` is, even after the log was closed.

        Raises:
            KeyError: A key is not recorded.
        """
        return _Recorded(self.path, self._codec, array("Q", (self._places[_short(key)] for key in keys)))

    def is_earlier(self, key: str) -> bool:
        """Whether an earlier run recorded this key: its answer is reused, with its own price and latency."""
        place = self._places.get(_short(key))
        return place is not None and place >> _LENGTH_BITS < self._begin

    def close(self) -> None:
        """Sync to disk and let others write; closing twice does nothing."""
        with self._mutex:
            if self._fd >= 0:
                self._syncer.shutdown()
                os.fsync(self._fd)
                os.close(self._fd)
                os.close(self._calls_fd)
                self._fd = -1
                self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, data: bytes) -> None:
        written = 0
        try:
            while written < len(data):
                written += os.write(self._fd, data[written:])
        except OSError as error:
            os.ftruncate(self._fd, self._end)
            raise unwritable(self.path, error) from None
        self._end += len(data)

    def _sync_soon(self) -> None:
        """Start to sync what is written, if the last time has ended: a busy disk must not stop calls."""
        if self._syncing.done():
            if isinstance(error := self._syncing.exception(), OSError):
                raise unwritable(self.path, error)
            self._syncing = self._syncer.submit(os.fsync, self._fd)
            self._unsynced, self._synced_at = 0, time.monotonic()

    def _read(self) -> int:
        """Fill the index, cut a torn tail off, and return the length of what is sound."""
        good = 0
        torn: int | None = None
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                # A killed process leaves a line without its end, a power cut one with zeros. Anything else
                # that cannot be read (another key, an edit) is no accident, and must not be cut off.
                if (not line.endswith(b"\n") or b"\0" in line) and _is_ours(line):
                    torn = torn or number
                    continue
                attempt = None if torn else _decode(line, self._codec)
                if attempt is None:
                    raise RecordError(
                        f"{self.path.name}: line {torn or number} is damaged",
                        fix="restore the file from a copy; a run that was cut off damages only its last line",
                    )
                short = _short(attempt.key)
                if short not in self._places:
                    self._places[short] = _place(good, len(line))
                    self.totals.add(attempt)
                good += len(line)
        if torn:
            os.ftruncate(self._fd, good)
        return good


class _Recorded(Sequence[Attempt]):
    """Attempts by position, read from the log's file whenever they are looked at."""

    def __init__(self, path: Path, codec: Codec | None, places: array[int]) -> None:
        self._path = path
        self._codec = codec
        self._places = places

    @overload
    def __getitem__(self, index: int) -> Attempt: ...
    @overload
    def __getitem__(self, index: slice) -> list[Attempt]: ...
    def __getitem__(self, index: int | slice) -> Attempt | list[Attempt]:
        if isinstance(index, slice):
            return list(self._read(self._places[index]))
        return next(self._read([self._places[index]]))

    def __iter__(self) -> Iterator[Attempt]:
        return self._read(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def _read(self, places: Iterable[int]) -> Iterator[Attempt]:
        with self._path.open("rb") as file:
            for place in places:
                file.seek(place >> _LENGTH_BITS)
                attempt = _decode(file.read(place & (1 << _LENGTH_BITS) - 1), self._codec)
                if attempt is None:
                    raise RecordError(f"{self._path.name} was changed while it was in use")
                yield attempt


def unwritable(path: Path, error: OSError) -> StoppedError:
    """What ends a run whose record cannot be kept."""
    return StoppedError(
        f"{path.name} cannot be written: {error.strerror}",
        fix="make room or repair the disk, then run the same command again",
    )


_FIELDS = tuple(f.name for f in fields(Attempt))
_ENCODE = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def _decode(line: bytes, codec: Codec | None) -> Attempt | None:
    """A line's attempt, `None` if it is damaged or was encoded otherwise."""
    try:
        text = line[:-1].decode()
        return Attempt(**json.loads(codec.decode(text) if codec else text))
    except Exception:  # noqa: BLE001 - a codec's own errors say the same: not ours, or damaged
        return None


def _is_ours(line: bytes) -> bool:
    """Whether a line that is not whole may be the beginning of one written here: plain ASCII, then zeros."""
    text = line.partition(b"\0")[0].rstrip(b"\n")
    return text.isascii() and text.decode("ascii").isprintable()


def _short(key: str) -> bytes:
    return hashlib.blake2b(key.encode(), digest_size=16).digest()


def _place(begin: int, length: int) -> int:
    return begin << _LENGTH_BITS | length
