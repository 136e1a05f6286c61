"""kill -9 and full disks while records are written: readable, nothing acknowledged is lost, nothing happens twice."""

import json
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from killing import decided
from world import kill_family

from itera_nb.experiment import Experiment
from itera_nb.verdict.verify import verify

ROUNDS = 25
WRITER = """\
import random, sys
from itera_nb.experiment import Experiment
experiment, draw = Experiment(sys.argv[1]), random.Random(sys.argv[2])
while True:
    record = experiment.record("accepted", {"safeguard": "SG12", "why": "x" * draw.choice([10, 2_000, 20_000])})
    print(record.seq, flush=True)
"""
VERDICT = """\
import sys
sys.path.insert(0, sys.argv[2])
import itera_nb
from itera_nb.report.files import conclude
from world import open_test
experiment = itera_nb.open(sys.argv[1]).experiment
if not experiment.state.decided:
    open_test(experiment)
conclude(experiment)
"""


@pytest.mark.parametrize(
    "rounds", [3, pytest.param(ROUNDS, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
def test_appending_survives_being_killed(make_experiment, capsys, rounds):
    """Two writers, killed together."""
    draw = random.Random(3)
    experiment = make_experiment().experiment
    experiment.record("accepted", {"safeguard": "SG12", "why": "begun"})
    acknowledged = recovered = 0
    for number in range(rounds):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(experiment.folder), f"{number} {w}"],
                stdout=subprocess.PIPE,
            )
            for w in range(2)
        ]
        said = [writers[0].stdout.readline()]
        time.sleep(draw.uniform(0, 0.15))
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
        for writer in writers:
            said += writer.communicate()[0].splitlines()
        seqs = [int(line) for line in said if line.strip()]
        assert len(seqs) == len(set(seqs)), "two records with one number"
        records = Experiment(experiment.folder).state.records
        assert len(records) >= max(seqs), "an acknowledged record is lost"
        acknowledged += len(seqs)
    record = Experiment(experiment.folder).record("accepted", {"safeguard": "SG12", "why": "after"})
    recovered = len(Experiment(experiment.folder).state.all("recovered"))
    with capsys.disabled():
        sys.stdout.write(
            f"\n{rounds} kills in appending: {acknowledged} acknowledged, {record.seq} records, {recovered} torn\n"
        )


@pytest.fixture
def locked(make_experiment, state):
    from world import go

    exp = make_experiment(rows=120, rule='min_effect = 0.05\nextension = "none"', run="trials = 1")
    go(exp)
    return exp.experiment


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_writing_the_verdict_and_its_documents_survives_being_killed(
    locked, state, tmp_path, monkeypatch, capsys
):
    pipeline = str(Path(__file__).parents[1] / "pipeline")

    def start(folder, states):
        monkeypatch.setenv("ITERA_STATE_DIR", str(states))
        return subprocess.Popen(
            [sys.executable, "-c", VERDICT, str(folder), pipeline],
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def twin(name):
        folder, states = tmp_path / name / "fees", tmp_path / name / "state"
        shutil.copytree(locked.folder, folder)
        shutil.copytree(state, states)
        for head in (states / "heads").glob("*.json"):
            head.write_text(head.read_text().replace(str(locked.folder), str(folder)))
        return folder, states

    folder, states = twin("undisturbed")
    process, scored = start(folder, states), None
    whole = 2 * Experiment(locked.folder).state.the("sealed").body["counts"]["test"]
    while process.poll() is None:
        log = folder / "sealed" / "attempts.age"
        if scored is None and log.exists() and log.read_bytes().count(b"\n") == whole:
            scored = time.monotonic()
        time.sleep(0.005)
    writing = time.monotonic() - scored
    assert process.wait() == 0, process.stderr.read()
    process.stderr.close()
    expected = decided(Experiment(folder).state.the("verdict").body)

    draw, figures = random.Random(9), []
    for number in range(ROUNDS):
        folder, states = twin(f"round-{number}")
        log, process = folder / "sealed" / "attempts.age", start(folder, states)
        while not (log.exists() and log.read_bytes().count(b"\n") == whole) and process.poll() is None:
            time.sleep(0.005)
        time.sleep(draw.uniform(0, writing))
        kill_family(process)
        process.stderr.close()
        killed = Experiment(folder)
        figures.append(killed.state.records[-1].type)
        for path in [*folder.glob("*.json"), *folder.glob("charts/*.png"), *folder.glob("conclusion.*")]:
            assert path.stat().st_size, f"{path.name} is empty"
        if (folder / "data.json").exists():
            json.loads((folder / "data.json").read_text("utf-8"))
        again = start(folder, states)
        error = again.communicate()[1]
        assert again.returncode == 0, error
        state_ = Experiment(folder).state
        assert [len(state_.all(t)) for t in ("test_opened", "verdict")] == [1, 1]
        assert decided(state_.the("verdict").body) == expected
        assert all(finding.holds for finding in verify(Experiment(folder)).findings)
        shutil.rmtree(folder.parent)
    ends = {type_: figures.count(type_) for type_ in sorted(set(figures))}
    with capsys.disabled():
        sys.stdout.write(
            f"\n{ROUNDS} kills in the {writing:.1f} s of writing the record: last record at the kill {ends}\n"
        )


FULL = """\
import resource, sys
from itera_nb.experiment import Experiment
experiment = Experiment(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    experiment.record("accepted", {"safeguard": "SG12", "why": "y" * 4000})
except OSError as error:
    print(error.errno)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs file size limits")
@pytest.mark.parametrize("room", [0, 1, 100, 3000])
def test_a_full_disk_leaves_the_ledger_as_it_was(make_experiment, room):
    """The write ends in the middle of the line, as on a disk that has filled up."""
    experiment = make_experiment().experiment
    experiment.record("accepted", {"safeguard": "SG12", "why": "begun"})
    before = experiment.ledger.path.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(experiment.folder), str(len(before) + room)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip().isdigit(), done.stderr
    assert experiment.ledger.path.read_bytes() == before
    assert (
        Experiment(experiment.folder).record("accepted", {"safeguard": "SG12", "why": "room again"}).seq == 3
    )
    assert list(experiment.folder.glob("ledger.torn*")) == []
