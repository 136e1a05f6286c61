"""Failure modes: how the rate of each category of failure moves. Here a positive shift is harm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from itera_nb.stats.multiplicity import adjusted_p
from itera_nb.stats.paired import Delta, Floats, Labels, paired_delta, row_differences
from itera_nb.stats.slices import Level, level_of
from itera_nb.stats.table import PairedTable, mcnemar_midp


@dataclass(frozen=True, slots=True)
class ModeResult:
    """One category: shift of its rate (arm minus baseline, fraction) and counts of failed cells.

    `regression` means an increase shown at the Holm-adjusted level over all categories. `p_above`
    (probability that the increase exceeds the margin) and `level` exist for the top-severity category only.
    `midp` needs one trial.
    """

    name: str
    delta: Delta
    arm_count: int
    base_count: int
    midp: float | None
    holm_p: float
    regression: bool
    p_above: float | None
    level: Level | None


def mode_shifts(
    modes: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    top: str | None = None,
    margin: float = 0.02,
    cluster: Labels | None = None,
    alpha: float = 0.05,
) -> tuple[ModeResult, ...]:
    """Shift of every registered category, in the order given.

    `modes` maps a category to two n x T (or n) arrays of 0/1, "row failed in this category", for arm and
    baseline; NaN marks an absent trial. Categories may overlap. `top` names the top-severity category: its
    increase is flagged when P(increase > margin) > .20 and cleared below .10. A flagged top category blocks a
    ship.
    """
    if top is not None and top not in modes:
        raise ValueError(f"no failure mode {top!r} among {sorted(modes)}")
    pairs = {name: (_cells(arm), _cells(base)) for name, (arm, base) in modes.items()}
    single = {name: arm.shape[1] == base.shape[1] == 1 for name, (arm, base) in pairs.items()}
    deltas = {
        name: paired_delta(row_differences(*pair), cluster, alpha=alpha, binary=single[name])
        for name, pair in pairs.items()
    }
    holm = adjusted_p([x.p_greater() for x in deltas.values()])

    def result(name: str, holm_p: float) -> ModeResult:
        (arm, base), delta = pairs[name], deltas[name]
        p_above = delta.p_less(margin) if name == top else None
        return ModeResult(
            name=name,
            delta=delta,
            arm_count=int(np.nansum(arm)),
            base_count=int(np.nansum(base)),
            midp=mcnemar_midp(PairedTable.from_scores(arm[:, 0], base[:, 0])) if single[name] else None,
            holm_p=holm_p,
            regression=holm_p < alpha / 2,
            p_above=p_above,
            level=None if p_above is None else level_of(p_above),
        )

    return tuple(result(name, p) for name, p in zip(deltas, holm.tolist(), strict=True))


def _cells(flags: ArrayLike) -> Floats:
    cells = np.asarray(flags, dtype=np.float64)
    cells = cells[:, None] if cells.ndim == 1 else cells
    if cells.ndim != 2 or not np.all(np.isnan(cells) | (cells == 0) | (cells == 1)):
        raise ValueError("failure flags must be n x T arrays of 0 and 1")
    return cells
