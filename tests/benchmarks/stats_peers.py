"""The rule beside other tools' statistics, on the same simulated experiments, in one run.

    pip install mlflow==3.18.0 evalsig==0.1.2       # optional, best in an environment of their own
    python tests/benchmarks/stats_peers.py [--quick] [--write]

A tool that is not installed is left out, and the output says so. Every tool runs with its defaults:

- this rule: low > 0 and estimate >= 5 points at 95 %, then the slices;
- MLflow: `ComparisonResult.assert_improved()`. `mlflow.genai.compare_evaluations` reads two runs from a tracking
  store, which takes seconds for each experiment; what is called here is the function behind it,
  `_compare_paired_values`, which computes all of its figures. Repeats are averaged, as MLflow does;
- evalsig: `gate(min_delta=0.05)`, one-sided alpha .05; it reads the first trial only. Its interval is that of
  `compare`, two-sided. With clusters its bootstrap has 1,000 resamples here, not 10,000, to finish in minutes;
- paired t-test: two-sided p < .05 and a positive mean, on row means, clusters ignored.

One JSON line a figure; `--write` puts the table into docs/calibration.md.
"""

import argparse
import logging
import os
import statistics
import sys
import time
from dataclasses import dataclass

import numpy as np
from _worlds import Report, World, blocks, draw, percent, table, verdict, write_section

from itera_nb.stats.decision import Rule
from itera_nb.stats.paired import paired_delta, row_differences

