"""An arm that is ready to run: its resolved registration and an immutable copy of its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from itera_nb.models.prompt import Shot
    from itera_nb.spec import ArmSpec, ModelSpec, Spec


@dataclass(frozen=True, slots=True)
class RunnableArm:
    """One arm as the engine runs it."""

    name: str  # the arm's name (`[arms.NAME]`, or an iteration's line)
    spec: ArmSpec  # its registration with inherited keys filled in
    # Folder with the arm's files at the paths they have in the experiment folder; never written to
    root: Path
    digest: str  # digest of the arm's manifest and examples: everything of it that could change an answer
    # Columns that the arm may see; for a recorded arm the row's id, by which it is looked up
    inputs: tuple[str, ...]
    pythonpath: tuple[Path, ...] = ()  # folders of production code, after the arm's own folder
    resources: Mapping[str, Path] = field(default_factory=dict)  # read-only files for `fit`, by name
    shots: tuple[Shot, ...] = ()  # train rows that a prompt arm shows as examples
    file: Path | None = None
    # How vendors are reached; their prices, where given, are those of the arm's calls
    models: Mapping[str, ModelSpec] = field(default_factory=dict)


def production_code(root: Path, spec: Spec) -> tuple[Path, ...]:
    """The folders of `[run] pythonpath` in a snapshot."""
    return tuple(root / "pythonpath" / str(i) for i in range(len(spec.run.pythonpath)))
