"""Python arms on other machines: a real Dask cluster on this one, and any executor."""

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import Counter
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, ThreadPoolExecutor

import pytest
from world import go

from itera_nb.exceptions import ArmError, IteraError, StoppedError
from itera_nb.scoring import node
from itera_nb.scoring.attempts import AttemptLog
from itera_nb.scoring.cluster import CHUNK, SCHEDULER, connection
from itera_nb.scoring.keys import path_digest
from itera_nb.session import open as open_session

CODE = """\
import json, os, pathlib, time

HERE = pathlib.Path("{here}")


class Arm:
    def fit(self, rows, *, seed, resources=None):
        assert rows and all("label" in row for row in rows)
        self.bad = json.loads((HERE / "bad").read_text())
        with (HERE / "notes").open("a") as file:
            file.write("fit %d\\n" % os.getppid())

    def predict(self, rows):
        assert all(set(row) == {{"text"}} for row in rows), "labels stay at home"
        with (HERE / "notes").open("a") as file:
            for row in rows:
                file.write("row %d %s\\n" % (os.getppid(), row["text"].split()[0]))
        for row in rows:
            time.sleep({sleep_s})
            if self.bad.get(row["text"]) == "hang":
                time.sleep(600)
            if self.bad.get(row["text"]) == "die":
                os._exit(3)
        return [dict(w.split("=") for w in row["text"].split()[1:])["answer"] for row in rows]
"""


class Made:
    """An experiment that waits for its dev run, whose arm `better` learns and notes which rows it was given."""

    def __init__(self, exp, here):
        self.exp = exp
        self.here = here

    def dev_texts(self):
        return self.exp.experiment.read_frame("data/dev.parquet")["text"].tolist()

    def spoil(self, texts):
        (self.here / "bad").write_text(json.dumps(texts))

    def notes(self, kind):
        lines = (line.split() for line in (self.here / "notes").read_text().splitlines())
        return [rest for first, *rest in lines if first == kind]

    def attempts(self):
        log = self.exp.experiment.path("runs", "attempts.jsonl")
        return [json.loads(line) for line in log.read_text("utf-8").splitlines()]

    def better(self):
        dev = self.exp.experiment.read_frame("runs/dev.parquet")
        return dev[dev["arm"] == "better"]


@pytest.fixture
def make_learning(make_experiment, tmp_path):
    def make(*, rows=150, sleep_s=0.0, run="", code=CODE, extra_toml=""):
        made = Made(None, tmp_path)
        made.spoil({})
        exp = make_experiment(
            rows=rows,
            arms={"better": code.format(here=tmp_path, sleep_s=sleep_s)},
            run=f"trials = 1\n{run}",
            split="train = 0.1\ndev = 0.8\ntest = 0.1",
            extra_toml=extra_toml,
        )
        toml = exp.experiment.toml
        toml.write_text(toml.read_text("utf-8").replace("better.py:answer", "better.py:Arm"), "utf-8")
        made.exp = open_session(exp.experiment.folder)
        go(made.exp, until="train")
        (tmp_path / "notes").write_text("")
        return made

    return make


class Gone(ThreadPoolExecutor):
    """Machines that vanish with what they were given."""

    def submit(self, *_args):
        future = Future()
        future.set_exception(BrokenExecutor("gone"))
        return future


def test_paid_rows_that_vanish_with_their_machine_are_counted(bench, rows):
    bench.write("def f(row):\n    return row['x']")
    arms = [bench.arm("f", "paid", cost=None), bench.arm("f", "free")]
    with Gone(1) as executor, pytest.raises(StoppedError, match="the cluster is gone"):
        bench.run(arms, rows(*"abc"), cluster=connection(executor))
    with AttemptLog(bench.log_path) as log:
        assert log.cut_off == 3
        log.in_flight(-3)
    with ThreadPoolExecutor(1) as executor:
        bench.run(arms, rows(*"abc"), cluster=connection(executor))
    with AttemptLog(bench.log_path) as log:
        assert log.cut_off == 0


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_any_executor_answers_as_this_computer_does(make_learning, kind):
    made = make_learning()
    if kind == "threads":
        executor = ThreadPoolExecutor(2)
    else:
        executor = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))
    with executor:
        made.exp.run("dev", scheduler=executor)
    assert made.better()["score"].eq(1).all()
    rows = made.notes("row")
    assert len(rows) == len({canary for _, canary in rows}) == 120
    assert 1 <= len(made.notes("fit")) <= 2, "fitted once a worker, not once a chunk"
    if kind == "processes":
        assert str(os.getpid()) not in {process for process, _ in rows}


