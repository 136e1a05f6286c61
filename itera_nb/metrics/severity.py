"""Per-row weights from a severity column."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from itera_nb._typing import Row
from itera_nb.exceptions import DataError


def severity_weights(rows: Sequence[Row], field: str, cap: float | None = None) -> list[float]:
    """Weight of each row: min(|row[field]|, cap), in the field's unit.

    Raises:
        DataError: The field is missing or not a finite number in some rows.
    """
    sizes = [_size(row.get(field)) for row in rows]
    bad = sum(size is None for size in sizes)
    if bad:
        raise DataError(
            f"severity column {field!r} is not a number in {bad} of {len(rows)} rows",
            fix="fill the column, or take `severity` out of [source]",
        )
    limit = math.inf if cap is None else cap
    return [min(size, limit) for size in sizes if size is not None]


def _size(value: Any) -> float | None:
    try:
        size = abs(float(value))
    except (TypeError, ValueError):
        return None
    return size if math.isfinite(size) else None
