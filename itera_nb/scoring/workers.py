"""Worker processes: user code runs here, is killed at its deadline and never takes the run down with it."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Self

from itera_nb._typing import JSON
from itera_nb.arms.caller import Answer
from itera_nb.exceptions import ArmError, StoppedError

from . import child
from .child import Failure, Item, Mode, Setup
from .spawn import WorkerContext, tracker

CHUNK = 64
KILLED_PAUSE_S = 0.5
FIT_TIMEOUT_S = 3600.0
GRACE_S = 1.0
EXIT_S = 5.0
TAIL_BYTES = 2000


@functools.cache
def isolated_path() -> tuple[str, ...]:
    """`sys.path` of an isolated interpreter: what is installed, not the caller's folder or PYTHONPATH."""
    command = [sys.executable, "-I", "-c", "import json, sys; print(json.dumps(sys.path))"]
    found = subprocess.run(command, capture_output=True, check=True, text=True)  # noqa: S603 - our own interpreter
    return tuple(json.loads(found.stdout))


class Worker:
    """One target in one process, started again (and fitted again) after it was killed or died.

    What it is told are the fields of `child.Setup`; `pythonpath` are folders of production code.
    """

    def __init__(self, root: Path, target: str, pythonpath: Sequence[Path] = (), **options: Any) -> None:
        path = (*map(str, pythonpath), *isolated_path())
        self.setup = Setup(root, target, path, **options)
        self._scratch = Path(tempfile.mkdtemp(prefix="itera-"))
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        self._mode: Mode | None = None
        self._halted = False

    def start(self) -> Mode:
        """Load and fit, if that has not happened since the last restart; how the target wants its items.

        Raises:
            ArmError: The target cannot be loaded, made or fitted.
        """
        if self._mode is None:
            outcome: Mode | Failure = self._ask("start", self.setup, timeout_s=FIT_TIMEOUT_S)
            if isinstance(outcome, Failure):
                said = ": ".join(filter(None, (outcome.error_type, outcome.error)))
                raise ArmError(
                    f"{self.setup.target} cannot be loaded and fitted: {said}",
                    fix=f"repair {self.setup.target.partition(':')[0]} and run the same command again",
                )
            self._mode = outcome
        return self._mode

    def run(self, items: Sequence[Item], timeout_s: float) -> list[Answer] | Failure:
        """Answers of a chunk, or why it has none (raised, late, wrong length, process died)."""
        self.start()
        found: list[Answer] | Failure = self._ask("run", list(items), timeout_s=timeout_s)
        return found

    def ran(
        self, items: Sequence[Item], lines: Mapping[str, Sequence[int]], timeout_s: float
    ) -> list[bool] | Failure:
        """For each item, whether answering it runs any of these lines; needs the package coverage."""
        self.start()
        found: list[bool] | Failure = self._ask("ran", (list(items), dict(lines)), timeout_s=timeout_s)
        return found

    def constant(self, name: str) -> JSON:
        """A module-level constant of the target's module, null if there is none.

        Raises:
            ArmError: The target cannot be loaded, or the constant is no JSON value.
        """
        self.start()
        found: JSON | Failure = self._ask("constant", name, timeout_s=self.setup.timeout_s)
        if isinstance(found, Failure):
            raise ArmError(f"{self.setup.target}: {name} cannot be read ({found.error_type})")
        return found

    def halt(self) -> None:
        """End what is running, from another thread than the one that runs it (which still closes)."""
        self._halted = True
        self._kill()

    def close(self) -> None:
        """End the process at once, whatever it is doing; closing twice does nothing."""
        self._end()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, name: str, argument: Any, *, timeout_s: float) -> Any:
        """The process's answer to a request, or a `Failure` after which it is gone."""
        pipe = self._open()
        late = False
        try:
            pipe.send((name, argument))
            if pipe.poll(timeout_s):
                return pipe.recv()
            late = True
        except (EOFError, OSError):  # the process ended: at once, or in the middle of its answer
            pass
        code = self._end(wait_s=0 if late else EXIT_S)
        if self._halted:
            raise StoppedError("the run was stopped")
        if late:
            return self._failure("Timeout", f"no answer within {timeout_s:g} s")
        kind = "Killed" if code == -signal.SIGKILL else "Crash"
        return self._failure(kind, f"the process ended with code {code}")

    def _open(self) -> Connection:
        if self._pipe is None:
            context = WorkerContext()
            self._pipe, theirs = context.Pipe()
            arguments = (theirs, self._scratch)
            self._process = context.Process(
                target=child.serve, args=arguments, kwargs={"quiet": self.setup.quiet}
            )
            tracker.enter()
            self._process.start()
            theirs.close()
        if self._halted:
            self._end()
            raise StoppedError("the run was stopped")
        return self._pipe

    def _kill(self) -> None:
        """Kill the process and what it had started."""
        process = self._process
        if process is None or process.pid is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError, AttributeError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(ValueError):  # no group yet, or none on this system
            process.kill()

    def _end(self, wait_s: float = 0.0) -> int | None:
        """End the process after giving it `wait_s` to end by itself; its exit code."""
        process, pipe = self._process, self._pipe
        if process is None or pipe is None:
            return None
        if wait_s:
            process.join(wait_s)
        self._kill()
        process.join()
        pipe.close()
        code = process.exitcode
        self._process = self._pipe = self._mode = None
        process.close()
        tracker.leave()
        return code

    def _failure(self, kind: str, message: str) -> Failure:
        """A failure with the end of what the process had printed."""
        tail = "" if self.setup.quiet else _tail(self._scratch / "output")
        return Failure(kind, f"{message}\n{tail}".strip())


