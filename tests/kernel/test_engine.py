"""`--engine itera`: what it refuses, restores, and notices."""

import base64
import json
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from world import in_process

from itera_nb.exceptions import IteraError
from itera_nb.kernel import leaks

KEY = "sk-" + "ant-" + "api03-" + "Zx9" * 12


def notebook(path, *cells, kernel="python3"):
    """A notebook file with these code cells, the first one tagged as parameters."""
    made = new_notebook(
        metadata={"kernelspec": {"name": kernel, "display_name": kernel, "language": "python"}}
    )
    made.cells = [new_code_cell(source=cell) for cell in cells]
    made.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(made, path)
    return path


def run(path, out, **parameters):
    """Through the engine, in this process."""
    options = {"engine_name": "itera", "progress_bar": False, "cwd": str(path.parent)}
    return papermill.execute_notebook(str(path), str(out), parameters, **options)


def command(*arguments, cwd, env=None):
    """papermill as a user types it."""
    program = [sys.executable, "-m", "papermill", *map(str, arguments)]
    return subprocess.run(program, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=120)


def texts(root):
    return [
        path
        for path in root.rglob("*")
        if path.is_file() and KEY in path.read_text("utf-8", errors="replace")
    ]


def test_a_key_as_parameter_is_refused_before_anything_is_written(tmp_path):
    path = notebook(tmp_path / "a.ipynb", 'folder = "."', "1")
    before = path.read_bytes()
    for given in (
        ["-p", "api_key", KEY],
        ["-p", "folder", KEY],
        ["-y", f"{{folder: ., nested: {{k: {KEY}}}}}"],
    ):
        done = command(path, tmp_path / "out.ipynb", "--engine", "itera", *given, cwd=tmp_path)
        assert done.returncode != 0
        assert "IteraError" in done.stderr
        assert KEY not in done.stdout + done.stderr
        assert not (tmp_path / "out.ipynb").exists()
    assert path.read_bytes() == before


def test_an_injected_cell_of_an_earlier_run_is_refused_too(tmp_path):
    path = notebook(tmp_path / "a.ipynb", 'folder = "."', f'# Parameters\napi_key = "{KEY}"\n')
    read = nbformat.read(path, as_version=4)
    read.cells[1].metadata["tags"] = ["injected-parameters"]
    nbformat.write(read, path)
    with pytest.raises(IteraError, match="one name, `folder`; refused: api_key"):
        run(path, tmp_path / "out.ipynb")
    assert not (tmp_path / "out.ipynb").exists()


@pytest.mark.parametrize("code", ["open('late', 'w').close()", "folder = open('late', 'w')"])
def test_what_only_looks_injected_is_refused(tmp_path, code):
    """Such a cell is kept when the verdict notebook is restored, and does not count for its ticket."""
    for planted in (code, f"# Parameters\n{code}"):
        path = notebook(tmp_path / "a.ipynb", 'folder = "."', planted)
        read = nbformat.read(path, as_version=4)
        read.cells[1].metadata["tags"] = ["injected-parameters"]
        nbformat.write(read, path)
        with pytest.raises(IteraError, match="refused: code"):
            run(path, tmp_path / "out.ipynb")
        assert not (tmp_path / "late").exists()


def test_plain_papermill_is_refused_by_the_first_cell(make_experiment):
    exp = make_experiment()
    assert in_process("run", exp.experiment.folder).code in {0, 2}, "instantiates the notebooks"
    folder = exp.experiment.folder
    out = folder / "out.ipynb"
    done = command("notebooks/0-frame.ipynb", out, "-p", "api_key", KEY, "-k", "python3", cwd=folder)
    assert done.returncode == 1
    assert "refused: api_key" in done.stderr
    assert "delete that file" in done.stderr
    assert out.is_file(), "plain papermill has written it before anything of ours ran"


@pytest.mark.parametrize("exit_", ["import sys; sys.exit(0)", "import sys; sys.exit()", "raise SystemExit"])
def test_a_cell_that_exits_does_not_pass(tmp_path, exit_):
    path = notebook(tmp_path / "a.ipynb", 'folder = "."', exit_, "open('late', 'w').close()")
    with pytest.raises(IteraError, match="cell 2 ended the run: the cells after it did not run"):
        run(path, tmp_path / "out.ipynb")
    assert not (tmp_path / "late").exists()


def test_a_cell_that_fails_is_papermills_to_report(tmp_path):
    path = notebook(tmp_path / "a.ipynb", 'folder = "."', "1 / 0", "2")
    with pytest.raises(papermill.PapermillExecutionError, match="ZeroDivisionError"):
        run(path, tmp_path / "out.ipynb")


