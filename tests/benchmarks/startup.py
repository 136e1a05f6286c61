"""What the tool itself costs: import, help, the six notebooks, and the demo's wall time and memory.

The six notebooks run headless with two trivial arms on 200 rows, beside six notebooks that only import the same
packages (pandas; scipy.stats from 3-run on; seaborn in 5-verdict), interleaved in one run.

    python tests/benchmarks/startup.py [--demo]
"""

import argparse
import csv
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat

TOML = """
[frame]
question = "Should the second arm replace the first?"
hypothesis = "It is right more often in both tenants."
[arms.one]
baseline = true
kind = "python"
target = "arms/both.py:one"
cost = "free"
ref = "arms/both.py:1"
[arms.two]
from = "one"
target = "arms/both.py:two"
change = "another constant"
[source]
uri = "data.csv"
id = "row_id"
inputs = ["text"]
expected = "label"
slices = ["tenant"]
"""
ARMS = "def one(row):\n    return 'fees'\n\n\ndef two(row):\n    return 'refund'\n"
IMPORTS = {
    "0": "pandas",
    "1": "pandas",
    "2": "pandas",
    "3": "pandas, scipy.stats",
    "4": "pandas, scipy.stats",
}


def figure(name: str, value: float, unit: str, limit: float) -> bool:
    """Print one figure; whether it holds."""
    ok = value <= limit
    print(
        json.dumps({"name": name, "value": round(value, 3), "unit": unit, "limit": limit, "ok": ok}),
        flush=True,
    )
    return ok


def best(command: list[str], repeats: int = 5) -> float:
    """Best wall time of a command in seconds."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - begun)
    return min(times)


def product_notebooks(scratch: Path) -> float:
    """Seconds for the six phase notebooks of a small experiment."""
    from itera_nb.experiment import Experiment
    from itera_nb.notebooks.runner import execute
    from itera_nb.protocol import PHASES

    (scratch / "arms").mkdir(parents=True)
    (scratch / "arms" / "both.py").write_text(ARMS)
    (scratch / "experiment.toml").write_text(TOML)
    with (scratch / "data.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["row_id", "text", "tenant", "label"])
        for i in range(200):
            writer.writerow([f"r{i}", f"row {i}", f"t{i % 2}", ["fees", "refund"][i * 7 % 3 % 2]])
    begun = time.perf_counter()
    for phase in PHASES:
        execute(Experiment(scratch), phase)
    return time.perf_counter() - begun


def import_notebooks(scratch: Path) -> float:
    """Seconds for six notebooks that only import what the phases need."""
    import papermill

    scratch.mkdir()
    begun = time.perf_counter()
    for phase in range(6):
        cell = nbformat.v4.new_code_cell(f"import {IMPORTS.get(str(phase), 'pandas, scipy.stats, seaborn')}")
        book = nbformat.v4.new_notebook(cells=[cell])
        book.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(book, scratch / f"{phase}.ipynb")
        papermill.execute_notebook(
            str(scratch / f"{phase}.ipynb"), str(scratch / f"{phase}.ipynb"), progress_bar=False
        )
    return time.perf_counter() - begun


def demo(scratch: Path) -> bool:
    """Wall time and peak memory of the largest process of the demo."""
    begun = time.perf_counter()
    subprocess.run(
        [str(Path(sys.executable).with_name("itera")), "demo"], cwd=scratch, check=False, capture_output=True
    )
    wall = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return figure("demo, wall", wall, "s", 180) & figure("demo, largest process", peak, "MB", 1024)


def main() -> int:
    """Run all figures; 1 if one is outside its limit."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--demo", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    python = sys.executable
    bare, ours = (best([python, "-c", c]) for c in ("pass", "import itera_nb"))
    ok = figure("import itera_nb", ours - bare, "s", 0.15)
    ok &= figure("itera --help", best([str(Path(python).with_name("itera")), "--help"]), "s", 0.4)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        os.environ |= {"ITERA_STATE_DIR": f"{name}/state", "ITERA_CUSTODY": "file"}
        pairs = [
            (import_notebooks(scratch / f"i{n}"), product_notebooks(scratch / f"p{n}"))
            for n in range(options.repeats)
        ]
        floor, whole = (statistics.median(x) for x in zip(*pairs, strict=True))
        print(
            json.dumps({"name": "six notebooks", "imports only": round(floor, 1), "product": round(whole, 1)})
        )
        ok &= figure("six notebooks above imports", whole - floor, "s", 8.0)
        if options.demo:
            ok &= demo(scratch)
    return int(not ok)


if __name__ == "__main__":
    sys.exit(main())
