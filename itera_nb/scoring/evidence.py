"""What the rule looks at: per-row arrays in one row order, from a results table and the rows' strata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from itera_nb.exceptions import ArmError
from itera_nb.spec import Spec
from itera_nb.stats import noise, paired
from itera_nb.stats.paired import Delta

if TYPE_CHECKING:
    import pandas as pd

Floats: TypeAlias = NDArray[np.float64]


READABLE = ("output", "error", "reason")
"""Columns of a results table that only a person reads: no evidence needs them."""


@dataclass(frozen=True, slots=True)
class JudgeFigures:
    """What a judge did.

    Attributes:
        asked: Scores that it was asked for; a failed arm's is not.
        missing: Those that it gave none for.
        conflicts: Comparisons whose two orders named opposite winners; each counts as a tie.
        calls: Calls made; equal questions are one.
        cost_usd: Their cost in USD, no part of any arm's; None for unknown.
    """

    asked: int
    missing: int
    conflicts: int
    calls: int
    cost_usd: float | None


@dataclass(frozen=True)
class Evidence:
    """Scores and strata of n rows.

    Attributes:
        ids: n row ids; every array below has this order.
        scores: Arm -> n x T scores; a failed call is 0, a missing score NaN.
        failed: Arm -> number of failed calls (error, timeout, refusal, invalid).
        slices: Slice id -> n-mask.
        cluster: n labels, or None when each row stands alone.
        weights: n severity weights, or None.
        modes: Arm -> failure mode -> n x T indicators; NaN where the score is missing.
        cost: Arm -> n row means in USD, or None when any call's cost is unknown.
        latency: Arm -> n row means in milliseconds.
        secondary: Arm -> secondary metric -> its mean (fraction) over the outputs that have one; a failed
            call is 0. A metric without any score is absent.
        reference: The arm that a pairwise scorer compares with, whose scores are 0; None for other scorers.
        judge: What a judge did; None where the metric asks none.
        unordered: Arms whose t-th scores of two rows are not of the same re-run.
    """

    ids: tuple[str, ...]
    scores: dict[str, Floats]
    failed: dict[str, int]
    slices: dict[str, NDArray[np.bool_]]
    cluster: NDArray[Any] | None
    weights: Floats | None
    modes: dict[str, dict[str, Floats]]
    cost: dict[str, Floats | None]
    latency: dict[str, Floats]
    secondary: dict[str, dict[str, float]]
    reference: str | None = None
    judge: JudgeFigures | None = None
    unordered: frozenset[str] = frozenset()

    @property
    def pairwise(self) -> bool:
        """Whether scores are preferences from -1 to 1 over the baseline, and their mean a net win rate."""
        return self.reference is not None

    @property
    def graded(self) -> bool:
        """Whether any score, or size of a preference, lies strictly between 0 and 1."""
        return any(bool(np.any((y != 0) & (np.abs(y) < 1))) for y in self.scores.values())

    def scored(self, *arms: str) -> NDArray[np.bool_]:
        """n-mask of the rows on which each of these arms has a score."""
        known = [np.isfinite(self.scores[arm]).any(axis=1) for arm in arms]
        mask: NDArray[np.bool_] = np.logical_and.reduce(known)
        return mask

    def complete(self, *arms: str) -> Evidence:
        """The rows on which each of these arms has a score: a missing one is not 0, it is in the bounds.

        Raises:
            ArmError: There is no such row.
        """
        mask = self.scored(*arms)
        if mask.all():
            return self
        if not mask.any():
            raise ArmError(
                f"no row has a score for {' and for '.join(repr(arm) for arm in arms)}: nothing to compare",
                fix="run the same command again: a judge is asked again; mend a scorer of your own",
            )

        def kept(values: Mapping[str, Floats | None]) -> dict[str, Any]:
            return {name: None if x is None else x[mask] for name, x in values.items()}

        return replace(
            self,
            ids=tuple(row for row, keep in zip(self.ids, mask, strict=True) if keep),
            scores=kept(self.scores),
            slices={name: members[mask] for name, members in self.slices.items()},
            cluster=None if self.cluster is None else self.cluster[mask],
            weights=None if self.weights is None else self.weights[mask],
            modes={arm: kept(flags) for arm, flags in self.modes.items()},
            cost=kept(self.cost),
            latency=kept(self.latency),
        )

    def described(self, arm: str, baseline: str | None = None) -> Evidence:
        """The rows that an arm's mean is over: those that every arm has a score for, so that means compare.

        Where there is no such row, those that this arm and the baseline have one for.
        """
        if self.scored(*self.scores).any():
            return self.complete(*self.scores)
        return self.complete(arm, *([baseline] if baseline else []))

    def drift(self, arm: str) -> noise.TrialDrift | None:
        """Whether one arm's trials are exchangeable; None with fewer than two trials or complete rows."""
        scores = self.scores[arm]
        complete = scores[~np.isnan(scores).any(axis=1)]
        if arm in self.unordered or min(complete.shape) < 2:
            return None
        return noise.trial_drift(complete)

    def repeated(self, *arms: str) -> bool:
        """Whether each arm has a row with two scores: without one there is no re-run noise to measure."""
        return all(bool(np.any(np.isfinite(self.scores[arm]).sum(axis=1) > 1)) for arm in arms)

    def binary(self, arm: str, baseline: str) -> bool:
        """Whether the row differences are -1, 0 or 1: one trial of a 0/1 score on both sides."""
        single = self.scores[arm].shape[1] == 1 and self.scores[baseline].shape[1] == 1
        return single and not self.graded