CONFIDENCE, MIN_EFFECT = 0.95, 0.05


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tool says of one experiment: whether to ship, and its 95 % interval of the effect."""

    ship: bool
    low: float
    high: float


class ThisRule:
    name = "this rule"

    def judge(self, base, arm, world):
        d, binary = row_differences(arm, base), world.trials == 1
        delta = paired_delta(d, world.cluster, binary=binary)
        outcome = verdict(d, world.slice_of_row, Rule(), cluster=world.cluster, binary=binary)
        self.outcome = outcome
        return Answer(outcome in {"ship", "scope"}, delta.low, delta.high)

    def harm(self, base, arm):
        """Whether the interval of one slice, judged alone, lies below 0."""
        return paired_delta(row_differences(arm, base), binary=base.shape[1] == 1).high < 0


class PairedT:
    name = "paired t-test"

    def judge(self, base, arm, _world):
        found, low, high = self._test(base, arm)
        return Answer(found < 1 - CONFIDENCE and low > 0, low, high)

    def harm(self, base, arm):
        p, _low, high = self._test(base, arm)
        return p < 1 - CONFIDENCE and high < 0

    def _test(self, base, arm):
        from scipy import stats

        one, two = arm.mean(axis=1), base.mean(axis=1)
        if np.ptp(one - two) == 0:  # the test is undefined without variance
            mean = float((one - two).mean())
            return 1.0, mean, mean
        result = stats.ttest_rel(one, two)
        interval = result.confidence_interval(CONFIDENCE)
        return result.pvalue, interval.low, interval.high


class MLflow:
    name = "MLflow 3.18"

    def __init__(self):
        os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
        from mlflow.genai.evaluation.comparison import ComparisonResult
        from mlflow.genai.evaluation.comparison.paired_comparison import _compare_paired_values

        logging.getLogger("mlflow").setLevel(logging.ERROR)
        self._result, self._compare = ComparisonResult, _compare_paired_values

    def _comparison(self, base, arm):
        kind = "binary" if base.shape[1] == 1 else "numeric"
        return self._compare("score", base.mean(axis=1), arm.mean(axis=1), value_type=kind)

    def judge(self, base, arm, _world):
        found = self._comparison(base, arm)
        try:
            self._result("candidate", "baseline", {"score": found}).assert_improved()
            ship = True
        except AssertionError:
            ship = False
        return Answer(ship, found.ci_low, found.ci_high)

    def harm(self, base, arm):
        found = self._comparison(base, arm)
        return found.p_value < 0.05 and found.diff < 0


class Evalsig:
    name = "evalsig 0.1.2"

    def __init__(self):
        import evalsig

        self._tool = evalsig

    def _frames(self, base, arm, cluster=None):
        def frame(name, scores):
            labels = [None] * len(scores) if cluster is None else [f"c{c}" for c in cluster]
            items = [
                self._tool.ItemResult(f"{i:06d}", float(x), label)
                for i, (x, label) in enumerate(zip(scores[:, 0], labels, strict=True))
            ]
            return self._tool.RunFrame(name, name, "task", "score", items)

        return frame("baseline", base), frame("candidate", arm)

    def judge(self, base, arm, world):
        frames = self._frames(base, arm, world.cluster)
        options = {"cluster": "vendor", "n_resamples": 1_000} if world.cluster is not None else {}
        report = self._tool.gate(*frames, min_delta=MIN_EFFECT, **options)
        low, high = self._tool.compare(*frames, **options).ci
        return Answer(report.verdict.value == "ALLOW", low, high)

    def harm(self, base, arm):
        found = self._tool.compare(*self._frames(base, arm))
        return found.significant and found.delta < 0


WORLDS = {
    "60 rows, 1 trial": World(60, 0.15, (0.0,) * 3),
    "200 rows, 1 trial": World(200, 0.15, (0.0,) * 3),
    "198 rows, 3 trials, clusters of 3": World(198, 0.15, (0.0,) * 3, 3, 3),
}
TRUTHS = (0.0, 0.08, 0.10)
SPARSE = World(20, 0.05, (0.02,))
HARMFUL = World(300, 0.30, (-0.10, 0.14, 0.14))


def available():
    """The tools that are installed; says which are not."""
    tools = [ThisRule(), PairedT()]
    for tool in (MLflow, Evalsig):
        try:
            tools.append(tool())
        except ImportError as error:
            print(f"{tool.name} is left out: {error}", file=sys.stderr)
    return tools


def compare(tools, world, draws, rng):
    """Tool -> share that ships, coverage, and seconds for one experiment (median), on the same draws."""
    ships, covered = dict.fromkeys(tools, 0), dict.fromkeys(tools, 0)
    times = {tool: [] for tool in tools}
    for base, arm in experiments(world, draws, rng):
        for tool in tools:
            begun = time.perf_counter()
            answer = tool.judge(base, arm, world)
            times[tool].append(time.perf_counter() - begun)
            ships[tool] += bool(answer.ship)
            covered[tool] += answer.low - 1e-12 <= world.truth <= answer.high + 1e-12
    return {t: (ships[t] / draws, covered[t] / draws, statistics.median(times[t])) for t in tools}


def experiments(world, draws, rng):
    """Baseline and arm scores (rows x trials) of each draw."""
    for size in blocks(draws, world.rows, world.trials):
        scores = draw(world, size, rng)
        yield from zip(scores.base.astype(float), scores.arms[:, 0].astype(float), strict=True)


def aggregate(tools, report, quick):
    """False ships, power, coverage and time."""
    lines = []
    for w, (name, null) in enumerate(WORLDS.items()):
        columns = {tool: [] for tool in tools}
        for truth in TRUTHS:
            world = World(null.rows, null.discordance, (truth,) * 3, null.trials, null.cluster_size)
            draws = (30 if truth else 60) if quick else (300 if truth else 1_000)
            found = compare(tools, world, draws, np.random.default_rng([20_261_121, w, int(100 * truth)]))
            for tool, (ship, coverage, seconds) in found.items():
                label = f"{tool.name}, {name}, true {100 * truth:+.0f}"
                ours = not truth and tool.name == ThisRule.name
                limit = 0.025 + 2 * np.sqrt(0.025 * 0.975 / draws)
                text = f"<= 0.025 within two standard errors ({limit:.4f})" if ours else ""
                report.figure(f"{label}: ships", ship, "share", text, not ours or ship <= limit, draws=draws)
                report.figure(f"{label}: 95 % interval covers", coverage, "share")
                columns[tool].append((ship, coverage, seconds))
        for tool, cells in columns.items():
            ships = [percent(ship) for ship, _, _ in cells]
            coverage = percent(np.mean([c for _, c, _ in cells]))
            lines.append([f"{name}: {tool.name}", *ships, coverage, f"{1000 * cells[0][2]:.1f}"])
    draws = 60 if quick else 1_000
    found = compare(tools, SPARSE, draws, np.random.default_rng([20_261_121, 9]))
    for tool, (_, coverage, _) in found.items():
        report.figure(f"{tool.name}, 20 rows, D=5 %, true +2: 95 % interval covers", coverage, "share")
    sparse = ", ".join(f"{tool.name} {percent(found[tool][1])} %" for tool in tools)
    head = ["experiment: tool", "ships at 0, %", "at +8, %", "at +10, %", "coverage, %", "ms each"]
    return f"{table(head, lines)}\n\nCoverage at 20 rows, discordance 5 %, true +2: {sparse}."


def slices(tools, report, quick):
    """One slice loses 10 points, the two others gain 14."""
    draws, lines = (40 if quick else 300), []
    ships, alone = dict.fromkeys(tools, 0), dict.fromkeys(tools, 0)
    scoped = 0
    slice_of_row = HARMFUL.slice_of_row == 0
    for base, arm in experiments(HARMFUL, draws, np.random.default_rng([20_261_121, 10])):
        for tool in tools:
            ships[tool] += tool.judge(base, arm, HARMFUL).ship
            alone[tool] += bool(tool.harm(base[slice_of_row], arm[slice_of_row]))
        scoped += tools[0].outcome == "scope"
    for tool in tools:
        everyone = ships[tool] - (scoped if tool.name == ThisRule.name else 0)
        others = percent(scoped / draws) if tool.name == ThisRule.name else "not offered"
        report.figure(f"{tool.name}, one harmful slice: ships to everyone", everyone / draws, "share")
        report.figure(f"{tool.name}, harmful slice tested alone: harm shown", alone[tool] / draws, "share")
        lines.append([tool.name, percent(everyone / draws), others, percent(alone[tool] / draws)])
    report.figure("this rule, one harmful slice: ships to the others only", scoped / draws, "share")
    head = [
        "tool",
        "ships to everyone, %",
        "ships to the other slices only, %",
        "harm shown when the slice is tested alone, %",
    ]
    return table(head, lines)


def main():
    """Print every figure; 1 if this rule is outside its limit."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    report, tools = Report(), available()
    if options.write and (options.quick or len(tools) < 4):
        parser.error("--write needs the full run and every tool")
    first = aggregate(tools, report, options.quick)
    second = slices(tools, report, options.quick)
    if options.write:
        write_section("peers", PAGE.format(aggregate=first, slices=second))
    return 0 if report.ok else 1


