"""A hardcode lifted out of an arm: a table with a test of its own, both outside of what goes to the test."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

from itera_nb.arms.manifest import hash_file
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


def lift(experiment: Experiment, lifted: LiftedSpec | None) -> Lifted:
    """A table whose every test function has passed, each in a worker process of its own.

    Raises:
        ValueError: What is missing, or which test fails, in words.
    """
    if lifted is None:
        raise ValueError('its file names no [lifted] table = "…" and test = "…"')
    table, test = (_hash(experiment, name) for name in (lifted.table, lifted.test))
    source = (experiment.folder / lifted.test).read_bytes()
    if Path(lifted.table).name.encode() not in source:
        raise ValueError(f"{lifted.test} does not name {Path(lifted.table).name}: it does not test the table")
    try:
        names = _tests(source)
        for name in names:
            (answer,) = call_each(experiment.folder, f"{lifted.test}:{name}", [()])
            if answer.status != "ok":
                raise ValueError(f"{lifted.test}:{name} fails ({answer.error_type})")
    except SyntaxError as error:
        raise ValueError(f"{lifted.test}:{error.lineno}: {error.msg}") from None
    except ArmError as error:
        raise ValueError(error.what) from None
    if not names:
        raise ValueError(f"{lifted.test} has no function test_… without parameters")
    return Lifted(lifted.table, table, lifted.test, test, len(names))


def _hash(experiment: Experiment, name: str) -> str:
    path = (experiment.folder / name).resolve()
    if not path.is_relative_to(experiment.folder) or not path.is_file() or not path.stat().st_size:
        raise ValueError(f"there is no file {name} in the experiment folder, or it is empty")
    return hash_file(path)


def _tests(source: bytes) -> list[str]:
    """Top-level functions named test_... that take nothing."""
    return [
        node.name
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and not ast.unparse(node.args)
    ]
