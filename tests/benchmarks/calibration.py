"""Does the verdict keep its promises? Coverage, false ships, slices and outcomes, by seeded simulation.

    python tests/benchmarks/calibration.py            # about five minutes on one core
    python tests/benchmarks/calibration.py --quick    # fewer draws, under a minute
    python tests/benchmarks/calibration.py --write    # also docs/calibration.md and docs/figures/calibration.png

Prints one JSON line a figure and returns 1 if one is outside its limit. A limit holds within two Monte-Carlo
standard errors; figures without a limit are shown for comparison. The data model and the terms are explained
in docs/statistics.md.
"""

import argparse
import sys
import time
from dataclasses import asdict, dataclass, field

import numpy as np
from _worlds import (
    DOCS,
    Report,
    World,
    around,
    blocks,
    cluster_t,
    draw,
    outcomes,
    percent,
    recommended,
    row_t,
    table,
    write_section,
)
from scipy import special

from itera_nb.stats.decision import EXTENSION_ALPHA, Rule, decide
from itera_nb.stats.modes import mode_shifts
from itera_nb.stats.multiplicity import holm
from itera_nb.stats.paired import Interval, paired_delta
from itera_nb.stats.simulate import Design, outcome_odds
from itera_nb.stats.slices import SliceRule, judge_slices, slice_deltas
from itera_nb.stats.table import (
    PairedTable,
    agresti_min_interval,
    mcnemar_midp,
    tango_interval,
    wald_interval,
)

ROWS = (20, 30, 40, 60, 100, 200, 300)
EFFECTS = {
    0.05: (0.0, 0.01, 0.02, 0.03),  # at +3, and at +8 below, almost every row that changes for good improves
    0.15: (0.0, 0.02, 0.05, 0.08),
    0.30: (0.0, 0.02, 0.05, 0.08, 0.10, 0.15),
}
CELLS = [(d, x) for d, effects in EFFECTS.items() for x in effects]
NO_LOSS = [(0.05, 1 / 30), (0.15, 1 / 12), (0.30, 1 / 6)]  # the ends of the scale: no stable row gets worse
SMALL = "small pseudo-rows"
MIN_EFFECT = 0.05
TIE = 1e-12


@dataclass
class Run:
    """Draws of a run, its random numbers, its report, and the tables for the page."""

    quick: bool
    report: Report = field(default_factory=Report)
    pages: list[str] = field(default_factory=list)
    picture: dict = field(default_factory=dict)

    def draws(self, full, quick):
        return quick if self.quick else full

    def rng(self, *key):
        return np.random.default_rng([20_261_121, *key])


def tolerance(rate, draws, errors=2):
    """Two standard errors (or more, for the lowest of many) of a share found in `draws` draws."""
    return errors * np.sqrt(rate * (1 - rate) / draws)


# --- coverage ---------------------------------------------------------------------------------------------


def enumerated(n):
    """Every (arm_only, base_only) of n rows that matters, and the intervals of each method there."""

    def t_interval(counts):
        mean = counts.estimate
        sd = np.sqrt((counts.arm_only + counts.base_only - n * mean**2) / (n - 1))
        half = special.stdtrit(n - 1, 0.975) * sd / np.sqrt(n)
        return Interval(mean - half, mean + half)

    def ours(counts):
        d = np.zeros(n)
        d[: counts.arm_only] = 1
        d[counts.arm_only : counts.arm_only + counts.base_only] = -1
        return paired_delta(d, binary=True)

    methods = {
        "recommended": ours,
        "Wald": wald_interval,
        "paired t": t_interval,
        "Agresti-Min": agresti_min_interval,
        "Tango": tango_interval,
    }
    needed = np.argwhere(sum(law(n, *cell) for cell in CELLS + NO_LOSS) > 0)
    found = {}
    for name, method in methods.items():
        found[name] = ends = np.full((2, n + 1, n + 1), np.nan)
        for b, c in needed.tolist():
            interval = method(PairedTable(n - b - c, b, c, 0))
            ends[:, b, c] = interval.low, interval.high
    return found


def law(n, discordance, effect):
    """Probability of (arm_only, base_only), (n + 1) x (n + 1); below 1e-12 it is 0."""
    b, c = np.ogrid[: n + 1, : n + 1]
    rest = n - b - c
    gain, loss = (discordance + effect) / 2, (discordance - effect) / 2
    log_p = special.gammaln(n + 1) - special.gammaln(b + 1) - special.gammaln(c + 1)
    log_p = log_p - special.gammaln(np.maximum(rest, 0) + 1) + special.xlogy(b, gain) + special.xlogy(c, loss)
    log_p = log_p + special.xlogy(np.maximum(rest, 0), 1 - discordance)
    p = np.where(rest >= 0, np.exp(log_p), 0.0)
    return np.where(p > 1e-12, p, 0.0)


