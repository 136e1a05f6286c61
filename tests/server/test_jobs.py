"""Jobs are processes that outlive tab and server, one at a time, and stop as Ctrl-C stops them."""

import json
import os
import signal
import time
import urllib.parse
import urllib.request
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import nbformat
import psutil
import pytest

from itera_nb.experiment import Experiment
from itera_nb.notebooks.runner import instantiate
from itera_nb.server import jobs
from itera_nb.server.actions import Refused

from .conftest import TOKEN, Server, validate

pytestmark = pytest.mark.slow


def sleep_in(folder, seconds):
    """A cell of the user's own in 0-frame, which keeps its kernel busy."""
    instantiate(Experiment(folder))
    path = folder / "notebooks" / "0-frame.ipynb"
    book = nbformat.read(path, 4)
    book.cells.append(nbformat.v4.new_code_cell(f"import time\ntime.sleep({seconds})"))
    nbformat.write(book, path)


def state_of(folder, job):
    return json.loads(jobs.files(folder, job["id"]).state.read_text())


@pytest.fixture
def mortal(tmp_path):
    """A server of this test alone, which may be killed."""
    running = Server(tmp_path / "own").start()
    yield running
    running.kill()


def events(server, job):
    """Every job that the stream of events sends."""
    query = urllib.parse.urlencode({"path": job["path"], "token": TOKEN})
    url = f"http://127.0.0.1:{server.port}/itera/jobs/{job['id']}/events?{query}"
    with urllib.request.urlopen(url, timeout=60) as stream:
        assert stream.headers["Content-Type"] == "text/event-stream"
        lines = stream.read().decode().splitlines()
    assert {line for line in lines if line.startswith("event:")} == {"event: job"}
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data:")]


def test_a_job_outlives_its_server_and_is_found_again(mortal, make_experiment):
    folder = make_experiment().experiment.folder
    folder = folder.rename(mortal.root / folder.name)
    sleep_in(folder, 6)
    status, job = mortal.start_job(folder.name, "run:0-frame")
    assert status == 201, job
    validate(job, "Job")
    assert os.getsid(state_of(folder, job)["pid"]) != os.getsid(mortal.process.pid)
    status, busy = mortal.start_job(folder.name, "verify")
    assert status == 423
    assert "run:0-frame is still running" in busy["error"]["what"]
    mortal.kill()
    mortal.start()  # another port, another process, the same root
    assert mortal.get("experiment", folder.name)[1]["job"]["state"] == "running"
    assert mortal.start_job(folder.name, "verify")[0] == 423
    told = events(mortal, job)
    assert [told[0]["state"], told[-1]["state"]] == ["running", "done"]
    for shown in told:
        validate(shown, "Job")
    detail = mortal.get("experiment", folder.name)[1]
    assert detail["locked"] == ["frame"]
    assert detail["phases"][0]["state"] == "done"
    assert mortal.get("jobs", folder.name)[1]["jobs"][0]["id"] == job["id"]


def test_a_job_is_interrupted_as_by_ctrl_c(server, placed):
    folder = placed()
    path = folder.relative_to(server.root).as_posix()
    sleep_in(folder, 120)
    _, job = server.start_job(path, "run:0-frame")
    while not (folder / "ledger.jsonl").is_file():
        time.sleep(0.1)
    time.sleep(1.0)
    own = psutil.Process(state_of(folder, job)["pid"])
    running = jobs.load(folder, job["id"])
    assert jobs.is_alive(running)
    processes = [own, *own.children(recursive=True)]
    assert len(processes) > 1  # its kernel is one
    asked = time.monotonic()
    query = urllib.parse.urlencode({"path": path})
    assert server.open("DELETE", f"/itera/jobs/{job['id']}?{query}")[0] == 202
    ended = server.finished(job)
    assert time.monotonic() - asked < 15
    assert (ended["state"], ended["ended"] is None) == ("interrupted", False)
    _, left = psutil.wait_procs(processes, timeout=10)
    assert [p for p in left if p.status() != psutil.STATUS_ZOMBIE] == []
    assert not jobs.is_alive(running)
    assert server.open("DELETE", f"/itera/jobs/{job['id']}?{query}")[0] == 202


def test_a_job_whose_process_is_gone_was_interrupted(server, placed):
    folder = placed()
    path = folder.relative_to(server.root).as_posix()
    sleep_in(folder, 60)
    _, job = server.start_job(path, "run:0-frame")
    os.kill(state_of(folder, job)["pid"], signal.SIGKILL)
    ended = server.finished(job)
    assert (ended["state"], ended["ended"]) == ("interrupted", None)
    assert state_of(folder, job)["state"] == "running"  # what a dead process wrote stays as it is
    status, again = server.start_job(path, "verify")
    assert status == 201
    failed = server.finished(again)
    assert failed["state"] == "failed"
    assert "there is no record" in failed["message"]


def test_a_pid_of_another_process_is_not_a_job(tmp_path):
    (tmp_path / jobs.FOLDER).mkdir(parents=True)
    id_ = "20261122-084941-32ff55488dd0"
    running = jobs.Job(id_, "verify", "running", jobs.now(), None, os.getpid())
    jobs.save(tmp_path, running)
    assert jobs.load(tmp_path, id_).state == "interrupted"
    jobs.interrupt(running)  # else this test would end here


