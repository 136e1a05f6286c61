"""Which units were handed over in batches: written before and after, so that none is paid twice."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from itera_nb.exceptions import RecordError, StoppedError


@dataclass(slots=True)
class Handover:
    """Units that were, or were about to be, handed over together.

    Args:
        name: Its own name in the file.
        ids: The requests' ids, without those that came back unanswered.
        at: When it was about to be handed over.
        batch: The provider's id, as soon as it is known.
        dropped: Whether it is known that the provider never got it.
    """

    name: str
    ids: set[str]
    at: datetime
    batch: str | None = None
    dropped: bool = False

    @property
    def open(self) -> bool:
        """Whether it is unknown if the provider got it."""
        return self.batch is None and not self.dropped


class BatchFile:
    """The record of handovers, one line an event, each on disk before the next step is taken.

    It holds ids (hashes) and times only. One process at a time: the attempt log's lock covers it.

    Args:
        path: The file; created with the first handover.

    Attributes:
        handovers: All of them, in order.

    Raises:
        RecordError: A line is damaged; one that a crash cut off is removed instead.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self.handovers = self._read()

    def intend(self, ids: Sequence[str]) -> Handover:
        """Note that these requests are about to be handed over."""
        handover = Handover(uuid4().hex, set(ids), datetime.now(UTC))
        self._append(
            {"event": "intent", "name": handover.name, "at": handover.at.isoformat(), "ids": list(ids)}
        )
        self.handovers.append(handover)
        return handover

    def created(self, handover: Handover, batch: str) -> None:
        """Note the provider's id."""
        self._append({"event": "created", "name": handover.name, "batch": batch})
        handover.batch = batch

    def drop(self, handover: Handover) -> None:
        """Note that the provider never got it."""
        self._append({"event": "dropped", "name": handover.name})
        handover.dropped = True

    def unanswered(self, handover: Handover, ids: Sequence[str]) -> None:
        """Note that these requests ended unanswered and free of charge: they may be handed over again."""
        self._append({"event": "unanswered", "name": handover.name, "ids": list(ids)})
        handover.ids.difference_update(ids)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _append(self, event: dict[str, Any]) -> None:
        try:
            if self._fd < 0:
                self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                _sync_folder(self._path.parent)
            data = json.dumps(event, separators=(",", ":")).encode() + b"\n"
            while data:
                data = data[os.write(self._fd, data) :]
            os.fsync(self._fd)
        except OSError as error:
            raise StoppedError(
                f"{self._path.name} cannot be written: {error.strerror}",
                fix="make room or repair the disk, then run the same command again",
            ) from None

    def _read(self) -> list[Handover]:
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return []
        whole = content.rpartition(b"\n")[0] + b"\n" if b"\n" in content else b""
        handovers: dict[str, Handover] = {}
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                _apply(json.loads(line), handovers)
            except (ValueError, KeyError, TypeError):
                raise RecordError(
                    f"{self._path.name}: line {number} is damaged",
                    fix="restore the file from a copy; a run that was cut off damages only its last line",
                ) from None
        if len(whole) < len(content):
            os.truncate(self._path, len(whole))
        return list(handovers.values())


def _apply(event: dict[str, Any], handovers: dict[str, Handover]) -> None:
    name = event["name"]
    match event["event"]:
        case "intent":
            handovers[name] = Handover(name, set(event["ids"]), datetime.fromisoformat(event["at"]))
        case "created":
            handovers[name].batch = str(event["batch"])
        case "dropped":
            handovers[name].dropped = True
        case "unanswered":
            handovers[name].ids.difference_update(event["ids"])
        case other:
            raise ValueError(other)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