def exact_coverage(run):
    """One trial, independent rows: coverage without Monte-Carlo error, by enumeration."""
    found, widths = {}, {}
    for n in ROWS:
        for name, (low, high) in enumerated(n).items():
            for discordance, effect in CELLS + NO_LOSS:
                p = law(n, discordance, effect)
                inside = (low <= effect + TIE) & (high >= effect - TIE)
                found[name, n, discordance, effect] = float(p[inside].sum() / p.sum())
                widths.setdefault((name, n), []).append(float(np.nansum(p * (high - low)) / p.sum()))
    names = list(dict.fromkeys(k[0] for k in found))
    for n in ROWS:
        cells = {(d, x): found["recommended", n, d, x] for d, x in CELLS + NO_LOSS}
        worst = min(cells, key=cells.get)
        value = cells[worst]
        name = f"coverage, 1 trial, independent rows, n={n}: lowest of {len(cells)} cells"
        cell = f"D={worst[0]} effect={worst[1]:.4g}"
        run.report.figure(name, value, "share", ">= 0.945", value >= 0.945, cell=cell)
    lines = []
    for name in names:
        all_cells = np.array([v for k, v in found.items() if k[0] == name])
        width = " / ".join(f"{np.mean(widths[name, n]):.3f}" for n in (20, 60, 300))
        lines.append(
            [
                name,
                percent(all_cells.min()),
                percent(all_cells.mean()),
                percent((all_cells < 0.93).mean(), 0),
                width,
            ]
        )
        if name != "recommended":
            run.report.figure(
                f"coverage of {name}, 1 trial, independent rows: lowest cell", all_cells.min(), "share"
            )
    run.pages.append(
        "### One trial, independent rows\n\n"
        f"{len(CELLS + NO_LOSS) * len(ROWS)} cells (n = {', '.join(map(str, ROWS))}; discordance 5, 15, 30 %; effects 0 to +16.7 points), "
        "each enumerated exactly, so without simulation error.\n\n"
        + table(
            ["method", "lowest cell, %", "mean, %", "cells below 93 %, %", "mean width at n = 20 / 60 / 300"],
            lines,
        )
    )
    run.picture["exact"] = found


def simulated_coverage(run):
    """Three trials, clusters, or both: the recommended interval beside what is commonly done."""
    draws = run.draws(40_000, 1_500)
    lines, shown = [], {}
    for trials, size in ((1, 3), (3, 1), (3, 3)):
        design = f"{trials} trial{'s' if trials > 1 else ''}, {'clusters of 3' if size > 1 else 'independent rows'}"
        for n in ROWS:
            rates = {}
            for i, (discordance, effect) in enumerate(CELLS + NO_LOSS):
                world = World(n, discordance, (effect,), trials, size)
                for name, share in cell_coverage(world, draws, run.rng(1, trials, size, n, i)).items():
                    rates.setdefault(name, []).append(share)
            edge = rates["recommended"][len(CELLS) :]
            shown[design, n] = rates = {name: values[: len(CELLS)] for name, values in rates.items()}
            ours = np.array(rates["recommended"])
            worst = CELLS[int(ours.argmin())]
            name = f"coverage, {design}, n={n}: lowest of {len(CELLS)} cells"
            covered(run, name, ours.min(), draws, cell=f"D={worst[0]} effect={worst[1]}")
            covered(run, f"coverage, {design}, n={n}: no stable change is a loss", min(edge), draws)
            line = [f"{n}: {design}"]
            for name in ("recommended", SMALL, "cluster t", "row t", "rows x trials", "re-runs only"):
                values = rates.get(name)
                line.append(
                    "" if values is None else f"{percent(np.mean(values))} [{percent(np.min(values))}]"
                )
            lines.append([*line, " / ".join(percent(x) for x in edge)])
    run.picture["simulated"] = shown
    run.pages.append(
        "### Several trials, clusters of three (ICC 0.2)\n\n"
        f"Mean over {len(CELLS)} cells, the lowest cell in brackets; {draws:,} draws a cell (standard error "
        f"{percent(tolerance(0.95, draws) / 2, 2)} points). *rows x trials* takes every trial as a row of its own; "
        "*re-runs only* is 1.96 √2 times the standard deviation of three baseline runs. *small pseudo-rows* is the recommended "
        "interval with pseudo-rows of the size of the changes seen (their root mean square) instead of a whole row.\n\n"
        "The last column is the recommended interval at the ends of the scale, where no stable change is a loss (discordance "
        "5, 15, 30 % and an effect of +3.3, +8.3, +16.7).\n\n"
        + table(
            [
                "n, design",
                "recommended, %",
                f"{SMALL}, %",
                "cluster t, %",
                "row t, %",
                "rows x trials, %",
                "re-runs only, %",
                "no stable loss, %",
            ],
            lines,
        )
    )


