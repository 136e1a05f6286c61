"""What runs on a cluster's nodes: a chunk of rows, answered in isolated workers of the node's own.

A task is plain data. What all chunks of a job share (the snapshot's files, rows to fit on, resources) is sent
only to processes that say they lack it, and unpacked once in each.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, TypedDict

import itera_nb
from itera_nb.exceptions import ArmError, IteraError

from . import keys
from .workers import Worker, answers

IDLE_S = 20.0
MOST_JOBS = 16
VERSIONS = {"itera-nb": itera_nb.__version__, "Python": f"{sys.version_info[0]}.{sys.version_info[1]}"}


class SharedFile(TypedDict):
    """A resource: its path and digest, and its files as bytes where it is small (`{"": ...}` for a file)."""

    path: str
    digest: str
    files: dict[str, bytes] | None


class Job(TypedDict):
    """What all chunks of an arm in a trial share; `options` are further fields of `child.Setup`."""

    versions: dict[str, str]
    files: dict[str, bytes]
    target: str
    pythonpath: list[str]
    resources: dict[str, SharedFile]
    batch_size: int | None
    options: dict[str, Any]


class Outcome(TypedDict, total=False):
    """Answers as dictionaries, in the order of the rows; or the job is not here; or what stops the run."""

    answers: list[dict[str, Any]]
    missing: bool
    error: str
    fix: str


def answer_chunk(job_id: str, rows: Sequence[Mapping[str, Any]], job: Job | None = None) -> Outcome:
    """Answer a chunk of rows: each ends in a status, by deadline, hard kill and bisection as anywhere.

    The job, of which `job_id` is the digest, comes after an answer that it was missing here.
    """
    try:
        place = _place(job_id, job)
        return {"missing": True} if place is None else {"answers": place.answer(rows)}
    except IteraError as error:
        return {"error": error.what, "fix": error.fix}


class _Place:
    """A job unpacked on this node, and its fitted workers that wait for another chunk."""

    def __init__(self, job: Job) -> None:
        self.job = job
        folder = Path(tempfile.mkdtemp(prefix="itera-node-", dir=_scratch()))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.root = folder / "snapshot"
        _unpack(job["files"], self.root)
        self.resources = {
            name: _resource(name, shared, folder / "resources" / str(number))
            for number, (name, shared) in enumerate(job["resources"].items())
        }
        self._lock = threading.Lock()
        self._idle: list[tuple[Worker, threading.Timer]] = []

    def answer(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Answers of a chunk, in the order of its rows.

        Raises:
            ArmError: The target cannot be loaded or fitted.
        """
        worker, job = self._worker(), self.job
        items = [(dict(row),) for row in rows]
        try:
            timeout_s = worker.setup.timeout_s
            found = dict(answers(worker, items, timeout_s=timeout_s, batch_size=job["batch_size"]))
        except BaseException:
            worker.close()
            raise
        self._keep(worker)
        return [asdict(found[index]) for index in range(len(rows))]

    def _worker(self) -> Worker:
        """A waiting worker, or a new one."""
        with self._lock:
            if self._idle:
                worker, timer = self._idle.pop()
                timer.cancel()
                return worker
        job = self.job
        return Worker(
            self.root,
            job["target"],
            [self.root / path for path in job["pythonpath"]],
            resources=self.resources,
            **job["options"],
        )

    def _keep(self, worker: Worker) -> None:
        timer = threading.Timer(IDLE_S, self._retire, (worker,))
        timer.daemon = True
        with self._lock:
            self._idle.append((worker, timer))
        timer.start()

    def end_idle(self) -> None:
        """End the workers that wait."""
        with self._lock:
            idle, self._idle = self._idle, []
        for worker, timer in idle:
            timer.cancel()
            worker.close()

    def _retire(self, worker: Worker) -> None:
        with self._lock:
            mine = [entry for entry in self._idle if entry[0] is worker]
            self._idle = [entry for entry in self._idle if entry[0] is not worker]
        if mine:  # else the next chunk has just taken it
            worker.close()


_places: dict[str, _Place] = {}
_lock = threading.Lock()


def forget() -> None:
    """End what waits in this process for further chunks, and drop all jobs."""
    with _lock:
        places = list(_places.values())
        _places.clear()
    for place in places:
        place.end_idle()


# A process waits for its children when it ends: these would wait for chunks until they are idle for too long.
Finalize(None, forget, exitpriority=10)


def _place(job_id: str, job: Job | None) -> _Place | None:
    """The unpacked job; None if it is not here.

    Raises:
        ArmError: The node runs other versions, or lacks a resource.
    """
    with _lock:
        if job_id not in _places and job is not None:
            _require_versions(job["versions"])
            _places[job_id] = _Place(job)
            for oldest in list(_places)[:-MOST_JOBS]:
                del _places[oldest]  # its files go when its last chunk is answered
        return _places.get(job_id)


def _scratch() -> str | None:
    """A Dask worker's own folder, which Dask removes even after a kill; else the system's."""
    dask = sys.modules.get("distributed.worker")
    try:
        return str(dask.get_worker().local_directory) if dask else None
    except ValueError:  # not inside a task of Dask's
        return None


def _require_versions(theirs: Mapping[str, str]) -> None:
    for name, version in theirs.items():
        if VERSIONS[name] != version:
            raise ArmError(
                f"a node of the cluster runs {name} {VERSIONS[name]}, this computer {version}",
                fix=f"install {name} {version} on every node, so that all rows are answered alike",
            )


def _unpack(files: Mapping[str, bytes], into: Path) -> None:
    into.mkdir(parents=True, exist_ok=True)
    for relative, data in files.items():
        path = into / relative
        if not path.resolve().is_relative_to(into.resolve()):
            raise ArmError(f"{relative} does not lie in the snapshot")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _resource(name: str, shared: SharedFile, into: Path) -> Path:
    """The path of a resource on this node: unpacked, or the same path with the same content.

    Raises:
        ArmError: It is neither.
    """
    if shared["files"] is not None:
        if set(shared["files"]) == {""}:
            into.mkdir(parents=True, exist_ok=True)
            path = into / Path(shared["path"]).name
            path.write_bytes(shared["files"][""])
            return path
        _unpack(shared["files"], into)
        return into
    path = Path(shared["path"])
    if not path.exists() or keys.path_digest(path) != shared["digest"]:
        state = "has another content" if path.exists() else "is not there"
        raise ArmError(
            f"resource {name}: {path} {state} on a node of the cluster",
            fix="put it on a file system that all nodes share, at the same path",
        )
    return path
