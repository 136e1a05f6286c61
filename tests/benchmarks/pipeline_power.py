"""Can the product say yes, and does it say no? Seeded runs of the whole pipeline below the notebooks.

Two tenants, three trials, discordance 15 %, `confirm` split. Everything runs as for a user: isolated sampling and
sealing, worker processes, the isolated verdict. Data: docs/statistics.md, "How the simulations are made".

- `one look`: 200 rows, no extension, planted +10 points and 0.
- `top-up`: 200 rows and 140 more to come, default settings, planted +8 points and 0; an inconclusive verdict is
  extended once.
- `no worse`: 572 rows (400 test rows), margin 5 points, an arm at a tenth of the price that is equal, or 8 points
  worse.

    python tests/benchmarks/pipeline_power.py --runs 100 [--design "top-up"]
"""

import argparse
import csv
import json
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

DISCORDANCE, UNSTABLE = 0.15, 0.20


@dataclass(frozen=True)
class Design:
    """One set-up: rows, rule, and what share of runs may or must pass at each planted effect (fraction)."""

    rows: int
    more: int
    rule: str
    limits: dict[float, tuple[str, float]]


DESIGNS = {
    "one look": Design(200, 0, 'extension = "none"', {0.10: (">=", 0.75), 0.0: ("<=", 0.05)}),
    "top-up": Design(200, 140, "", {0.08: (">=", 0.85), 0.0: ("<=", 0.06)}),
    "no worse": Design(
        572,
        0,
        'extension = "none"\ngoal = "no_worse"\nmargin = 0.05\nmin_saving = 0.5\nmax_slice_loss = 0.05',
        {0.0: (">=", 0.60), -0.08: ("<=", 0.03)},
    ),
}

ARMS = """
import hashlib

from itera_nb import Output

class _Arm:
    column, price = "", 0.0

    def fit(self, train, seed):
        self.seed = seed

    def predict(self, rows):
        return [Output(self._answer(row), cost_usd=self.price) for row in rows]

    def _answer(self, row):
        return row["right"] if self._coin(row) < float(row[self.column]) else "wrong"

    def _coin(self, row):
        digest = hashlib.sha256(f"{self.seed}|{self.column}|{row['text']}".encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64

class Old(_Arm):
    column, price = "p_old", 0.01

class New(_Arm):
    column, price = "p_new", 0.001
"""

TOML = """
[frame]
question = "Should the new arm replace the old one?"
hypothesis = "It answers more rows correctly in both tenants."

[arms.old]
baseline = true
kind = "python"
target = "arms/both.py:Old"
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
"""


def write_experiment(folder: Path, design: Design, effect: float, seed: int) -> None:
    """The experiment's files; `more.csv` holds the old rows and those to come."""
    rng = np.random.default_rng([seed, 1000 + round(1000 * effect)])
    (folder / "arms").mkdir(parents=True)
    (folder / "arms" / "both.py").write_text(ARMS)
    (folder / "experiment.toml").write_text(TOML + design.rule)
    lines = [line(rng, seed, i, effect) for i in range(design.rows + design.more)]
    for name, kept in (("data.csv", design.rows), ("more.csv", len(lines))):
        with (folder / name).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["row_id", "text", "tenant", "label", "right", "p_old", "p_new"])
            writer.writerows(lines[:kept])


def line(rng: np.random.Generator, seed: int, i: int, effect: float) -> list[object]:
    """A row with a stable outcome pair, or an unstable one where both arms succeed with a common probability."""
    stable = max(DISCORDANCE - UNSTABLE / 3, abs(effect))
    both = 1 - UNSTABLE - stable
    chances = np.array([(stable - effect) / 2, (stable + effect) / 2, 0.7 * both, 0.3 * both]) / (
        1 - UNSTABLE
    )
    if rng.random() < UNSTABLE:
        old = new = rng.random()
    else:
        old, new = [(1, 0), (0, 1), (1, 1), (0, 0)][rng.choice(4, p=chances)]
    label = ["fees", "transfer"][i % 2]
    return [f"r{i}", f"row {seed} {i}", "enterprise" if i % 5 < 3 else "smb", label, label, old, new]


def open_test(exp: Any) -> None:
    """The verdict with a ticket, as the `itera` kernel of 5-verdict gets one."""
    from itera_nb.kernel import ticket
    from itera_nb.scoring.package import verdict_cells, verdict_template
    from itera_nb.verdict.tickets import mint

    genesis = exp.experiment.genesis
    ticket.hold(mint(genesis, notebook=verdict_template(), cells=verdict_cells(), kernel="benchmark"))
    exp.verdict()


def outcome(name: str, effect: float, seed: int) -> str:
    """Run one experiment from its frame to its verdict, and through its top-up where there is one."""
    import itera_nb

    design = DESIGNS[name]
    with tempfile.TemporaryDirectory() as scratch:
        os.environ |= {"ITERA_STATE_DIR": f"{scratch}/state", "ITERA_CUSTODY": "file"}
        folder = Path(scratch) / "experiment"
        write_experiment(folder, design, effect, seed)
        exp = itera_nb.open(folder)
        exp.frame.lock()
        exp.source.audit()
        exp.split.seal()
        exp.metric.try_on()
        exp.metric.lock()
        exp.pilot()
        exp.run("dev")
        exp.lock()
        open_test(exp)
        if design.more and exp.experiment.state.outcome == "inconclusive":
            exp.conclusion()
            exp.extend(folder / "more.csv")
            open_test(exp)
        return str(exp.experiment.state.outcome)


def main() -> int:
    """Print one JSON line a figure; 1 if one is outside its limit."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--design", choices=list(DESIGNS))
    options = parser.parse_args()
    failed = False
    sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - progress bars of the whole run
    for name in [options.design] if options.design else DESIGNS:
        for effect, (direction, limit) in DESIGNS[name].limits.items():
            begun = time.monotonic()
            with ProcessPoolExecutor(options.workers) as pool:
                found = list(
                    pool.map(outcome, [name] * options.runs, [effect] * options.runs, range(options.runs))
                )
            share = found.count("ship") / options.runs
            ok = share >= limit if direction == ">=" else share <= limit
            failed |= not ok
            figure = {
                "name": f"{name}: ships at {100 * effect:+g} points",
                "value": share,
                "unit": f"of {options.runs}",
                "limit": f"{direction} {limit}",
                "ok": ok,
            }
            counts = {o: found.count(o) for o in ("ship", "scope", "inconclusive", "kill")}
            print(json.dumps(figure | counts | {"seconds": round(time.monotonic() - begun)}), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
