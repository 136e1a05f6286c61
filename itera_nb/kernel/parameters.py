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
    """`check_injected` of the cells of a running notebook that papermill injected."""
    check_injected(cell for cell in cells if cell.startswith(_PAPERMILL))


def check_injected(cells: Iterable[str]) -> None:
    """Refuse injected cells that do anything but set `folder`.

    Raises:
        IteraError: One sets another name, or runs code.
    """
    for cell in cells:
        if others := [name for name in _assigned(cell) if name != FOLDER]:
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
    try:
        nodes = ast.parse(source).body
    except SyntaxError:
        return ["code"]
    names: list[str] = []
    for node in nodes:
        targets = node.targets if isinstance(node, ast.Assign) else []
        names += [target.id if isinstance(target, ast.Name) else "code" for target in targets] or ["code"]
        if isinstance(node, ast.Assign) and not isinstance(node.value, ast.Constant) and FOLDER in names:
            names.append("code")
    return names
