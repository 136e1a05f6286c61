"""kill -9 in the middle: the same command finishes, and no finished unit is paid twice."""

import json
import os
import random
import signal
import time

import pytest
from killing import CODES, TRIALS, check, decided, kill_when, recorded
from world import wait_until

from itera_nb.experiment import Experiment
from itera_nb.seal.parquet import AgeLines

pytestmark = pytest.mark.slow

DEV_MOMENTS = [random.Random(11).randrange(10, 40)]
VERDICT_MOMENTS = [random.Random(5).randrange(20, 120)]
MORE = [pytest.param(n, marks=pytest.mark.slow) for n in (3, 60, 140)]


@pytest.mark.parametrize("moment", [*DEV_MOMENTS, pytest.param(5, marks=pytest.mark.slow)])
def test_dev_scoring_goes_on_where_it_was_killed(staged, tmp_path, moment):
    stage = staged["piloted"].twin(tmp_path / "world")
    log = "runs/attempts.jsonl"
    at_start = recorded(stage.world, log)
    calls = kill_when(stage, moment, "run", "--yes")
    kept = recorded(stage.world, log)
    for path in (stage.world.folder / "notebooks").glob("[0-9]*.ipynb"):
        json.loads(path.read_text("utf-8"))
    assert stage.world.itera("status").code == 0
    before = stage.calls()
    again = stage.world.itera("run", "--yes")
    assert again.code == 0, again.text
    rerun = stage.calls() - before
    assert "ready. The sealed test opens once" in again.out
    check(calls, kept - at_start, rerun, recorded(stage.world, log) - at_start)
    assert stage.world.records("attempt_refused") == []
    dev = [r for r in stage.world.records("scored") if r["body"]["rows"] == "dev"]
    assert len(dev) == 1
    assert dev[0]["body"]["n"] == stage.world.records("sealed")[0]["body"]["counts"]["dev"]


@pytest.mark.parametrize("moment", [*VERDICT_MOMENTS, *MORE])
def test_verdict_resumes_the_same_pass(staged, undisturbed, tmp_path, moment):
    stage = staged["locked"].twin(tmp_path / "world")
    world, log = stage.world, "sealed/attempts.age"
    with world.entered():
        secret = Experiment(world.folder).secret
    codec = AgeLines([secret.recipient], secret.identity)
    calls = kill_when(stage, moment, "verdict")
    kept = recorded(world, log, codec)
    assert len(world.records("test_opened")) == 1
    assert world.records("verdict", "resumed") == []
    before = stage.calls()
    again = world.itera("verdict")
    assert again.code == CODES[undisturbed["outcome"]], again.text
    rerun = stage.calls() - before
    planned = recorded(world, log, codec)
    assert set(planned.values()) == {TRIALS}
    check(calls, kept, rerun, planned)
    assert len(world.records("test_opened")) == 1
    (resumed,) = world.records("resumed")
    assert resumed["body"]["count"] == 1
    (verdict,) = world.records("verdict")
    assert verdict["body"]["resumes"] == 1
    assert decided(verdict["body"]) == undisturbed
    page = (world.folder / "conclusion.md").read_text("utf-8")
    assert "resumed" in page.lower()
    assert world.itera("verify").code == 0


@pytest.mark.slow
def test_killed_twice_and_after_the_last_unit(staged, undisturbed, tmp_path):
    """Two kills in one pass, the second close to its end."""
    stage = staged["locked"].twin(tmp_path / "world")
    kill_when(stage, 30, "verdict")
    kill_when(stage, 90, "verdict")
    again = stage.world.itera("verdict")
    assert again.code in {0, 10, 20, 30}, again.text
    (verdict,) = stage.world.records("verdict")
    assert verdict["body"]["resumes"] == 2
    assert decided(verdict["body"]) == undisturbed


def test_a_rerun_goes_on_when_only_the_command_was_killed(staged, tmp_path):
    """The kernel and the isolated process must not outlive it: they would hold the pass and go on spending."""
    stage = staged["locked"].twin(tmp_path / "world")
    before = stage.calls()
    process = stage.world.start("verdict")
    assert wait_until(lambda: stage.calls().total() >= before.total() + 20, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 60
    while (done := stage.world.itera("verdict")).code == 2 and time.monotonic() < deadline:
        assert "middle of this pass" in done.text or "another run" in done.text
        time.sleep(1)
    assert done.code in CODES.values(), done.text
    assert len(stage.world.records("resumed")) == 1, "a refused rerun is not a resume"
