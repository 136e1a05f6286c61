import json
from functools import cache
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from itera_nb.report.conclusion import SECTIONS, section

FIXTURES = Path(__file__).with_name("fixtures")


@pytest.fixture
def load():
    return lambda name: json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))


@cache
def shown(name):
    data = json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))
    return [(name, section(data, name)._repr_mimebundle_()) for name in SECTIONS]


@pytest.fixture
def executed(tmp_path):
    """The verdict notebook of a fixture as papermill leaves it: plumbing tagged, one view a cell."""

    def build(name, extra=()):
        preflight = new_output("execute_result", {"text/html": "<h1>PREFLIGHT</h1>"}, execution_count=1)
        cells = [
            new_markdown_cell("# 5 verdict: opens the sealed rows once", metadata={"tags": ["remove_cell"]}),
            new_code_cell("folder = '.'  # SECRET-INPUT", metadata={"tags": ["parameters"]}),
            new_code_cell("folder = '/injected'", metadata={"tags": ["injected-parameters"]}),
            new_code_cell("exp.preflight()", metadata={"tags": ["remove_cell"]}, outputs=[preflight]),
        ]
        for part, bundle in shown(name):
            output = new_output("execute_result", bundle, execution_count=1)
            cells.append(new_code_cell(f"exp.{part}()  # SECRET-INPUT", outputs=[output]))
        path = tmp_path / f"{name}.ipynb"
        nbformat.write(new_notebook(cells=[*cells, *extra]), path)
        return path

    return build
