"""Planning: what this many rows can decide, for both split presets, before a cent is spent."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import numpy as np

from itera_nb.experiment import Experiment
from itera_nb.scoring.power import Outlook, outlook, planned_design
from itera_nb.spec import FRACTIONS, Spec
from itera_nb.stats.power import ThumbRule, rule_of_thumb
from itera_nb.stats.simulate import OutcomeOdds, outcome_odds, with_extension
from itera_nb.stats.slices import detectable_harm

DRAWS = 2_000
CURVE_DRAWS = 500
CURVE_SIZES = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One split, or one split with its registered top-up: test rows and the odds at each true effect."""

    name: str
    chosen: bool
    test_rows: int
    odds: dict[float, OutcomeOdds]


@dataclass(frozen=True, slots=True)
class Point:
    """One size on the curve: odds where the arm does nothing, and where it does what is expected."""

    test_rows: int
    nothing: OutcomeOdds
    expected: OutcomeOdds


@dataclass(frozen=True, slots=True)
class Trade:
    """Probability of a ship (or scope) at the expected effect for this many test rows and trials."""

    test_rows: int
    trials: int
    ship: float


@dataclass(frozen=True, slots=True)
class Plan:
    """Odds of each outcome; effects and shares are fractions.

    Attributes:
        rows: Rows of the source (or of the sample, once drawn).
        seen: What planning starts from.
        slices: Slice id -> (test rows under the chosen split, loss that would probably be noticed).
        thumb: The circulating rule of thumb with its real power at the same test share.
        curve: Odds at no effect and at the expected effect against the number of test rows.
        trade: Rows against trials at the expected effect.
        row_usd: Steady-state USD of one row over all arms and trials; None before the pilot, or unknown.
        row_seconds: Wall time of one row at the pilot's latencies and the registered concurrency (seconds).
    """

    rows: int
    seen: Outlook
    truths: tuple[float, ...]
    scenarios: list[Scenario]
    slices: dict[str, tuple[int, float]]
    thumb: tuple[ThumbRule, ...]
    curve: tuple[Point, ...]
    trade: tuple[Trade, ...]
    row_usd: float | None
    row_seconds: float | None


def make_plan(experiment: Experiment) -> Plan:
    """The plan as the experiment stands: from the sealed counts if there are any, else from the source."""
    spec, state = experiment.spec, experiment.state
    sealed, rows = state.last("sealed"), source_rows(experiment)
    seen = outlook(experiment, spec)
    tau, expected, shares = seen.min_effect, seen.expected, seen.shares
    truths = tuple(dict.fromkeys(round(x, 4) for x in (0.0, tau, (tau + expected) / 2, expected)))
    scenarios = []
    for preset in ("iterate", "confirm"):
        chosen = spec.split.preset == preset
        n = round(rows * (spec.split.fractions if chosen else FRACTIONS[preset])[2])
        if chosen and sealed:
            n = sealed.body["counts"]["test"]
        scenarios.append(_scenario(spec, seen, preset, n, truths, chosen=chosen))
        if chosen and spec.rule.extension == "once":
            scenarios.append(_scenario(spec, seen, f"{preset} + one top-up of {n}", n, truths, extension=n))
    test = next((s.test_rows for s in scenarios if s.chosen), 0)
    harm = {
        name: (round(test * share), detectable_harm(seen.discordance, max(test * share, 1)))
        for name, share in shares.items()
    }
    share = spec.split.fractions[2]
    return Plan(
        rows=rows,
        seen=seen,
        truths=truths,
        scenarios=scenarios,
        slices=harm,
        thumb=rule_of_thumb(share, max(seen.discordance, 0.1)),
        curve=_curve(spec, seen, test),
        trade=_trade(spec, seen, test),
        row_usd=_row_usd(experiment),
        row_seconds=_row_seconds(experiment),
    )


def source_rows(experiment: Experiment) -> int:
    """Rows of the sample, or of the source while none is drawn."""
    sampled = experiment.state.last("sampled")
    return int(sampled.body["rows"] if sampled else experiment.isolated("itera_nb.source", "preview")["rows"])


def chosen_odds(experiment: Experiment, spec: Spec, rows: int) -> Scenario:
    """Odds of the chosen split of `spec`, which may not be written yet, on `rows` rows, first look."""
    seen = outlook(experiment, spec)
    truths = tuple(dict.fromkeys(round(x, 4) for x in (0.0, seen.min_effect, seen.expected)))
    n = round(rows * spec.split.fractions[2])
    return _scenario(spec, seen, str(spec.split.preset), n, truths, chosen=True)


def _trade(spec: Spec, seen: Outlook, test: int) -> tuple[Trade, ...]:
    rng = np.random.default_rng(20_260_103)
    design = planned_design(spec, seen, test, largest=seen.expected)
    found = []
    for rows, trials in ((test, spec.trials), (test, 1), (test * spec.trials, 1)):
        odds = outcome_odds(
            replace(design, rows=max(rows, 1), trials=trials), seen.expected, rng, draws=CURVE_DRAWS
        )
        found.append(Trade(rows, trials, odds.ship + odds.scope))
    return tuple(found)


def _curve(spec: Spec, seen: Outlook, test: int) -> tuple[Point, ...]:
    rng = np.random.default_rng(20_260_102)
    points = []
    for size in CURVE_SIZES:
        design = planned_design(spec, seen, max(round(test * size), 1), largest=seen.expected)
        odds = [outcome_odds(design, t, rng, draws=CURVE_DRAWS) for t in (0.0, seen.expected)]
        points.append(Point(design.rows, *odds))
    return tuple(points)


def _row_usd(experiment: Experiment) -> float | None:
    """Steady-state USD of one row: as measured on dev, or as the pilot foresees it."""
    state, spec = experiment.state, experiment.spec
    scored, pilot = state.scored("dev"), state.last("pilot_passed")
    if scored is not None:
        prices = [scored.body["arms"][name]["cost_per_1k_usd"] for name in spec.arms]
        return None if None in prices else spec.trials * float(sum(prices)) / 1000
    forecast = pilot.body["forecast"] if pilot else None
    return float(forecast["row_usd"]) if forecast else None


def _row_seconds(experiment: Experiment) -> float | None:
    pilot, spec = experiment.state.last("pilot_passed"), experiment.spec
    if pilot is None:
        return None
    total = 0.0
    for name, arm in pilot.body["arms"].items():
        if arm["latency_ms"] is None:
            return None
        side_by_side = spec.run.max_concurrency if spec.arms[name].kind != "python" else os.cpu_count() or 1
        total += arm["latency_ms"] / 1000 / side_by_side
    return spec.trials * total


def _scenario(
    spec: Spec,
    seen: Outlook,
    name: str,
    rows: int,
    truths: tuple[float, ...],
    *,
    chosen: bool = False,
    extension: int = 0,
) -> Scenario:
    design = planned_design(spec, seen, rows, largest=max(truths))
    if extension:
        design = with_extension(design, extension)
    rng = np.random.default_rng(20_260_101)
    odds = {truth: outcome_odds(design, truth, rng, draws=DRAWS) for truth in truths}
    return Scenario(name, chosen, rows + extension, odds)
