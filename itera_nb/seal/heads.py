"""The last ledger head seen of each experiment, kept where deleting its folder does not erase it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock

from itera_nb.exceptions import RecordError
from itera_nb.seal.custody import named, state_dir, write_private

LOCK_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Head:
    """The highest ledger record seen: number, hash, whether the test set was opened, and in which folder."""

    seq: int
    hash: str
    opened: bool = False
    folder: str | None = None


def remember(
    genesis_id: str,
    seq: int,
    hash: str,  # noqa: A002
    *,
    opened: bool = False,
    folder: Path | None = None,
) -> Head:
    """Remember a ledger head and return what is now remembered.

    Never forgets: a lower `seq`, or another hash at the same `seq`, leaves the stored head as it is, and
    `opened` stays true once it was. Compare with `recall` before trusting a ledger.
    """
    path = named("heads", genesis_id)
    with FileLock(path.with_suffix(".lock"), timeout=LOCK_SECONDS, mode=0o600):
        old = recall(genesis_id)
        where = str(folder.resolve()) if folder else None
        if old is None:
            head = Head(seq, hash, opened, where)
        elif seq > old.seq:
            head = Head(seq, hash, opened or old.opened, where or old.folder)
        else:
            head = Head(old.seq, old.hash, opened or old.opened, old.folder)
        if head != old:
            write_private(path, json.dumps(asdict(head)).encode())
    return head


def recall(genesis_id: str) -> Head | None:
    """The remembered head of an experiment, or None if this computer has never seen it.

    Raises:
        RecordError: The stored head is damaged.
    """
    path = named("heads", genesis_id)
    try:
        stored = json.loads(path.read_bytes())
        return Head(int(stored["seq"]), str(stored["hash"]), bool(stored["opened"]), stored["folder"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        damaged = path
    raise RecordError(
        f"the remembered head in {damaged} is damaged", fix="compare with another copy, then delete it"
    )


def of_folder(folder: Path) -> Head | None:
    """The remembered head of an experiment that lived in this folder, whatever its ledger says now."""
    where = str(folder.resolve())
    for path in sorted((state_dir() / "heads").glob("*.json")):
        head = recall(path.stem)
        if head is not None and head.folder == where:
            return head
    return None
