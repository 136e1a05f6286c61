"""E: crashes, full disks and eight verdicts at once."""

import contextlib
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from killing import CODES, TRIALS, check, decided, opening, recorded
from steps import step
from world import kill_family, open_test, wait_until, write_conclusion

from itera_nb.exceptions import IteraError, RecordError
from itera_nb.experiment import Experiment
from itera_nb.seal import heads
from itera_nb.seal.parquet import AgeLines

pytestmark = pytest.mark.slow

ROUNDS = 25
LOG = "sealed/attempts.age"


@pytest.fixture
def stage(staged, tmp_path):
    """A locked experiment whose arms count their calls."""
    return staged["locked"].twin(tmp_path / "world")


def attempts(world):
    """How often each (arm, row) stands in the log of the pass."""
    with world.entered() as exp:
        secret = exp.experiment.secret
    return recorded(world, LOG, AgeLines([secret.recipient], secret.identity))


def finish(world):
    """Open, or go on with, the pass until it is decided; returns the verdict record's body."""
    with world.entered() as exp:
        if not world.records("verdict"):
            open_test(exp.experiment)
    (verdict,) = world.records("verdict")
    assert len(world.records("test_opened")) == 1, "a second pass"
    return verdict["body"]


@step(
    "E01",
    "eight verdicts at once",
    local="P",
    escrow="P",
    how="a file lock and the ledger: one claims, the others are told that a pass is running or has been",
)
@pytest.mark.slow
def test_e01_eight_verdicts_at_once(stage):
    world = stage.world
    running = [
        subprocess.Popen(
            [Path(sys.executable).with_name("itera"), "verdict"],
            cwd=world.folder,
            env=world.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(8)
    ]
    said = [process.communicate(timeout=250)[0] for process in running]
    codes = [process.returncode for process in running]
    assert len(world.records("test_opened")) == 1, said
    assert len(world.records("verdict")) == 1, said
    assert world.records("resumed") == []
    assert sum(code in CODES.values() for code in codes) >= 1, said
    assert set(codes) <= {*CODES.values(), 2, 3}, [text for text in said if "unexpected" in text]
    assert not [text for text in said if "Traceback" in text or "unexpected" in text]
    assert set(attempts(world).values()) == {TRIALS}
    assert world.itera("verify").code == 0


MOMENTS = {
    "after the claim": lambda world, *_: bool(world.records("test_opened")),
    "mid-scoring": lambda _, stage, before: (stage.calls() - before).total() >= 60,
    "before the reveal": lambda _, stage, before: (stage.calls() - before).total() >= 168,
}


@step(
    "E02",
    "kill -9 after the claim, in the middle of scoring, or before the verdict is written",
    local="P",
    escrow="P",
    how="the same pass goes on: finished rows are never rolled again, and the page prints how often it was resumed",
)
@pytest.mark.parametrize(
    "moment", [m if m == "after the claim" else pytest.param(m, marks=pytest.mark.slow) for m in MOMENTS]
)
def test_e02_killed_pass_goes_on(stage, undisturbed, moment):
    world, before = stage.world, stage.calls()
    process = opening(world)
    due = MOMENTS[moment]
    alive = wait_until(lambda: due(world, stage, before), process)
    kill_family(process)
    assert alive
    assert world.records("verdict") == []
    calls, kept, between = stage.calls() - before, attempts(world), stage.calls()
    body = finish(world)
    check(calls, kept, stage.calls() - between, attempts(world))
    assert set(attempts(world).values()) == {TRIALS}
    assert body["resumes"] == 1
    assert decided(body) == undisturbed
    with world.entered() as exp:
        write_conclusion(exp.experiment)
    page = (world.folder / "conclusion.md").read_text("utf-8")
    assert "resumed" in page.lower()


def goes_on(folder, records, tail):
    """The next record follows; a torn line was set aside, and that is a record too."""
    Experiment(folder).record("accepted", {"safeguard": "SG12", "why": "another record"})
    torn = list(folder.glob("ledger.torn-*"))
    assert [file.read_bytes() for file in torn] == [tail] * bool(tail)
    for file in torn:
        file.unlink()
    written = [record.type for record in Experiment(folder).state.records[records:]]
    assert written == ["recovered"] * bool(tail) + ["accepted"]


def cut_everywhere(world, record):
    """Cut the ledger at every byte of one record, which is its last; what each cut leads to, with counts."""
    path, whole = world.folder / "ledger.jsonl", (world.folder / "ledger.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)[: record["seq"]]
    start = sum(map(len, lines[:-1]))
    genesis = world.records("created")[0]["body"]["genesis_id"]
    remembered = world.root / "state" / "heads" / f"{genesis}.json"
    head = remembered.read_bytes()
    found = {"refused": 0, "recovered": 0}
    with world.entered() as exp:
        folder = exp.experiment.folder
        before = exp.experiment.state.records[record["seq"] - 2]
        for at in range(start, start + len(lines[-1])):
            path.write_bytes(whole[:at])
            with pytest.raises(RecordError, match="history cannot be shortened"):
                _ = Experiment(folder).state
            found["refused"] += 1
            remembered.unlink()  # the power was cut before the head could be remembered
            heads.remember(genesis, before.seq, before.hash, folder=folder)
            state = Experiment(folder).state
            assert len(state.records) == before.seq
            assert state.has("test_opened") == (record["type"] != "test_opened")
            if (at - start) % 16 in {0, 1}:
                goes_on(folder, before.seq, whole[start:at])
            found["recovered"] += 1
            remembered.write_bytes(head)
        path.write_bytes(whole)
    return found


@step(
    "E03",
    "cut the ledger at every byte of its last record",
    local="P",
    escrow="P",
    how="a remembered head refuses a shorter ledger; where the crash came before it was remembered, the torn line is set "
    "aside and named, and the same pass, never a second one, goes on",
)
@pytest.mark.parametrize("last", ["test_opened", pytest.param("verdict", marks=pytest.mark.slow)])
def test_e03_cut_at_every_byte(finished, last):
    found = cut_everywhere(finished, finished.records(last)[0])
    assert found["refused"] == found["recovered"] > 200


@contextlib.contextmanager
def full_disk(folder, free):
    """`folder` on a disk of its own on which `free` bytes are left; without the right to mount, a limit on file sizes."""
    kept = shutil.copytree(folder, folder.parents[3] / "kept")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    try:
        if mounted.returncode == 0:
            shutil.copytree(kept, folder, dirs_exist_ok=True)
            filler = folder / "filler"
            with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(4096))
            os.truncate(filler, filler.stat().st_size - free)
            yield
            filler.unlink()
            shutil.rmtree(kept)
            kept = shutil.copytree(folder, kept)
        else:
            before = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(
                resource.RLIMIT_FSIZE, ((folder / "ledger.jsonl").stat().st_size + free, before[1])
            )
            yield
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            return
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", str(folder)], check=True)
            shutil.copytree(kept, folder, dirs_exist_ok=True)
        shutil.rmtree(kept)


@step(
    "E04",
    "a full disk at the claim, and at the results",
    local="P",
    escrow="P",
    how="no key without a durable claim; no half record or document; with room again the same pass goes on",
)
@pytest.mark.parametrize("when", ["claim", "results"])
def test_e04_full_disk(stage, undisturbed, when):
    world, before = stage.world, stage.calls()
    with full_disk(world.folder, 0 if when == "claim" else 20_000), world.entered() as exp:
        with pytest.raises(IteraError) as stopped:
            open_test(exp.experiment)
        records = world.records()
        assert not list(world.folder.rglob(".*.parquet*")), "half a file"
    assert "unexpected" not in str(stopped.value), stopped.value
    calls = stage.calls() - before
    claimed = [r["type"] for r in records].count("test_opened")
    assert claimed == (when == "results")
    assert calls.total() > 0 if claimed else not calls
    assert not (world.folder / "runs" / "test.parquet").exists()
    kept = attempts(world)
    between = stage.calls()
    body = finish(world)
    check(calls, kept, stage.calls() - between, attempts(world))
    assert body["resumes"] == claimed
    assert decided(body) == undisturbed


def killed_rounds(stage, tmp_path, moments, started):
    """Kill the opening at a moment after something has happened, and let it finish; prints figures of all rounds."""
    figures = {"rounds": 0, "resumed": 0, "repeated": 0, "lost": 0}
    for number, after in enumerate(moments):
        twin = stage.twin(tmp_path / f"round-{number}")
        world, before = twin.world, twin.calls()
        process = opening(world)
        wait_until(partial(started, world), process)
        time.sleep(after)
        kill_family(process)
        calls, kept, between = twin.calls() - before, attempts(world), twin.calls()
        body = finish(world)
        end = attempts(world)
        figures["rounds"] += 1
        figures["resumed"] += body["resumes"]
        figures["repeated"] += sum((end - kept - (twin.calls() - between)).values())
        figures["lost"] += sum((kept - end).values())
        check(calls, kept, twin.calls() - between, end)
        shutil.rmtree(world.root)
    sys.stderr.write(f"kill -9: {figures}\n")
    assert figures["rounds"] == ROUNDS
    assert figures["repeated"] == figures["lost"] == 0
    return figures


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_kill_at_25_random_moments_around_the_claim(stage, tmp_path):
    twin, begin = stage.twin(tmp_path / "measured").world, time.monotonic()
    process = opening(twin)
    assert wait_until(lambda: bool(twin.records("test_opened")), process)
    claimed = time.monotonic() - begin
    kill_family(process)
    draw = random.Random(25)
    moments = [claimed * draw.uniform(0.6, 1.4) for _ in range(ROUNDS)]
    figures = killed_rounds(stage, tmp_path, moments, started=lambda _: True)
    assert 0 < figures["resumed"] <= ROUNDS


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_kill_at_25_random_moments_of_scoring(stage, tmp_path):
    draw = random.Random(26)
    figures = killed_rounds(
        stage,
        tmp_path,
        [draw.uniform(0, 2.2) for _ in range(ROUNDS)],
        started=lambda world: (world.folder / LOG).exists(),
    )
    assert figures["resumed"] > ROUNDS / 2
