"""Per-row weights from a severity column."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from itera_nb.exceptions import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def severity_weights(values: Sequence[Any], cap: float | None = None) -> NDArray[np.float64]:
    """Weight of each row, shape (n,): min(|value|, cap), in the column's unit.

    Raises:
        DataError: A value is missing or not a finite number.
    """
    import numpy as np
    import pandas as pd

    sizes: NDArray[np.float64] = (
        pd.to_numeric(pd.Series(values, dtype=object), errors="coerce").abs().to_numpy(np.float64)
    )
    bad = int((~np.isfinite(sizes)).sum())
    if bad:
        raise DataError(
            f"the severity column is not a number in {bad} of {len(sizes)} rows",
            fix="fill the column, or take `severity` out of [source]",
        )
    return np.minimum(sizes, math.inf if cap is None else cap)
