"""G: keys that end up where others read them."""

import subprocess
import sys

import nbformat
import pytest
from steps import step

from itera_nb.exceptions import IteraError
from itera_nb.notebooks.runner import execute

KEY = "sk-ant-REDTEAM0123456789abcdef"


def papermill(world, *options):
    """papermill's own command line on a phase notebook."""
    out = world.folder / "out.ipynb"
    done = subprocess.run(
        [sys.executable, "-m", "papermill", "notebooks/0-frame.ipynb", str(out), *options],
        cwd=world.folder,
        env=world.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    return done, out


@step(
    "G01",
    "`papermill -p api_key sk-…`",
    local="P",
    escrow="P",
    how="our engine takes one parameter, `folder`, and refuses others before anything runs or is written; under "
    "papermill's own engine the first cell stops the run",
)
def test_g01_a_key_as_parameter(sealed):
    done, out = papermill(sealed, "--engine", "itera", "-p", "api_key", KEY)
    assert done.returncode != 0
    assert "refused: api_key" in done.stderr
    assert KEY not in done.stderr.split("Error")[-1]
    assert not out.exists()
    assert not [name for name, data in sealed.files().items() if KEY.encode() in data]


@pytest.mark.slow
def test_a_key_as_parameter_of_plain_papermill(sealed):
    plain, out = papermill(sealed, "-p", "api_key", KEY)
    assert plain.returncode != 0
    assert "refused: api_key" in plain.stderr
    cells = nbformat.read(out, as_version=4).cells
    opening = next(n for n, cell in enumerate(cells) if "itera_nb.open" in cell.source)
    assert not any(cell.get("outputs") for cell in cells[opening + 1 :]), "a cell ran after the first"


@step(
    "G02",
    "a key printed in a cell's output, or standing in a file of the folder",
    local="D",
    escrow="D",
    how="a run fails, names the cell and the variable, and takes the output out; files with a key are refused at the "
    "next opening; the value is never repeated",
)
def test_g02_a_key_in_an_output_or_a_file(sealed, monkeypatch):
    path = sealed.folder / "notebooks" / "1-source.ipynb"
    book = nbformat.read(path, as_version=4)
    book.cells.insert(
        3, nbformat.v4.new_code_cell("import os\nsettings = dict(os.environ)\nsettings['MY_API_KEY']")
    )
    nbformat.write(book, path)
    monkeypatch.setenv("MY_API_KEY", KEY)
    with (
        sealed.entered() as exp,
        pytest.raises(IteraError, match=r"cell 4 .* holds the value of MY_API_KEY") as found,
    ):
        execute(exp.experiment, "1-source")
    assert KEY not in str(found.value)
    assert KEY not in path.read_text("utf-8")
    rules = sealed.folder / "arms" / "rules.py"
    rules.write_text(f"{rules.read_text('utf-8')}\n# {KEY}\n", "utf-8")
    refused = sealed.itera("status")
    assert refused.code == 2
    assert "arms/rules.py" in refused.err
    assert "looks like a key" in refused.err
    assert KEY not in refused.text


@step(
    "G03",
    "`git add -A` after sealing under local custody",
    local="P",
    escrow="P",
    how="the key stands outside the project; rows, runs and notebooks are ignored by the folder's own .gitignore",
)
def test_g03_git_takes_no_key(ready):
    def git(*arguments):
        command = ["git", "-c", "user.name=x", "-c", "user.email=x@y", *arguments]
        return subprocess.run(command, cwd=ready.project, capture_output=True, check=True).stdout

    (ready.project / "eval.csv").rename(ready.root / "eval.csv")
    git("init", "-q")
    git("add", "-A")
    names = git("ls-files").decode().splitlines()
    assert any(name.endswith("ledger.jsonl") for name in names)
    ignored = ("data/", "runs/", "sealed/", "snapshot/", "notebooks/")
    assert not [name for name in names if any(f"/{folder}" in name for folder in ignored)]
    held = b"".join(git("show", f":{name}") for name in names)
    keys = [p for p in (ready.root / "state").rglob("*") if p.is_file()]
    assert keys
    assert b"AGE-SECRET-KEY" not in held
    with ready.entered() as exp:
        secret = exp.experiment.secret
    assert secret.identity.encode() not in held
    assert secret.seed.hex().encode() not in held
