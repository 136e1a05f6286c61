"""Row by row against the baseline: win, loss, flaky, both pass, both fail. Scores only, no row text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from itera_nb.exceptions import IteraError
from itera_nb.experiment import Experiment
from itera_nb.scoring.evidence import Evidence, Floats
from itera_nb.scoring.registered import part_results, registered_modes
from itera_nb.scoring.runs import evidence_of, part_rows
from itera_nb.stats.paired import row_means

WIN, LOSS, FLAKY, BOTH_PASS, BOTH_FAIL = "win", "loss", "flaky", "both pass", "both fail"
TIE, UNSCORED = "tie", "no score"
KINDS = (WIN, LOSS, FLAKY, BOTH_PASS, BOTH_FAIL, TIE, UNSCORED)
DIFFERENCES = (WIN, LOSS, FLAKY)


def row_differences(evidence: Evidence, arm: str, baseline: str, fail_below: float) -> pd.DataFrame:
    """One line per row of an arm against the baseline, column by column; no row text.

    A row is a win or a loss where the difference is at least half a score; otherwise flaky where any trial
    disagrees with another of the same arm. A preference does not say who passes: what is left is a tie. Rows
    without a score on both sides are left out.

    Returns:
        Columns id, arm, kind (one of `KINDS`), base_score, score (means of the trials, fractions),
        d = score - base_score, the failure modes of both sides (base_modes, modes), severity, cost_usd and
        latency_ms of both sides, a column for each slice column, and each trial's score (base_trial_1 ...,
        trial_1 ...). What was not measured has no column.

    Raises:
        ArmError: No row has a score on both sides.
    """
    evidence = evidence.complete(arm, baseline)
    one, two = evidence.scores[arm], evidence.scores[baseline]
    high, low = row_means(one), row_means(two)
    d = high - low
    d[np.abs(d) < 1e-12] = 0.0  # means of equal scores may differ in their last bits
    columns: dict[str, Any] = {
        "id": list(evidence.ids),
        "arm": _categorical(np.zeros(len(high), dtype=np.int8), [arm]),
        "kind": _categorical(kind_codes(one, two, fail_below, pairwise=evidence.pairwise), KINDS),
        "base_score": low,
        "score": high,
        "d": d,
    }
    columns |= _slice_columns(evidence)
    if evidence.weights is not None:
        columns["severity"] = evidence.weights
    for side, name in (("base_", baseline), ("", arm)):
        if evidence.modes.get(name):
            columns[f"{side}modes"] = _mode_names(evidence, name)
        figures = {"cost_usd": evidence.cost.get(name), "latency_ms": evidence.latency.get(name)}
        columns |= {f"{side}{what}": x for what, x in figures.items() if x is not None}
    for side, scores in (("base_", two), ("", one)):
        columns |= {f"{side}trial_{t}": trial for t, trial in enumerate(scores.T, start=1)}
    return pd.DataFrame(columns)


def mode_bits(evidence: Evidence, arm: str) -> NDArray[np.int32]:
    """Bit masks (n) over the failure modes, in their registered order: set where any trial shows the mode."""
    masks = np.zeros(len(evidence.ids), dtype=np.int32)
    for bit, flags in enumerate(evidence.modes.get(arm, {}).values()):
        masks |= np.where(np.nan_to_num(flags).any(axis=1), 1 << bit, 0).astype(np.int32)
    return masks


def _categorical(codes: NDArray[Any], names: Sequence[str]) -> pd.Categorical[Any]:
    return pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype(list(names)))


def _mode_names(evidence: Evidence, arm: str) -> pd.Categorical[Any]:
    found, codes = np.unique(mode_bits(evidence, arm), return_inverse=True)
    names = list(evidence.modes[arm])
    sets = [", ".join(n for bit, n in enumerate(names) if mask >> bit & 1) for mask in found]
    return _categorical(codes, sets)


def _slice_columns(evidence: Evidence) -> dict[str, pd.Categorical[Any]]:
    columns: dict[str, dict[str, NDArray[np.bool_]]] = {}
    for name, members in evidence.slices.items():
        column, _, value = name.partition("=")
        columns.setdefault(column, {})[value] = members
    found = {}
    for column, slices in columns.items():
        codes = np.full(len(evidence.ids), -1, dtype=np.int32)
        for code, members in enumerate(slices.values()):
            codes[members] = code
        found[column] = _categorical(codes, list(slices))
    return found


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


def part_differences(experiment: Experiment, part: str) -> pd.DataFrame:
    """`row_differences` of every arm and iteration that is scored on train or dev, one below the other.

    Raises:
        Refusal: SG01 for any other part.
        IteraError: The part is not scored yet.
    """
    spec, modes = experiment.spec, registered_modes(experiment)
    part_rows(experiment, part)
    if experiment.state.scored(part) is None:
        raise IteraError(f"the arms are not scored on {part} yet", fix=f'exp.run("{part}")')
    results = part_results(experiment, part, readable=False)
    evidence = evidence_of(experiment, results, part, modes)
    tables = [
        row_differences(evidence, arm, spec.baseline, spec.metric.fail_below)
        for arm in evidence.scores
        if arm != spec.baseline
    ]
    return pd.concat(tables, ignore_index=True)
