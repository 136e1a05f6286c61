"""A: reading the sealed rows before, beside or after the one pass."""

import ast
import base64
import contextlib
import importlib.util
import json
import marshal
import re
import resource
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import duckdb
import nbformat
import pandas as pd
import psutil
import pytest
from hunt import canaries, holders
from kernels import Kernel
from killing import opening
from steps import step
from world import (
    RULES,
    conclude,
    decide,
    go,
    kill_family,
    new_world,
    open_test,
    tickets,
    wait_until,
    write_csv,
)

from itera_nb.exceptions import Refusal
from itera_nb.scoring.package import verdict_template
from itera_nb.seal import custody
from itera_nb.seal.parquet import read_sealed
from itera_nb.source.keys import derived_key
from itera_nb.source.relation import open_source
from itera_nb.source.seal_split import draw

pytestmark = pytest.mark.slow

COLUMNS = (b"ticket_id", b"tenant", b"label")
PATH = "'sealed/test.parquet'"
SEALED_TEXT = "SEALED: the test set opens once, in 5-verdict. Nothing was read."


def leaked(text, wanted):
    """Canaries that a text shows, in the clear or as one of its base64 words."""
    data = text if isinstance(text, bytes) else text.encode()
    return [w for w in wanted if w.encode() in data]


def notebook_with(world, cells, *, name, kernel="python3", cwd=None, **variables):
    """A notebook of the experiment that holds these cells, run as nbconvert runs it, saved with its outputs."""
    path = world.folder / "notebooks" / name
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    book.metadata["kernelspec"] = {"name": kernel, "display_name": kernel}
    nbformat.write(book, path)
    command = [
        sys.executable,
        "-m",
        "nbconvert",
        "--to=notebook",
        "--execute",
        "--inplace",
        "--allow-errors",
        str(path),
    ]
    subprocess.run(command, env=world.environment(**variables), cwd=cwd, capture_output=True, check=True)
    return path


@step(
    "A01",
    "`pd.read_parquet` on the sealed file in the dev notebook",
    local="P",
    escrow="P",
    how="the file is ciphertext; the guard says so in one sentence and records the touch",
)
def test_a01_pandas_read_in_the_dev_notebook(ready):
    test, _ = canaries(ready)
    path = ready.folder / "notebooks" / "3-run.ipynb"
    opening = next(c for c in ready.notebook("3-run")["cells"] if c["id"] == "open")
    cells = ["".join(opening["source"]).replace("folder)", "'..')")]
    cells += ["import pandas as pd\nrows = pd.read_parquet('../sealed/test.parquet')\nrows.head()"]
    notebook_with(ready, cells, name="3-run.ipynb", cwd=ready.folder / "notebooks")
    shown = path.read_text("utf-8")
    assert SEALED_TEXT in shown
    assert holders([path.parent], test) == {}
    touched = ready.records("seal_touched")
    assert [t["body"]["safeguard"] for t in touched] == ["SG01"]


READS = {
    "pandas": f"import pandas as pd; pd.read_parquet({PATH})",
    "pq.read_table": f"import pyarrow.parquet as pq; pq.read_table({PATH}).to_pydict()",
    "pq.ParquetFile": f"import pyarrow.parquet as pq; pq.ParquetFile(open({PATH}, 'rb')).read()",
    "pq.ParquetDataset": f"import pyarrow.parquet as pq; pq.ParquetDataset({PATH}).read()",
    "pq.read_schema": f"import pyarrow.parquet as pq; pq.read_schema({PATH})",
    "pyarrow.dataset": f"import pyarrow.dataset as ds; ds.dataset({PATH}).to_table()",
    "pa.memory_map": f"import pyarrow as pa, pyarrow.parquet as pq; pq.read_table(pa.memory_map({PATH}))",
    "pa.OSFile": f"import pyarrow as pa, pyarrow.parquet as pq; pq.read_table(pa.OSFile({PATH}))",
    "pl.read_parquet": f"import polars as pl; pl.read_parquet({PATH})",
    "pl.scan_parquet": f"import polars as pl; pl.scan_parquet({PATH}).collect()",
    "duckdb": f'import duckdb; duckdb.sql("SELECT * FROM {PATH}").fetchall()',
    "duckdb metadata": f'import duckdb; duckdb.sql("SELECT * FROM parquet_schema({PATH})").fetchall()',
    "fastparquet": f"import fastparquet; fastparquet.ParquetFile({PATH}).to_pandas()",
}


