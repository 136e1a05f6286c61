"""The names of slices, used everywhere: ``domain=tweets``. Several slice columns give overlapping slices."""

from __future__ import annotations

from typing import Any


def text_of(value: Any) -> str:
    """A cell as the text by which slices, strata, classes and clusters compare; empty for a missing value."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def slice_id(column: str, value: Any) -> str:
    """The identifier of one slice, for example ``tier=pro``."""
    return f"{column}={text_of(value)}"
