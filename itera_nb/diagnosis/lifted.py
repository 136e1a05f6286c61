"""A hardcode lifted out of an arm: a table with a test of its own, both outside of what goes to the test."""

from __future__ import annotations

import ast
import hashlib
from dataclasses import dataclass
from pathlib import Path

from itera_nb.exceptions import ArmError
from itera_nb.experiment import Experiment
from itera_nb.scoring.workers import call_each
from itera_nb.spec import LiftedSpec


@dataclass(frozen=True, slots=True)
class Lifted:
    """A table and its test, as they were when the test passed: paths, SHA-256, number of tests."""

    table: str
    table_sha256: str
    test: str
    test_sha256: str
    tests: int


def fault(experiment: Experiment, lifted: LiftedSpec | None) -> str | None:
    """What is missing of a table and its test before the test can be run, or None."""
    if lifted is None:
        return 'its file names no [lifted] table = "…" and test = "…"'
    for name in (lifted.table, lifted.test):
        path = (experiment.folder / name).resolve()
        if not path.is_relative_to(experiment.folder) or not path.is_file() or not path.stat().st_size:
            return f"there is no file {name} in the experiment folder, or it is empty"
    source = (experiment.folder / lifted.test).read_text("utf-8")
    if Path(lifted.table).name not in source:
        return f"{lifted.test} does not name {Path(lifted.table).name}: it does not test the table"
    try:
        return None if _tests(source) else f"{lifted.test} has no function test_… without parameters"
    except SyntaxError as error:
        return f"{lifted.test}:{error.lineno}: {error.msg}"


def run_test(experiment: Experiment, lifted: LiftedSpec) -> Lifted | str:
    """Call every test function in a worker process of its own; what failed, in words, if one does."""
    names = _tests((experiment.folder / lifted.test).read_text("utf-8"))
    for name in names:
        try:
            (answer,) = call_each(experiment.folder, f"{lifted.test}:{name}", [()])
        except ArmError as error:
            return error.what
        if answer.status != "ok":
            return f"{lifted.test}:{name} fails ({answer.error_type})"
    hashes = [
        hashlib.sha256((experiment.folder / path).read_bytes()).hexdigest()
        for path in (lifted.table, lifted.test)
    ]
    return Lifted(lifted.table, hashes[0], lifted.test, hashes[1], len(names))


def _tests(source: str) -> list[str]:
    """Top-level functions named test_... that take nothing."""
    return [
        node.name
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and not ast.unparse(node.args)
    ]
