"""The last ledger head seen of each experiment, kept where deleting its folder does not erase it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock

from itera_nb.exceptions import RecordError
from itera_nb.seal.custody import named, state_dir, write_private

LOCK_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Head:
    """The highest ledger record seen: number, hash, whether the test set was opened, and in which folders."""

    seq: int
    hash: str
    opened: bool = False
    folders: tuple[str, ...] = ()


@contextmanager
def held(genesis_id: str) -> Iterator[None]:
    """Hold the memory of one experiment against other processes, those on a copy of its folder included."""
    lock = named("heads", genesis_id).with_suffix(".lock")
    with FileLock(lock, timeout=LOCK_SECONDS, mode=0o600, is_singleton=True, thread_local=True):
        yield


def remember(
    genesis_id: str,
    seq: int,
    hash: str,  # noqa: A002
    *,
    opened: bool = False,
    folder: Path | None = None,
) -> Head:
    """Remember a ledger head and return what is now remembered.

    Never forgets: a lower `seq`, or another hash at the same `seq`, leaves the stored head as it is, `opened`
    stays true once it was, and a copy's folder is added to the others. Compare with `recall` before trusting
    a ledger.
    """
    path = named("heads", genesis_id)
    with held(genesis_id):
        old = recall(genesis_id)
        where = (str(folder.resolve()),) if folder else ()
        if old is None:
            head = Head(seq, hash, opened, where)
        else:
            newer = (seq, hash) if seq > old.seq else (old.seq, old.hash)
            head = Head(*newer, opened or old.opened, tuple(dict.fromkeys((*old.folders, *where))))
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
        folders = tuple(map(str, stored.get("folders", ())))
        return Head(int(stored["seq"]), str(stored["hash"]), bool(stored["opened"]), folders)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        damaged = path
    raise RecordError(
        f"the remembered head in {damaged} is damaged", fix="compare with another copy, then delete it"
    )


def of_folder(folder: Path) -> Head | None:
    """The remembered head of an experiment that lived in this folder, whatever its ledger says now."""
    where = str(folder.resolve())
    found = (recall(path.stem) for path in sorted((state_dir() / "heads").glob("*.json")))
    return next((head for head in found if head is not None and where in head.folders), None)
