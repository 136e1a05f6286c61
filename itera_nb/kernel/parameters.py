"""What may be injected into a phase notebook: one name, `folder`."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from typing import Any

from itera_nb.exceptions import IteraError

FOLDER = "folder"
_PAPERMILL = "# Parameters\n"


def check_given(parameters: Mapping[str, Any]) -> None:
    """Refuse parameters before anything is run or written.

    Raises:
        IteraError: One of them is not `folder`, or its value looks like a key; values are not repeated.
    """
    from itera_nb.spec import looks_like_a_key

    others = [name for name in parameters if name != FOLDER]
    if others:
        raise _not_one(others, written=False)
    if FOLDER in parameters and looks_like_a_key(str(parameters[FOLDER])):
        raise IteraError(
            "the parameter folder looks like a key", fix="keys stand in the environment or in .env"
        )


def check_executed(cells: Iterable[str]) -> None:
    """Refuse what papermill injected into a running notebook.

    Args:
        cells: Source of the cells that have run.

    Raises:
        IteraError: A cell that papermill injected sets another name than `folder`.
    """
    for cell in cells:
        if cell.startswith(_PAPERMILL) and (others := [n for n in _assigned(cell) if n != FOLDER]):
            raise _not_one(others, written=True)


def _not_one(others: Iterable[str], *, written: bool) -> IteraError:
    fix = "settings stand in experiment.toml, keys in the environment or in an ignored .env"
    if written:
        fix += (
            "; papermill has written the values into its output: delete that file, and withdraw a key in it"
        )
    names = ", ".join(sorted(others))
    return IteraError(f"the parameters cell holds one name, `folder`; refused: {names}", fix=fix)


def _assigned(source: str) -> list[str]:
    """Names that a cell sets; what is not a plain assignment counts as one named `code`."""
    names: list[str] = []
    for node in ast.parse(source).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        names += [target.id if isinstance(target, ast.Name) else "code" for target in targets] or ["code"]
    return names