def covered(run, name, value, draws, **more):
    """A coverage that must reach 94.5 % within three standard errors: it is the lowest of many."""
    least = 0.945 - tolerance(0.945, draws, errors=3)
    text = f">= 0.945 within three standard errors ({least:.4f})"
    run.report.figure(name, value, "share", text, value >= least, **more)


def cell_coverage(world, draws, rng):
    """Coverage of each method in one cell; the recommended one is checked against the product's function."""
    hits = {}
    for block, size in enumerate(blocks(draws, world.rows, world.trials)):
        scores = draw(world, size, rng)
        d = scores.differences()
        ours = recommended(d, world)
        if block == 0:
            for x, low, high in zip(d[:20], ours.low[:20], ours.high[:20], strict=True):
                delta = paired_delta(x, world.cluster, binary=world.trials == 1)
                assert abs(delta.low - low) + abs(delta.high - high) < 1e-12
        found = {"recommended": ours, "row t": row_t(d)}
        if world.cluster_size > 1:
            found["cluster t"] = cluster_t(d, world.cluster_size)
        if world.trials > 1:
            changed = np.count_nonzero(d, axis=1)
            seen = np.where(changed, np.sqrt((d**2).sum(1) / np.maximum(changed, 1)), 1.0)
            found[SMALL] = recommended(d, world, pseudo=seen)
            one_by_one = scores.arms[:, 0].astype(np.int8) - scores.base.astype(np.int8)
            found["rows x trials"] = row_t(one_by_one.reshape(size, -1).astype(float))
            repeats = scores.base.mean(axis=1).std(axis=1, ddof=1)
            found["re-runs only"] = around(d.mean(1), 1.96 * np.sqrt(2) * repeats)
        for name, interval in found.items():
            hits[name] = hits.get(name, 0) + np.count_nonzero(interval.covers(world.truth))
    return {name: count / draws for name, count in hits.items()}


# --- false ships ------------------------------------------------------------------------------------------

PUBLISHED = {  # n, effect of every slice, discordance -> ship, scope, kill: the design values of the rule
    (54, (0.0,) * 3, 0.15): (0.013, 0.0, 0.18),
    (54, (0.0,) * 3, 0.30): (0.017, 0.001, 0.09),
    (54, (0.08,) * 3, 0.15): (0.19, 0.005, 0.017),
    (54, (0.08,) * 3, 0.30): (0.15, 0.005, 0.009),
    (198, (0.0,) * 3, 0.15): (0.021, 0.0, 0.48),
    (198, (0.0,) * 3, 0.30): (0.021, 0.001, 0.26),
    (198, (0.08,) * 3, 0.15): (0.88, 0.004, 0.002),
    (198, (0.08,) * 3, 0.30): (0.55, 0.019, 0.003),
    (198, (0.12,) * 3, 0.30): (0.91, 0.014, 0.0),
    (594, (0.0,) * 3, 0.15): (0.001, 0.0, 0.90),
    (594, (0.0,) * 3, 0.30): (0.009, 0.0, 0.65),
    (594, (0.02,) * 3, 0.15): (0.025, 0.001, 0.50),
    (594, (0.02,) * 3, 0.30): (0.065, 0.001, 0.28),
    (594, (0.08,) * 3, 0.15): (0.98, 0.005, 0.001),
    (594, (0.08,) * 3, 0.30): (0.91, 0.005, 0.001),
    (198, (-0.10, 0.14, 0.14), 0.30): (0.08, 0.25, 0.01),
    (594, (-0.10, 0.14, 0.14), 0.30): (0.004, 0.66, 0.003),
}

# Pseudo-rows of a whole row, which the design simulations did not have, move one share: fewer arms are called
# useless on few rows, and more left open.
CAREFUL = {(54, (0.0,) * 3, 0.15, "kill"): 0.118}


