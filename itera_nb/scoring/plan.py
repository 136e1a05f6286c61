"""Planning: what this many rows can decide, for both split presets, before a cent is spent."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import numpy as np

from itera_nb.experiment import Experiment
from itera_nb.spec import FRACTIONS, Spec
from itera_nb.stats.decision import Rule, look_alpha
from itera_nb.stats.power import ThumbRule, rule_of_thumb
from itera_nb.stats.simulate import Design, OutcomeOdds, outcome_odds, with_extension
from itera_nb.stats.slices import detectable_harm

GUESSED_DISCORDANCE = 0.20
DRAWS = 2_000
CURVE_DRAWS = 500
LARGEST = 0.5  # with a larger effect nearly every row differs, and nothing is left to plan
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
        discordance: Share of rows on which arm and baseline differ in one run.
        measured: Whether that was measured on dev, or guessed.
        slices: Slice id -> (test rows under the chosen split, loss that would probably be noticed).
        thumb: The circulating rule of thumb with its real power at the same test share.
        curve: Odds at no effect and at the expected effect against the number of test rows.
        trade: Rows against trials at the expected effect.
        row_usd: USD of one row over all arms and trials at the pilot's prices; None before it, or unknown.
        row_seconds: Wall time of one row at the pilot's latencies and the registered concurrency (seconds).
    """

    rows: int
    discordance: float
    measured: bool
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
    sampled, sealed = state.last("sampled"), state.last("sealed")
    rows = sampled.body["rows"] if sampled else int(experiment.isolated("itera_nb.source", "preview")["rows"])
    discordance, measured = _discordance(experiment)
    tau, expected = min(spec.rule.min_effect.value, LARGEST), _expected(spec)
    truths = tuple(dict.fromkeys(round(x, 4) for x in (0.0, tau, (tau + expected) / 2, expected)))
    shares = _slice_shares(experiment)
    scenarios = []
    for preset in ("iterate", "confirm"):
        chosen = spec.split.preset == preset
        n = round(rows * (spec.split.fractions if chosen else FRACTIONS[preset])[2])
        if chosen and sealed:
            n = sealed.body["counts"]["test"]
        scenarios.append(_scenario(spec, preset, n, truths, discordance, shares, chosen=chosen))
        if chosen and spec.rule.extension == "once":
            scenarios.append(
                _scenario(spec, f"{preset} + one top-up of {n}", n, truths, discordance, shares, extension=n)
            )
    test = next((s.test_rows for s in scenarios if s.chosen), 0)
    harm = {
        name: (round(test * share), detectable_harm(discordance, max(test * share, 1)))
        for name, share in shares.items()
    }
    share = spec.split.fractions[2]
    return Plan(
        rows=rows,
        discordance=discordance,
        measured=measured,
        truths=truths,
        scenarios=scenarios,
        slices=harm,
        thumb=rule_of_thumb(share, discordance),
        curve=_curve(spec, test, discordance, shares),
        trade=_trade(spec, test, discordance, shares),
        row_usd=_row_usd(experiment),
        row_seconds=_row_seconds(experiment),
    )


def _trade(spec: Spec, test: int, discordance: float, shares: dict[str, float]) -> tuple[Trade, ...]:
    rng = np.random.default_rng(20_260_103)
    design = _design(spec, test, discordance, shares, largest=_expected(spec))
    found = []
    for rows, trials in ((test, spec.trials), (test, 1), (test * spec.trials, 1)):
        odds = outcome_odds(
            replace(design, rows=max(rows, 1), trials=trials), _expected(spec), rng, draws=CURVE_DRAWS
        )
        found.append(Trade(rows, trials, odds.ship + odds.scope))
    return tuple(found)


def _curve(spec: Spec, test: int, discordance: float, shares: dict[str, float]) -> tuple[Point, ...]:
    rng = np.random.default_rng(20_260_102)
    points = []
    for size in CURVE_SIZES:
        design = _design(spec, max(round(test * size), 1), discordance, shares, largest=_expected(spec))
        odds = [outcome_odds(design, t, rng, draws=CURVE_DRAWS) for t in (0.0, _expected(spec))]
        points.append(Point(design.rows, *odds))
    return tuple(points)


def _row_usd(experiment: Experiment) -> float | None:
    pilot = experiment.state.last("pilot_passed")
    if pilot is None:
        return None
    prices = [arm["cost_usd"] for arm in pilot.body["arms"].values()]
    return None if None in prices else experiment.spec.trials * float(sum(prices))


def _row_seconds(experiment: Experiment) -> float | None:
    pilot, spec = experiment.state.last("pilot_passed"), experiment.spec
    if pilot is None:
        return None
    total = 0.0
    for name, arm in pilot.body["arms"].items():
        if arm["latency_ms"] is None:
            return None
        side_by_side = spec.run.max_concurrency if spec.arms[name].kind == "prompt" else os.cpu_count() or 1
        total += arm["latency_ms"] / 1000 / side_by_side
    return spec.trials * total


def _scenario(
    spec: Spec,
    name: str,
    rows: int,
    truths: tuple[float, ...],
    discordance: float,
    shares: dict[str, float],
    *,
    chosen: bool = False,
    extension: int = 0,
) -> Scenario:
    design = _design(spec, rows, discordance, shares, largest=max(truths))
    if extension:
        design = with_extension(design, extension)
    rng = np.random.default_rng(20_260_101)
    odds = {truth: outcome_odds(design, truth, rng, draws=DRAWS) for truth in truths}
    return Scenario(name, chosen, rows + extension, odds)


def _design(spec: Spec, rows: int, discordance: float, shares: dict[str, float], *, largest: float) -> Design:
    """The registered rule on `rows` test rows; the discordance must leave room for the `largest` effect."""
    rule = Rule(
        min_effect=min(spec.rule.min_effect.value, 1.0),
        alpha=look_alpha(spec.rule.extension == "once"),
        proof="shown" if spec.rule.proof == "literal" else spec.rule.proof,
        goal=spec.rule.goal,
        margin=spec.rule.margin or 0.0,
    )
    return Design(
        rows=max(rows, 1),
        rule=rule,
        discordance=max(discordance, largest + 0.01),
        trials=spec.trials,
        slices=_partition(shares),
        floor=spec.rule.max_slice_loss,
        arms=len(spec.candidates),
    )


def _expected(spec: Spec) -> float:
    return min(spec.expected_effect, LARGEST)


def _partition(shares: dict[str, float]) -> tuple[float, ...]:
    """Shares of the first slice column: the simulation wants slices that do not overlap."""
    first = next(iter(shares), "").partition("=")[0]
    column = [share for name, share in shares.items() if name.startswith(f"{first}=") and share > 0]
    total = sum(column)
    return tuple(share / total for share in column) if first and total else (1.0,)


def _slice_shares(experiment: Experiment) -> dict[str, float]:
    sealed = experiment.state.last("sealed")
    if sealed is None:
        return {}
    test = sealed.body["counts"]["test"]
    return {name: parts["test"] / test for name, parts in sealed.body["slices"].items()}


def _discordance(experiment: Experiment) -> tuple[float, bool]:
    scored = experiment.state.scored("dev")
    found = scored.body.get("discordance") if scored else None
    return (max(float(found), 0.01), True) if found is not None else (GUESSED_DISCORDANCE, False)