PAGE = """
## Beside other tools

Written by `python tests/benchmarks/stats_peers.py --write`: the same experiments, each tool with its defaults (the script
says which function is called). Discordance 15 %; 1,000 draws at 0 (standard error up to 0.7 points), 300 at +8 and +10 (up
to 2.9). *Ships* means: ship or scope; `assert_improved()` does not raise; ALLOW; p < .05 and a positive mean.

{aggregate}

### One harmful slice

300 rows, one trial, discordance 30 %, three slices: one loses 10 points, two gain 14; 300 draws.

{slices}

### Reading it

- *Where the others are better.* On one trial without clusters the t-test and evalsig find more at 60 rows (they add no pseudo-rows
  and hold back for no slice; evalsig also tests at one-sided 5 %, and its false ships belong to that level). MLflow's exact McNemar
  ships an idle arm least often. MLflow compares every scorer of two stored runs at once and lists the rows that do not pair; evalsig
  reads the logs of several harnesses, prints the detectable effect and the missing rows, and has confidence sequences.
- *Where they are not.* With clusters and repeats the t-test and MLflow ship an idle arm two to three times as often as their 2.5 %, and
  their intervals cover 88 %. evalsig is right about clusters but reads one trial of three, which costs power. At 20 rows with few
  changed rows every interval but this rule's covers half to two thirds. None of them asks about slices: four or five of ten
  experiments with a slice at −10 are shipped to everyone. None weighs severity or judges a failure mode.
- *Not shown.* Time excludes reading runs from a store. Standard errors allow differences of two or three points between tools.
"""

if __name__ == "__main__":
    sys.exit(main())
