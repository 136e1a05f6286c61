"""How fast phase 4 looks at 100,000 dev rows: diffs, clusters by column, the four patterns and the gate's figures.

    python tests/benchmarks/diagnosis.py [--rows 100000]

One JSON line a figure; 1 if one is outside its limit. Four arms (three against the first), three trials, four
failure modes, severity, 20 slices, 30,000 clusters, results with outputs, as `itera run` keeps them. All of it
runs in a process of its own that begins at the files, so that its time and peak memory are its own.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from _worlds import Report

from itera_nb.diagnosis import gate
from itera_nb.diagnosis.clusters import by_column
from itera_nb.diagnosis.diffs import row_differences
from itera_nb.diagnosis.literals import words_of
from itera_nb.diagnosis.patterns import find_patterns
from itera_nb.scoring.evidence import READABLE, collect
from itera_nb.source.parts import read_part
from itera_nb.spec import parse_spec

ARMS, TRIALS, MODES = ("base", "one", "two", "three"), 3, ("format", "fact", "tone", "refusal")
SECONDS, GIGABYTES = 5.0, 1.5
WORDS = np.array([f"word{i:04d}" for i in range(4_000)])
TOML = """
[frame]
question = "Does an arm win here?"
hypothesis = "It answers more rows."
[source]
uri = "d.csv"
id = "id"
expected = "label"
slices = ["tenant", "tier"]
cluster = "vendor"
severity = "amount"
[split]
stratify = ["label"]
""" + "".join(
    f'[arms.{arm}]\nkind = "python"\ntarget = "a.py:{arm}"\n' + ('baseline = true\nref = "a.py:1"\n' if arm == "base" else 'change = "x"\n')
    for arm in ARMS
)  # fmt: skip


def write_rows(path, rows, rng):
    """Dev rows as the split writes them: texts of 30 words, and the declared columns."""
    texts = [" ".join(WORDS[at]) for at in rng.integers(0, len(WORDS), (rows, 30))]
    columns = {
        "id": [f"r{i:06d}" for i in range(rows)],
        "text": texts,
        "label": rng.choice(list("abcdef"), rows),
        "tenant": rng.choice([f"tenant-{i:02d}" for i in range(16)], rows),
        "tier": rng.choice(["free", "pro", "team", "enterprise"], rows),
        "vendor": [f"v{i}" for i in rng.integers(0, max(rows * 3 // 10, 2), rows)],
        "amount": rng.lognormal(3, 1.5, rows),
    }
    pq.write_table(pa.table(columns), path)
    return columns["id"]


def write_results(path, ids, rng):
    """A line a row, arm and trial, with outputs, errors and failure modes."""
    lines = len(ids) * len(ARMS) * TRIALS
    score = (rng.random(lines) < 0.7).astype(float)
    mode = rng.integers(0, len(MODES), lines)
    table = {
        "id": np.tile(np.repeat(np.array(ids, dtype=object), TRIALS), len(ARMS)),
        "arm": np.repeat(np.array(ARMS, dtype=object), len(ids) * TRIALS),
        "trial": np.tile(np.arange(TRIALS), len(ids) * len(ARMS)),
        "status": "ok",
        "score": score,
        "modes": [[] if ok else [MODES[m]] for ok, m in zip(score, mode, strict=True)],
        "cost_usd": rng.random(lines) / 1_000,
        "latency_ms": rng.lognormal(6, 0.5, lines),
        "output": '"an answer of some words, as arms give them"',
        "error": "",
    }
    pd.DataFrame(table).to_parquet(path, index=False)


def measure(folder):
    """Everything once, from the files; seconds of each step, and the process's peak memory in GB."""
    spec = parse_spec(TOML, folder / "experiment.toml")
    modes = dict.fromkeys(MODES, 1.0)
    base, arm, others = ARMS[0], ARMS[1], ARMS[1:]
    begun, cpu, steps = time.perf_counter(), time.process_time(), {}

    def step(name):
        steps[name] = time.perf_counter() - begun - sum(steps.values())

    rows = read_part(folder / "dev.parquet")
    file = folder / "results.parquet"
    results = pd.read_parquet(file, columns=[n for n in pq.read_schema(file).names if n not in READABLE])
    step("read the files")
    strata = pd.DataFrame({c: [r[c] for r in rows] for c in ("id", "tenant", "tier", "vendor", "amount")})
    evidence = collect(results, strata, spec, modes)
    step("evidence")
    for other in others:
        row_differences(evidence, other, base, 0.5)
    step("differences")
    columns = {"label": [row["label"] for row in rows], "vendor": [row["vendor"] for row in rows]}
    for other in others:
        by_column(evidence, other, base, 0.5, columns)
    step("clusters by column")
    read = set(evidence.ids[:200])
    for other in others:
        find_patterns(spec, evidence, other, alpha=0.05, revealed=read)
    step("patterns")
    words = words_of(rows, ("text",))
    literals = words.telling(["word0007", "word0019", "word0107 word0108", "42"])
    gate.measure(evidence, arm, base, words.containing(literals), literals, revealed=read)
    step("gate figures of one change")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"steps": steps, "peak": peak / 2**20, "cpu": time.process_time() - cpu}


def main():
    """Print every figure; 1 if one is outside its limit."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure)))
        return 0
    report, rng = Report(), np.random.default_rng(20_261_122)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_results(folder / "results.parquet", write_rows(folder / "dev.parquet", given.rows, rng), rng)
        command = [sys.executable, __file__, "--measure", scratch]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    size = f"{given.rows:,} dev rows × {len(ARMS)} arms × {TRIALS} trials"
    for name, seconds in found["steps"].items():
        report.figure(f"{size}: {name}", seconds, "s")
    total = sum(found["steps"].values())
    report.figure(f"{size}: all of it", total, "s", f"<= {SECONDS:g}", total <= SECONDS)
    report.figure(f"{size}: all of it, processor time", found["cpu"], "s")
    report.figure(
        f"{size}: peak memory", found["peak"], "GB", f"<= {GIGABYTES:g}", found["peak"] <= GIGABYTES
    )
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
