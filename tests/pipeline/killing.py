"""A slow experiment whose arms count their calls, killed at a chosen moment."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from world import go, kill_family, new_world, tickets, wait_until, write_csv

from itera_nb.scoring.attempts import AttemptLog

ROWS, TRIALS = 60, 2
WORKERS = 2
OPEN = "import itera_nb, sys; from world import open_test; open_test(itera_nb.open(sys.argv[1]).experiment)"
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


def stages(base):
    """The slow experiment after its pilot, and after its lock."""
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
        return Counter(f"{a.arm} {ids[a.row_id]}" for a in opened.finished)


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


def decided(body):
    """A verdict record without what a clock decides."""

    def timeless(value):
        if isinstance(value, dict):
            return {k: timeless(v) for k, v in value.items() if "latency" not in k}
        return [timeless(v) for v in value] if isinstance(value, list) else value

    return timeless({"outcome": body["outcome"], "arm": body["arm"], "verdict": body["verdict"]})


def opening(world):
    """Start the opening, without a kernel and a page, as a process of its own."""
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    return subprocess.Popen(
        [sys.executable, "-c", OPEN, str(world.folder)],
        env=world.environment(PYTHONPATH=paths),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
