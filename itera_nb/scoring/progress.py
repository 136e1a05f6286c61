"""Progress: rows done, rate, time left, money spent and calls at once; never an interim score."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

from itera_nb.scoring.attempts import Attempt

if TYPE_CHECKING:
    from tqdm import tqdm

HEADLESS = "ITERA_HEADLESS"
"""Set by the notebook runner: bars go to standard error as text, views are plain HTML."""


def headless() -> bool:
    """Whether a notebook is being executed without a person in front of it."""
    return os.environ.get(HEADLESS) == "1"


class Bar:
    """A progress bar as the engine uses it: called once for each finished unit."""

    def __init__(self, bar: tqdm[NoReturn]) -> None:
        self._bar = bar
        self._spent, self._failed = 0.0, 0
        self._limits: dict[str, int] = {}

    def __call__(self, attempt: Attempt) -> None:
        """Count a finished unit."""
        self._spent += attempt.cost_usd or 0.0
        self._failed += attempt.status != "ok"
        self._show()
        self._bar.update()

    def limit(self, name: str, limit: int) -> None:
        """Show how many calls of a model may now be in flight."""
        self._limits[name] = limit
        self._show()

    def _show(self) -> None:
        at_once = f", {'+'.join(map(str, self._limits.values()))} at once" if self._limits else ""
        self._bar.set_postfix_str(f"${self._spent:.2f}, {self._failed} failed{at_once}", refresh=False)


@contextlib.contextmanager
def progress_bar(label: str, total: int) -> Iterator[Bar]:
    """A bar over `total` units."""
    if headless() or not sys.stderr.isatty():
        from tqdm import tqdm
    else:
        from tqdm.auto import tqdm
    # A log keeps every refresh as a line of its own; a terminal overwrites them.
    pause = 0.5 if sys.stderr.isatty() else 5.0
    name = f"{label:<6}"
    with tqdm(total=total, desc=name, unit="unit", file=sys.stderr, mininterval=pause, leave=False) as bar:
        yield Bar(bar)


def relay(line: str) -> None:
    """Pass a progress line of an isolated process on to standard error."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201