HOSTILE = [
    {"pid": "1"},
    {"pid": True},
    {"state": "owned"},
    {"page": "../../etc/passwd"},
    {"refusal": {"what": 1}},
    {"refusal": []},
    {"id": "20261122-084941-000000000000"},
    {"message": 3},
    {"more": 1},
    {"pid": 2**70, "state": 3},
    {"action": "rm -rf"},
    {"refusal": {key: {"not": "a text"} for key in Refused.__dataclass_fields__}},
]


@pytest.mark.parametrize("change", HOSTILE, ids=str)
def test_a_state_file_of_someone_else_is_no_job(server, placed, change):
    folder = placed()
    path = folder.relative_to(server.root).as_posix()
    (folder / jobs.FOLDER).mkdir(parents=True)
    id_ = "20261122-084941-32ff55488dd0"
    honest = asdict(jobs.Job(id_, "verify", "done", jobs.now(), jobs.now(), 1, "verified"))
    file = jobs.files(folder, id_).state
    file.write_text(json.dumps(honest))
    assert server.get(f"jobs/{id_}", path)[0] == 200
    file.write_text(json.dumps({**honest, **change}))
    assert server.get(f"jobs/{id_}", path)[0] == 404
    assert server.get("jobs", path) == (200, {"jobs": []})
    assert server.get("experiment", path)[1]["job"] is None


FIGURES = '{{"label": "dev", "done": {}, "total": 9, "text": ""}}'


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "[" * 100_000, '{"label": 1}', *map(FIGURES.format, ("Infinity", "-1", "1e400"))],
)
def test_half_a_file_is_no_job_and_no_progress(tmp_path, text):
    (tmp_path / jobs.FOLDER).mkdir(parents=True)
    id_ = "20261122-084941-32ff55488dd0"
    for file in (jobs.files(tmp_path, id_).state, jobs.files(tmp_path, id_).progress):
        file.write_text(text)
    assert jobs.load(tmp_path, id_) is None
    assert jobs.progress(tmp_path, id_) is None


@pytest.mark.parametrize("kind", ["link", "pipe", "huge"])
def test_files_that_are_none_are_not_read(tmp_path, kind):
    (tmp_path / jobs.FOLDER).mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    id_ = "20261122-084941-32ff55488dd0"
    for file in jobs.files(tmp_path, id_):
        if kind == "link":
            file.symlink_to(tmp_path / "secret")
        elif kind == "pipe":
            os.mkfifo(file)
        else:
            with file.open("wb") as sparse:
                sparse.truncate(jobs.MAX_BYTES + 1)
    assert jobs.html(tmp_path, id_) is None
    assert jobs.load(tmp_path, id_) is None
    assert jobs.progress(tmp_path, id_) is None


def test_the_newest_job_is_the_first_also_within_a_second():
    at = datetime(2026, 11, 22, 8, 49, 41, tzinfo=UTC)
    made = [jobs.new_id(at + timedelta(microseconds=n)) for n in range(0, 1_000_000, 33_333)]
    assert made == sorted(made)
    assert all(jobs.ID.fullmatch(id_) for id_ in made)


def test_old_jobs_are_forgotten(tmp_path):
    (tmp_path / jobs.FOLDER).mkdir(parents=True)
    for n in range(jobs.KEPT + 5):
        id_ = f"20261122-084941-{n:012x}"
        jobs.save(tmp_path, jobs.Job(id_, "verify", "done", jobs.now(), jobs.now(), 1))
        jobs.files(tmp_path, id_).html.write_text("x")
    jobs.forget_old(tmp_path)
    assert len(jobs.ids(tmp_path)) == jobs.KEPT - 1
    assert len(list((tmp_path / jobs.FOLDER).glob("*.html"))) == jobs.KEPT - 1
    assert next(jobs.every(tmp_path)) == jobs.load(tmp_path, jobs.ids(tmp_path)[0])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_whole_experiment_by_requests(server, placed):
    folder = placed(rows=200)
    path = folder.relative_to(server.root).as_posix()
    status, refused = server.start_job(path, "run:3-run")
    assert (status, refused["refusal"]["safeguard"]) == (409, "SG04")
    canary = "CANARY"
    for action in (
        "run:0-frame",
        "run:1-source",
        "run:2-metric",
        "pilot",
        "run:3-run",
        "run:4-diagnose",
        "verdict",
    ):
        detail = server.get("experiment", path)[1]
        validate(detail, "Detail")
        wanted = next(found for found in detail["actions"] if found["id"] == action)
        assert wanted["enabled"], action
        if wanted["confirm"]:
            status, error = server.start_job(path, action)
            assert (status, wanted["confirm"] in error["error"]["what"]) == (400, True)
        status, job = server.start_job(path, action, confirmed=True)
        assert status == 201
        ended = server.finished(job, 120)
        assert ended["state"] == "done", ended
        if action == "pilot":
            assert canary in ended["html"]
    assert ended["page"] == f"{path}/conclusion.html"
    assert (server.root / ended["page"]).is_file()
    status, refused = server.start_job(path, "verdict", confirmed=True)
    assert (status, refused["refusal"]["safeguard"]) == (409, "SG02")
    _, job = server.start_job(path, "verify")
    assert server.finished(job)["message"].startswith("verified")
    detail = server.get("experiment", path)[1]
    validate(detail, "Detail")
    assert (detail["phase"], detail["seal"]["state"]) == (None, "decided")
    for file in (folder / jobs.FOLDER).glob("*.json"):
        assert canary not in file.read_text()