def slice_masks(rows: pd.DataFrame, columns: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """Slice id -> n-mask for every value of every slice column, largest slice first within a column."""
    import pandas as pd

    from itera_nb.source.slices import slice_id, text_of

    masks: dict[str, NDArray[np.bool_]] = {}
    for column in columns:
        texts = {value: text_of(value) for value in rows[column].dropna().unique().tolist()}
        labels = rows[column].map(texts).astype(object).fillna("")
        codes, values = pd.factorize(labels)
        place = {str(value): code for code, value in enumerate(values)}
        for value in labels.value_counts().index:
            masks[slice_id(column, str(value))] = codes == place[str(value)]
    return masks


def collect(results: pd.DataFrame, rows: pd.DataFrame, spec: Spec, modes: Mapping[str, float]) -> Evidence:
    """Arrays from a results table (one line per row, arm and trial) and a table of the rows' strata.

    Args:
        results: Columns id, arm, trial, status, score, modes, cost_usd, latency_ms.
        rows: One line per row: the id and the declared slice, cluster and severity columns.
        spec: Names those columns.
        modes: Registered failure modes.

    Raises:
        ValueError: If a row of `rows` is absent from an arm: a row never leaves the denominator.
    """
    import pandas as pd

    from itera_nb.metrics.severity import severity_weights
    from itera_nb.scoring.results import secondary_column

    ids = rows[spec.source.id].astype(str).tolist()
    scores: dict[str, Floats] = {}
    failed: dict[str, int] = {}
    flags: dict[str, dict[str, Floats]] = {}
    cost: dict[str, Floats | None] = {}
    latency: dict[str, Floats] = {}
    secondary: dict[str, dict[str, float]] = {}
    places = pd.Index(ids).get_indexer(pd.Index(results["id"]))
    arms, names = pd.factorize(results["arm"])
    for code, name in enumerate(map(str, names)):
        mine = np.flatnonzero(arms == code)
        part, grid = results.iloc[mine], _Grid.of(places[mine], results["trial"].to_numpy()[mine], len(ids))
        if grid is None:
            raise ValueError(f"arm {name} does not have every row")
        scores[name] = grid.fill(part["score"])
        failed[name] = int((part["status"] != "ok").sum())
        flags[name] = _indicators(part["modes"], modes, grid, scores[name])
        known = bool(part["cost_usd"].notna().all())
        cost[name] = paired.row_means(grid.fill(part["cost_usd"])) if known else None
        latency[name] = paired.row_means(grid.fill(part["latency_ms"]))
        columns = {m: secondary_column(m) for m in spec.metric.secondary}
        secondary[name] = {m: float(part[c].mean()) for m, c in columns.items() if part[c].notna().any()}
    source = spec.source
    cluster = rows[source.cluster].to_numpy() if source.cluster else None
    weights = (
        severity_weights(rows[source.severity].tolist(), source.severity_cap) if source.severity else None
    )
    return Evidence(
        tuple(ids),
        scores,
        failed,
        slice_masks(rows, source.slices),
        cluster,
        weights,
        flags,
        cost,
        latency,
        secondary,
        spec.baseline if spec.metric.pairwise else None,
        judge_figures(results) if "judged" in results else None,
    )


def judge_figures(results: pd.DataFrame) -> JudgeFigures:
    """Sums over a results table's judge columns."""
    asked = results[results["judged"]]
    cost = float(asked["judge_usd"].sum(skipna=False))
    return JudgeFigures(
        asked=len(asked),
        missing=int(asked["score"].isna().sum()),
        conflicts=int(asked["conflict"].sum()),
        calls=int(asked["judge_calls"].sum()),
        cost_usd=cost if np.isfinite(cost) else None,
    )


@dataclass(frozen=True, slots=True)
class _Grid:
    """Where each line of one arm's results stands in its n x T table."""

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    shape: tuple[int, int]

    @classmethod
    def of(cls, rows: NDArray[np.intp], trials: NDArray[Any], n: int) -> _Grid | None:
        """None if a row has no line, or a line is of no row."""
        if rows.min(initial=0) < 0 or np.bincount(rows, minlength=n).min(initial=1) < 1:
            return None
        found, columns = np.unique(trials, return_inverse=True)
        return cls(rows, columns, (n, found.size))

    def fill(self, values: pd.Series[Any] | Floats) -> Floats:
        """The values as n x T, NaN where there is none; by columns, since means go over the few trials."""
        table = np.full(self.shape, np.nan, order="F")
        table[self.rows, self.columns] = np.asarray(values, dtype=np.float64)
        return table


def _indicators(
    named: pd.Series[Any], modes: Mapping[str, float], grid: _Grid, scores: Floats
) -> dict[str, Floats]:
    """Mode -> n x T indicators. Without a judgement nobody knows its modes either."""
    lists = named.tolist()
    sizes = np.fromiter(map(len, lists), dtype=np.intp, count=len(lists))
    lines = np.repeat(np.arange(len(lists)), sizes)
    shown = np.array([mode for found in lists if len(found) for mode in found], dtype=object)
    tables = {}
    for mode in modes:
        hit = np.zeros(len(lists))
        hit[lines[shown == mode]] = 1.0
        tables[mode] = np.where(np.isnan(scores), np.nan, grid.fill(hit))
    return tables


@dataclass(frozen=True, slots=True)
class Comparison:
    """One arm beside the baseline, with everything that several checks need.

    Attributes:
        evidence: The rows with a score on both sides; `d` has their order.
        drift: Variance (squared fraction) that trials which moved all rows together add to any mean; it is
            in `delta`.
    """

    arm: str
    evidence: Evidence
    d: Floats
    delta: Delta
    binary: bool
    drift: float


def compare(evidence: Evidence, arm: str, baseline: str, alpha: float) -> Comparison:
    """The paired effect of one arm where both have a score; widened where trials moved all rows together.

    Two arms that a pairwise scorer compared with the baseline, but not with each other, differ by half the
    difference of their preferences: 1 where one won and the other lost.

    Raises:
        ArmError: No row has a score on both sides.
    """
    graded, binary = evidence.graded, evidence.binary(arm, baseline)
    evidence = evidence.complete(arm, baseline)
    one, two = (paired.row_means(evidence.scores[name]) for name in (arm, baseline))
    indirect = evidence.pairwise and evidence.reference not in {arm, baseline}
    d = (one - two) / 2 if indirect else one - two
    d[np.abs(d) < 1e-12] = 0.0  # means of equal scores may differ in their last bits; that is no discordance
    binary = binary and not indirect
    delta = paired.paired_delta(d, evidence.cluster, alpha=alpha, graded=graded, binary=binary)
    drift = sum(x.added_variance for x in (evidence.drift(arm), evidence.drift(baseline)) if x)
    return Comparison(arm, evidence, d, delta.widened(drift) if drift else delta, binary, drift)