def rule_outcomes(run):
    """The whole rule (3 slices, 3 trials, clusters of 3, min_effect 5 points) at true effects."""
    lines = []
    for i, ((n, effects, discordance), expected) in enumerate(PUBLISHED.items()):
        null = not any(effects)
        draws = run.draws(20_000 if null else 6_000, 1_000 if null else 400)
        truth = " / ".join(f"{100 * x:+.0f}" for x in dict.fromkeys(effects))
        name = f"rule at {truth} points, n={n}, D={discordance}"
        odds = {
            common: outcomes(World(n, discordance, effects, 3, 3, common=common), draws, run.rng(2, i))
            for common in ("outcomes", "kinds")
        }
        if null:
            for common, found in odds.items():
                false_ship(
                    run,
                    f"{name}, clusters share {common}: ship or scope",
                    found["ship"] + found["scope"],
                    draws,
                )
        design = Design(n, Rule(), discordance, 3, (1 / 3,) * 3, cluster_size=3, icc=0.2)
        planned = asdict(outcome_odds(design, effects, run.rng(11, i), draws=run.draws(8_000, 1_000)))
        for j, outcome in enumerate(("ship", "scope", "kill")):
            near(
                run, f"{name}: {outcome}", odds["outcomes"][outcome], planned[outcome], "planned", draws, 0.01
            )
            # The design values have an error of up to 1.3 points of their own.
            source, design_value = "design", expected[j]
            if (n, effects, discordance, outcome) in CAREFUL:
                source = f"design {design_value:.3f}, here"
                design_value = CAREFUL[n, effects, discordance, outcome]
            near(
                run,
                f"{name}, clusters share kinds: {outcome}",
                odds["kinds"][outcome],
                design_value,
                source,
                draws,
                0.026,
            )
        both = [f"{percent(odds['outcomes'][o])} ({percent(odds['kinds'][o])})" for o in odds["kinds"]]
        lines.append([str(n), truth, percent(discordance, 0), *both])
    run.pages.append(
        "## The whole rule\n\n3 equal slices, 3 trials, clusters of three (ICC 0.2), smallest effect worth acting on "
        "5 points, loss floor 2 points, α = .05, no top-up. Two effects: one slice, and the other two. Rows of a cluster share "
        "outcomes (in brackets: only the kind of row).\n\n"
        + table(
            ["n", "true effect, points", "D, %", "ship, %", "scope, %", "kill, %", "inconclusive, %"], lines
        )
    )


def near(run, name, value, expected, source, draws, slack):
    """A share that must agree with `expected` within three standard errors (there are 100) and its error."""
    band = tolerance(max(expected, 0.002), draws, errors=3) + slack
    limit = f"{source} {expected:.3f} +- {band:.3f}"
    run.report.figure(name, value, "share", limit, abs(value - expected) <= band)


def false_ship(run, name, value, draws):
    """A false-ship figure: at most 2.5 % within two standard errors."""
    limit = 0.025 + tolerance(0.025, draws)
    run.report.figure(
        name, value, "share", f"<= 0.025 within two standard errors ({limit:.4f})", value <= limit
    )


