"""Progress: rows done, rate, time left and money spent; never an interim score."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

from itera_nb.scoring.attempts import Attempt

HEADLESS = "ITERA_HEADLESS"
"""Set by the notebook runner: bars go to standard error as text, views are plain HTML."""


def headless() -> bool:
    """Whether a notebook is being executed without a person in front of it."""
    return os.environ.get(HEADLESS) == "1"


@contextlib.contextmanager
def progress_bar(label: str, total: int) -> Iterator[Callable[[Attempt], None]]:
    """A bar over `total` units; the function it gives is called once for each finished unit."""
    if headless() or not sys.stderr.isatty():
        from tqdm import tqdm
    else:
        from tqdm.auto import tqdm
    # A log keeps every refresh as a line of its own; a terminal overwrites them.
    pause = 0.5 if sys.stderr.isatty() else 5.0
    spent, failed = 0.0, 0
    name = f"{label:<6}"
    with tqdm(total=total, desc=name, unit="unit", file=sys.stderr, mininterval=pause, leave=False) as bar:

        def step(attempt: Attempt) -> None:
            nonlocal spent, failed
            spent += attempt.cost_usd or 0.0
            failed += attempt.status != "ok"
            bar.set_postfix_str(f"${spent:.2f}, {failed} failed", refresh=False)
            bar.update()

        yield step


def relay(line: str) -> None:
    """Pass a progress line of an isolated process on to standard error."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201