@step(
    "A02",
    "the same with seven entry points of pyarrow, with polars, DuckDB and fastparquet",
    local="P",
    escrow="P",
    how="every reader needs the key; rows, counts and column names are all inside the cipher",
)
def test_a02_every_other_reader(attacked):
    for name, code in READS.items():
        ran = attacked.kernel.run(code)
        assert ran.error, f"{name} read the sealed file"
        assert leaked(ran.text, attacked.test) == [], name
    assert attacked.kernel.run("len(pd.read_parquet('data/train.parquet'))").error == "", (
        "readable rows are read"
    )


RAW = {
    "!cat": "!base64 -w0 sealed/test.parquet",
    "%%bash": "%%bash\nbase64 -w0 sealed/te*.parq*",
    "open": f"import base64\nprint(base64.b64encode(open({PATH}, 'rb').read()).decode())",
    "mmap": (
        "import base64, mmap\n"
        f"file = open({PATH}, 'rb')\n"
        "print(base64.b64encode(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)).decode())"
    ),
    "ctypes": (
        "import base64, ctypes\nlibc = ctypes.CDLL(None)\n"
        f"handle = libc.open({PATH}.encode(), 0)\nbuffer = ctypes.create_string_buffer(10**6)\n"
        "count = libc.read(handle, buffer, 10**6)\nprint(base64.b64encode(buffer.raw[:count]).decode())"
    ),
}


@step(
    "A03",
    "`!cat`, `%%bash`, `open().read()`, `mmap` and `open` of libc through ctypes",
    local="P",
    escrow="P",
    how="the bytes are there for anybody, and hold no row and no column name",
)
def test_a03_raw_bytes(attacked):
    stored = (attacked.world.folder / "sealed" / "test.parquet").read_bytes()
    assert not [word for word in COLUMNS if word in stored]
    assert leaked(stored, attacked.test) == []
    for name, code in RAW.items():
        words = re.findall(r"[A-Za-z0-9+/=]{200,}", attacked.kernel.run(code).text)
        assert [base64.b64decode(word) for word in words] == [stored], f"{name} did not get at the bytes"
    strings = attacked.kernel.run("!strings -n 4 sealed/*").text
    assert leaked(strings, [*attacked.test, *(c.decode() for c in COLUMNS)]) == []


GLOBS = (
    "import polars as pl; print(pl.read_parquet('**/*.parquet').rows())",
    "import polars as pl; print(pl.scan_parquet('*/*.parquet', missing_columns='insert').collect().rows())",
    "import duckdb; print(duckdb.sql(\"SELECT * FROM read_parquet('**/*.parquet', union_by_name = true)\").fetchall())",
    "import pyarrow.dataset as ds; print(ds.dataset('.', format='parquet').to_table().to_pydict())",
    "import pyarrow.dataset as ds; print(ds.dataset('sealed', format='parquet').to_table().to_pydict())",
    "import pandas as pd, glob\nprint([pd.read_parquet(p).to_dict() for p in glob.glob('**/*.parquet', recursive=True)])",
)


@step(
    "A04",
    "a glob of all Parquet files, with polars, DuckDB, pyarrow.dataset and pandas",
    local="P",
    escrow="P",
    how="the sealed file stands in a folder of its own, and a glob that reaches it fails on it",
)
def test_a04_globs(attacked):
    for code in GLOBS:
        ran = attacked.kernel.run(code)
        assert leaked(ran.text, attacked.test) == [], code
    wanted = "import polars as pl; print(pl.read_parquet('data/*.parquet', missing_columns='insert').rows())"
    assert leaked(attacked.kernel.run(wanted).text, attacked.readable), (
        "a glob of the readable rows finds them"
    )


NAMES = {
    "hard link": "import os; os.link('sealed/test.parquet', 'scratch.parquet')",
    "symbolic link": "import os; os.symlink('sealed/test.parquet', 'scratch.parquet')",
    "copy": "import shutil; shutil.copy('sealed/test.parquet', 'scratch.parquet')",
    "rename": "import os; os.rename('sealed/test.parquet', 'scratch.parquet')",
}


