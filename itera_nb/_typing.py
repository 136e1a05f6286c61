"""Names for the shapes that cross room boundaries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

JSON: TypeAlias = "bool | int | float | str | list[Any] | dict[str, Any] | None"
Row: TypeAlias = Mapping[str, Any]
"""One row of the source: column name -> value."""