def more_designs(run):
    """The registered top-up, non-inferiority, an effect equal to the threshold."""
    draws = run.draws(20_000, 1_000)
    once = Rule(alpha=EXTENSION_ALPHA)
    lines = []
    for n, more, discordance in (
        (60, 60, 0.15),
        (60, 60, 0.30),
        (200, 140, 0.15),
        (200, 140, 0.30),
        (200, 200, 0.15),
    ):
        two = World(n, discordance, (0.0, 0.0), 3)
        odds = outcomes(two, draws, run.rng(3, n, more, int(100 * discordance)), once, more_rows=more)
        name = f"top-up of {more} after {n} rows at 0, D={discordance}: ship or scope at either look"
        false_ship(run, name, odds["ship"] + odds["scope"], draws)
        good = outcomes(
            World(n, discordance, (0.08, 0.08), 3),
            draws // 5,
            run.rng(4, n, more, int(100 * discordance)),
            once,
            more_rows=more,
        )
        run.report.figure(
            f"top-up of {more} after {n} rows at +8, D={discordance}: ship", good["ship"], "share"
        )
        lines.append(
            [
                f"{n} + {more}",
                percent(discordance, 0),
                percent(odds["ship"] + odds["scope"]),
                percent(good["ship"]),
            ]
        )
    run.pages.append(
        "## One registered top-up\n\n2 slices, 3 trials, independent rows; each look at α = .0294.\n\n"
        + table(["rows", "D, %", "false ship at 0, %", "ship at +8, %"], lines)
    )
    lines = []
    no_worse = Rule(alpha=EXTENSION_ALPHA, goal="no_worse", margin=0.05)
    for n, discordance, effect in (
        (400, 0.15, 0.0),
        (400, 0.15, -0.05),
        (400, 0.15, -0.08),
        (100, 0.05, -0.05),
        (400, 0.05, -0.05),
    ):
        rng = run.rng(5, n, int(100 * discordance), int(-100 * effect))
        odds = outcomes(World(n, discordance, (effect,) * 2, 3), draws // 2, rng, no_worse, saving=True)
        passed = odds["ship"] + odds["scope"]
        name = f"no_worse, margin 5 points, {n} rows, D={discordance}, true {100 * effect:+.0f}: passes"
        if not effect:
            run.report.figure(name, passed, "share", ">= 0.60", passed >= 0.60)
        else:
            false_ship(run, name, passed, draws // 2)
        lines.append(
            [
                str(n),
                percent(discordance, 0),
                f"{100 * effect:+.0f}",
                *(percent(odds[o]) for o in ("ship", "scope", "kill")),
            ]
        )
    run.pages.append(
        "## No worse by 5 points, cheaper\n\n2 slices, 3 trials, α = .0294, saving reached. At discordance 5 % and −5 points every "
        "stable change is a loss.\n\n"
        + table(["n", "D, %", "true effect, points", "ship, %", "scope, %", "kill, %"], lines)
    )
    at_the_margin(run)
    for n in (60, 200, 600):
        odds = outcomes(World(n, 0.15, (MIN_EFFECT,), 3), draws // 5, run.rng(6, n))
        limit = 0.51 + tolerance(0.5, draws // 5)
        value = odds["ship"] + odds["scope"]
        run.report.figure(
            f"true effect equal to min_effect, n={n}: ship", value, "share", f"<= {limit:.3f}", value <= limit
        )


def at_the_margin(run):
    """The worst case of no_worse: every stable change is a loss, and the true loss equals the margin."""
    draws, rows, lines = run.draws(40_000, 1_500), (60, 100, 200, 400), []
    for trials, size in ((1, 1), (3, 1), (1, 3), (3, 3)):
        design = f"{trials} trial{'s' if trials > 1 else ''}, {'clusters of 3' if size > 1 else 'independent rows'}"
        cells = []
        for n in rows:
            world, passed = World(n, 0.05, (-0.05,), trials, size), np.zeros(2)
            rng = run.rng(12, trials, size, n)
            for block in blocks(draws, n, trials):
                d = draw(world, block, rng).differences()
                passed += [
                    np.count_nonzero(recommended(d, world, alpha=a).low > -0.05)
                    for a in (EXTENSION_ALPHA, 0.05)
                ]
            registered, plain = passed / draws
            name = f"loss equal to the margin, every change a loss, {design}, n={n}: excluded"
            if size == 1:
                false_ship(run, f"{name}, alpha .0294", registered, draws)
            else:
                run.report.figure(f"{name}, alpha .0294", registered, "share")
            run.report.figure(f"{name}, alpha .05", plain, "share")
            cells.append(f"{percent(registered)} / {percent(plain)}")
        lines.append([design, *cells])
    run.pages.append(
        "The aggregate alone where every stable change is a loss (discordance and loss 5 %) and the loss equals the margin: share in % "
        f"in which the interval excludes it, at α = .0294 / .05 ({draws:,} draws).\n\n"
        + table(["design", *(f"n = {n}" for n in rows)], lines)
    )


def practices(run):
    """What common practices do with an arm that changes nothing."""
    draws = run.draws(10_000, 500)
    found = {}
    for n in (60, 200):
        for discordance in EFFECTS:
            rng = run.rng(7, n, int(100 * discordance))
            for name, value in one_practice_cell(World(n, discordance), draws, rng).items():
                found.setdefault(name, {})[n, discordance] = value
                if name.startswith("this rule"):
                    false_ship(run, f"{name}, n={n}, D={discordance}: ship at 0", value, draws)
                else:
                    unit = "points" if "inflation" in name else "share"
                    run.report.figure(f"{name}, n={n}, D={discordance}", value, unit)
    lines = []
    for name, cells in found.items():
        digits = [f"{v:.1f}" if "inflation" in name else percent(v) for v in cells.values()]
        lines.append([name, " / ".join(digits[:3]), " / ".join(digits[3:])])
    unadjusted, adjusted = several_arms(draws, run.rng(8))
    run.report.figure("three null arms, n=200: any unadjusted p < .025", unadjusted, "share")
    false_ship(run, "three null arms, n=200: any Holm rejection", adjusted, draws)
    run.pages.append(
        '## Common practices, an arm that changes nothing\n\nShare of experiments in which the practice says "better", in %, '
        f"at discordance 5 / 15 / 30 % ({draws:,} draws). Without a limit: they are what the rule replaces.\n\n"
        + table(["practice", "n = 60", "n = 200"], lines)
        + f"\n\nThree null arms with one baseline (n = 200, D = 20 %): any unadjusted p < .025 in {percent(unadjusted)} %, "
        f"any Holm rejection in {percent(adjusted)} %."
    )
    run.picture["practices"] = found


def one_practice_cell(world, draws, rng):
    """Share of draws in which each practice passes a null arm (mean inflation in points)."""
    passed = {}
    midp = MidP(world.rows)

    def note(name, hits):
        passed.setdefault(name, []).append(np.asarray(hits, dtype=float))

    for size in blocks(draws, world.rows, 10):
        nine = draw(world, size, rng, arms=9)
        base, arms = nine.base[..., 0], nine.arms[..., 0]
        gains = (arms & ~base[:, None]).sum(2)
        losses = (~arms & base[:, None]).sum(2)
        gap = (gains - losses) / world.rows
        reach = gap >= MIN_EFFECT - TIE
        significant = midp(gains, losses) & (gains > losses)
        note("one run, gap of 5 points", reach[:, 0])
        five = draw(World(world.rows, world.discordance, trials=5), size, rng, base_trials=1)
        best = five.arms[:, 0].mean(axis=1).max(axis=1) - five.base[..., 0].mean(axis=1)
        note("best of 5 trials against one baseline run, 5 points", best >= MIN_EFFECT - TIE)
        top = gap.argmax(1)
        rows = np.arange(size)
        note("best of 9 iterations reported on dev, 5 points", reach[rows, top])
        note("best of 9 iterations reported on dev, mid-p < .05", significant[rows, top])
        note("mean inflation of that best-of-9 gap, points", 100 * gap[rows, top])
        note("5 tweaks tried on the test set, any 5 points", reach[:, :5].any(1))
        note("5 tweaks tried on the test set, any mid-p < .05", significant[:, :5].any(1))
        note("stop at any of 5 looks, mid-p < .05", any_look(base, arms[:, 0], midp))
        note_three_trials(note, draw(World(world.rows, world.discordance, trials=3), size, rng))
    return {name: float(np.concatenate(parts).mean()) for name, parts in passed.items()}


def any_look(base, arm, midp):
    """Whether the mid-p test says "better" at any of five equally spaced looks."""
    stopped = np.zeros(len(base), dtype=bool)
    for rows in np.linspace(0, base.shape[1], 6)[1:].astype(int):
        gains = (arm[:, :rows] & ~base[:, :rows]).sum(1)
        losses = (~arm[:, :rows] & base[:, :rows]).sum(1)
        stopped |= midp(gains, losses) & (gains > losses)
    return stopped


def note_three_trials(note, scores):
    """The rules that use three trials: twice the noise floor, with and without slices, and ours."""
    d = scores.differences()
    size, n = d.shape
    mean, repeats = d.mean(1), scores.base.mean(axis=1).std(axis=1, ddof=1)
    floor = (mean >= MIN_EFFECT - TIE) & (mean >= 2 * repeats)
    halves = d.reshape(size, 2, n // 2)
    wald = halves.mean(2) - 1.96 * halves.std(2) / np.sqrt(n / 2)
    trials_only = halves.mean(2) - 1.96 * 2 * repeats[:, None]
    note("5 points and twice the noise floor", floor)
    note("the same and every slice's Wald interval above -2 (2 slices)", floor & (wald >= -0.02).all(1))
    note("the same with slice intervals from re-runs only", floor & (trials_only >= -0.02).all(1))
    interval = recommended(d, World(n, 0.15, trials=3))
    note("this rule: low > 0 and estimate of 5 points", Rule().passes(mean, interval.low))
    note("this rule, strict: low > 5 points", Rule(proof="above_min").passes(mean, interval.low))


class MidP:
    """McNemar mid-p below .05 for arrays of discordant counts, by the product's function, remembered."""

    def __init__(self, rows):
        self.rows, self.known = rows, {}

    def __call__(self, gains, losses):
        key = gains * 10_000 + losses
        values, place = np.unique(key, return_inverse=True)
        return np.array([self._below(int(v)) for v in values])[place].reshape(gains.shape)

    def _below(self, key):
        if key not in self.known:
            b, c = divmod(key, 10_000)
            self.known[key] = mcnemar_midp(PairedTable(self.rows, b, c, 0)) < 0.05
        return self.known[key]


def several_arms(draws, rng):
    """Three null arms, one baseline: share with any unadjusted and with any Holm-adjusted rejection."""
    raw = adjusted = 0
    for size in blocks(draws, 200, 4):
        scores = draw(World(200, 0.20), size, rng, arms=3)
        d = scores.arms[..., 0].astype(float) - scores.base[:, None, :, 0]
        for three in d:
            deltas = [paired_delta(x, binary=True) for x in three]
            raw += any(delta.low > 0 for delta in deltas)
            adjusted += any(result.rejected for result in holm(deltas, Rule()))
    return raw / draws, adjusted / draws


# --- slices and failure modes -----------------------------------------------------------------------------

SLICE_RULES: dict[str, tuple[SliceRule, float]] = {
    "literal: Wald interval reaches below -2": ("literal", 0),
    "Holm test for harm": ("harm_test", 0),
    "raw estimate below -2": ("raw_point", 0),
    "posterior P > .5": ("posterior", 0.5),
    "posterior P > .2 (default)": ("posterior", 0.2),
    "posterior P > .1": ("posterior", 0.1),
}
PUBLISHED_SLICES = {  # default rule: k = 2, 3, 5
    "+8 everywhere": (0.0, 0.03, 0.08),
    "one slice -10, others +14": (0.86, 0.86, 0.70),
    "one slice -5, others +14": (0.57, 0.59, 0.42),
}


def slice_rules(run):
    """Share of aggregate-passing experiments in which each slice rule flags a good, or the harmful, slice."""
    worlds = {
        "+8 everywhere": (0.08, 0.08),
        "one slice -10, others +14": (-0.10, 0.14),
        "one slice -5, others +14": (-0.05, 0.14),
    }
    found = {}
    for w, (name, (first, others)) in enumerate(worlds.items()):
        for j, k in enumerate((2, 3, 5)):
            world = World(200, 0.30, (first, *(others,) * (k - 1)), 3)
            shares, passing = flagged_shares(world, run.draws(6_000, 800), run.rng(9, w, k))
            for rule, value in shares.items():
                found.setdefault(rule, {})[name, k] = value
            value, expected = shares["posterior P > .2 (default)"], PUBLISHED_SLICES[name][j]
            band = tolerance(min(max(expected, 0.02), 0.98), passing) + 0.04
            ok = abs(value - expected) <= band
            text = f"{expected} +- {band:.3f}"
            run.report.figure(
                f"default slice rule, {name}, {k} slices: flagged", value, "share", text, ok, passing=passing
            )
    lines = [
        [rule, *(" / ".join(percent(cells[name, k], 0) for k in (2, 3, 5)) for name in worlds)]
        for rule, cells in found.items()
    ]
    run.pages.append(
        "## Which slice rule?\n\nShare in % of the experiments that pass the aggregate (n = 200, discordance 30 %, 3 trials, "
        "2 / 3 / 5 equal slices) in which any slice of a good arm is flagged, or the harmful slice is.\n\n"
        + table(["rule", "good arm flagged", "slice at -10 caught", "slice at -5 caught"], lines)
    )


def flagged_shares(world, draws, rng):
    """For each slice rule the share of passing experiments flagged, and the number of passing ones."""
    hits, passing = dict.fromkeys(SLICE_RULES, 0), 0
    harmful = world.effects[0] < 0
    members = {str(s): world.slice_of_row == s for s in range(len(world.effects))}
    for size in blocks(draws, world.rows, 3):
        for d in draw(world, size, rng).differences():
            if decide(paired_delta(d), Rule()).outcome != "pass":
                continue
            passing += 1
            deltas = slice_deltas(d, members)
            judged = {rule: judge_slices(deltas, rule=rule) for rule, _ in SLICE_RULES.values()}
            for name, (rule, limit) in SLICE_RULES.items():
                flags = [x.p_harm > limit if limit else x.level == "flagged" for x in judged[rule]]
                hits[name] += flags[0] if harmful else any(flags)
    return {name: count / max(passing, 1) for name, count in hits.items()}, passing


def worst_mode(run):
    """How often the worst failure mode blocks: an unchanged arm, and a good arm that passes."""
    draws = run.draws(4_000, 400)
    lines = []
    for n in (60, 200, 600):
        for discordance in (0.15, 0.30):
            row = [str(n), percent(discordance, 0)]
            for effect in (0.0, 0.08):
                all_arms, passing = mode_blocks(
                    World(n, discordance, (effect,), 3),
                    draws,
                    run.rng(10, n, int(100 * (discordance + effect))),
                )
                run.report.figure(
                    f"worst mode flagged, true {100 * effect:+.0f}, n={n}, D={discordance}",
                    all_arms,
                    "share",
                    passing=round(passing, 4),
                )
                row += [percent(all_arms, 0), percent(passing, 0)]
            lines.append(row)
    run.pages.append(
        "## The worst failure mode\n\nShare in % of arms whose worst failure mode is flagged (P(increase > 2 points) > .20). A quarter "
        "of the rows fail in that mode if they fail; 3 trials. It is asked only of arms that pass the aggregate.\n\n"
        + table(
            ["n", "D, %", "unchanged arm", "of those that pass", "arm at +8", "of those that pass"], lines
        )
    )


def mode_blocks(world, draws, rng):
    """Share flagged of all experiments, and of those that pass the aggregate."""
    flagged = passing = blocked = 0
    for size in blocks(draws, world.rows, 3):
        scores = draw(world, size, rng)
        worst = rng.random((size, world.rows)) < 0.25
        for base, arm, mine, d in zip(
            scores.base, scores.arms[:, 0], worst, scores.differences(), strict=True
        ):
            (shift,) = mode_shifts({"worst": (mine[:, None] & ~arm, mine[:, None] & ~base)}, top="worst")
            flag = shift.level == "flagged"
            passes = decide(paired_delta(d), Rule()).outcome == "pass"
            flagged, passing, blocked = flagged + flag, passing + passes, blocked + (flag and passes)
    return flagged / draws, blocked / max(passing, 1)


# --- page -------------------------------------------------------------------------------------------------


def draw_picture(run):
    """Coverage against n, and false ships of practices beside the rule."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, 4.2), layout="constrained", width_ratios=(1, 1.25)
    )
    styles = {
        "recommended": ("o-", "black"),
        "row t": ("s--", "0.45"),
        "rows x trials": ("^:", "0.35"),
        "re-runs only": ("v-.", "0.6"),
    }
    shown = run.picture["simulated"]
    for name, (style, colour) in styles.items():
        design = "3 trials, clusters of 3"
        lowest = [100 * min(shown[design, n][name]) for n in ROWS]
        left.plot(ROWS, lowest, style, color=colour, label=name, markersize=5)
    left.axhline(95, color="0.8", zorder=0)
    left.set(xlabel="test rows", ylabel="coverage of a 95 % interval, lowest cell, %", ylim=(30, 101))
    left.set_title("3 trials, clusters of three", fontsize=10)
    left.legend(frameon=False, fontsize=9)
    bars = {
        name: 100 * cells[200, 0.15]
        for name, cells in run.picture["practices"].items()
        if "inflation" not in name
    }
    names = list(bars)[::-1]
    colours = ["black" if name.startswith("this rule") else "0.65" for name in names]
    right.barh(names, [bars[name] for name in names], color=colours)
    right.axvline(2.5, color="0.3", linestyle=":", linewidth=1)
    right.set(xlabel="idle arm called better, % (n = 200, D = 15 %)")
    right.tick_params(labelsize=8)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    (DOCS / "figures").mkdir(parents=True, exist_ok=True)
    figure.savefig(DOCS / "figures" / "calibration.png", dpi=110, metadata={"Software": None})


def write(run, seconds):
    """The generated part of docs/calibration.md and its figure."""
    draw_picture(run)
    intro = (
        "# Calibration\n\nWritten by `python tests/benchmarks/calibration.py --write` (fixed seeds, "
        f"{seconds / 60:.0f} minutes on one core). How the data are made, and what the terms mean: "
        "[statistics.md](statistics.md).\n\n![Coverage and false ships](figures/calibration.png)\n\n## Coverage of the 95 % interval"
    )
    write_section("calibration", "\n\n".join([intro, *run.pages]))


def main():
    """Run everything; 1 if a figure is outside its limit."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--only", choices=[part.__name__ for part in PARTS])
    options = parser.parse_args()
    if options.write and (options.quick or options.only):
        parser.error("--write needs the full run")
    run = Run(options.quick)
    for part in PARTS:
        if options.only in {None, part.__name__}:
            started = time.monotonic()
            part(run)
            print(f"{part.__name__}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    if options.write:
        write(run, time.process_time())
    return 0 if run.report.ok else 1


PARTS = (exact_coverage, simulated_coverage, rule_outcomes, more_designs, practices, slice_rules, worst_mode)

if __name__ == "__main__":
    sys.exit(main())