def test_secrets_in_outputs_are_found_named_and_taken_out(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", KEY)
    path = notebook(
        tmp_path / "a.ipynb",
        'folder = "."',
        "import os; key = os.environ['SOME_API_KEY']; print('plain', key)",
        "class Client:\n    def __repr__(self):\n        return f'Client({key})'\nClient()",
        "import base64; print(base64.b64encode(f'user:{key}'.encode()).decode())",
        "print('harmless')",
    )
    with pytest.raises(IteraError) as caught:
        run(path, tmp_path / "out.ipynb")
    said = str(caught.value)
    assert [f"cell {n} [{n}] holds the value of SOME_API_KEY" in said for n in range(1, 6)] == [
        False,
        True,
        True,
        True,
        False,
    ]
    assert KEY not in said
    assert texts(tmp_path) == []
    left = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert base64.b64encode(b"user:" + KEY.encode()).decode() not in (tmp_path / "out.ipynb").read_text()
    assert "removed this output: it held the value of SOME_API_KEY" in left.cells[1].outputs[0].text
    assert left.cells[4].outputs[0].text == "harmless\n"


@pytest.mark.parametrize("before", ["", "a", "ab", "abc", "abcd"])
@pytest.mark.parametrize("value", ["s3cr3t-value", 'with "quotes" \\ and\nlines', "exactly13chrs"])
def test_every_form_of_a_value_is_found(before, value):
    forms = [value, base64.b64encode(f"{before}{value}!".encode()).decode()]
    for form in forms:
        cell = {
            "cell_type": "code",
            "source": "",
            "execution_count": None,
            "outputs": [{"text": f"{before}{form}"}],
        }
        held = {"cells": [cell], "metadata": {}}
        assert leaks.find(held, {"X_KEY": value}) == [leaks.Leak("cell 1 [ ]", "X_KEY")]
        assert (
            leaks.find({"cells": [], "metadata": {"widgets": form}}, {"X_KEY": value})[0].place
            == "the metadata"
        )
        assert leaks.find(held, {"X_KEY": "another-value"}) == []


def test_which_variables_are_secret(monkeypatch):
    for name in ("A_KEY", "B_TOKEN", "C_SECRET", "D_PASSWORD", "PLAIN", "NAMED"):
        monkeypatch.setenv(name, "long enough to look for")
    monkeypatch.setenv("SHORT_KEY", "abc")
    found = leaks.known({"NAMED"})
    assert {"A_KEY", "B_TOKEN", "C_SECRET", "D_PASSWORD", "NAMED"} <= set(found)
    assert not {"PLAIN", "SHORT_KEY"} & set(found)


def test_an_edited_verdict_notebook_is_restored_and_runs(ready, tmp_path):
    """papermill's own command line on the notebook in the folder: the planted cell never runs."""
    path = ready.folder / "notebooks" / "5-verdict.ipynb"
    notebook(path, 'folder = "."', f"open({str(tmp_path / 'planted')!r}, 'w').close()")
    out = tmp_path / "out.ipynb"
    arguments = ["notebooks/5-verdict.ipynb", out, "--engine", "itera", "-p", "folder", "."]
    done = command(*arguments, cwd=ready.folder, env=ready.environment(ITERA_HEADLESS="1"))
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "planted").exists()
    assert len(ready.records("verdict")) == 1
    assert "exp.verdict()" in json.dumps(json.loads(out.read_text("utf-8")))


def test_a_rogue_notebook_in_the_itera_kernel_gets_no_ticket(ready, tmp_path):
    path = notebook(
        ready.folder / "notebooks" / "mine.ipynb",
        'folder = "."',
        "import itera_nb; itera_nb.open(folder).verdict()",
        kernel="itera",
    )
    for engine in ([], ["--engine", "itera"]):
        done = command(path, tmp_path / "out.ipynb", *engine, cwd=ready.folder, env=ready.environment())
        assert done.returncode != 0
        assert "has no ticket" in done.stderr
    assert not ready.records("test_opened")
    assert len(ready.records("attempt_refused")) == 2


def test_the_module_is_light():
    """papermill loads every engine whenever it is imported."""
    code = (
        "import warnings, sys; warnings.simplefilter('ignore'); import papermill.engines\n"
        "print(sorted({'pydantic', 'itera_nb.experiment', 'itera_nb.session'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert (
        Path(
            papermill.engines.papermill_engines.get_engine("itera").execute_notebook.__code__.co_filename
        ).name
        == "engine.py"
    )
