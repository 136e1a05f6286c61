"""`%load_ext itera_nb`: refusals without tracebacks, and one sentence when a read of the sealed file fails.

The guard explains and records; the encryption is the wall. It works the same, minus the words and the record,
when it is not loaded, and whoever runs code in the kernel can switch it off.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from itera_nb.exceptions import IteraError

SEALED_TEXT = (
    "SEALED: the test set opens once, in 5-verdict. Nothing was read.\n"
    "why      rows that were looked at cannot decide anything.\n"
    "instead  rows you may read:   exp.train.head()"
)
UNREADABLE = ("encrypted", "decryption", "PARE", "magic bytes")
SILENT_READERS = {"fastparquet"}
"""Packages whose errors do not say that the file is encrypted."""
EVENTS = {"open", "os.link", "os.rename", "os.symlink", "shutil.copyfile"}

_watched: dict[tuple[int, int], tuple[Path, str]] = {}
_recorded: set[tuple[str, object]] = set()
_folders: set[Path] = set()
_shells: list[Any] = []


def load_ipython_extension(shell: Any) -> None:
    """Register the explainer with an IPython shell, and record touches of the sealed files from now on."""
    shell.set_custom_exc((Exception,), _explain)
    if not _shells:
        sys.addaudithook(_see)  # a hook cannot be taken out again: one a process
        shell.events.register("post_run_cell", _watch_again)  # a cell may have sealed them
    _shells[:] = [shell]


def watch(folder: Path) -> None:
    """Know an experiment's sealed files and key file, now and after each cell.

    They are known by inode, so that a hard link is no disguise.
    """
    _folders.add(folder)
    for path, said in _sealed_and_key(folder):
        with contextlib.suppress(OSError):
            stat = path.stat()
            _watched[stat.st_dev, stat.st_ino] = (folder, said)


def _watch_again(*_: Any) -> None:
    for folder in tuple(_folders):
        watch(folder)


def _sealed_and_key(folder: Path) -> Iterator[tuple[Path, str]]:
    from itera_nb.seal.custody import named

    for path in (folder / "sealed").glob("*.parquet"):
        yield path, f"sealed/{path.name}"
    with (
        contextlib.suppress(IteraError, OSError, ValueError, KeyError),
        (folder / "ledger.jsonl").open() as ledger,
    ):
        yield named("keys", json.loads(next(ledger, "{}"))["body"]["genesis_id"]), "the key file"


def executed_cells() -> list[str]:
    """Source of the cells that this process's IPython shell has run; none elsewhere."""
    if "IPython" not in sys.modules:
        return []
    from IPython import get_ipython

    shell = get_ipython()
    return [] if shell is None else [str(cell) for cell in shell.user_ns.get("In", ())]


def _see(event: str, arguments: tuple[Any, ...]) -> None:
    """The audit hook: it runs at every file that is opened, never raises, and blocks nothing."""
    if event not in EVENTS or not _watched:
        return
    try:
        stat = os.stat(arguments[0])  # noqa: PTH116 - Path costs more than the check
        touched = _watched.get((stat.st_dev, stat.st_ino))
        if touched is not None and not _own():
            _record(*touched, event)
    except Exception:  # noqa: BLE001 - what this raises would reach whoever opens the file
        return


def _own() -> bool:
    """Whether the package itself is at work: it hashes the sealed file and scans for leaks."""
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).startswith("itera_nb."):
            return True
        frame = frame.f_back
    return False


def _explain(
    shell: Any,
    kind: type[BaseException],
    error: BaseException,
    trace: TracebackType,
    tb_offset: int | None = None,
) -> list[str]:
    if isinstance(error, IteraError):
        lines = str(error).splitlines()
    elif sealed := _sealed_file(error, trace):
        _record(*sealed, kind.__name__)
        lines = SEALED_TEXT.splitlines()
    else:
        listing: list[str] = shell.InteractiveTB.structured_traceback(kind, error, trace, tb_offset=tb_offset)
        shell._showtraceback(kind, error, listing)  # noqa: SLF001 - IPython's own way to show a made traceback
        return listing
    shell._showtraceback(kind, error, lines)  # noqa: SLF001
    return lines


def _sealed_file(error: BaseException, trace: TracebackType | None) -> tuple[Path, str] | None:
    """The sealed file that a failed read was about: its experiment's folder, and the file."""
    text = str(error)
    frames = list(_frames(trace))
    readers = {str(frame.f_globals.get("__name__", "")).partition(".")[0] for frame in frames}
    if not any(word in text for word in UNREADABLE) and not readers & SILENT_READERS:
        return None
    for path in _named([text, *(value for frame in frames for value in _strings(frame))]):
        with contextlib.suppress(OSError, ValueError):
            stat = path.stat()
            if found := _watched.get((stat.st_dev, stat.st_ino)):
                return found
            real = path.resolve()
            if real.parent.name == "sealed" and (real.parent.parent / "ledger.jsonl").is_file():
                return real.parent.parent, f"sealed/{real.name}"
    return None


def _frames(trace: TracebackType | None) -> Iterator[FrameType]:
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next


def _strings(frame: FrameType) -> Iterator[str]:
    """Texts and paths that a frame works with; of a cell only what its code names."""
    code, held = frame.f_code, frame.f_locals
    if code.co_name == "<module>":
        held = {name: held[name] for name in code.co_names if name in held}
    for value in (*held.values(), *code.co_consts):
        if isinstance(value, str | Path):
            yield str(value)
        elif isinstance(name := getattr(value, "name", None), str):  # an open file
            yield name


def _named(texts: list[str]) -> Iterator[Path]:
    """Files that these texts name, patterns expanded."""
    import glob

    for text in texts:
        for word in {text, *(word.strip("'\"`,:;()[]") for word in text.split())}:
            if any(mark in word for mark in ("parquet", "sealed", "/", os.sep)):
                yield from map(Path, glob.glob(word, recursive=True) if glob.has_magic(word) else [word])  # noqa: PTH207


def _record(folder: Path, file: str, how: str) -> None:
    """One `seal_touched` a cell and file, whether a hook saw it, an error showed it, or both."""
    from itera_nb.experiment import Experiment

    cell = getattr(_shells[0], "execution_count", None) if _shells else None
    if (file, cell) in _recorded:
        return
    _recorded.add((file, cell))
    with contextlib.suppress(IteraError, OSError):
        Experiment(folder).record("seal_touched", {"file": file, "safeguard": "SG01", "error": how})
