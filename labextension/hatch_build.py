"""Builds the lab extension from its sources into `itera_nb/labextension`: for wheel, sdist and `make venv`.

hatch-jupyter-builder cannot do this: it skips by the existence or age of files, so that a wheel may ship
assets of older sources; without node it fails; and it runs `npm install`, not `npm ci`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = ("install.json", "package-lock.json", "package.json", "schema", "src", "style", "tsconfig.json")
HASH_FILE = "source.sha256"
SHARED = "share/jupyter/labextensions/itera-nb"
OLDEST_NODE = (20, 19)
HERE = Path(__file__).resolve().parent


class AssetsError(Exception):
    """The assets in `itera_nb/labextension` are not those of the sources, and cannot be built here."""


class LabExtensionHook(BuildHookInterface):  # type: ignore[type-arg]
    """Puts the assets into the wheel (also an editable one) and makes sure that the sdist has them."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Build what is missing or old.

        Raises:
            AssetsError: If the assets are old, or an sdist would have none, and node is not there.
        """
        root = Path(self.root)
        if ensure_built(root):
            if self.target_name == "wheel":
                build_data["shared_data"]["itera_nb/labextension"] = SHARED
        elif self.target_name == "sdist":
            raise AssetsError(f"an sdist carries the built lab extension: {_no_node()}")


def source_hash(root: Path) -> str:
    """SHA-256 over names and contents of all that the assets are made of, in hexadecimal digits."""
    folder = root / "labextension"
    paths = [path for name in SOURCES for path in (folder / name, *(folder / name).rglob("*"))]
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths if path.is_file()}
    lines = [f"{hashlib.sha256(files[name]).hexdigest()} {name}\n" for name in sorted(files)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def built_hash(root: Path) -> str | None:
    """Hash of the sources that the assets were built from; None without assets."""
    file = root / "itera_nb" / "labextension" / HASH_FILE
    return file.read_text("utf-8").strip() if file.exists() else None


def ensure_built(root: Path) -> bool:
    """Build the assets if they are missing or old.

    Returns:
        True if they are those of the sources; False if there are none and node is not there to build them.

    Raises:
        AssetsError: If they are those of other sources, and node is not there to build them.
        subprocess.CalledProcessError: If npm fails.
    """
    wanted, built = source_hash(root), built_hash(root)
    if built == wanted:
        return True
    if has_node():
        _build(root)
        return True
    if built is not None:
        raise AssetsError(
            f"itera_nb/labextension was built from other sources: {_no_node()}; "
            "or delete that folder to go on without the lab extension"
        )
    _say(f"the lab extension is not built, all else is: {_no_node()}")
    return False


def has_node() -> bool:
    """Whether npm and a node that is new enough are on the PATH."""
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        return False
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    parts = said.strip().removeprefix("v").split(".")
    return len(parts) == 3 and tuple(map(int, parts[:2])) >= OLDEST_NODE


def link(root: Path) -> None:
    """Let Jupyter in this environment read the assets where they are built."""
    target = Path(sys.prefix) / SHARED
    if target.is_symlink():
        target.unlink()
    elif target.exists():
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(root / "itera_nb" / "labextension")


def _build(root: Path) -> None:
    folder, output = root / "labextension", root / "itera_nb" / "labextension"
    installed = folder / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < (folder / "package-lock.json").stat().st_mtime:
        _npm(folder, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
    shutil.rmtree(output, ignore_errors=True)
    shutil.rmtree(folder / "lib", ignore_errors=True)
    _npm(folder, "run", "build")
    shutil.copy2(folder / "install.json", output)
    (output / HASH_FILE).write_text(source_hash(root) + "\n", "utf-8")


def _npm(folder: Path, *words: str) -> None:
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)])
    npm = shutil.which("npm") or "npm"
    subprocess.run([npm, *words], cwd=folder, env={**os.environ, "PATH": path}, check=True)  # noqa: S603


def _no_node() -> str:
    return f"it needs node {'.'.join(map(str, OLDEST_NODE))} or newer and npm on the PATH"


def _say(line: str) -> None:
    sys.stderr.write(f"itera-nb: {line}\n")


if __name__ == "__main__":  # what `make venv` runs after the editable install
    try:
        if ensure_built(HERE.parent):
            link(HERE.parent)
    except AssetsError as error:
        sys.exit(f"itera-nb: {error}")
