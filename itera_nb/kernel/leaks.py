"""Values of secret environment variables that a run has left in a notebook."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

SECRET_NAMES = ("_KEY", "_TOKEN", "_SECRET", "_PASSWORD", "_IDENTITY")
SHORTEST = 12
"""Characters below which a value is too common to look for."""
REMOVED = "[itera-nb removed this output: it held the value of {}]\n"


@dataclass(frozen=True, slots=True)
class Leak:
    """A secret in a notebook.

    Attributes:
        place: The cell, counted from 1 and with its execution count in brackets, or "the metadata".
        variable: The environment variable's name; never its value.
    """

    place: str
    variable: str


def known(named: Collection[str] = ()) -> dict[str, str]:
    """This process's credentials: variable -> value.

    Args:
        named: Variables that hold credentials whatever they are called.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if (name in named or name.upper().endswith(SECRET_NAMES)) and len(value) >= SHORTEST
    }


def find(notebook: Mapping[str, Any], secrets: Mapping[str, str]) -> list[Leak]:
    """Where a notebook (nbformat 4) holds one of these values, as text or as base64."""
    found: list[Leak] = []
    for number, cell in enumerate(notebook["cells"], 1):
        place = f"cell {number} [{cell.get('execution_count') or ' '}]"
        found += [Leak(place, v) for v in _held([cell["source"], cell.get("outputs", [])], secrets)]
    return found + [Leak("the metadata", v) for v in _held(notebook["metadata"], secrets)]


def remove(notebook: Mapping[str, Any], secrets: Mapping[str, str]) -> list[Leak]:
    """As `find`, and replace the outputs that hold one; what stands in a cell's source stays."""
    found = find(notebook, secrets)
    for cell in notebook["cells"] if found else ():
        for index, output in enumerate(cell.get("outputs", [])):
            if held := list(_held(output, secrets)):
                text = REMOVED.format(", ".join(held))
                cell["outputs"][index] = type(output)(output_type="stream", name="stderr", text=text)
    return found


def _held(value: Any, secrets: Mapping[str, str]) -> Iterator[str]:
    text = json.dumps(value, ensure_ascii=False)
    for variable, secret in secrets.items():
        if any(form in text for form in _forms(secret)):
            yield variable


def _forms(secret: str) -> Iterator[str]:
    """The value as JSON text, and as base64 at each place that it can have in what was encoded."""
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    for before in range(3):
        data = bytes(before) + secret.encode()
        # Only whole groups of three bytes are the same whatever surrounds them.
        yield base64.b64encode(data[: len(data) - len(data) % 3]).decode()[4 if before else 0 :]
