"""Which units were handed over in batches: written before and after, so that none is paid twice."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from itera_nb.exceptions import RecordError
from itera_nb.ledger import sync_folder

from .attempts import unwritable


@dataclass(slots=True)
class Handover:
    """Units that were, or were about to be, handed over together.

    Args:
        name: Its own name in the file.
        ids: The requests' ids, without those that came back unanswered.
        batch: The provider's id, as soon as it is known.
        dropped: Whether it is known that the provider never got it.
    """

    name: str
    ids: set[str]
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

    Raises:
        RecordError: A line is damaged; one that a crash cut off is removed instead.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._handovers: dict[str, Handover] = {}
        self._read()

    @property
    def handovers(self) -> list[Handover]:
        """All of them, in order."""
        return list(self._handovers.values())

    def intend(self, ids: Iterable[str]) -> Handover:
        """Note that these requests are about to be handed over."""
        name = uuid4().hex
        self._append("intent", name, at=datetime.now(UTC).isoformat(), ids=list(ids))
        return self._handovers[name]

    def created(self, handover: Handover, batch: str) -> None:
        """Note the provider's id."""
        self._append("created", handover.name, batch=batch)

    def drop(self, handover: Handover) -> None:
        """Note that the provider never got it."""
        self._append("dropped", handover.name)

    def unanswered(self, handover: Handover, ids: Iterable[str]) -> None:
        """Note that these requests ended unanswered and free of charge: they may be handed over again."""
        self._append("unanswered", handover.name, ids=list(ids))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _append(self, event: str, name: str, **facts: Any) -> None:
        line = {"event": event, "name": name, **facts}
        try:
            if self._fd < 0:
                self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                sync_folder(self._path.parent)
            data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
            while data:
                data = data[os.write(self._fd, data) :]
            os.fsync(self._fd)
        except OSError as error:
            raise unwritable(self._path, error) from None
        self._apply(line)

    def _read(self) -> None:
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                self._apply(json.loads(line))
            except (ValueError, KeyError, TypeError):
                raise RecordError(
                    f"{self._path.name}: line {number} is damaged",
                    fix="restore the file from a copy; a run that was cut off damages only its last line",
                ) from None
        if len(whole) < len(content):
            os.truncate(self._path, len(whole))

    def _apply(self, line: dict[str, Any]) -> None:
        name = line["name"]
        match line["event"]:
            case "intent":
                self._handovers[name] = Handover(name, set(line["ids"]))
            case "created":
                self._handovers[name].batch = str(line["batch"])
            case "dropped":
                self._handovers[name].dropped = True
            case "unanswered":
                self._handovers[name].ids.difference_update(line["ids"])
            case other:
                raise ValueError(other)
