"""Row by row against the baseline: win, loss, flaky, both pass, both fail. Scores only, no row text."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from itera_nb.scoring.evidence import Evidence, Floats
from itera_nb.stats.paired import row_means

WIN, LOSS, FLAKY, BOTH_PASS, BOTH_FAIL = "win", "loss", "flaky", "both pass", "both fail"
TIE, UNSCORED = "tie", "no score"
KINDS = (WIN, LOSS, FLAKY, BOTH_PASS, BOTH_FAIL, TIE, UNSCORED)
DIFFERENCES = (WIN, LOSS, FLAKY)


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
    codes = kind_codes(one, two, fail_below, pairwise=evidence.pairwise)
    kind = np.array(KINDS)[codes]
    return pd.DataFrame({"id": evidence.ids, "base": low, "arm": high, "d": high - low, "kind": kind})


def kind_codes(one: Floats, two: Floats, fail_below: float, *, pairwise: bool) -> NDArray[np.int8]:
    """Each row's place in `KINDS`, from n or n x T scores of an arm and of the baseline."""
    high, low = row_means(one), row_means(two)
    d = high - low
    varies = _varies(one) | _varies(two)
    passes = (high >= fail_below) & (low >= fail_below)
    rest = [TIE, TIE] if pairwise else [BOTH_PASS, BOTH_FAIL]
    found = np.select(
        [np.isnan(d), d >= 0.5, d <= -0.5, varies, passes],
        [np.int8(KINDS.index(kind)) for kind in (UNSCORED, WIN, LOSS, FLAKY, rest[0])],
        np.int8(KINDS.index(rest[1])),
    )
    return found.astype(np.int8, copy=False)


def _varies(scores: Floats) -> NDArray[np.bool_]:
    """Rows with two trials that differ; a missing score differs from none."""
    if scores.ndim == 1:
        return np.zeros(len(scores), dtype=np.bool_)
    high, low = (np.nan_to_num(scores, nan=fill) for fill in (-1.0, 2.0))
    varies: NDArray[np.bool_] = high.max(axis=1) > low.min(axis=1)
    return varies
