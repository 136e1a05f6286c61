"""Jobs: processes of their own that outlive tab and server; one small state file each in `runs/jobs/`."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import psutil
from pydantic import NonNegativeInt, PositiveInt, TypeAdapter
from pydantic.dataclasses import dataclass as validated

from itera_nb.exceptions import IteraError

from .actions import IDS, STRICT, Refused

FOLDER = "runs/jobs"
ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{12}")
KEPT = 50
MAX_BYTES = 4 * 1024 * 1024
BUSY_SECONDS = 10.0


class BusyError(IteraError):
    """Another job of this experiment is running."""

    status = 423


@validated(frozen=True, slots=True, config=STRICT)
class Job:
    """One run of an action, as its state file holds it: no row text, no output, no secret.

    Attributes:
        id: Time of the start (UTC) and a random part; also the files' name.
        action: "run:0-frame" … "run:4-diagnose", "pilot", "verdict", "render" or "verify".
        started, ended: ISO times.
        pid: The process; its arguments hold the id, as the number alone may be another's by now.
        message: What came of it, in a sentence.
        refusal: The protocol's answer, if it was refused.
        page: The page that was written, relative to the experiment's folder.
    """

    id: str
    action: str
    state: Literal["running", "done", "failed", "interrupted"]
    started: str
    ended: str | None
    pid: PositiveInt
    message: str | None = None
    refusal: Refused | None = None
    page: Literal["conclusion.html"] | None = None


@validated(frozen=True, slots=True, config=STRICT)
class Progress:
    """How far a job is, in figures."""

    label: str
    done: NonNegativeInt
    total: NonNegativeInt
    text: str


_JOB, _PROGRESS = TypeAdapter(Job), TypeAdapter(Progress)


class Files(NamedTuple):
    """The files of one job."""

    state: Path
    progress: Path
    html: Path


def files(folder: Path, job: str) -> Files:
    """Where a job's state, progress and static HTML stand."""
    base = folder / FOLDER
    return Files(base / f"{job}.json", base / f"{job}.progress.json", base / f"{job}.html")


def now() -> str:
    """This moment (UTC, ISO, milliseconds)."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def save(folder: Path, job: Job) -> None:
    """Write a job's state, whole or not at all."""
    path = files(folder, job.id).state
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(asdict(job)), "utf-8")
    draft.replace(path)


def load(folder: Path, job: str) -> Job | None:
    """One job as it stands now; None if there is none. A running one without its process was interrupted."""
    if not ID.fullmatch(job):
        return None
    try:
        found = _JOB.validate_json(_read(files(folder, job).state))
    except (OSError, ValueError):
        return None
    if found.id != job or found.action not in IDS:
        return None
    if found.state == "running" and not is_alive(found):
        return replace(found, state="interrupted", message="its process is gone; what was finished is kept")
    return found


def ids(folder: Path) -> list[str]:
    """The ids of an experiment's jobs, newest first."""
    with contextlib.suppress(OSError):
        names = [path.name.removesuffix(".json") for path in (folder / FOLDER).iterdir()]
        return sorted((name for name in names if ID.fullmatch(name)), reverse=True)
    return []


def every(folder: Path) -> Iterator[Job]:
    """An experiment's jobs, newest first: a running one is the first."""
    return (job for name in ids(folder) if (job := load(folder, name)))


def progress(folder: Path, job: str) -> dict[str, Any] | None:
    """How far a job is: `{label, done, total, text}`, figures only; None before the first figure."""
    try:
        return asdict(_PROGRESS.validate_json(_read(files(folder, job).progress)))
    except (OSError, ValueError):
        return None


def html(folder: Path, job: str) -> str | None:
    """What a job left to look at, as static HTML."""
    try:
        return _read(files(folder, job).html)
    except (OSError, ValueError):
        return None


def _read(path: Path) -> str:
    """The text of a small regular file; anyone may have put a link, a pipe or gigabytes in its place.

    Raises:
        OSError, ValueError: If it is not one.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("not a regular file")
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError("too large")
    return data.decode("utf-8")


def start(folder: Path, action: str) -> Job:
    """Start an action in a session of its own and return once its state is on disk.

    Raises:
        BusyError: One is running, whichever server started it.
        IteraError: The process did not start.
    """
    from filelock import FileLock, Timeout

    base = folder / FOLDER
    base.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(base / ".lock", timeout=BUSY_SECONDS):
            before = next(every(folder), None)
            if before is not None and before.state == "running":
                raise _busy(before.action)
            forget_old(folder)
            return _start(folder, action)
    except Timeout:
        raise _busy("another") from None


def interrupt(job: Job) -> None:
    """Ask a running job to stop, as Ctrl-C does; what is finished is kept."""
    if job.state == "running" and is_alive(job):
        with contextlib.suppress(ProcessLookupError):
            os.kill(job.pid, signal.SIGINT)


def is_alive(job: Job) -> bool:
    """Whether the job's own process runs, not another that got its number since; a zombie does not."""
    with contextlib.suppress(psutil.Error):
        return job.id in psutil.Process(job.pid).cmdline()
    return False


def _busy(action: str) -> BusyError:
    return BusyError(f"{action} is still running in this experiment", fix="wait for its end, or stop it")


def new_id(at: datetime) -> str:
    """An id for a job that starts at a time: of two, also in one second, the later has the greater id."""
    return f"{at:%Y%m%d-%H%M%S}-{at.microsecond:05x}{secrets.randbits(28):07x}"


def _start(folder: Path, action: str) -> Job:
    id_ = new_id(datetime.now(UTC))
    # -P: neither the experiment's folder nor the server's may shadow a module.
    command = [sys.executable, "-P", "-m", "itera_nb.server", "job", str(folder), action, id_]
    child = subprocess.Popen(  # noqa: S603 - our own interpreter and module
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    threading.Thread(target=child.wait, daemon=True).start()  # no zombie is left
    assert child.stdout is not None
    with child.stdout as ready:
        ready.read(1)  # one byte once the state is written, or the end of a process that failed
    job = load(folder, id_)
    if job is None:
        raise IteraError("the job's process did not start", fix="run it in a terminal: itera run")
    return job


def forget_old(folder: Path) -> None:
    """Remove the files of all but the newest 49 jobs: the 50th is about to start."""
    for old in ids(folder)[KEPT - 1 :]:
        for path in reversed(files(folder, old)):  # the state last: it makes the others known
            path.unlink(missing_ok=True)
