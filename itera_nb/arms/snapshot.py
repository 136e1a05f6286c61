"""Freezing an arm's files: every run, dev or verdict, works from a copy whose hashes are known."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from itera_nb.arms.manifest import Manifest, code_closure, hash_file, inside
from itera_nb.exceptions import RecordError
from itera_nb.ledger import digest
from itera_nb.spec import Spec


def code_files(spec: Spec, folder: Path) -> dict[str, Path]:
    """The user's scorer and failure-mode code with its imports, and the rubric: relative path -> file."""
    files: dict[str, Path] = {}
    if spec.judge is not None:
        files[spec.judge.rubric] = inside(folder, spec.judge.rubric, "[judge] rubric")
    modes = spec.metric.failure_modes
    for target in (spec.metric.scorer, *spec.metric.secondary, modes):
        if isinstance(target, str) and ".py:" in target:
            files |= code_closure(folder, target, spec.run.pythonpath)[0]
    return files


def files_of(manifests: Iterable[Manifest], code: Mapping[str, Path]) -> dict[str, Path]:
    """Everything that these arms and the metric need: snapshot-relative path -> file."""
    files = dict(code)
    for manifest in manifests:
        files |= manifest.files
    return dict(sorted(files.items()))


def take(files: Mapping[str, Path], into: Path) -> dict[str, str]:
    """Copy `files` below `into` (made anew) and return snapshot-relative path -> SHA-256."""
    shutil.rmtree(into, ignore_errors=True)
    for relative, source in files.items():
        target = into / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)  # with its mode: a command's program stays one
    return {relative: hash_file(into / relative) for relative in files}


def take_once(files: Mapping[str, Path], under: Path) -> Path:
    """A snapshot of `files` in a folder named by their content; an intact one is used again."""
    hashes = {relative: hash_file(path) for relative, path in files.items()}
    into = under / digest(hashes)[:16]
    try:
        check(into, hashes)
    except RecordError:
        take(files, into)
    return into


def check(root: Path, hashes: Mapping[str, str]) -> None:
    """Compare a snapshot with its recorded hashes.

    Raises:
        RecordError: Naming the first file that differs, or that was added: code would import it.
    """
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root).as_posix()
        ignored = path.name.startswith(".") or "__pycache__" in path.parts
        if (path.is_file() or path.is_symlink()) and relative not in hashes and not ignored:
            raise RecordError(f"{root.name}/{relative} was not locked", fix=f"remove {path}")
    for relative, expected in hashes.items():
        path = root / relative
        if not path.is_file() or hash_file(path) != expected:
            raise RecordError(
                f"{root.name}/{relative} is not what was locked", fix="put the original snapshot back"
            )