def test_an_arm_that_hangs_or_dies_loses_its_row_only(make_learning):
    made = make_learning(rows=75, run="timeout_s = 1.0")
    hangs, dies = made.dev_texts()[3], made.dev_texts()[20]
    made.spoil({hangs: "hang", dies: "die"})
    with ThreadPoolExecutor(1) as executor:
        made.exp.run("dev", scheduler=executor)
    ids = made.exp.experiment.read_frame("data/dev.parquet").set_index("text")["row_id"]
    statuses = made.better().set_index("id")["status"]
    assert statuses[ids[hangs]] == "timeout"
    assert statuses[ids[dies]] == "error"
    assert (statuses == "ok").sum() == len(statuses) - 2


def test_a_broken_executor_stops_and_nothing_finished_is_repeated(make_learning):
    made = make_learning(rows=150, sleep_s=0.02)
    executor = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))

    def kill():
        while not any(a["arm"] == "better" and a["row_id"] in dev for a in made.attempts()):
            time.sleep(0.05)
        os.kill(next(iter(executor._processes)), signal.SIGKILL)

    dev = set(made.exp.experiment.read_frame("data/dev.parquet")["row_id"])
    killer = threading.Thread(target=kill)
    killer.start()
    with executor, pytest.raises(StoppedError, match="the cluster is gone") as caught:
        made.exp.run("dev", scheduler=executor)
    killer.join()
    assert "what is recorded is not repeated" in str(caught.value)
    kept = {a["key"] for a in made.attempts()}
    (made.here / "notes").write_text("")
    made.exp.run("dev")
    again = [a["key"] for a in made.attempts()]
    assert len(again) == len(set(again))
    assert kept < set(again)
    assert made.better()["score"].eq(1).all()
    assert len(made.notes("row")) < 120


def test_plain_functions_are_sent_no_train_rows(make_experiment):
    exp = make_experiment(rows=60)
    go(exp, until="train")
    sent = []

    class Spying(ThreadPoolExecutor):
        def submit(self, function, job_id, rows, job):
            sent.append((rows, job))
            return super().submit(function, job_id, rows, job)

    with Spying(2) as executor:
        exp.run("dev", scheduler=executor)
    jobs = [job for _, job in sent if job is not None]
    assert jobs
    assert all(job["options"]["fit_rows"] == [] for job in jobs)
    assert all(set(row) == {"text"} for rows, _ in sent for row in rows)
    text = str(sent)
    assert "label" not in text
    assert "tenant" not in text


def test_the_job_is_sent_once_to_each_process_that_lacks_it():
    assert node.answer_chunk("unknown", [{}]) == {"missing": True}


@pytest.mark.parametrize("name", ["itera-nb", "Python"])
def test_a_node_with_other_versions_is_refused(job, name):
    theirs = dict(node.VERSIONS) | {name: "0.0"}
    outcome = node.answer_chunk(f"other {name}", [{}], job(versions=theirs))
    assert f"runs {name} {node.VERSIONS[name]}, this computer 0.0" in outcome["error"]
    assert "on every node" in outcome["fix"]


def test_large_resources_are_read_where_they_lie_if_they_are_the_same(job, tmp_path):
    corpus = tmp_path / "corpus"
    corpus.write_text("words")
    shared = {"path": str(corpus), "digest": path_digest(corpus), "files": None}
    found = node.answer_chunk("same", [{}], job(resources={"corpus": shared}))
    assert found["answers"][0]["output"] == "words"
    corpus.write_text("other words")
    outcome = node.answer_chunk("changed", [{}], job(resources={"corpus": shared}))
    assert "has another content on a node" in outcome["error"]
    corpus.unlink()
    outcome = node.answer_chunk("gone", [{}], job(resources={"corpus": shared}))
    assert "is not there on a node" in outcome["error"]


