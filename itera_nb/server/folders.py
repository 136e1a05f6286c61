"""Paths below the server's root: what may be named, what is found, and nothing about anything else."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from itera_nb.exceptions import IteraError
from itera_nb.spec import PRICES

TOML = "experiment.toml"
DEPTH = 8
FOLDERS = 20_000
EXPERIMENTS = 500
FRESH_SECONDS = 5.0
SKIPPED = {"node_modules", "__pycache__", "site-packages"}
FILES = (TOML, "ledger.jsonl", PRICES)
DOORS = (*FILES, "notebooks", "runs", "runs/jobs")
"""What the server opens in an experiment: a link that leads out of the root is not followed."""


class NotHereError(IteraError):
    """There is no such thing below the root, or it is not the server's to show: one answer for both."""

    status = 404


class Root:
    """The server's root folder.

    Args:
        folder: An absolute path.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder).resolve()
        self._found: tuple[float, tuple[Path, ...]] = (-FRESH_SECONDS, ())

    def inside(self, relative: str) -> Path:
        """The path that a request names, resolved; it need not exist.

        Args:
            relative: Posix, relative to the root; "." is the root itself.

        Raises:
            NotHereError: If it is absolute, hidden, leads out of the root (also by a link), or is no path.
        """
        parts = PurePosixPath(relative).parts
        strange = not relative or "\\" in relative or any(c < " " or c == "\x7f" for c in relative)
        hidden = any(part.startswith(".") for part in parts)
        if strange or hidden or relative.startswith("/"):
            raise _not_here()
        return self._confined(self.folder.joinpath(*parts))

    def experiment(self, relative: str) -> Path:
        """The folder of an experiment.

        Raises:
            NotHereError: If there is none of this name below the root.
        """
        folder = self.inside(relative)
        if not self.holds_experiment(folder):
            raise _not_here()
        return folder

    def relative(self, path: Path) -> str:
        """A path below the root as requests name it."""
        return path.relative_to(self.folder).as_posix()

    def experiments(self) -> tuple[Path, ...]:
        """Every experiment below the root, from a walk that is at most 5 s old.

        Hidden folders, dependencies and links are left out; the walk ends at depth 8, after 20,000 folders,
        or with the 500th experiment.
        """
        at, found = self._found
        if time.monotonic() - at > FRESH_SECONDS:
            found = tuple(self._walk())
            self._found = time.monotonic(), found
        return found

    def forget(self) -> None:
        """Walk again at the next call: a folder was made."""
        self._found = (-FRESH_SECONDS, ())

    def _walk(self) -> Iterator[Path]:
        queue, seen, found = deque([(self.folder, 0)]), 0, 0
        while queue and seen < FOLDERS and found < EXPERIMENTS:
            folder, depth = queue.popleft()
            seen += 1
            if self.holds_experiment(folder):
                found += 1
                yield folder
            elif depth < DEPTH:
                queue += [(child, depth + 1) for child in _children(folder)]

    def holds_experiment(self, folder: Path) -> bool:
        """Whether a folder below the root is an experiment that may be shown."""
        try:
            if not (folder / TOML).is_file():
                return False
            self._confined(folder)
            for door in DOORS:
                if (folder / door).is_symlink():
                    self._confined(folder / door)
            # A pipe would never be read to its end.
            return all(path.is_file() or not path.exists() for path in (folder / name for name in FILES))
        except (NotHereError, OSError, ValueError):
            return False

    def _confined(self, path: Path) -> Path:
        try:
            resolved = path.resolve()
        except (OSError, ValueError, RuntimeError):
            raise _not_here() from None
        if not resolved.is_relative_to(self.folder):
            raise _not_here()
        return resolved


def _children(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = [
                e.name
                for e in entries
                if _is_text(e.name) and e.name not in SKIPPED and e.is_dir(follow_symlinks=False)
            ]
    except OSError:
        return []
    return [folder / name for name in sorted(names)]


def _is_text(name: str) -> bool:
    """Whether a name is visible, and can be sent."""
    return not name.startswith(".") and name.encode(errors="replace").decode() == name


def _not_here() -> NotHereError:
    return NotHereError("there is no such thing below the server's root folder", fix="reload the list")
