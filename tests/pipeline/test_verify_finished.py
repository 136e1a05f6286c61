"""`itera verify` on a finished folder, and after one byte of anything was changed."""

import random
import shutil

import pytest
from world import in_process

from itera_nb.exceptions import RecordError
from itera_nb.experiment import Experiment
from itera_nb.verdict.verify import verify

ROWS = ("data", "runs", "sealed", "snapshot")
VOUCHED = {
    "data.json": "concluded",
    "conclusion.md": "concluded",
    "charts/arm-bar.png": "concluded",
    "charts/forest-plot.png": "concluded",
    "runs/baseline-train.parquet": "baseline_measured",
    "runs/train.parquet": "scored",
    "runs/dev.parquet": "scored",
    "runs/test.parquet": "verdict",
    "runs/test-rows.parquet": "verdict",
    "data/train.parquet": "sealed",
    "data/dev.parquet": "sealed",
    "sealed/test.parquet": "sealed",
    "snapshot/arms/rules.py": "locked",
    "experiment.toml": "metric_locked",
}


def flip(path, at):
    """Change one bit of one byte."""
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1
    path.write_bytes(data)


@pytest.fixture(scope="module")
def shared(walked, tmp_path_factory):
    return walked.world.copy(tmp_path_factory.mktemp("verify") / "world")


@pytest.fixture
def copy(shared):
    """One copy for the module, entered; a test restores what it breaks."""
    with shared.entered():
        yield shared


def last(world, type_, file=""):
    """Number of the last record of a type (that names a file)."""
    return [r["seq"] for r in world.records(type_) if r["body"].get("file", file) == file or not file][-1]


def test_finished_folder_verifies(copy):
    done = in_process("verify", copy.folder)
    assert done.code == 0
    assert "gives the recorded verdict" in done.out
    assert "level: record and rows" in done.out


@pytest.mark.parametrize("file", VOUCHED)
def test_a_changed_file_is_named_with_its_record(copy, file):
    path = copy.folder / file
    original = path.read_bytes()
    for at in (0, len(original) // 2, len(original) - 1):
        flip(path, at)
        done = in_process("verify", copy.folder)
        path.write_bytes(original)
        assert done.code == 4, f"byte {at} of {file}"
        assert f"{file} was changed" in done.err
        assert f"record {last(copy, VOUCHED[file], file)}" in done.err


@pytest.mark.parametrize("file", ["data.json", "conclusion.md", "charts/arm-bar.png"])
def test_a_missing_conclusion_file_is_named(copy, file):
    path = copy.folder / file
    original = path.read_bytes()
    path.unlink()
    done = in_process("verify", copy.folder)
    path.write_bytes(original)
    assert done.code == 4
    assert f"{file} is missing" in done.err


def test_a_changed_record_is_named(copy):
    """Every record, some bytes each, the last one and the line ends included."""
    path = copy.folder / "ledger.jsonl"
    original = path.read_bytes()
    draw, start, missed = random.Random(4), 0, []
    for seq, line in enumerate(original.splitlines(keepends=True), start=1):
        for at in {0, len(line) - 1, *(draw.randrange(len(line)) for _ in range(4))}:
            path.write_bytes(original)
            flip(path, start + at)
            try:
                report = verify(Experiment(copy.folder))
            except RecordError as error:
                if error.record not in {seq - 1, seq} or error.exit_code != 4:
                    missed.append((seq, at, error.record))
            else:
                missed.append((seq, at, [f.what for f in report.findings if not f.holds]))
        start += len(line)
    path.write_bytes(original)
    assert missed == []


@pytest.mark.parametrize("cut", ["last record", "last byte", "everything but the first"])
def test_a_shortened_ledger_is_broken(copy, cut):
    path = copy.folder / "ledger.jsonl"
    original = path.read_bytes()
    lines = original.splitlines(keepends=True)
    short = {"last record": lines[:-1], "last byte": [original[:-1]], "everything but the first": lines[:1]}
    path.write_bytes(b"".join(short[cut]))
    done = in_process("verify", copy.folder)
    path.write_bytes(original)
    assert done.code == 4
    assert "history cannot be shortened" in done.err


@pytest.mark.parametrize("how", ["deleted", "emptied"])
def test_a_folder_without_its_ledger_is_not_verified(copy, how):
    path = copy.folder / "ledger.jsonl"
    original = path.read_bytes()
    path.unlink()
    if how == "emptied":
        path.touch()
    done = in_process("verify", copy.folder)
    path.write_bytes(original)
    assert done.code == 4
    assert "there is no record" in done.err
    assert "verified" not in done.out


def test_inserted_duplicated_and_reordered_records_are_named(copy):
    path = copy.folder / "ledger.jsonl"
    original = path.read_bytes()
    lines = original.splitlines(keepends=True)
    for changed in (
        [*lines[:4], lines[3], *lines[4:]],
        [*lines[:4], lines[5], lines[4], *lines[6:]],
        [*lines[:4], *lines[5:]],
        [line.replace(b'","', b'", "', 1) if i == 6 else line for i, line in enumerate(lines)],
        [line.replace(b"\n", b"\r\n") for line in lines],
        [b"\xef\xbb\xbf" + lines[0], *lines[1:]],
    ):
        path.write_bytes(b"".join(changed))
        done = in_process("verify", copy.folder)
        assert done.code == 4
        assert "record " in done.err
    path.write_bytes(original)


def test_without_rows_the_record_is_what_is_checked(copy, tmp_path):
    """What a reviewer has who cloned the repository: no rows, no key, no remembered head."""
    folder = tmp_path / "cloned"
    shutil.copytree(copy.folder, folder)
    for name in ROWS:
        shutil.rmtree(folder / name)
    done = in_process("verify", folder)
    assert done.code == 0, done.text
    assert "level: record only" in done.out
    flip(folder / "data.json", 50)
    broken = in_process("verify", folder)
    assert broken.code == 4
    assert "data.json was changed" in broken.err


def test_verify_as_a_command_exits_4(finished):
    flip(finished.folder / "data.json", 100)
    done = finished.itera("verify")
    assert done.code == 4
    assert f"record {last(finished, 'concluded')}" in done.err
    assert "Traceback" not in done.text


def _estimate(body):
    body["verdict"]["records"][0]["estimate"] += 0.1


@pytest.mark.parametrize(
    "change",
    [_estimate, lambda body: body.update(arm="another"), lambda body: body.update(outcome="kill")],
    ids=["estimate", "winner", "outcome"],
)
def test_a_verdict_that_the_rows_do_not_give_is_found(copy, change):
    """Someone who rewrites the ledger whole, and its remembered head, still has to make the rows agree."""
    from itera_nb.ledger import Ledger
    from itera_nb.seal import heads

    path = copy.folder / "ledger.jsonl"
    original, records = path.read_bytes(), copy.records()
    path.unlink()
    ledger = Ledger(path)
    for record in records:
        if record["type"] == "verdict":
            change(record["body"])
        ledger.append(record["type"], record["body"])
    genesis = records[0]["body"]["genesis_id"]
    stored = next((copy.root / "state" / "heads").glob(f"{genesis}*.json"))
    head = stored.read_bytes()
    stored.unlink()
    heads.remember(genesis, len(records), ledger.records()[-1].hash, opened=True)
    done = in_process("verify", copy.folder)
    path.write_bytes(original)
    stored.write_bytes(head)
    assert done.code == 4
    assert "does not give the recorded verdict" in done.text