@step(
    "A05",
    "hard link, symbolic link, copy or rename, and then a read",
    local="P",
    escrow="P",
    how="the cipher does not depend on the file's name or place",
)
@pytest.mark.parametrize("how", NAMES)
def test_a05_another_name(attacked, how):
    kernel, sealed = attacked.kernel, attacked.world.folder / "sealed" / "test.parquet"
    original = sealed.read_bytes()
    try:
        assert kernel.run(NAMES[how]).error == ""
        for read in (
            "import pandas as pd; print(pd.read_parquet({}))",
            "import polars as pl; print(pl.read_parquet({}))",
        ):
            ran = kernel.run(read.format("'scratch.parquet'"))
            assert ran.error, f"{how}: read"
            assert leaked(ran.text, attacked.test) == []
    finally:
        (attacked.world.folder / "scratch.parquet").unlink(missing_ok=True)
        sealed.unlink(missing_ok=True)
        sealed.write_bytes(original)


@step(
    "A06",
    "another kernel without the extension, and a Python that cannot import itera_nb",
    local="P",
    escrow="P",
    how="the encryption is the wall; the extension only explains it",
)
def test_a06_without_the_extension(attacked):
    world = attacked.world
    blocked = "import sys; sys.modules['itera_nb'] = None\n"
    for read in (READS["pandas"], READS["pl.read_parquet"], READS["duckdb"]):
        done = subprocess.run(
            [sys.executable, "-c", blocked + read], cwd=world.folder, capture_output=True, check=False
        )
        assert done.returncode == 1, read
        assert b"ncrypt" in done.stderr or b"decryption" in done.stderr
        assert leaked(done.stdout + done.stderr, attacked.test) == []
    with Kernel(world) as kernel:
        ran = kernel.run(READS["pandas"])
        assert ran.error == "OSError"
        assert "encrypted" in ran.text or "decryption" in ran.text
        assert "SEALED" not in ran.text, "the extension is loaded"


@step(
    "A07",
    "the official opening before the arms are locked",
    local="P",
    escrow="P",
    how="SG01: the verdict process asks the ledger before it asks for the key, and records the attempt",
)
def test_a07_opening_before_the_lock(sealed):
    for keys in (sealed.root / "state").glob("keys"):
        shutil.rmtree(keys)  # whoever asked for the key now would say that it is not here
    done = sealed.itera("verdict")
    assert done.code == 3, done.text
    assert "refused SG01: no arm is locked yet" in done.text
    command = [sys.executable, "-I", "-m", "itera_nb.verdict", str(sealed.folder)]
    alone = subprocess.run(
        command, env=sealed.environment(), input=b"0" * 32, capture_output=True, check=False
    )
    assert alone.returncode != 0
    with sealed.entered() as exp, pytest.raises(Refusal, match="SG01"):
        exp.verdict()
    assert sealed.records("test_opened") == []
    assert len(sealed.records("attempt_refused")) >= 2
    assert not list((sealed.folder / "sealed").glob("attempts*"))


@step(
    "A08",
    "the dev notebook renamed to `5_verdict.ipynb`, with `JPY_SESSION_NAME` set to it",
    local="P",
    escrow="P",
    how="a name decides nothing: without our ticket there is no opening, and the file stays ciphertext",
)
def test_a08_a_name_opens_nothing(ready):
    test, _ = canaries(ready)
    cells = [
        "%load_ext itera_nb\nimport os, itera_nb\nexp = itera_nb.open('..')\nos.environ['JPY_SESSION_NAME']",
        "import pandas as pd\npd.read_parquet('../sealed/test.parquet')",
        "exp.verdict()",
    ]
    path = notebook_with(
        ready,
        cells,
        name="5_verdict.ipynb",
        cwd=ready.folder / "notebooks",
        JPY_SESSION_NAME="5_verdict.ipynb",
    )
    shown = json.loads(path.read_text("utf-8"))
    assert "5_verdict.ipynb" in json.dumps(shown["cells"][0]["outputs"])
    assert "SEALED" in json.dumps(shown["cells"][1]["outputs"])
    assert ready.records("test_opened") == []
    assert "itera verdict" in json.dumps(shown["cells"][2]["outputs"])
    assert holders([ready.folder], test) == {}


@step(
    "A09",
    "read the key from the keyring or the state directory and decrypt",
    local="O",
    escrow="P",
    how="local custody does not resist the account owner, and the README says so; under escrow no key is here",
)
def test_a09_the_key_of_the_account_owner(ready, readme):
    test, _ = canaries(ready)
    (record,) = ready.records("sealed")
    with ready.entered():
        secret = custody.load_secret(ready.records("created")[0]["body"]["genesis_id"])
    table = read_sealed(ready.folder / "sealed" / "test.parquet", secret.identity)
    assert len(leaked(repr(table.to_pydict()), test)) == record["body"]["counts"]["test"], "it does work"
    assert "It does not resist the account owner: whoever can read the key" in readme