def test_small_resources_travel(job, tmp_path):
    shared = {"path": "/nowhere/corpus.txt", "digest": "", "files": {"": b"small"}}
    found = node.answer_chunk("small", [{}], job(resources={"corpus": shared}))
    assert found["answers"][0]["output"] == "small"


def test_no_file_is_written_outside_of_the_snapshot(job, tmp_path):
    outcome = node.answer_chunk("escape", [{}], job(files={"../../escaped": b"x"}))
    assert "does not lie in the snapshot" in outcome["error"]


@pytest.fixture
def job():
    """A job whose arm answers with its resource; what is left waiting is ended."""
    code = (
        b"class Arm:\n"
        b"    def fit(self, *, resources):\n        self.text = open(resources['corpus']).read()\n"
        b"    def predict(self, rows):\n        return [self.text for _ in rows]\n"
    )

    def make(**changes):
        usual = {
            "versions": node.VERSIONS,
            "files": {"arms/a.py": code},
            "target": "arms/a.py:Arm",
            "pythonpath": [],
            "resources": {},
            "batch_size": None,
            "options": {"timeout_s": 20.0},
        }
        return usual | changes

    yield make
    node.forget()


def test_a_scheduler_that_does_not_answer(make_experiment, monkeypatch):
    monkeypatch.setattr("itera_nb.scoring.cluster.CONNECT_S", 0.5)
    exp = make_experiment(rows=60)
    go(exp, until="train")
    with pytest.raises(IteraError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        exp.run("dev", scheduler="tcp://127.0.0.1:9")


def test_without_dask_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(IteraError, match=r'pip install "itera-nb\[dask\]"'),
        connection("tcp://127.0.0.1:9")(),
    ):
        pass


@pytest.fixture(scope="module")
def dask():
    """Two worker processes of one thread each, started again when they are killed."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        yield cluster


@pytest.mark.slow
def test_a_worker_killed_mid_run(dask, make_learning):
    made = make_learning(rows=500, sleep_s=0.02)
    dev = set(made.exp.experiment.read_frame("data/dev.parquet")["row_id"])
    done, killed = threading.Event(), []

    def kill():
        finished = 0
        while finished < CHUNK and not done.is_set():
            finished = sum(a["arm"] == "better" and a["row_id"] in dev for a in made.attempts())
            time.sleep(0.05)
        recorded = {a["row_id"] for a in made.attempts() if a["arm"] == "better"}
        victim = made.notes("row")[-1][0]
        killed.extend([victim, recorded])
        os.kill(int(victim), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        made.exp.run("dev", scheduler=dask.scheduler_address)
    finally:
        done.set()
        killer.join()
    victim, recorded = killed
    better = made.better()
    assert len(better) == 400
    assert better["score"].eq(1).all()
    keys = Counter(a["key"] for a in made.attempts())
    assert set(keys.values()) == {1}
    # The killed worker's chunk was sent again; no row that was recorded by then was computed a second time.
    texts = made.exp.experiment.read_frame("data/dev.parquet").set_index("row_id")["text"]
    times = Counter(canary for _, canary in made.notes("row"))
    assert all(times[texts[i].split()[0]] == 1 for i in recorded if i in texts.index)
    assert 400 < sum(times.values()) <= 400 + 2 * CHUNK
    workers = {process for process, _ in made.notes("row")}
    assert victim in workers
    assert len(workers) >= 2


@pytest.mark.slow
def test_the_environment_names_the_scheduler_for_kernels(dask, make_learning, monkeypatch):
    made = make_learning(rows=75)
    monkeypatch.setenv(SCHEDULER, dask.scheduler_address)
    made.exp.run("dev")
    pids = {str(worker.pid) for worker in dask.workers.values()}
    assert {process for process, _ in made.notes("row")} <= pids


@pytest.mark.slow
def test_an_arm_that_cannot_be_fitted_there_stops_the_run(dask, make_learning):
    made = make_learning(rows=75)
    (made.here / "bad").unlink()
    with pytest.raises(ArmError, match="cannot be loaded and fitted: FileNotFoundError"):
        made.exp.run("dev", scheduler=dask.scheduler_address)
