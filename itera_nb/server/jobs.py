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
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

from itera_nb.exceptions import IteraError

FOLDER = "runs/jobs"
ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{12}")
REFUSAL = {"safeguard", "what", "why", "instead", "asks", "record"}
KEPT = 50
MAX_BYTES = 4 * 1024 * 1024
START_SECONDS = 30.0
BUSY_SECONDS = 10.0
JobState = Literal["running", "done", "failed", "interrupted"]


class BusyError(IteraError):
    """Another job of this experiment is running."""


@dataclass(frozen=True, slots=True)
class Job:
    """One run of an action, as its state file holds it: no row text, no output, no secret.

    Attributes:
        id: Time of the start (UTC) and a random part; also the files' name.
        action: "run:0-frame" … "run:4-diagnose", "pilot", "verdict", "render" or "verify".
        started, ended: ISO times.
        pid, born: The process, and when it began: a number alone may be another's by now.
        message: What came of it, in a sentence.
        refusal: The protocol's answer, if it was refused.
        page: The page that was written, relative to the experiment's folder.
    """

    id: str
    action: str
    state: JobState
    started: str
    ended: str | None
    pid: int
    born: str
    message: str | None = None
    refusal: dict[str, Any] | None = None
    page: str | None = None


@dataclass(frozen=True, slots=True)
class Files:
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


def write(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(value), "utf-8")
    draft.replace(path)


def save(folder: Path, job: Job) -> None:
    """Write a job's state."""
    write(files(folder, job.id).state, asdict(job))


def load(folder: Path, job: str) -> Job | None:
    """One job as it stands now; None if there is none. A running one without its process was interrupted."""
    if not ID.fullmatch(job):
        return None
    try:
        found = Job(**json.loads(_read(files(folder, job).state)))
        if not _well_formed(found, job):
            return None
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    if found.state == "running" and born(found.pid, found.id) != found.born:
        return replace(found, state="interrupted", message="its process is gone; what was finished is kept")
    return found


def ids(folder: Path) -> list[str]:
    """The ids of an experiment's jobs, newest first."""
    with contextlib.suppress(OSError):
        names = [path.name.removesuffix(".json") for path in (folder / FOLDER).iterdir()]
        return sorted((name for name in names if ID.fullmatch(name)), reverse=True)
    return []


def latest(folder: Path) -> Job | None:
    """The running job, else the last one."""
    return next((job for name in ids(folder) if (job := load(folder, name))), None)


def progress(folder: Path, job: str) -> dict[str, Any] | None:
    """How far a job is: `{label, done, total, text}`, figures only; None before the first figure."""
    try:
        value = json.loads(_read(files(folder, job).progress))
        return {
            "label": str(value["label"]),
            "done": int(value["done"]),
            "total": int(value["total"]),
            "text": str(value["text"]),
        }
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
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
            before = latest(folder)
            if before is not None and before.state == "running":
                raise _busy(before.action)
            forget_old(folder)
            return _start(folder, action)
    except Timeout:
        raise _busy("another") from None


def interrupt(job: Job) -> None:
    """Ask a running job to stop, as Ctrl-C does; what is finished is kept."""
    if job.state == "running" and born(job.pid, job.id) == job.born:
        with contextlib.suppress(ProcessLookupError):
            os.kill(job.pid, signal.SIGINT)


def born(pid: int, job: str) -> str | None:
    """When a job's process began, in the system's own words; None if this process is not (any more) it."""
    _reap()
    if pid <= 0:
        return None
    try:
        figures = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except FileNotFoundError:
        return None if Path("/proc/self/stat").exists() else _born_by_ps(pid, job)
    except OSError:
        return None
    state, *rest = figures.rpartition(")")[2].split()
    # The 22nd field is the start in ticks since the boot; a zombie has ended.
    return None if state == "Z" or job.encode() not in words else f"{_boot()}:{rest[18]}"


def _born_by_ps(pid: int, job: str) -> str | None:
    done = subprocess.run(  # noqa: S603
        ["/bin/ps", "-ww", "-o", "state=,lstart=,args=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
    )
    state, *words = done.stdout.split() or ["Z"]
    return None if state.startswith("Z") or job not in words else " ".join(words[:5])


@cache
def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def _busy(action: str) -> BusyError:
    return BusyError(f"{action} is still running in this experiment", fix="wait for its end, or stop it")


_children: list[subprocess.Popen[bytes]] = []


def _reap() -> None:
    _children[:] = [child for child in _children if child.poll() is None]


def _start(folder: Path, action: str) -> Job:
    id_ = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(6)}"
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
    _children.append(child)
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
        for path in (files(folder, old).progress, files(folder, old).html, files(folder, old).state):
            path.unlink(missing_ok=True)


def _well_formed(job: Job, name: str) -> bool:
    """Whether a file that anyone may have put there holds what a job would have written."""
    texts = (job.action, job.state, job.started, job.born)
    optional = (job.ended, job.message, job.page)
    return (
        job.id == name
        and type(job.pid) is int
        and all(isinstance(text, str) for text in texts)
        and all(text is None or isinstance(text, str) for text in optional)
        and job.state in {"running", "done", "failed", "interrupted"}
        and (
            job.refusal is None
            or set(job.refusal) == {"safeguard", "what", "why", "instead", "asks", "record"}
        )
        and job.page in {None, "conclusion.html"}
    )