def test_a09_no_key_under_escrow(escrowed):
    world = escrowed.world
    held = [str(p) for p in world.root.rglob("*") if p.is_file() and b"AGE-SECRET-KEY" in p.read_bytes()]
    assert held == []
    before = world.records()
    with world.entered() as exp, pytest.raises(Refusal, match="SG01"):
        open_test(exp.experiment)
    assert world.records() == before, "want of the key claims nothing"
    assert world.records("created")[0]["body"]["custody"] == "escrow" or exp.experiment.custody.escrow


@step(
    "A11",
    "recompute the split from the raw file and the repository's contents",
    local="P",
    escrow="P",
    how="rows are drawn under a secret 256-bit seed of which only a commitment is published; whoever keeps the raw "
    "file still has raw − train − dev, and the README says so",
)
def test_a11_recomputing_the_split(ready, readme):
    rows = pd.read_csv(ready.project / "eval.csv")
    (record,) = ready.records("sealed")
    counts = record["body"]["counts"]
    train, dev = (
        pd.read_parquet(ready.folder / "data" / f"{part}.parquet")["ticket_id"] for part in ("train", "dev")
    )
    test = set(rows["ticket_id"]) - set(train) - set(dev)
    chance = counts["test"] / len(rows)
    for seed in (*range(50), 42, 1234, 2026, int(record["body"]["seed_commitment"][:8], 16)):
        guess = set(rows.sample(counts["test"], random_state=seed)["ticket_id"])
        assert abs(len(guess & test) / len(guess) - chance) < 0.25, f"seed {seed} draws this split"
    with ready.entered():
        seed = custody.load_secret(ready.records("created")[0]["body"]["genesis_id"]).seed
    forms = {seed, seed.hex().encode(), base64.b64encode(seed), repr(seed).encode()}
    held = [n for n, data in ready.files().items() if any(form in data for form in forms)]
    assert held == []
    assert "raw − train − dev = test" in readme


@step(
    "A12",
    "the phase-1 notebook shows or keeps rows of the test set",
    local="P",
    escrow="P",
    how="sampling, splitting and sealing happen in a process of their own: the notebook, its checkpoints and the "
    "kernel never hold a test row; rows that a user's own cell prints are found by the scan (B06)",
)
def test_a12_nothing_is_left_of_phase_1(walked):
    test, readable = canaries(walked.ready)
    checkpoint = walked.ready.folder / "notebooks" / "1-source.ipynb"
    assert leaked(checkpoint.read_bytes(), readable), "the notebook has run, and shows train rows"
    places = [walked.ready.root / "state", walked.ready.folder, walked.world.root / "scratch"]
    assert holders(places, test) == {}


@step(
    "A10",
    "the raw source is still there at the lock",
    local="D",
    escrow="D",
    how="sealing reports it; `itera evict` seals it beside the test rows or removes it, else the page prints the waiver",
)
def test_a10_the_raw_source_stays(scored, sealed):
    (record,) = scored.records("sealed")
    assert record["body"]["exposed"].endswith("eval.csv")
    with scored.entered() as exp:
        exp.lock()
        conclude(exp)
    page = (scored.folder / "conclusion.md").read_text("utf-8").replace("\\", "")
    assert "eval.csv was readable while arms were tuned" in page
    test, _ = canaries(sealed)
    assert list(holders([sealed.root], test)) == [str(sealed.project / "eval.csv")]
    done = sealed.itera("evict")
    assert done.code == 0, done.text
    assert holders([sealed.root], test) == {}


