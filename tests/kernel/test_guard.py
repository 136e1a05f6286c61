"""The guard in a real kernel: every reader is refused in one sentence, and every touch is recorded, once."""

import json
import os

import pytest
from kernels import Kernel
from world import RULES, new_world, tickets, write_csv

FLAGS = (
    "--data eval.csv --id ticket_id --expected label --slices tenant "
    "--baseline src/rules.py:v1 --arm src/rules.py:v2 --min-effect 5pp"
)
SENTENCE = "SEALED: the test set opens once, in 5-verdict. Nothing was read."
IMPORTS = """\
import glob, os
from pathlib import Path
import duckdb, pandas as pd, polars as pl, pyarrow as pa, pyarrow.dataset as ds, pyarrow.parquet as pq
from pyarrow import fs
link = {link!r}
os.link("sealed/test.parquet", link)"""
READERS = {
    "pandas": "pd.read_parquet('sealed/test.parquet')",
    "pandas, computed name": "name = 'sealed/' + 'test' + '.parquet'; pd.read_parquet(name)",
    "pandas, pathlib": "pd.read_parquet(Path('sealed') / 'test.parquet')",
    "pandas in a function": "def read():\n    path = 'sealed/test.parquet'\n    return pd.read_parquet(path)\nread()",
    "pandas in exec": "exec(\"pd.read_parquet('sealed/test.parquet')\")",
    "pandas by a hard link": "pd.read_parquet(link)",
    "pyarrow read_table": "pq.read_table('sealed/test.parquet')",
    "pyarrow ParquetFile": "pq.ParquetFile('sealed/test.parquet')",
    "pyarrow ParquetFile of an open file": "pq.ParquetFile(open('sealed/test.parquet', 'rb'))",
    "pyarrow metadata": "pq.read_metadata('sealed/test.parquet')",
    "pyarrow dataset": "ds.dataset('sealed/test.parquet').to_table()",
    "pyarrow file system": "pq.read_table('sealed/test.parquet', filesystem=fs.LocalFileSystem())",
    "pyarrow OSFile": "pq.read_table(pa.OSFile('sealed/test.parquet'))",
    "pyarrow memory map": "pq.read_table(pa.memory_map('sealed/test.parquet'))",
    "polars read": "pl.read_parquet('sealed/test.parquet')",
    "polars scan of a pattern": "pl.scan_parquet('sealed/*.parquet').collect()",
    "duckdb": "duckdb.sql(\"select * from 'sealed/test.parquet'\").fetchall()",
    "duckdb, pattern": "duckdb.connect().sql(\"select * from read_parquet('**/*.parquet')\").fetchall()",
}


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    """An experiment whose test set is sealed, and a kernel in its folder with the guard."""
    world = new_world(tmp_path_factory.mktemp("guard") / "world")
    write_csv(world.project / "eval.csv", tickets(200))
    (world.project / "src").mkdir()
    (world.project / "src" / "rules.py").write_text(RULES, "utf-8")
    assert world.itera("new", "fees", *FLAGS.split(), cwd=world.project).code == 0
    with world.entered() as exp:
        exp.frame.lock()
        exp.source.sample()
        with Kernel(world) as kernel:
            # The split is sealed in this very kernel: the guard learns of the file after it was loaded.
            begun = "%load_ext itera_nb\nimport itera_nb\nexp = itera_nb.open('.')\nexp.source.audit()\nexp.split.seal()"
            assert kernel.run(begun).error == ""
            assert kernel.run(IMPORTS.format(link=str(world.root / "link.bin"))).error == ""
            yield world, kernel


def touches_of(sealed, code):
    """What a cell showed, and the touches that it left in the record."""
    world, kernel = sealed
    before = len(world.records("seal_touched"))
    ran = kernel.run(code)
    return ran, [r["body"] for r in world.records("seal_touched")[before:]]


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_is_refused_in_one_sentence_and_recorded(sealed, reader):
    ran, touches = touches_of(sealed, READERS[reader])
    assert ran.error
    assert SENTENCE in ran.text
    assert "exp.train.head()" in ran.text
    assert "CANARY" not in ran.text
    assert [t["file"] for t in touches] == ["sealed/test.parquet"]
    assert touches[0]["safeguard"] == "SG01"


def test_fastparquet_is_explained_though_it_does_not_say_encrypted(sealed):
    pytest.importorskip("fastparquet")
    ran, touches = touches_of(sealed, "pd.read_parquet('sealed/test.parquet', engine='fastparquet')")
    assert SENTENCE in ran.text
    assert len(touches) == 1


@pytest.mark.parametrize(
    "code",
    [
        "data = open('sealed/test.parquet', 'rb').read(); assert b'CANARY' not in data",
        "data = Path(link).read_bytes()",
        "os.rename('sealed/test.parquet', 'sealed/t'); os.rename('sealed/t', 'sealed/test.parquet')",
        "import shutil; shutil.copyfile('sealed/test.parquet', link + '.copy')",
        "os.close(os.open(b'sealed/test.parquet', os.O_RDONLY))",
    ],
)
def test_what_raises_nothing_is_recorded_all_the_same(sealed, code):
    ran, touches = touches_of(sealed, code)
    assert ran.error == ""
    assert [t["file"] for t in touches] == ["sealed/test.parquet"]


def test_the_key_file_is_watched_too(sealed):
    world, _ = sealed
    (key,) = (world.root / "state" / "keys").glob("*.json")
    ran, touches = touches_of(sealed, f"len(open({os.fspath(key)!r}).read())")
    assert ran.error == ""
    assert [t["file"] for t in touches] == ["the key file"]


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("exp.preflight()", "hash matches"),
        ("open('experiment.toml').read()", "min_effect"),
        ("text = 'sealed/test.parquet'; pd.DataFrame({'a': [1]})['b']", "KeyError"),
        ("raise ValueError('this is encrypted')", "ValueError"),
        ("pd.read_parquet('data/train.parquet')", "CANARY"),
        ("pd.read_parquet('nowhere/sealed/test.parquet')", "FileNotFoundError"),
    ],
)
def test_the_tools_own_reads_and_other_errors_are_left_alone(sealed, code, shown):
    ran, touches = touches_of(sealed, code)
    assert shown in ran.text
    assert "SEALED" not in ran.text
    assert touches == []


def test_a_refusal_is_shown_without_a_traceback(sealed):
    ran, _ = touches_of(sealed, "exp.lock()")
    assert ran.error == "Refusal"
    assert "why      " in ran.text
    assert "Traceback" not in ran.text


def test_touches_are_printed(sealed):
    world, _ = sealed
    count = len(world.records("seal_touched"))
    assert count
    assert str(count) in json.dumps(world.itera("status").out)
