"""What the user's git says of a repository: nothing where it is not installed, or refuses."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

UNREAD = "this repository cannot be read here, so nothing was compared; what hinders it says: git status"


def git(folder: Path, *arguments: str) -> bytes:
    """What git prints in a folder; nothing if it fails."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, check=False)  # noqa: S603, S607
    except OSError:
        return b""
    return done.stdout if done.returncode == 0 else b""


def root_of(folder: Path) -> Path | None:
    """The root of the repository that holds a folder; None without one, or without git."""
    found = git(folder, "rev-parse", "--show-toplevel")
    return Path(found.decode().strip()) if found else None


def unread(folder: Path) -> bool:
    """Whether a repository seems to hold the folder and git says nothing: absent, or not its owner's."""
    marked = any((place / ".git").exists() for place in (folder, *folder.parents))
    return marked and root_of(folder) is None


def blobs(root: Path, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Git objects by name, one after the other; a name that git does not know is left out."""
    wanted = list(names)
    if not wanted:
        return
    command = ["git", "-C", str(root), "cat-file", "--batch"]
    with subprocess.Popen(  # noqa: S603 - fixed words
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for name in wanted:
            process.stdin.write(f"{name}\n".encode())
            process.stdin.flush()
            head = process.stdout.readline().split()
            if len(head) == 3:
                yield name, process.stdout.read(int(head[2]))
                process.stdout.read(1)