MEMORY = """
import re
def canaries_in_memory():
    found = set()
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in maps:
            span, access = line.split()[:2]
            low, high = (int(x, 16) for x in span.split("-"))
            if access.startswith("rw") and high - low < 2**30:
                try:
                    memory.seek(low)
                    found |= set(re.findall(rb"CANARY[0-9a-f]{16}", memory.read(high - low)))
                except (OSError, ValueError, OverflowError):
                    pass
    return found
"""
PATCHES = """
import builtins, pandas, pyarrow.parquet, pyrage, pyarrow
def spied(function):
    def spy(*arguments, **options):
        found = function(*arguments, **options)
        with open({log!r}, "a") as file:
            file.write(repr(found) + "\\n")
        return found
    return spy
for module, name in ((pandas, "read_parquet"), (pyarrow.parquet, "read_table"), (pyrage, "decrypt")):
    setattr(module, name, spied(getattr(module, name)))
"""
POISON = """
with open({log!r}, "a") as log, open("/proc/self/cmdline") as line:
    log.write(line.read().replace("\\0", " ") + "\\n")
"""


@pytest.fixture(scope="module")
def opened(walked, tmp_path_factory):
    """A pass from the verdict notebook's own kernel, poisoned in every way that its user can think of."""
    base = tmp_path_factory.mktemp("opened")
    world = walked.ready.copy(base / "world")
    test, readable = canaries(world)
    ran, spied, compiled = (base / f"{name}.log" for name in ("ran", "spied", "compiled"))
    poison = base / "poison"
    poison.mkdir()
    for name in ("sitecustomize", "usercustomize", "startup"):
        (poison / f"{name}.py").write_text(POISON.format(log=str(ran)), "utf-8")
    cached_module(world.folder / "snapshot" / "arms" / "rules.py", POISON.format(log=str(compiled)))
    path = world.folder / "notebooks" / "5-verdict.ipynb"
    shutil.copyfile(verdict_template(), path)
    variables = {
        "PYTHONPATH": str(poison),
        "PYTHONSTARTUP": str(poison / "startup.py"),
        "PYTHONUSERBASE": str(poison),
    }
    with world.entered(), Kernel(world, name="itera", JPY_SESSION_NAME=str(path), **variables) as kernel:
        kernel.run(PATCHES.format(log=str(spied)))
        said = kernel.run("%load_ext itera_nb\nimport itera_nb\nexp = itera_nb.open()\nexp.verdict()")
        before = kernel.run(f"{MEMORY}\nprint(sorted(canaries_in_memory()))")
        control = kernel.run(
            "rows = pandas.read_parquet('data/train.parquet')\nprint(sorted(canaries_in_memory()))"
        )
    return SimpleNamespace(
        world=world,
        test=test,
        readable=readable,
        said=said,
        memory=before.text,
        control=control.text,
        ran=ran.read_text("utf-8"),
        spied=spied.read_text("utf-8"),
        compiled=compiled,
    )


def cached_module(source, payload):
    """Plant a compiled module that Python takes for the source's own: same time stamp, same size."""
    stat = source.stat()
    code = compile(payload + source.read_text("utf-8"), str(source), "exec")
    head = importlib.util.MAGIC_NUMBER + struct.pack("<III", 0, int(stat.st_mtime), stat.st_size)
    cache = Path(importlib.util.cache_from_source(str(source)))
    cache.parent.mkdir(exist_ok=True)
    cache.write_bytes(head + marshal.dumps(code))


@step(
    "A13",
    "search the kernel's memory for test rows after the verdict",
    local="P",
    escrow="P",
    how="rows live in the isolated process and its workers only; the kernel is given figures",
)
def test_a13_memory_of_the_kernel(opened):
    assert opened.said.error == "", opened.said.text
    assert len(opened.world.records("verdict")) == 1
    assert leaked(opened.memory + opened.said.text, opened.test) == []
    assert leaked(opened.control, opened.readable), "a row that the kernel has read is found in its memory"


@step(
    "A14",
    "patch pyarrow, pandas and pyrage in the kernel, then run the verdict",
    local="P",
    escrow="P",
    how="the verdict is another interpreter: no patch of the kernel reaches it",
)
def test_a14_patched_readers(opened):
    assert len(opened.world.records("verdict")) == 1
    assert leaked(opened.spied, opened.test) == []
    assert "AGE-SECRET-KEY" not in opened.spied
    assert leaked(opened.spied, opened.readable), "the patches work in the kernel"


@step(
    "A15",
    "a poisoned `PYTHONPATH` with `sitecustomize.py`, and `PYTHONSTARTUP`",
    local="P",
    escrow="P",
    how="the process that opens runs as `python -I`, and so do its workers",
)
def test_a15_poisoned_environment(opened):
    assert "ipykernel" in opened.ran, "the kernel is poisoned"
    assert "itera_nb.verdict" not in opened.ran
    assert "multiprocessing" not in opened.ran
    assert len(opened.world.records("verdict")) == 1


