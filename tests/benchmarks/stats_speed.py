"""How fast the statistics are: large data, small data, bootstraps by counts, one plan, and the import.

    python tests/benchmarks/stats_speed.py

One JSON line a figure, medians of at least three; 1 if one is outside its limit. The large case runs in a
process of its own, so that its peak memory is its own: 10^6 rows, five arms, 20 slices, 200,000 clusters.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import numpy as np
from _worlds import Report

from itera_nb.stats.cost import mean_difference
from itera_nb.stats.decision import Rule
from itera_nb.stats.paired import cluster_codes, paired_delta
from itera_nb.stats.power import required_rows
from itera_nb.stats.simulate import Design, outcome_odds, with_extension
from itera_nb.stats.slices import judge_slices, slice_deltas

ARMS, SLICES, TRIALS = 5, 20, 3


def median_seconds(work, repeats=5):
    """Median wall time of `work()` after one warm-up, and its last result."""
    times, result = [], work()
    for _ in range(repeats):
        begun = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - begun)
    return statistics.median(times), result


def large_case(rows, clusters):
    """Every interval of five arms (four against the first) over all rows and 20 slices, from row means."""
    rng = np.random.default_rng(1)
    means = rng.integers(0, TRIALS + 1, size=(ARMS, rows), dtype=np.int8).astype(np.float32) / TRIALS
    slice_of_row = rng.integers(0, SLICES, rows)
    labels = rng.integers(0, 2**62, clusters)[rng.integers(0, clusters, rows)]  # any identifiers, not 0..G-1
    order = np.argsort(slice_of_row, kind="stable")
    edges = np.searchsorted(slice_of_row[order], np.arange(SLICES + 1))
    members = {str(s): order[edges[s] : edges[s + 1]] for s in range(SLICES)}

    def work():
        codes = cluster_codes(labels)
        found = []
        for arm in range(1, ARMS):
            d = means[arm].astype(np.float64) - means[0]
            found.append((paired_delta(d, codes), judge_slices(slice_deltas(d, members, codes))))
        return found

    return work


def measure_large():
    """Run as a child: seconds and peak memory in MB as one JSON line."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds, _ = median_seconds(large_case(1_000_000, 200_000), repeats=3)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak": peak, "before": before}))


def sizes(report):
    """Large and small data."""
    child = subprocess.run([sys.executable, __file__, "--large"], check=True, capture_output=True, text=True)
    found = json.loads(child.stdout)
    name = "10^6 rows x 5 arms x 20 slices x 200,000 clusters"
    report.figure(name, found["seconds"], "s", "<= 1.2", found["seconds"] <= 1.2)
    report.figure(
        f"{name}: peak memory, data included", found["peak"], "MB", "<= 1000", found["peak"] <= 1000
    )
    seconds, _ = median_seconds(large_case(1_000, 200))
    report.figure(
        "1,000 rows x 5 arms x 20 slices x 200 clusters", 1000 * seconds, "ms", "<= 50", seconds <= 0.05
    )


def bootstraps(report):
    """BCa by counts of distinct differences: its cost, and scipy's interval at small n."""
    from scipy import stats

    for n in (1_000, 100_000, 1_000_000):
        d = np.random.default_rng(2).choice([-1.0, 0.0, 1.0], size=n, p=[0.06, 0.80, 0.14])
        seconds, found = median_seconds(
            lambda d=d: mean_difference(d, np.random.default_rng(3), resamples=9_999)
        )
        assert found.method == "multinomial BCa"
        name = f"BCa by counts, 9,999 resamples, n={n:,}"
        report.figure(name, 1000 * seconds, "ms", "<= 10", seconds <= 0.01)
    worst = 0.0
    for n in (40, 200, 1_000):
        d = np.random.default_rng(n).choice([-1.0, 0.0, 1.0], size=n, p=[0.06, 0.80, 0.14])
        ours = mean_difference(d, np.random.default_rng(4), resamples=99_999 if n < 1_000 else 9_999)
        begun = time.perf_counter()
        options = {"n_resamples": 9_999, "method": "BCa", "batch": 500, "rng": np.random.default_rng(5)}
        theirs = stats.bootstrap((d,), np.mean, **options).confidence_interval
        seconds = time.perf_counter() - begun
        steps = n * max(abs(ours.low - theirs.low), abs(ours.high - theirs.high))
        worst = max(worst, steps)
    report.figure("BCa of scipy, 9,999 resamples, n=1,000", 1000 * seconds, "ms")
    # Means of n rows lie on a grid of 1/n; both intervals carry Monte-Carlo error of their own.
    report.figure(
        "BCa by counts against scipy: largest distance of an end", worst, "rows", "<= 2", worst <= 2
    )


def planning(report):
    """One design: the odds of every outcome at four effects, with clusters and a top-up; one sample size."""
    design = Design(200, Rule(), 0.20, TRIALS, (0.4, 0.3, 0.15, 0.1, 0.05), cluster_size=3, icc=0.2)
    design = with_extension(design, 200)

    def plan():
        rng = np.random.default_rng(6)
        return [outcome_odds(design, truth, rng, draws=2_000) for truth in (0.0, 0.05, 0.075, 0.10)]

    seconds, _ = median_seconds(plan, repeats=3)
    report.figure("planning one design, 4 effects x 2,000 draws", seconds, "s", "<= 3", seconds <= 3)
    seconds, rows = median_seconds(lambda: required_rows(0.02, 0.20), repeats=3)
    report.figure("rows for 80 % power at +2 points", seconds, "s", "<= 3", seconds <= 3, rows=rows)


def imports(report):
    """`import itera_nb` loads nothing heavy; neither does the estimator load scipy.stats."""
    heavy = ("numpy", "scipy", "scipy.stats", "pandas", "statsmodels")
    for module, banned in (
        ("itera_nb", heavy),
        ("itera_nb.stats.paired", ("scipy.stats", "pandas", "statsmodels")),
    ):
        code = f"import sys, {module}; print([m for m in {banned!r} if m in sys.modules])"
        child = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        loaded = json.loads(child.stdout.replace("'", '"'))
        report.figure(
            f"`import {module}` loads of {', '.join(banned)}", len(loaded), "modules", "<= 0", not loaded
        )


def main():
    """Print every figure; 1 if one is outside its limit."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--large", action="store_true", help=argparse.SUPPRESS)
    if parser.parse_args().large:
        measure_large()
        return 0
    report = Report()
    for part in (imports, sizes, bootstraps, planning):
        part(report)
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
