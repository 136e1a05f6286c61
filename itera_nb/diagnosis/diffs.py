"""Row by row against the baseline: win, loss, flaky, both pass, both fail. Scores only, no row text."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from itera_nb.scoring.evidence import Evidence, Floats
from itera_nb.stats.paired import row_means

WIN, LOSS, FLAKY, BOTH_PASS, BOTH_FAIL = "win", "loss", "flaky", "both pass", "both fail"
TIE = "tie"


def row_differences(evidence: Evidence, arm: str, baseline: str, fail_below: float) -> pd.DataFrame:
    """One line per row: id, base and arm (row means of the trials, fractions), d = arm - base, kind.

    A row is a win or a loss where the difference is at least half a score; otherwise flaky where any trial
    disagrees with another of the same arm. A preference does not say who passes: what is left is a tie. Rows
    without a score on both sides are left out.

    Raises:
        ArmError: No row has a score on both sides.
    """
    evidence = evidence.complete(arm, baseline)
    one, two = evidence.scores[arm], evidence.scores[baseline]
    high, low = row_means(one), row_means(two)
    d = high - low
    varies = _varies(one) | _varies(two)
    kind = np.select(
        [d >= 0.5, d <= -0.5, varies, (high >= fail_below) & (low >= fail_below)],
        [WIN, LOSS, FLAKY, BOTH_PASS],
        BOTH_FAIL,
    )
    if evidence.pairwise:
        kind[np.isin(kind, [BOTH_PASS, BOTH_FAIL])] = TIE
    return pd.DataFrame({"id": evidence.ids, "base": low, "arm": high, "d": d, "kind": kind})


def _varies(scores: Floats) -> NDArray[np.bool_]:
    """Rows with two trials that differ; a missing score differs from none."""
    high, low = (np.nan_to_num(scores, nan=fill) for fill in (-1.0, 2.0))
    varies: NDArray[np.bool_] = high.max(axis=1) > low.min(axis=1)
    return varies


def counts(differences: pd.DataFrame) -> dict[str, int]:
    """Rows of each kind, in reading order; of ties or of passes and failures, those that can occur."""
    found = differences["kind"].value_counts()
    rest = (TIE,) if TIE in found else (BOTH_PASS, BOTH_FAIL)
    return {kind: int(found.get(kind, 0)) for kind in (WIN, LOSS, FLAKY, *rest)}