@step(
    "A17",
    "a poisoned `__pycache__` in the snapshot, with the source's time stamp and size",
    local="P",
    escrow="P",
    how="workers compile the snapshot's sources afresh, whatever lies in a cache",
)
def test_a17_poisoned_bytecode(opened):
    source = opened.world.folder / "snapshot" / "arms" / "rules.py"
    assert Path(importlib.util.cache_from_source(str(source))).exists()
    assert len(opened.world.records("verdict")) == 1
    assert not opened.compiled.exists()
    plain = subprocess.run([sys.executable, "-c", "import rules"], cwd=source.parent, check=True)
    assert plain.returncode == 0
    assert opened.compiled.exists(), "a plain import would run it"


GREEDY = """
import sys
{memory}
calls = []
def answer(row):
    calls.append(row)
    seen = canaries_in_memory() if len(calls) % 12 == 3 else set()
    try:
        label = row["label"]
    except KeyError:
        label = "KeyError"
    frames, frame = [], sys._getframe()
    while frame:
        frames += [v for v in frame.f_locals.values() if isinstance(v, dict) and "label" in v]
        frame = frame.f_back
    with open({loot!r}, "a") as file:
        file.write(repr((label, sorted(row), len(frames), sorted(seen))) + "\\n")
    return "yes"
"""


@step(
    "A16",
    "an arm asks for the label column on test, and looks for it in its frames and in its memory",
    local="P",
    escrow="P",
    how="an arm's process receives the declared input columns of test rows only; labels go to the scorer's",
)
def test_a16_an_arm_that_wants_the_label(make_experiment, tmp_path):
    loot = tmp_path / "loot.txt"
    memory = MEMORY.replace("CANARY[0-9a-f]{16}", "GROUP[0-9]{8}")
    exp = make_experiment(
        rows=40,
        tenants=[f"GROUP{n:08d}" for n in range(40)],  # of each row, and no input
        arms={"greedy": GREEDY.format(memory=memory, loot=str(loot))},
        run="trials = 1",
    )
    toml = exp.experiment.toml
    toml.write_text(toml.read_text("utf-8").replace('slices = ["tenant"]', 'cluster = "tenant"'), "utf-8")
    go(exp)
    loot.write_text("")
    decide(exp)
    said = [ast.literal_eval(line) for line in loot.read_text("utf-8").splitlines()]
    assert len(said) == exp.experiment.state.the("sealed").body["counts"]["test"]
    assert {(label, *columns, frames) for label, columns, frames, _ in said} == {("KeyError", "text", 0)}
    parts = [pd.read_parquet(exp.experiment.path("data", f"{part}.parquet")) for part in ("train", "dev")]
    readable = {group for part in parts for group in part["tenant"]}
    seen = {group.decode() for *_, found in said for group in found}
    assert seen <= readable, "other columns than the inputs are there of rows for its fit alone"


