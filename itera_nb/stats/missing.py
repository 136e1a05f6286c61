"""Missing scores: the effect where both sides have one, worst and best bounds, the tipping point of a pass.

Scores are n x T arrays over the rows of the locked manifest: a failed call, refusal, timeout or unparsable
output is 0 for its arm (a product failure), NaN is a score that is missing for another reason (the judge
failed) and never counts as 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from itera_nb.stats.paired import Delta, Floats, Labels, paired_delta, row_differences, row_means
from itera_nb.stats.table import PairedTable, mcnemar_midp


@dataclass(frozen=True, slots=True)
class MissingReport:
    """The effect under three treatments of missing scores; shares are fractions of the n x T planned cells.

    `itt` is over the rows with a score on both sides, by intention to treat (a failed call is 0); None where
    there is none. The bounds are over all n rows.

    `midp` tests whether rows are missing more often on one side. `worst_must_pass`: more than 5 % is missing
    or the rates differ, so a pass must hold at the worst bound too.
    """

    itt: Delta | None
    worst: Delta
    best: Delta
    arm_missing: float
    base_missing: float
    midp: float
    worst_must_pass: bool

    @property
    def complete(self) -> bool:
        """Whether no score is missing; the three effects are then equal."""
        return self.arm_missing == 0 and self.base_missing == 0


def mean_score(scores: ArrayLike) -> float:
    """Mean (fraction) over the rows with a score, each the mean of its trials that have one.

    Raises ValueError where no row has any.
    """
    means = row_means(scores)
    known = means[~np.isnan(means)]
    if known.size == 0:
        raise ValueError("no row has a score")
    return float(known.mean())


def bounds(
    scores_arm: ArrayLike,
    scores_base: ArrayLike,
    cluster: Labels | None = None,
    *,
    alpha: float = 0.05,
    graded: bool = False,
    binary: bool = False,
    pairwise: bool = False,
) -> MissingReport:
    """Effect where both sides have a score, and at the worst (arm missing 0, baseline 1) and best bound.

    Arrays n x T (or n), options as in `paired_delta`. `pairwise`: the arm's scores are preferences over the
    baseline (whose scores are 0): one that is missing is missing for both sides, and from -1 to 1. Raises
    ValueError when the arms do not hold the same rows.
    """
    arm, base = _two_sides(scores_arm, scores_base)
    lost_a, lost_b = np.isnan(arm), np.isnan(base)
    other_side = lost_a if pairwise else lost_b
    d = row_differences(arm, base)
    known = ~np.isnan(d)
    kept = cluster if cluster is None or known.all() else np.asarray(cluster)[known]

    def effect(d: Floats, cluster: Labels | None) -> Delta:
        return paired_delta(d, cluster, alpha=alpha, graded=graded, binary=binary)

    def filled(of_arm: float, of_base: float) -> Delta:
        sides = np.where(lost_a, of_arm, arm), np.where(lost_b, of_base, base)
        return effect(row_differences(*sides), cluster)

    share_a, share_b = float(lost_a.mean()), float(other_side.mean())
    midp = mcnemar_midp(PairedTable.from_scores(lost_a.any(axis=1), other_side.any(axis=1)))
    return MissingReport(
        itt=effect(d[known], kept) if known.any() else None,
        worst=filled(-1.0 if pairwise else 0.0, 1.0),
        best=filled(1.0, 0.0),
        arm_missing=share_a,
        base_missing=share_b,
        midp=midp,
        worst_must_pass=max(share_a, share_b) > 0.05 or midp < 0.05,
    )


def tipping_point(
    scores_arm: ArrayLike,
    scores_base: ArrayLike,
    passes: Callable[[Floats], bool],
    *,
    pairwise: bool = False,
) -> int | None:
    """Largest number of missing arm cells that may be failures, the others successes, with `passes(d)` true.

    None where not even none may. `passes` gets the n row differences; missing baseline scores count 1 (the
    worst for the arm). Cells fail in row order; where scores are preferences (`pairwise`) a failure is a
    loss. Bisection: a pass is taken to be lost for good once lost.
    """
    arm, base = _two_sides(scores_arm, scores_base)
    base = np.where(np.isnan(base), 1.0, base)
    cells = np.flatnonzero(np.isnan(arm))
    filled = np.where(np.isnan(arm), 1.0, arm)

    def holds(failures: int) -> bool:
        trial = filled.copy()
        trial.flat[cells[:failures]] = -1.0 if pairwise else 0.0
        return passes(row_differences(trial, base))

    if not holds(0):
        return None
    low, high = 0, cells.size + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _two_sides(scores_arm: ArrayLike, scores_base: ArrayLike) -> tuple[Floats, Floats]:
    arm, base = (np.asarray(x, dtype=np.float64) for x in (scores_arm, scores_base))
    arm, base = (x[:, None] if x.ndim == 1 else x for x in (arm, base))
    if arm.ndim != 2 or base.ndim != 2 or len(arm) != len(base):
        raise ValueError("arm and baseline must hold the same rows, n x T each")
    return arm, base