def answers(
    worker: Worker,
    items: Sequence[Item],
    *,
    timeout_s: float,
    batch_size: int | None = None,
    gate: Callable[[int], None] = lambda _: None,
) -> Iterator[tuple[int, Answer]]:
    """Answer items one process task at a time; yields (index, answer) as they come, each index once.

    A plain function gets one row a task, so that no finished row is ever computed twice. `predict` and async
    functions get chunks of `batch_size` (64); a chunk that fails, is late or loses its process is halved to
    find the single row that did it.

    One item may take `timeout_s` seconds. `gate` is called with the number of items before each task, and may
    raise to stop.

    Raises:
        ArmError: The target cannot be loaded or fitted.
    """
    mode = worker.start()
    size = 1 if mode == "rows" and not worker.setup.call else batch_size or CHUNK
    # The first row goes alone: its pace bounds the deadline of the chunks that follow.
    first = size if mode == "async" else 1
    edges = [0, *range(first, len(items), size), len(items)]
    ranges = deque((a, b) for a, b in itertools.pairwise(edges) if a < b)
    pace = timeout_s
    killed: set[int] = set()
    while ranges:
        low, high = ranges.popleft()
        gate(high - low)
        limit = _deadline(worker, high - low, timeout_s, pace)
        outcome = worker.run(items[low:high], limit)
        if isinstance(outcome, Failure) and high - low > 1:
            middle = (low + high) // 2
            ranges.extendleft([(middle, high), (low, middle)])
        elif isinstance(outcome, Failure) and outcome.error_type == "Killed" and low not in killed:
            # From outside: the run is being killed, or memory ran out. Neither is the row's failure yet.
            killed.add(low)
            time.sleep(KILLED_PAUSE_S)
            ranges.appendleft((low, high))
        elif isinstance(outcome, Failure):
            yield low, _single(outcome, timeout_s)
        else:
            slowest = max((a.latency_ms or 0.0) for a in outcome) / 1000
            pace = slowest if pace == timeout_s else max(pace, slowest)
            yield from zip(range(low, high), outcome, strict=True)


def call_each(
    root: Path,
    target: str,
    items: Sequence[Item],
    *,
    pythonpath: Sequence[Path] = (),
    quiet: bool = False,
    timeout_s: float = 60.0,
) -> list[Answer]:
    """Call a user's function (a scorer, a failure mode) on every item in a worker process.

    Items are the positional arguments of each call, which may take `timeout_s` seconds. There is one answer
    an item, in order; null is a proper output here.

    Raises:
        ArmError: The function cannot be loaded.
    """
    if not items:
        return []
    with Worker(root, target, pythonpath, quiet=quiet, call=True, timeout_s=timeout_s) as worker:
        found = dict(answers(worker, items, timeout_s=timeout_s))
    return [found[index] for index in range(len(items))]


def module_constant(root: Path, target: str, name: str, *, pythonpath: Sequence[Path] = ()) -> JSON:
    """A constant of the module that holds `target`, read in a worker process; null if there is none.

    Raises:
        ArmError: The module cannot be loaded.
    """
    with Worker(root, target, pythonpath, call=True) as worker:
        return worker.constant(name)


def _deadline(worker: Worker, count: int, timeout_s: float, pace: float) -> float:
    """Seconds that a chunk may take: too short costs time, never a row, as a late chunk is halved."""
    if worker.start() == "async":
        return timeout_s * math.ceil(count / worker.setup.concurrency) + GRACE_S
    return min(count * timeout_s, timeout_s + 10 * count * pace)


def _single(failure: Failure, timeout_s: float) -> Answer:
    if failure.error_type == "Timeout":
        return Answer("timeout", error_type="Timeout", error=failure.error, latency_ms=1000 * timeout_s)
    status: Any = "invalid" if failure.error_type == "WrongLength" else "error"
    return Answer(status, error_type=failure.error_type, error=failure.error)


def _tail(path: Path) -> str:
    try:
        return path.read_bytes()[-TAIL_BYTES:].decode(errors="replace")
    except FileNotFoundError:
        return ""
