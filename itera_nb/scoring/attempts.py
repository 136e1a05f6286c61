"""The append-only log of attempts: what survives a killed run, and what every total is computed from."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypeAlias

from filelock import FileLock, Timeout

from itera_nb._typing import JSON
from itera_nb.exceptions import RecordError, StoppedError

Status: TypeAlias = Literal["ok", "error", "timeout", "refusal", "invalid"]
SYNC_EVERY = 64
SYNC_SECONDS = 1.0


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


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over attempts: counts by status, known cost in USD, attempts of unknown cost, retries."""

    count: int
    statuses: Mapping[str, int]
    cost_usd: float
    unknown_costs: int
    retries: int


def totals(attempts: Iterable[Attempt]) -> Totals:
    """Recompute every total from the attempts themselves."""
    listed = list(attempts)
    return Totals(
        count=len(listed),
        statuses=dict(Counter(a.status for a in listed)),
        cost_usd=sum(a.cost_usd for a in listed if a.cost_usd is not None),
        unknown_costs=sum(a.cost_usd is None for a in listed),
        retries=sum(a.retries for a in listed),
    )


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

    Raises:
        StoppedError: Another run writes this log.
        RecordError: A line is damaged, or was encoded otherwise.
    """

    def __init__(self, path: Path, codec: Codec | None = None) -> None:
        self.path = path
        self._codec = codec
        self._mutex = threading.Lock()
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
        self._unsynced, self._synced_at = 0, time.monotonic()
        self.finished: dict[str, Attempt] = {}
        try:
            self._end = self._read()
        except BaseException:
            self.close()
            raise

    def append(self, attempt: Attempt) -> Attempt:
        """Record an attempt; the first one of a key counts, a second is not written.

        Returns:
            The attempt that counts for this key.

        Raises:
            StoppedError: The line could not be written (disk full); the log is left as it was.
        """
        line = json.dumps(asdict(attempt), separators=(",", ":"), allow_nan=False)
        data = (self._codec.encode(line) if self._codec else line).encode() + b"\n"
        with self._mutex:
            if attempt.key in self.finished:
                return self.finished[attempt.key]
            self._write(data)
            self.finished[attempt.key] = attempt
            self._unsynced += 1
            if self._unsynced >= SYNC_EVERY or time.monotonic() - self._synced_at >= SYNC_SECONDS:
                self._sync()
        return attempt

    def close(self) -> None:
        """Sync to disk and let others write; closing twice does nothing."""
        with self._mutex:
            if self._fd >= 0:
                self._sync()
                os.close(self._fd)
                self._fd = -1
                self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, data: bytes) -> None:
        written = 0
        try:
            while written < len(data):
                written += os.write(self._fd, data[written:])
        except OSError as error:
            os.ftruncate(self._fd, self._end)
            raise StoppedError(
                f"{self.path.name} cannot be written: {error.strerror}",
                fix="make room or repair the disk, then run the same command again",
            ) from None
        self._end += len(data)

    def _sync(self) -> None:
        os.fsync(self._fd)
        self._unsynced, self._synced_at = 0, time.monotonic()

    def _read(self) -> int:
        """Fill `finished`, cut a torn tail off, and return the length of what is sound."""
        good = 0
        torn: int | None = None
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                # A killed process leaves a line without its end, a power cut one with zeros. Anything else
                # that cannot be read (another key, an edit) is no accident, and must not be cut off.
                if not line.endswith(b"\n") or b"\0" in line:
                    torn = torn or number
                    continue
                attempt = None if torn else self._decode(line)
                if attempt is None:
                    raise RecordError(
                        f"{self.path.name}: line {torn or number} is damaged",
                        fix="restore the file from a copy; a run that was cut off damages only its last line",
                    )
                self.finished.setdefault(attempt.key, attempt)
                good += len(line)
        if torn:
            os.ftruncate(self._fd, good)
        return good

    def _decode(self, line: bytes) -> Attempt | None:
        try:
            text = line[:-1].decode()
            return Attempt(**json.loads(self._codec.decode(text) if self._codec else text))
        except Exception:  # noqa: BLE001 - a codec's own errors say the same: not ours, or damaged
            return None
