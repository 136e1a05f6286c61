"""Test rows stay sealed: no reader opens them, no file of the folder or the state directory holds one."""

import base64
import io
import json

import nbformat
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hunt import canaries, holders

CIPHER = r"(?i)encrypted|decryption"


def read_pandas(path):
    pd.read_parquet(path)


def read_pyarrow(path):
    pq.read_table(path)


def read_polars(path):
    pl = pytest.importorskip("polars")
    pl.read_parquet(path)


def scan_polars(path):
    pl = pytest.importorskip("polars")
    pl.scan_parquet(path).collect()


def read_duckdb(path):
    import duckdb

    duckdb.connect().execute("SELECT * FROM read_parquet(?)", [str(path)]).fetchall()


@pytest.mark.parametrize("read", [read_pandas, read_pyarrow, read_polars, scan_polars, read_duckdb])
def test_no_reader_opens_the_sealed_file(walked, read):
    with pytest.raises(Exception, match=CIPHER):
        read(walked.world.folder / "sealed" / "test.parquet")


@pytest.mark.parametrize("when", ["after run", "after the verdict"])
def test_no_test_row_is_in_any_file(walked, when):
    world = walked.world if when == "after the verdict" else walked.ready
    test, readable = canaries(world)
    assert len(test) == 140
    places = [world.folder, world.root / "state", walked.world.root / "scratch"]
    assert holders(places, test) == {}
    seen = holders(places, readable)
    for name in ("train.parquet", "dev.parquet", "1-source.ipynb"):
        assert any(path.endswith(name) for path in seen), f"the search would not find a row in {name}"


def test_published_test_results_hold_no_output(walked):
    columns = set(pq.read_schema(walked.world.folder / "runs" / "test.parquet").names)
    assert not columns & {"output", "error", "trace", "text", "label", "expected"}


def test_attempts_of_the_pass_are_unreadable(walked):
    stored = (walked.world.folder / "sealed" / "attempts.age").read_bytes()
    assert stored.count(b"\n") == 840
    decoded = b"".join(base64.b64decode(line) for line in stored.splitlines())
    for word in (b"transfer", b'"status"', b"t0001", b"CANARY"):
        assert word not in stored
        assert word not in decoded


def run_cells(folder, *cells, kernel="python3"):
    """Outputs of cells that run in a real kernel, started in the experiment's folder, errors allowed."""
    from nbclient import NotebookClient

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    client = NotebookClient(
        notebook,
        timeout=60,
        kernel_name=kernel,
        allow_errors=True,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()
    return [cell.outputs for cell in notebook.cells]


def said(outputs):
    """Everything that a cell shows, as text."""
    kept = io.StringIO()
    for output in outputs:
        kept.write(output.get("text", ""))
        kept.write("\n".join(output.get("traceback", [])))
        kept.write(json.dumps(output.get("data", {})))
    return kept.getvalue()


def test_kernel_explains_a_failed_read_and_records_the_touch(ready):
    with ready.entered():
        _, pandas_cell, relative, other, alive = run_cells(
            ready.folder,
            "%load_ext itera_nb\nimport pandas as pd, pyarrow.parquet as pq",
            "pd.read_parquet('sealed/test.parquet')",
            f"path = {str(ready.folder / 'sealed' / 'test.parquet')!r}\npq.read_table(path)",
            "pd.read_parquet('nowhere.parquet')",
            "len(pd.read_parquet('data/train.parquet'))",
        )
    for outputs in (pandas_cell, relative):
        text = said(outputs)
        assert "SEALED: the test set opens once, in 5-verdict. Nothing was read." in text
        assert "Traceback" not in text
    assert "SEALED" not in said(other)
    assert "FileNotFoundError" in said(other)
    assert "20" in said(alive)
    touches = ready.records("seal_touched")
    assert [t["body"]["file"] for t in touches] == ["sealed/test.parquet"] * 2
    assert {t["body"]["safeguard"] for t in touches} == {"SG01"}


def test_refusal_in_a_notebook_is_not_a_traceback(ready):
    toml = ready.folder / "experiment.toml"
    toml.write_text(toml.read_text("utf-8").replace("trials = 3", "trials = 2"), "utf-8")
    with ready.entered():
        _, cell = run_cells(
            ready.folder, "%load_ext itera_nb\nimport itera_nb\nexp = itera_nb.open()", "exp.run('dev')"
        )
    text = said(cell)
    assert "refused SG04" in text
    assert "instead" in text
    assert "Traceback" not in text
