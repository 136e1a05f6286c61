"""kill -9 in the middle: the same command finishes, and no finished unit is paid twice."""

import json
import os
import random
import signal
import time
from collections import Counter

import pytest
from world import decide, go, kill_family, new_world, tickets, wait_until, write_csv

from itera_nb.experiment import Experiment
from itera_nb.scoring.attempts import AttemptLog
from itera_nb.seal.parquet import AgeLines

ROWS, TRIALS = 60, 2
WORKERS = 2
CODES = {"ship": 0, "scope": 10, "kill": 20, "inconclusive": 30}
SLOW_RULES = """\
import time


def note(arm, row):
    with open({counter!r}, "a") as file:
        file.write(arm + " " + row["text"].split()[0] + "\\n")
    time.sleep(0.02)


def v1(row):
    note("v1", row)
    words = row["text"].split()
    return words[-2] if words[-1] == "plain" else "other"


def v2(row):
    note("v2", row)
    words = row["text"].split()
    return words[-2] if words[-1] != "vague" else "other"
"""


class Stage:
    """A world whose arms note every call in a file outside the experiment."""

    def __init__(self, world, counter):
        self.world, self.counter = world, counter

    def calls(self):
        return Counter(self.counter.read_text("utf-8").splitlines()) if self.counter.exists() else Counter()

    def twin(self, to):
        """A copy before anything was locked would be another experiment; a copy later is the same one."""
        return Stage(self.world.copy(to), self.counter)


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    """The slow experiment after its pilot, and after its lock."""
    base = tmp_path_factory.mktemp("killed")
    stage = Stage(new_world(base / "world"), base / "calls.txt")
    project = stage.world.project
    write_csv(project / "eval.csv", tickets(ROWS))
    (project / "rules.py").write_text(SLOW_RULES.format(counter=str(stage.counter)), "utf-8")
    flags = "--data eval.csv --id ticket_id --expected label --slices tenant --baseline rules.py:v1 --arm rules.py:v2"
    made = stage.world.itera("new", "killed", *flags.split(), cwd=project)
    assert made.code == 0, made.text
    toml = stage.world.folder / "experiment.toml"
    toml.write_text(toml.read_text("utf-8").replace("trials = 3", f"trials = {TRIALS}"), "utf-8")
    with stage.world.entered() as exp:
        go(exp, until="pilot")
        piloted = stage.twin(base / "piloted")
        go(exp)
        locked = stage.twin(base / "locked")
    return {"piloted": piloted, "locked": locked}


def recorded(world, log, codec=None):
    """How often each (arm, row) stands in an attempt log that nobody writes any more."""
    ids = {row["ticket_id"]: row["text"].split()[0] for row in tickets(ROWS)}
    path = world.folder / log
    if not path.exists():
        return Counter()
    with AttemptLog(path, codec) as opened:
        return Counter(f"{a.arm} {ids[a.row_id]}" for a in opened.finished.values())


def kill_when(stage, calls, *command):
    """Start a command, kill its whole family at the given number of calls; calls made until then."""
    before = stage.calls()
    process = stage.world.start(*command)
    enough = before.total() + calls
    alive = wait_until(lambda: stage.calls().total() >= enough, process)
    kill_family(process)
    assert alive, "the command ended before it could be killed"
    return stage.calls() - before


def check(calls, logged, rerun, planned):
    """Finished units were called once; only those in flight at the kill were called again."""
    assert sum((calls - logged).values()) <= WORKERS, "more calls were lost than there are workers"
    assert logged + rerun == planned
    assert (calls + rerun).total() <= planned.total() + WORKERS


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


def decided(body):
    """A verdict record without what a clock decides."""

    def timeless(value):
        if isinstance(value, dict):
            return {k: timeless(v) for k, v in value.items() if "latency" not in k}
        return [timeless(v) for v in value] if isinstance(value, list) else value

    return timeless({"outcome": body["outcome"], "arm": body["arm"], "verdict": body["verdict"]})


@pytest.fixture(scope="module")
def undisturbed(staged, tmp_path_factory):
    """The verdict of a twin that nobody killed."""
    stage = staged["locked"].twin(tmp_path_factory.mktemp("twin") / "world")
    with stage.world.entered() as exp:
        return decided(decide(exp))


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
