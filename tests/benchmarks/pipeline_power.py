"""Can the product say yes, and does it say no? Seeded runs of the whole pipeline below the notebooks.

200 generated rows in two tenants, three trials, discordance 15 %, `confirm` split, no extension: the planted
effect is +10 points or 0. Everything runs as for a user: isolated sampling and sealing, worker processes, the
isolated verdict. Data: docs/statistics.md, "How the simulations are made".

    python tests/benchmarks/pipeline_power.py --runs 100
"""

import argparse
import csv
import json
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

ROWS, DISCORDANCE, UNSTABLE = 200, 0.15, 0.20
LIMITS = {0.10: ("ships at +10 points", ">=", 0.75), 0.0: ("ships at 0", "<=", 0.05)}

ARMS = '''
import hashlib

class _Arm:
    column = ""

    def fit(self, train, seed):
        self.seed = seed

    def predict(self, rows):
        return [row["right"] if self._coin(row) < float(row[self.column]) else "wrong" for row in rows]

    def _coin(self, row):
        digest = hashlib.sha256(f"{self.seed}|{self.column}|{row['text']}".encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64

class Old(_Arm):
    column = "p_old"

class New(_Arm):
    column = "p_new"
'''

TOML = '''
[frame]
question = "Should the new arm replace the old one?"
hypothesis = "It answers more rows correctly in both tenants."

[arms.old]
baseline = true
kind = "python"
target = "arms/both.py:Old"
cost = "free"
ref = "arms/both.py:1"

[arms.new]
from = "old"
target = "arms/both.py:New"
change = "the new implementation"

[source]
uri = "data.csv"
id = "row_id"
inputs = ["text", "right", "p_old", "p_new"]
expected = "label"
slices = ["tenant"]

[rule]
min_effect = 0.05
extension = "none"
'''


def write_experiment(folder: Path, effect: float, seed: int) -> None:
    """Rows with a stable outcome pair, or unstable ones where both arms succeed with a common probability."""
    rng = np.random.default_rng([seed, round(1000 * effect)])
    stable = max(DISCORDANCE - UNSTABLE / 3, abs(effect))
    pairs = [(1, 0), (0, 1), (1, 1), (0, 0)]
    both = 1 - UNSTABLE - stable
    chances = np.array([(stable - effect) / 2, (stable + effect) / 2, 0.7 * both, 0.3 * both]) / (1 - UNSTABLE)
    (folder / "arms").mkdir(parents=True)
    (folder / "arms" / "both.py").write_text(ARMS)
    (folder / "experiment.toml").write_text(TOML)
    with (folder / "data.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["row_id", "text", "tenant", "label", "right", "p_old", "p_new"])
        for i in range(ROWS):
            label = ["fees", "transfer"][i % 2]
            if rng.random() < UNSTABLE:
                p = rng.random()
                old, new = p, p
            else:
                old, new = pairs[rng.choice(4, p=chances)]
            tenant = "enterprise" if i % 5 < 3 else "smb"
            writer.writerow([f"r{i}", f"row {seed} {i}", tenant, label, label, old, new])


def outcome(effect: float, seed: int) -> str:
    """Run one experiment from its frame to its verdict."""
    import itera_nb

    with tempfile.TemporaryDirectory() as scratch:
        os.environ |= {"ITERA_STATE_DIR": f"{scratch}/state", "ITERA_CUSTODY": "file"}
        folder = Path(scratch) / "experiment"
        write_experiment(folder, effect, seed)
        exp = itera_nb.open(folder)
        exp.frame.lock()
        exp.source.audit()
        exp.split.seal()
        exp.metric.try_on()
        exp.metric.lock()
        exp.pilot()
        exp.run("dev")
        exp.lock()
        exp.verdict()
        return str(exp.experiment.state.last("verdict").body["outcome"])


def main() -> int:
    """Print one JSON line a figure; 1 if one is outside its limit."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    failed = False
    sys.stderr = open(os.devnull, "w")
    for effect, (name, direction, limit) in LIMITS.items():
        begun = time.monotonic()
        with ProcessPoolExecutor(options.workers) as pool:
            found = list(pool.map(outcome, [effect] * options.runs, range(options.runs)))
        share = found.count("ship") / options.runs
        ok = share >= limit if direction == ">=" else share <= limit
        failed |= not ok
        counts = {o: found.count(o) for o in ("ship", "scope", "inconclusive", "kill")}
        line = {"name": name, "value": share, "unit": f"of {options.runs}", "limit": f"{direction} {limit}", "ok": ok}
        print(json.dumps(line | counts | {"seconds": round(time.monotonic() - begun)}), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
