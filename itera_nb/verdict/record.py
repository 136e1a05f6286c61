"""The verdict record: everything that the conclusion says, as plain values.

Effects, scores and shares are fractions, costs USD, times milliseconds.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class SliceRecord:
    """One slice of one arm."""

    id: str
    n: int
    estimate: float
    low: float
    high: float
    shrunk: float | None
    p_harm: float | None
    level: str
    regression: str | None


@dataclass(frozen=True, slots=True)
class ModeRecord:
    """One failure mode of one arm: mean count of failed rows a trial, and the shift of its rate."""

    id: str
    weight: float
    baseline_count: float
    arm_count: float
    estimate: float
    low: float
    high: float
    p_worse: float | None
    level: str


@dataclass(frozen=True, slots=True)
class SeverityRecord:
    """The effect weighted by severity."""

    field: str
    estimate: float
    low: float
    high: float
    n_eff: float
    largest_share: float
    few_rows: bool
    vetoes: bool
    disagrees: bool
    note: str


@dataclass(frozen=True, slots=True)
class MissingRecord:
    """Failed calls count as failures; missing scores are bounded, and their rows are out of the estimate.

    `unscored` and `baseline_unscored` count outputs without a score; `rows` is all rows, n those with one on
    both sides. The bounds are over all rows.
    """

    failed_calls: int
    unscored: int
    baseline_unscored: int
    rows: int
    worst: float
    best: float
    worst_must_pass: bool
    tipping_point: int | None


@dataclass(frozen=True, slots=True)
class OverfitRecord:
    """Dev against test."""

    dev_estimate: float
    dev_low: float
    dev_high: float
    gap: float
    z: float
    alarm: str
    note: str


@dataclass(frozen=True, slots=True)
class NoiseRecord:
    """What changes when nothing is changed; `rerun_share` is null where one trial measured nothing."""

    floor: float
    rerun_sd: float
    rerun_share: float | None
    deterministic: bool
    drift_p: float | None


@dataclass(frozen=True, slots=True)
class CostRecord:
    """Steady-state cost against the baseline, per 1,000 rows (USD)."""

    delta_per_1k_usd: float | None
    low_per_1k_usd: float | None
    high_per_1k_usd: float | None
    relative: float | None
    relative_low: float | None
    relative_high: float | None
    note: str | None


@dataclass(frozen=True, slots=True)
class LatencyRecord:
    """p95 latency against the baseline (milliseconds)."""

    delta_p95_ms: float | None
    low_ms: float | None
    high_ms: float | None


@dataclass(frozen=True, slots=True)
class EffectRecord:
    """An effect with its interval."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class LiteralRecord:
    """What the method's rule says when it is read to the letter."""

    outcome: str
    reasons: list[str]


@dataclass(frozen=True, slots=True)
class SecondOpinionRecord:
    """What a second judge says on a sample of the rows, and what the rule makes of its labels there.

    `rows` both have rated; `agreeing` of the `discordant` ones in the same direction, `direction_low` its
    one-sided 95 % bound. `raw`, `ac1` and `kappa` are weighted to all rows. `level`: trusted, unclear or
    restart. `outcome` is what the rule says with the second judge's labels where there are any; None where
    there is no decision. Undefined figures are None.
    """

    by: str
    rows: int
    raw: float | None
    ac1: float | None
    ac1_low: float | None
    ac1_high: float | None
    kappa: float | None
    alpha: float | None
    agreeing: int | None
    discordant: int
    direction_low: float | None
    rule_of_thumb: bool | None
    level: str
    outcome: str | None = None
    flipped: bool = False


@dataclass(frozen=True, slots=True)
class AppendixRecord:
    """Classical figures for readers who ask; the decision does not use them."""

    midp: float | None = None
    newcombe: list[float] | None = None
    tango: list[float] | None = None


@dataclass(frozen=True, slots=True)
class ArmRecord:
    """The verdict on one arm (statistics: `docs/statistics.md`)."""

    arm: str
    outcome: str
    reason: str
    sentence: str
    tau: float
    alpha: float
    n: int
    clusters: int
    trials: int
    b: int | None
    c: int | None
    estimate: float
    low: float
    high: float
    df: float
    holm_p: float
    scope: list[str]
    scope_effect: EffectRecord | None
    slices: list[SliceRecord]
    failure_modes: list[ModeRecord]
    severity: SeverityRecord | None
    missing: MissingRecord
    overfit: OverfitRecord | None
    noise: NoiseRecord
    cost: CostRecord
    latency: LatencyRecord
    n_needed: int | None
    power_expected: float | None
    literal: LiteralRecord
    warnings: list[str]
    appendix: AppendixRecord = field(default_factory=AppendixRecord)
    second_opinion: SecondOpinionRecord | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """All arms together: the banner's outcome and arm, what a negative control says, what a judge did."""

    outcome: str
    arm: str | None
    chosen_because: str
    records: list[ArmRecord]
    controls: list[dict[str, Any]]
    arms: dict[str, dict[str, Any]]
    pareto: dict[str, dict[str, float]] | None
    judge: dict[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values; a non-finite number becomes null."""
        value: dict[str, Any] = _plain(dataclasses.asdict(self))
        return value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