@pytest.fixture(scope="module")
def phase_one(tmp_path_factory):
    """Sampling and sealing of 30,000 rows, watched: every file that was ever there, and every process."""
    base = tmp_path_factory.mktemp("phase-one")
    world = new_world(base / "world")
    rows = list(tickets(30_000))
    write_csv(world.project / "eval.csv", rows)
    (world.project / "rules.py").write_text(RULES, "utf-8")
    flags = "--data eval.csv --id ticket_id --expected label --slices tenant --baseline rules.py:v1 --arm rules.py:v2"
    assert world.itera("new", "big", *flags.split(), cwd=world.project).code == 0
    with world.entered() as exp:
        exp.frame.lock()
        secret = exp.experiment.secret
    files, processes, limits, said = {}, set(), set(), b""
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    places = (world.folder, world.root / "scratch", world.root / "state", Path("/dev/shm"))
    for command in ("sample", "seal"):
        line = [
            "prlimit",
            f"--core={'unlimited' if hard == resource.RLIM_INFINITY else hard}",
            sys.executable,
            "-I",
            "-m",
            "itera_nb.source",
            str(world.folder),
            command,
        ]
        process = subprocess.Popen(
            line,
            cwd=world.root / "scratch",
            env=world.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        while process.poll() is None:
            for member in psutil.process_iter():
                with contextlib.suppress(psutil.Error):
                    processes.add(" ".join([*member.cmdline(), *map(str, member.environ().items())]))
            with contextlib.suppress(OSError):
                limits.add(
                    re.search(r"core file size +(\S+)", Path(f"/proc/{process.pid}/limits").read_text())[1]
                )
            for path in (p for place in places for p in place.rglob("*")):
                with contextlib.suppress(OSError):
                    if path.is_file() and path.stat().st_size < 50e6:
                        files[str(path)] = path.read_bytes()
        out, err = process.communicate()
        said += out + err
        assert process.returncode == 0, said
    test, _ = canaries(world)
    return SimpleNamespace(
        world=world, secret=secret, files=files, processes=processes, limits=limits, said=said, test=set(test)
    )


@step(
    "A18",
    "spill files, temporary folders and core dumps of sampling and sealing",
    local="P",
    escrow="P",
    how="DuckDB may not spill, the sealed file is ciphertext from its first byte, and the process takes core dumps away",
)
def test_a18_files_of_phase_1(phase_one):
    assert len(phase_one.test) > 8_000
    assert any(".test.parquet." in name for name in phase_one.files), "the sealed file was seen growing"
    for name, data in phase_one.files.items():
        held = {c.decode() for c in re.findall(rb"CANARY[0-9a-f]{16}", data)}
        assert not held & phase_one.test, name
    assert (
        holders([phase_one.world.folder, phase_one.world.root / "scratch"], set(list(phase_one.test)[:200]))
        == {}
    )
    assert "0" in phase_one.limits, "core dumps are off"
    assert not list((phase_one.world.root / "scratch").glob("core*"))


@step(
    "A19",
    "look for the secret seed, or the key of the split, in SQL texts, logs and lists of processes",
    local="P",
    escrow="P",
    how="the seed orders rows in memory and stands in no command, environment, query, log or file of the project",
)
def test_a19_the_seed(phase_one, monkeypatch):
    seed, wanted = phase_one.secret.seed, set()
    for key in (seed, *(derived_key(seed, name) for name in ("sample", "split", "duplicates"))):
        wanted |= {
            key,
            key.hex().encode(),
            base64.b64encode(key),
            repr(key)[2:-1].encode(),
            str(list(key)).encode(),
        }
    places = dict.fromkeys(phase_one.processes) | {"said": None}
    for text in places:
        assert not [w for w in wanted if w in text.encode()]
    assert not [w for w in wanted if w in phase_one.said]
    for name, data in (phase_one.files | phase_one.world.files()).items():
        if "/state/" not in name:
            assert not [w for w in wanted if w in data], name
    asked = []
    connect = duckdb.connect

    class Spy:
        def __init__(self, *arguments, **options):
            self.real = connect(*arguments, **options)

        def __getattr__(self, name):
            def call(*arguments, **options):
                asked.append(repr((name, arguments, options)))
                return getattr(self.real, name)(*arguments, **options)

            return call

    monkeypatch.setattr(duckdb, "connect", Spy)
    with phase_one.world.entered() as exp:
        spec = exp.experiment.spec
        drawn = open_source(spec.source, spec.split, exp.experiment.folder)
        draw(drawn, spec.source, spec.split, seed)
    assert any("SELECT" in text for text in asked)
    assert not [w for w in wanted for text in asked if w in text.encode()]


@step(
    "A20",
    "read the pass's attempt log, during and after it, with plain tools",
    local="P",
    escrow="P",
    how="each attempt is one age-encrypted line: its number is all that can be read",
)
def test_a20_the_attempt_log(finished, staged, tmp_path):
    world = staged["locked"].twin(tmp_path / "world").world
    log = world.folder / "sealed" / "attempts.age"
    process = opening(world)
    assert wait_until(lambda: log.exists() and log.read_bytes().count(b"\n") > 20, process)
    during = log.read_bytes()
    kill_family(process)
    rows = {row["ticket_id"]: row["text"] for row in tickets(200)}
    words = {b"transfer", b"fees", b'"status"', b"score", b"CANARY", *(i.encode() for i in rows)}
    for stored in (during, (finished.folder / "sealed" / "attempts.age").read_bytes()):
        lines = stored.splitlines()[:-1]
        decoded = b"".join(base64.b64decode(line) for line in lines)
        assert len(lines) > 10
        # Five letters stand somewhere in base64 by chance.
        assert not [w for w in words if w in decoded or (len(w) > 6 and w in stored)]
        assert len({len(line) for line in lines}) < len(lines)
