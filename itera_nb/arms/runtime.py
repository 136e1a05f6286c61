"""An arm that is ready to run: its resolved registration and an immutable copy of its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from itera_nb.spec import ArmSpec


@dataclass(frozen=True, slots=True)
class RunnableArm:
    """One arm as the engine runs it.

    Args:
        name: The arm's name (`[arms.NAME]`, or an iteration's line).
        spec: Its registration with inherited keys filled in.
        root: Folder with the arm's files at the paths they have in the experiment folder; never written to.
        digest: Digest of the arm's manifest: everything of the arm that could change an answer.
        inputs: Columns that the arm may see.
        pythonpath: Folders of production code, after the arm's own folder.
        resources: Read-only files for `fit`, by name.
    """

    name: str
    spec: ArmSpec
    root: Path
    digest: str
    inputs: tuple[str, ...]
    pythonpath: tuple[Path, ...] = ()
    resources: Mapping[str, Path] = field(default_factory=dict)
