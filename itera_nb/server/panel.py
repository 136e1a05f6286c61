"""What the panel shows, read from ledgers and registered intent only; no row is ever opened.

A ledger that has not changed costs a look at its size and time; one that has grown costs its new records.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from itera_nb.exceptions import IteraError, Refusal, SpecError
from itera_nb.experiment import Experiment
from itera_nb.protocol import PHASES, State, next_phase
from itera_nb.report.record_line import record_line
from itera_nb.report.standing import LOCKS, standing
from itera_nb.seal.custody import named
from itera_nb.spec import hide_keys

from . import jobs
from .actions import Action, actions
from .folders import NotHereError, Root

TAIL = 12
LIST_SECONDS = 0.05
"""What a list may spend on ledgers that changed; the rest is read behind it and said to be `reading`."""

Stamp = tuple[object, ...]


@dataclass(slots=True)
class _Entry:
    experiment: Experiment
    lock: threading.Lock = field(default_factory=threading.Lock)
    stamp: Stamp | None = None
    genesis: str = ""
    summary: dict[str, Any] = field(default_factory=dict)
    detail: dict[str, Any] = field(default_factory=dict)


class Panel:
    """The read side of the server; its methods may be called from several threads."""

    def __init__(self, root: Root) -> None:
        self.root = root
        self._entries: dict[Path, _Entry] = {}
        self._waiting: deque[_Entry] = deque()
        self._reader: threading.Thread | None = None

    def summaries(self) -> list[dict[str, Any]]:
        """Every experiment below the root, the newest first.

        One whose ledger has not been read yet is `reading`; ask again in a second.
        """
        end = time.monotonic() + LIST_SECONDS
        found = self.root.experiments()
        # One that was asked for by its name is known before the next walk finds it.
        here = [folder for folder in {*found, *self._entries} if self.root.holds_experiment(folder)]
        for gone in self._entries.keys() - set(here):
            del self._entries[gone]
        entries = [self._entry(folder) for folder in here]
        lines = []
        # What was known before goes first: a large new ledger must not make the known ones wait.
        for entry in sorted(entries, key=lambda e: e.stamp is None):
            fresh = self._refresh(entry, wait=False) if time.monotonic() < end or _is_fresh(entry) else False
            if not fresh:
                self._read_behind(entry)
            lines.append({**(entry.summary or self._unread(entry)), "reading": not fresh})
        return sorted(lines, key=lambda line: line["updated"], reverse=True)

    def detail(self, relative: str) -> dict[str, Any]:
        """One experiment with everything that the panel shows.

        Raises:
            NotHereError: If there is none.
        """
        folder = self.root.experiment(relative)
        entry = self._entry(folder)
        self._refresh(entry, wait=True)
        job = self.job(jobs.latest(folder), folder)
        return {**entry.summary, "reading": False, **entry.detail, "job": job}

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

    def job(self, job: jobs.Job | None, folder: Path, *, html: bool = False) -> dict[str, Any] | None:
        """A job as requests see it; `html` adds what it left to look at."""
        if job is None:
            return None
        shown = asdict(job)
        del shown["pid"], shown["born"]
        page = None if job.page is None else self.root.relative(folder / job.page)
        return {
            **shown,
            "path": self.root.relative(folder),
            "progress": jobs.progress(folder, job.id) if job.state == "running" else None,
            "html": jobs.html(folder, job.id) if html else None,
            "page": page,
        }

    def _entry(self, folder: Path) -> _Entry:
        known = self._entries.get(folder)
        if known is None:
            known = self._entries.setdefault(folder, _Entry(Experiment(folder)))
        return known

    def _refresh(self, entry: _Entry, *, wait: bool) -> bool:
        """Bring an entry up to date; False if another thread is at it and there is no time to wait."""
        if _is_fresh(entry):
            return True
        if not entry.lock.acquire(blocking=wait):
            return False
        try:
            files, *_ = _stamp(entry)
            entry.summary, entry.detail, entry.genesis = self._read(entry.experiment)
            entry.stamp = (files, _head(entry.genesis))
        finally:
            entry.lock.release()
        return True

    def _read_behind(self, entry: _Entry) -> None:
        if entry not in self._waiting:
            self._waiting.append(entry)
        if self._reader is None or not self._reader.is_alive():
            self._reader = threading.Thread(target=self._drain, name="itera-reader", daemon=True)
            self._reader.start()

    def _drain(self) -> None:
        while self._waiting:
            self._refresh(self._waiting[0], wait=True)
            self._waiting.popleft()

    def _read(self, experiment: Experiment) -> tuple[dict[str, Any], dict[str, Any], str]:
        broken, state, phase = None, State(()), None
        shown = {**self._shown(experiment, state), "phases": [], "figures": [], "ledger": []}
        shown["actions"] = [action for action in shown["actions"] if action["id"] == "verify"]
        try:
            state = experiment.state
            shown, phase = self._shown(experiment, state), next_phase(state)
        except IteraError as error:
            broken, state = _sentence(error), State(())
        except Exception as error:  # noqa: BLE001 - a chain that holds may still carry anything
            broken = f"its record is not one that this version can read ({type(error).__name__})"
            state = State(())
        question = ""
        try:
            question = experiment.spec.frame.question
        except IteraError as error:
            broken = broken or _sentence(error)
        except OSError as error:
            broken = broken or f"experiment.toml cannot be read: {error.strerror}"
        genesis = str(state.records[0].body.get("genesis_id", "")) if state.records else ""
        return self._summary(experiment, state, phase, question, broken), shown, genesis

    def _summary(
        self, experiment: Experiment, state: State, phase: str | None, question: str, broken: str | None
    ) -> dict[str, Any]:
        return {
            "path": self.root.relative(experiment.folder),
            "name": experiment.name,
            "question": hide_keys(question),
            "phase": phase,
            "outcome": state.outcome,
            "locked": [name for name, event in LOCKS.items() if state.has(event)],
            "updated": state.records[-1].ts if state.records else _written(experiment.toml),
            "broken": None if broken is None else hide_keys(broken),
        }

    def _unread(self, entry: _Entry) -> dict[str, Any]:
        experiment = entry.experiment
        ledger = experiment.ledger.path
        updated = _written(ledger if ledger.is_file() else experiment.toml)
        return {**self._summary(experiment, State(()), None, "", None), "updated": updated}

    def _shown(self, experiment: Experiment, state: State) -> dict[str, Any]:
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
            "actions": [action_as_json(action) for action in actions(state)],
        }


def action_as_json(action: Action) -> dict[str, Any]:
    """An action as requests see it."""
    return {
        "id": action.id,
        "label": action.label,
        "enabled": action.refusal is None,
        "refusal": None if action.refusal is None else refusal_as_json(action.refusal),
        "confirm": action.confirm,
    }


def refusal_as_json(refusal: Refusal) -> dict[str, Any]:
    """A refusal as requests see it; nothing that looks like a key."""
    texts = {name: hide_keys(getattr(refusal, name)) for name in ("safeguard", "what", "why", "instead")}
    return {**texts, "asks": refusal.asks, "record": refusal.record}


def _sentence(error: IteraError) -> str:
    if isinstance(error, SpecError) and error.mistakes:
        first = error.mistakes[0]
        return f"experiment.toml, line {first.line}: {first.key}: {first.message}"
    return error.what


def _is_fresh(entry: _Entry) -> bool:
    return entry.stamp is not None and entry.stamp == _stamp(entry)


def _stamp(entry: _Entry) -> Stamp:
    """What tells that an experiment may show something else: its files, and the remembered head."""
    experiment = entry.experiment
    return (_file(experiment.ledger.path), _file(experiment.toml)), _head(entry.genesis)


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
