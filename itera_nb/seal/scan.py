"""Looking for sealed rows in a project's files and git history: which rows stand where, never their text."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from itera_nb.seal.custody import write_private
from itera_nb.seal.fingerprints import Found, Index
from itera_nb.seal.git import blobs, git
from itera_nb.seal.readings import readings

MAX_FILE = 32 * 2**20
MAX_TOTAL = 512 * 2**20
"""Bytes looked at in all, files and git objects each; what was left out is counted and said."""
MAX_FILES = 100_000
MARKERS = ((".git", ".hg"), ("pyproject.toml", "setup.py", "package.json"))
SKIPPED = {
    ".git",
    ".hg",
    ".venv",
    "venv",
    "node_modules",
    "__pycache__",
    ".tox",
    ".mypy_cache",
    ".ruff_cache",
}
COPY_SHARE = 0.5
COPY_ROWS = 10
"""A file with more than half of the sealed rows, ten or more, is a copy of the source, not a leak of rows."""
TELL_EVERY_S = 5.0
OBJECT = "git object "
CHECKPOINTS = ":(glob)**/.ipynb_checkpoints/*"

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Hit:
    """Sealed rows that stand in one file or git object: ids found by a passage, and as a whole short row."""

    file: str
    passages: tuple[str, ...]
    wholes: tuple[str, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """Every row found there."""
        return (*self.passages, *self.wholes)


@dataclass(frozen=True, slots=True)
class Scan:
    """What a scan looked at and found: `copies` are files with most of the sealed rows.

    `files` and `objects` (of git) were looked at or known to be clean, `left_out` were too large or too many;
    `blind` rows cannot be found, being too short or standing in readable rows too.
    """

    hits: tuple[Hit, ...]
    copies: tuple[str, ...]
    files: int
    objects: int
    left_out: int
    blind: int

    def to_json(self) -> dict[str, Any]:
        """The scan as plain values."""
        return asdict(self)


def project_root(folder: Path) -> Path:
    """The project that a folder belongs to: its repository, else the nearest package.

    Without either, what holds `docs/experiments/`, where `itera new` puts them, else the folder itself.
    """
    home = Path.home()
    for markers in MARKERS:
        for parent in (folder, *folder.parents):
            if parent != home and any((parent / marker).exists() for marker in markers):
                return parent
    holder = folder.parents[2] if len(folder.parents) > 2 else folder
    usual = folder.parent == holder / "docs" / "experiments" and holder != home
    return holder if usual else folder


def project_files(root: Path) -> list[Path]:
    """The files of a project, without what git ignores; without git, without the usual caches.

    Checkpoints of notebooks are looked at though git ignores them, and repositories inside as they lie there.
    """
    listed = git(root, "ls-files", "-z", "-co", "--exclude-standard")
    if not listed:
        return list(below(root))
    kept = git(root, "ls-files", "-z", "-oi", "--exclude-standard", "--", CHECKPOINTS)
    paths = [root / os.fsdecode(name) for name in (listed + kept).split(b"\0") if name]
    return [
        file
        for path in paths
        for file in (below(path) if path.is_dir() and not path.is_symlink() else (path,))
    ]


def below(root: Path) -> Iterator[Path]:
    """Every file below a folder except in version control and caches; the file itself if it is one."""
    if root.is_file():
        yield root
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if f not in SKIPPED)
        yield from (Path(folder, file) for file in sorted(files))


@dataclass(slots=True)
class Scanner:
    """Scans files and git objects against one index, and remembers what is clean.

    Args:
        index: The sealed rows' fingerprints.
        name: How a path is named in the answer.
        cache: A file that keeps the hashes of clean files, authenticated under the index's key.
        tell: Gets a line about every five seconds.
        source: The raw source: git objects of its content are copies of it.
    """

    index: Index
    name: Callable[[Path], str] = str
    cache: Path | None = None
    tell: Tell | None = None
    source: Path | None = None
    _clean: set[str] = field(default_factory=set)
    _hits: list[Hit] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)
    _copies: set[str] = field(default_factory=set)
    _files: int = 0
    _objects: int = 0
    _left_out: int = 0
    _told: float = 0.0
    _source_id: str = ""

    def scan(
        self, files: Iterable[Path], *, history: Path | None = None, close: Collection[Path] = ()
    ) -> Scan:
        """Look for the rows.

        Args:
            files: What to look at; the same file twice is looked at once.
            history: A git work tree, whose objects are looked at too, those of deleted files among them.
            close: Files that an arm may read: rows there are never a mere copy of the source.
        """
        self._told = time.monotonic()
        self._load()
        self._source_id = _file_id(self.source) if self.source else ""
        self._scan_files(list(dict.fromkeys(files)), set(close))
        if history is not None:
            self._scan_objects(history)
        self._save()
        near = {self.name(path) for path in close}
        many = max(COPY_SHARE * len(self.index.ids), COPY_ROWS - 1)
        copies = {h.file for h in self._hits if len(h.ids) > many and h.file not in near} | self._copies
        return Scan(
            tuple(h for h in self._hits if h.file not in copies),
            tuple(sorted(copies)),
            self._files,
            self._objects,
            self._left_out,
            self.index.blind,
        )

    def _scan_files(self, paths: Sequence[Path], close: Collection[Path]) -> None:
        left = MAX_TOTAL
        for number, path in enumerate(paths):
            try:
                # An arm may read what its link leads to. A file of the kernel's says that it is empty.
                if (path.is_symlink() and path not in close) or not path.is_file():
                    continue
                size = path.stat().st_size
                if not size:
                    continue
                if number >= MAX_FILES or size > min(MAX_FILE, left):
                    self._left_out += 1
                    continue
                with path.open("rb") as file:
                    data = file.read(size)
            except OSError:
                self._left_out += 1
                continue
            left -= size
            self._files += 1
            self._say(f"scan: {number + 1:,} of {len(paths):,} files")
            self._look(self.name(path), _object_id(data), data)

    def _scan_objects(self, root: Path) -> None:
        """Look at every blob that git holds, whether or not anything still names it."""
        listed = git(
            root, "cat-file", "--batch-all-objects", "--batch-check=%(objecttype) %(objectname) %(objectsize)"
        )
        wanted, left = [], MAX_TOTAL
        for line in listed.decode().splitlines():
            if not line.startswith("blob "):  # a damaged object's line says only that it is missing
                continue
            _, name, size = line.split()
            self._objects += 1
            if name in self._clean or name in self._seen:
                continue
            if int(size) > min(MAX_FILE, left):
                self._left_out += 1
                continue
            left -= int(size)
            wanted.append(name)
        for number, (name, data) in enumerate(blobs(root, wanted)):
            self._say(f"scan: {number + 1:,} of {len(wanted):,} git objects")
            self._look(f"{OBJECT}{name[:12]}", name, data)
        if any(name.startswith(OBJECT) for name in (*(hit.file for hit in self._hits), *self._copies)):
            paths = _paths_in_git(root)
            self._hits = [replace(hit, file=paths.get(hit.file, hit.file)) for hit in self._hits]
            self._copies = {paths.get(name, name) for name in self._copies}

    def _look(self, name: str, object_id: str, data: bytes) -> None:
        if object_id in self._clean:
            return
        self._seen.add(object_id)
        if object_id == self._source_id:
            self._copies.add(name)
            return
        passages: set[int] = set()
        wholes: set[int] = set()
        for reading in readings(data):
            found: Found = self.index.find(reading)
            passages |= found.passages
            wholes |= found.wholes
        if not passages and not wholes:
            self._clean.add(object_id)
            return
        ids = self.index.ids
        self._hits.append(
            Hit(
                name,
                tuple(ids[row] for row in sorted(passages)),
                tuple(ids[row] for row in sorted(wholes - passages)),
            )
        )

    def _say(self, line: str) -> None:
        if self.tell and time.monotonic() - self._told > TELL_EVERY_S:
            self._told = time.monotonic()
            self.tell(line)

    def _load(self) -> None:
        if self.cache is None:
            return
        with suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads(self.cache.read_bytes())
            if hmac.compare_digest(kept["mac"], self._mac(kept["clean"])):
                self._clean = set(kept["clean"])

    def _save(self) -> None:
        if self.cache is not None:
            clean = sorted(self._clean)
            write_private(self.cache, json.dumps({"mac": self._mac(clean), "clean": clean}).encode())

    def _mac(self, clean: Sequence[str]) -> str:
        return hmac.new(self.index.key, "\n".join(clean).encode(), hashlib.sha256).hexdigest()


def _object_id(data: bytes) -> str:
    """The name that git gives to a file of these bytes, so that a committed file is looked at once."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _file_id(path: Path) -> str:
    """As `_object_id`, of a file that may be larger than memory."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _paths_in_git(root: Path) -> dict[str, str]:
    """The name of a git object -> the same with a path that it has or had in some commit."""
    listed = git(root, "rev-list", "--all", "--objects").decode("utf-8", "replace")
    named = (line.partition(" ") for line in listed.splitlines())
    return {f"{OBJECT}{id_[:12]}": f"{OBJECT}{id_[:12]} ({path})" for id_, _, path in named if path}


def tell_stderr(line: str) -> None:
    """Progress of the isolated process: its parent passes standard error on."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201
