"""Arms written to a folder and run by the real engine in real processes."""

import textwrap

import pytest

from itera_nb.arms.runtime import RunnableArm
from itera_nb.scoring.attempts import AttemptLog
from itera_nb.scoring.engine import RowGroup, run
from itera_nb.spec import ArmSpec, RunSpec


class Bench:
    """A snapshot folder with arms, and a log beside it."""

    def __init__(self, folder):
        self.root = folder / "snapshot"
        (self.root / "arms").mkdir(parents=True)
        self.log_path = folder / "attempts.jsonl"

    def write(self, text, name="arms/arm.py"):
        path = self.root / name
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    def arm(
        self, symbol="f", name="arm", *, file="arms/arm.py", digest="1", resources=None, inputs=("x",), **spec
    ):
        spec = {"kind": "python", "target": f"{file}:{symbol}", "cost": "free"} | spec
        return RunnableArm(name, ArmSpec(**spec), self.root, digest, inputs, (), resources or {})

    def run(self, arms, rows, fit_rows=(), **options):
        arms = arms if isinstance(arms, list) else [arms]
        groups = rows if rows and isinstance(rows[0], RowGroup) else [RowGroup(rows, fit_rows)]
        options = {
            "trials": 1,
            "settings": RunSpec(timeout_s=10),
            "seed": lambda trial: 100 + trial,
        } | options
        with AttemptLog(self.log_path) as log:
            return run(arms, groups, id_column="id", log=log, **options)


def rows_of(*values):
    """Rows with an id, the value as input x, and a label that no arm may see."""
    return [{"id": f"r{i}", "x": value, "label": f"secret-{value}"} for i, value in enumerate(values)]


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


@pytest.fixture
def rows():
    return rows_of
