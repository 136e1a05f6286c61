"""What the panel shows, read from ledgers and registered intent only; no row is ever opened.

A ledger that has not changed costs a look at its size and time; one that has grown costs its new records.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from itera_nb.exceptions import IteraError, SpecError
from itera_nb.experiment import Experiment
from itera_nb.protocol import PHASES, State, next_phase
from itera_nb.report.record_line import record_line
from itera_nb.report.standing import LOCKS, standing
from itera_nb.seal.custody import named
from itera_nb.spec import PRICES, hide_keys

from . import jobs
from .actions import actions
from .folders import NotHereError, Root

TAIL = 12
LIST_SECONDS = 0.05
"""What a list may spend on ledgers that changed; the rest is read behind it and said to be `reading`."""


@dataclass(slots=True, eq=False)
class _Entry:
    """What is known of an experiment, and the stamp of the files that it was read from."""

    experiment: Experiment
    lock: threading.Lock = field(default_factory=threading.Lock)
    waits: bool = False
    stamp: tuple[object, ...] | None = None
    genesis: str = ""
    summary: dict[str, Any] = field(default_factory=dict)
    detail: dict[str, Any] = field(default_factory=dict)


class Panel:
    """The read side of the server; its methods may be called from several threads."""

    def __init__(self, root: Root) -> None:
        self.root = root
        self._entries: dict[Path, _Entry] = {}
        self._waiting: SimpleQueue[_Entry] = SimpleQueue()
        threading.Thread(target=self._read_behind, name="itera-reader", daemon=True).start()

    def summaries(self) -> list[dict[str, Any]]:
        """Every experiment below the root, the newest first.

        One whose ledger has not been read yet is `reading`; ask again in a second.
        """
        # One that was asked for by its name is known before the next walk finds it.
        known = {*self.root.experiments(), *list(self._entries)}
        here = {folder for folder in known if self.root.holds_experiment(folder)}
        for gone in known - here:
            self._entries.pop(gone, None)
        lines, end = [], time.monotonic() + LIST_SECONDS
        # What was known before goes first: a large new ledger must not make the known ones wait.
        for entry in sorted(map(self._entry, here), key=lambda e: e.stamp is None):
            in_time = time.monotonic() < end
            fresh = self._refresh(entry, wait=False) if in_time else entry.stamp == _stamp(entry)
            if not fresh and not entry.waits:
                entry.waits = True
                self._waiting.put(entry)
            lines.append({**(entry.summary or self._unread(entry.experiment)), "reading": not fresh})
        return sorted(lines, key=lambda line: line["updated"], reverse=True)

    def detail(self, relative: str) -> dict[str, Any]:
        """One experiment with everything that the panel shows.

        Raises:
            NotHereError: If there is none.
        """
        folder = self.root.experiment(relative)
        entry = self._entry(folder)
        self._refresh(entry, wait=True)
        job = next(jobs.every(folder), None)
        shown = self.shown(job, folder) if job else None
        return {**entry.summary, "reading": False, **entry.detail, "job": shown}

    def state(self, relative: str) -> tuple[Experiment, State]:
        """An experiment and its checked state.

        Raises:
            NotHereError: If there is none.
            RecordError: If its ledger was edited, cut or replaced.
        """
        experiment = self._entry(self.root.experiment(relative)).experiment
        return experiment, experiment.state

    def chip(self, relative: str) -> dict[str, Any]:
        """What a notebook's toolbar says: the experiment it belongs to, its phase, and what is locked.

        Raises:
            NotHereError: If there is no such notebook.
        """
        path = self.root.inside(relative)
        if path.suffix != ".ipynb" or not path.is_file():
            raise NotHereError("there is no such notebook", fix="save it first")
        folder = path.parent.parent
        none: dict[str, Any] = {"experiment": None, "phase": None, "locked": [], "text": ""}
        if path.parent.name != "notebooks" or not folder.is_relative_to(self.root.folder):
            return none
        try:
            found = self.detail(self.root.relative(folder))
        except NotHereError:
            return none
        phase = path.stem if path.stem in PHASES else None
        return {"experiment": found["path"], "phase": phase, "locked": found["locked"], "text": found["text"]}

    def every_job(self, relative: str) -> list[dict[str, Any]]:
        """Every job of an experiment, the newest first.

        Raises:
            NotHereError: If there is no such experiment.
        """
        folder = self.root.experiment(relative)
        return [self.shown(job, folder) for job in jobs.every(folder)]

    def job(self, relative: str, id_: str, *, interrupt: bool = False) -> dict[str, Any]:
        """One job, with what it left to look at; with `interrupt` it is asked to stop.

        Raises:
            NotHereError: If there is none.
        """
        folder = self.root.experiment(relative)
        found = jobs.load(folder, id_)
        if found is None:
            raise NotHereError("this experiment has no such job", fix="list them: /itera/jobs")
        if interrupt:
            jobs.interrupt(found)
        return self.shown(found, folder, html=True)

    def shown(self, job: jobs.Job, folder: Path, *, html: bool = False) -> dict[str, Any]:
        """A job as requests see it; `html` adds what it left to look at."""
        shown = asdict(job)
        del shown["pid"]
        is_running = job.state == "running"
        return {
            **shown,
            "path": self.root.relative(folder),
            "progress": jobs.progress(folder, job.id) if is_running else None,
            "html": jobs.html(folder, job.id) if html and not is_running else None,
            "page": None if job.page is None else self.root.relative(folder / job.page),
        }

    def _entry(self, folder: Path) -> _Entry:
        known = self._entries.get(folder)
        return known or self._entries.setdefault(folder, _Entry(Experiment(folder)))

    def _refresh(self, entry: _Entry, *, wait: bool) -> bool:
        """Bring an entry up to date; False if another thread is at it and there is no time to wait."""
        if entry.stamp == _stamp(entry):
            return True
        if not entry.lock.acquire(blocking=wait):
            return False
        try:
            files, head = _stamp(entry)
            if entry.stamp != (files, head):
                self._read(entry)
                entry.stamp = (files, _head(entry.genesis))
        finally:
            entry.lock.release()
        return True

    def _read_behind(self) -> None:
        while True:
            entry = self._waiting.get()
            entry.waits = False
            with contextlib.suppress(Exception):  # one experiment's trouble must not end the reading of all
                self._refresh(entry, wait=True)

    def _read(self, entry: _Entry) -> None:
        """Read what an experiment is now; whatever its files hold, it is at worst said to be broken."""
        experiment, broken, question = entry.experiment, None, ""
        try:
            state = experiment.state
            detail, summary = self._detail(experiment, state), self._summary(experiment, state)
        except Exception as error:  # noqa: BLE001 - a chain that holds may still carry anything
            broken, state = _sentence(error, "its record"), State(())
            detail, summary = self._detail(experiment, state), self._summary(experiment, state)
            summary["phase"] = None
            detail |= {"phases": [], "figures": [], "ledger": []}
            detail["actions"] = [action for action in detail["actions"] if action["id"] == "verify"]
        try:
            question = experiment.spec.frame.question
        except Exception as error:  # noqa: BLE001 - one file that cannot be read must not end the list
            broken = broken or _sentence(error, "experiment.toml")
        told = {"question": hide_keys(question), "broken": None if broken is None else hide_keys(broken)}
        entry.summary, entry.detail = {**summary, **told}, detail
        entry.genesis = str(state.records[0].body.get("genesis_id", "")) if state.records else ""

    def _summary(self, experiment: Experiment, state: State) -> dict[str, Any]:
        return {
            "path": self.root.relative(experiment.folder),
            "name": experiment.name,
            "question": "",
            "phase": next_phase(state),
            "outcome": state.outcome,
            "locked": [name for name, event in LOCKS.items() if state.has(event)],
            "updated": state.records[-1].ts if state.records else _written(experiment.toml),
            "broken": None,
        }

    def _unread(self, experiment: Experiment) -> dict[str, Any]:
        ledger = experiment.ledger.path
        updated = _written(ledger if ledger.is_file() else experiment.toml)
        return {**self._summary(experiment, State(())), "phase": None, "updated": updated}

    def _detail(self, experiment: Experiment, state: State) -> dict[str, Any]:
        where = standing(state)
        notebooks = f"{self.root.relative(experiment.folder)}/notebooks".removeprefix("./")
        return {
            "text": where.text,
            "phases": [{**asdict(step), "notebook": f"{notebooks}/{step.id}.ipynb"} for step in where.steps],
            "seal": asdict(where.seal),
            "figures": [asdict(figure) for figure in where.figures],
            "ledger": [
                {"seq": r.seq, "type": r.type, "at": r.ts, "text": record_line(r)}
                for r in reversed(state.records[-TAIL:])
            ],
            "actions": [action.as_json() for action in actions(state)],
        }


def _sentence(error: Exception, what: str) -> str:
    """Why something cannot be read; of an unforeseen error only the type, as its text may quote anything."""
    if isinstance(error, SpecError) and error.mistakes:
        first = error.mistakes[0]
        return f"{error.path.name}, line {first.line}: {first.key}: {first.message}"
    if isinstance(error, IteraError):
        return error.what
    if isinstance(error, OSError):
        return f"{what} cannot be read: {error.strerror}"
    return f"{what} is not one that this version can read ({type(error).__name__})"


def _stamp(entry: _Entry) -> tuple[object, object]:
    """What tells that an experiment may show something else: its files, and the remembered head."""
    experiment = entry.experiment
    files = tuple(map(_file, (experiment.ledger.path, experiment.toml, experiment.folder / PRICES)))
    return files, _head(entry.genesis)


def _head(genesis: str) -> tuple[int, int] | None:
    try:
        return _file(named("heads", genesis))
    except IteraError:
        return None


def _file(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _written(path: Path) -> str:
    try:
        at = path.stat().st_mtime
    except OSError:
        at = 0.0
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
