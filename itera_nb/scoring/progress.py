"""Progress: rows done, rate, time left, money spent and calls at once; never an interim score."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

from itera_nb.scoring.attempts import Attempt

if TYPE_CHECKING:
    from tqdm import tqdm

HEADLESS = "ITERA_HEADLESS"
"""Set by the notebook runner: bars go to standard error as text, views are plain HTML."""
PROGRESS = "ITERA_PROGRESS"
"""Names a file that is told how far a run is, in figures: set by a job that nobody sees in a terminal."""
TOLD_SECONDS = 0.5


def headless() -> bool:
    """Whether a notebook is being executed without a person in front of it."""
    return os.environ.get(HEADLESS) == "1"


class Bar:
    """A progress bar as the engine uses it: called once for each finished unit."""

    def __init__(self, bar: tqdm[NoReturn], label: str) -> None:
        self._bar, self._label = bar, label
        self._file, self._told = os.environ.get(PROGRESS), 0.0
        self._spent, self._failed, self._shown = 0.0, 0, ""
        self._limits: dict[str, int] = {}

    def __call__(self, attempt: Attempt) -> None:
        """Count a finished unit."""
        self._spent += attempt.cost_usd or 0.0
        self._failed += attempt.status != "ok"
        self._show()
        self._bar.update()
        if self._file and time.monotonic() - self._told > TOLD_SECONDS:
            self.tell()

    def limit(self, name: str, limit: int) -> None:
        """Show how many calls of a model may now be in flight."""
        self._limits[name] = limit
        self._show()

    def tell(self) -> None:
        """Write label, units done and in all, and rate, time left and money as a text, whole or not at all.

        A disk that refuses does not end a run for its progress.
        """
        if not self._file:
            return
        self._told, now = time.monotonic(), self._bar.format_dict
        rate = now["n"] / now["elapsed"] if now["elapsed"] else 0.0
        told = [f"{rate:,.1f} units/s"]
        if now["n"] * 100 >= now["total"] and rate:  # before that it would say how long the start took
            told.append(f"{self._bar.format_interval((now['total'] - now['n']) / rate)} left")
        text = ", ".join([*told, self._shown] if self._shown else told)
        value = {"label": self._label, "done": now["n"], "total": now["total"], "text": text}
        draft = Path(f"{self._file}.{os.getpid()}")
        with contextlib.suppress(OSError):
            draft.write_text(json.dumps(value), "utf-8")
            draft.replace(self._file)

    def _show(self) -> None:
        at_once = f", {'+'.join(map(str, self._limits.values()))} at once" if self._limits else ""
        self._shown = f"${self._spent:.2f}, {self._failed} failed{at_once}"
        self._bar.set_postfix_str(self._shown, refresh=False)


@contextlib.contextmanager
def progress_bar(label: str, total: int) -> Iterator[Bar]:
    """A bar over `total` units."""
    from tqdm import tqdm

    shown, name = _stream(), f"{label:<6}"
    # A log keeps every refresh as a line of its own; a terminal and a notebook overwrite them.
    pause = 0.5 if shown.isatty() or shown is sys.stdout else 5.0
    with tqdm(total=total, desc=name, unit="unit", file=shown, mininterval=pause, leave=False) as bar:
        told = Bar(bar, label)
        told.tell()
        yield told
        told.tell()


def relay(line: str) -> None:
    """Pass a progress line of an isolated process on to whoever looks."""
    shown = _stream()
    is_bar = "%|" in line or not line.strip()  # its last state is blank
    print(line, file=shown, end="\r" if shown is sys.stdout and is_bar else "\n", flush=True)


def _stream() -> TextIO:
    """Standard error; in a notebook with a person, where that is shown as an error, standard output."""
    shell = sys.modules.get("IPython") and sys.modules["IPython"].get_ipython()
    return sys.stdout if hasattr(shell, "kernel") and not headless() else sys.stderr
