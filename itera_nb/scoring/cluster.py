"""Python arms on other machines: chunks of rows sent to any `concurrent.futures` executor, Dask's first.

Only train and dev rows go there, as their declared input columns; sealed rows never leave this computer. A
chunk is recorded when it is finished: one that is lost with its machine is sent again, no other.
"""

from __future__ import annotations

import ast
import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    wait,
)
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from itera_nb.arms.caller import Answer, priced
from itera_nb.arms.runtime import RunnableArm
from itera_nb.exceptions import ArmError, IteraError, StoppedError

from . import keys
from .budget import BudgetReachedError
from .node import VERSIONS, Job, Outcome, SharedFile, answer_chunk, forget

if TYPE_CHECKING:
    from .engine import Work
    from .units import Unit, Units

CHUNK = 50
LARGEST_CHUNK = 1_000
ROUNDS = 8
TRIES = 4
SMALL_BYTES = 8 << 20
CONNECT_S = 15.0
SCHEDULER = "ITERA_SCHEDULER"
"""The environment variable that names the scheduler for runs inside a notebook's kernel."""
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where chunks are sent, and how many run there side by side."""

    executor: Executor
    slots: int


Connect: TypeAlias = Callable[[], AbstractContextManager[Cluster]]


def connection(where: str | Executor) -> Connect:
    """How a run reaches a cluster: by a Dask scheduler's address, or as an executor, which stays open."""
    return lambda: _dask(where) if isinstance(where, str) else _given(where)


@contextmanager
def _given(executor: Executor) -> Iterator[Cluster]:
    yield Cluster(executor, int(getattr(executor, "_max_workers", None) or 8))


@contextmanager
def _dask(address: str) -> Iterator[Cluster]:
    """A connection to a Dask scheduler, closed afterwards.

    Raises:
        IteraError: Dask is not installed, nobody answers, or the cluster has no workers.
    """
    try:
        from distributed import Client
    except ImportError:
        raise IteraError(
            "Dask is not installed", fix='pip install "itera-nb[dask]", here and on every node'
        ) from None
    try:
        client = Client(address, timeout=CONNECT_S, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise IteraError(
            f"no Dask scheduler answers at {address} ({type(error).__name__})",
            fix="start one with: dask scheduler   and workers with: dask worker ADDRESS",
        ) from None
    try:
        threads = sum(int(worker["nthreads"]) for worker in client.scheduler_info(-1)["workers"].values())
        if not threads:
            raise IteraError(
                f"the cluster at {address} has no workers", fix=f"start some: dask worker {address}"
            )
        executor = client.get_executor(pure=False)  # type: ignore[no-untyped-call]
        try:
            yield Cluster(executor, threads)
        finally:
            executor.shutdown(wait=False)
    finally:
        client.close(timeout=CONNECT_S)  # type: ignore[no-untyped-call]


@dataclass(slots=True)
class _Sent:
    """A job's shared part, whether its arm is free, and the dearest row of it so far (USD)."""

    id: str
    job: Job
    free: bool
    dearest: float = 0.0


@dataclass(slots=True)
class _Chunk:
    """Some units of a job on their way."""

    sent: _Sent
    indices: Sequence[int]
    tries: int = 0
    in_full: bool = False
    bound_usd: float = 0.0


def run_jobs(work: Work, units: Units, jobs: Sequence[Sequence[int]], connect: Connect) -> None:
    """Answer the units of python arms on a cluster; blocks.

    A job is the indices of the units of one arm in one trial on one group of rows.

    Raises:
        ArmError: An arm cannot be loaded or fitted, or a node is not fit for it.
        StoppedError: The cluster is gone, the budget is used up, or the run is being stopped.
    """
    assert not work.quiet, "sealed rows never leave this computer"
    try:
        with connect() as cluster:
            _Dispatch(work, units, cluster).drain(_chunks(work, units, jobs, cluster.slots))
    finally:
        forget()  # an executor of threads runs the chunks in this process


class _Dispatch:
    """Chunks in flight: at most two for each slot, each recorded when it comes back."""

    def __init__(self, work: Work, units: Units, cluster: Cluster) -> None:
        self._work = work
        self._units = units
        self._cluster = cluster
        self._running: dict[Future[Outcome], _Chunk] = {}

    def drain(self, chunks: Iterator[_Chunk]) -> None:
        """Send every chunk and record what comes back."""
        waiting: deque[_Chunk] = deque()
        reached: BudgetReachedError | None = None
        try:
            while True:
                self._work.require_going()
                while reached is None and len(self._running) < 2 * self._cluster.slots:
                    if not waiting:
                        waiting.extend(itertools.islice(chunks, 1))
                    try:
                        if not waiting or not self._send(waiting[0]):
                            break
                    except BudgetReachedError as error:
                        reached = error  # what is in flight is awaited, not cut
                        break
                    waiting.popleft()
                if not self._running and (reached is not None or not waiting):
                    break
                waiting.extendleft(self._returned())
        finally:
            for future, chunk in self._running.items():
                if future.cancel():
                    self._note(chunk, -1)
        if reached is not None:
            raise reached

    def _send(self, chunk: _Chunk) -> bool:
        """Send a chunk if the budget allows it now."""
        chunk.bound_usd = chunk.sent.dearest * len(chunk.indices)
        if not self._work.may_start(chunk.bound_usd):
            return False
        rows = [dict(self._units[index].row) for index in chunk.indices]
        job = chunk.sent.job if chunk.in_full else None
        try:
            future = self._cluster.executor.submit(answer_chunk, chunk.sent.id, rows, job)
        except RuntimeError as error:  # it was shut down, or is broken
            self._work.budget.settle(chunk.bound_usd, 0.0)
            raise _gone(error) from None
        self._running[future] = chunk
        self._note(chunk, 1)
        return True

    def _note(self, chunk: _Chunk, sign: int) -> None:
        """Note that a chunk's rows may be paid, or no longer: what is lost with its machine stays noted."""
        if not chunk.sent.free:
            self._work.log.in_flight(sign * len(chunk.indices))

    def _returned(self) -> list[_Chunk]:
        """Record chunks that came back; those that must be sent again are returned."""
        if not self._running:
            time.sleep(_POLL_S)  # somebody else's calls hold the rest of the budget
            return []
        done, _ = wait(self._running, timeout=_POLL_S, return_when=FIRST_COMPLETED)
        again: list[_Chunk] = []
        failed: IteraError | None = None
        for future in done:
            chunk = self._running.pop(future)
            try:
                if not self._took(chunk, future):
                    again.append(chunk)
            except IteraError as error:
                failed = failed or error
        if failed is not None:  # after all that came with it was recorded
            raise failed
        return again

    def _took(self, chunk: _Chunk, future: Future[Outcome]) -> bool:
        """Record a chunk's answers; False if there are none and it must be sent again.

        Raises:
            ArmError: The arm cannot run there.
            StoppedError: The cluster does not answer.
        """
        cost = 0.0
        try:
            try:
                outcome = future.result()
            except (Exception, CancelledError) as error:  # noqa: BLE001 - whatever an executor raises: it lost the task
                chunk.tries += 1
                if isinstance(error, BrokenExecutor) or chunk.tries == TRIES:
                    raise _gone(error) from None
                return False
            self._note(chunk, -1)
            if "error" in outcome:
                raise ArmError(outcome["error"], fix=outcome.get("fix", ""))
            if "answers" in outcome:
                cost = self._record(chunk, outcome["answers"])
                return True
            chunk.in_full = True
            return False
        finally:
            self._work.budget.settle(chunk.bound_usd, cost)

    def _record(self, chunk: _Chunk, found: Sequence[Mapping[str, Any]]) -> float:
        """Record a chunk's answers; returns their USD."""
        total = 0.0
        for index, facts in zip(chunk.indices, found, strict=True):
            unit = self._units[index]
            answer = priced(unit.arm, Answer(**facts))
            total += answer.cost_usd or 0.0
            chunk.sent.dearest = max(chunk.sent.dearest, answer.cost_usd or 0.0)
            self._work.record(unit, answer)
        return total


def _gone(error: BaseException) -> StoppedError:
    return StoppedError(
        f"the cluster is gone or keeps losing its machines ({type(error).__name__})",
        fix="see to the cluster, then run the same command again; what is recorded is not repeated",
    )


def _chunks(work: Work, units: Units, jobs: Sequence[Sequence[int]], slots: int) -> Iterator[_Chunk]:
    """Chunks of all jobs, job by job: of at least 50 rows, and about eight rounds for every slot."""
    contents: dict[Path, SharedFile] = {}
    for indices in jobs:
        sent = _sent(work, units, units[indices[0]], contents)
        fair = math.ceil(len(indices) / (ROUNDS * slots))
        size = min(max(CHUNK, fair), LARGEST_CHUNK)
        for start in range(0, len(indices), size):
            yield _Chunk(sent, indices[start : start + size])


def _sent(work: Work, units: Units, unit: Unit, contents: dict[Path, SharedFile]) -> _Sent:
    from .engine import worker_options

    arm, spec = unit.arm, unit.arm.spec
    assert spec.target is not None
    for path in arm.resources.values():
        if path not in contents:
            contents[path] = _shared(path)
    # A plain function cannot learn: train rows, which hold labels, are not sent for it.
    fit_rows = units.groups[unit.group].fit_rows if learns(arm) else ()
    job: Job = {
        "versions": VERSIONS,
        "files": {name: file.read_bytes() for name, file in keys.files_in(arm.root).items()},
        "target": spec.target,
        "pythonpath": [path.relative_to(arm.root).as_posix() for path in arm.pythonpath],
        "resources": {name: contents[path] for name, path in arm.resources.items()},
        "batch_size": spec.batch_size,
        "options": worker_options(work, unit, fit_rows),
    }
    return _Sent(keys.digest(job), job, free=spec.cost == "free")


def learns(arm: RunnableArm) -> bool:
    """Whether an arm's target can have a `fit`: it is no plain function of its file."""
    file, _, symbol = (arm.spec.target or "").partition(":")
    try:
        tree = ast.parse((arm.root / file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return True
    functions = (n for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
    return not any(function.name == symbol for function in functions)


def _shared(path: Path) -> SharedFile:
    """A resource with its content where that is small; else the nodes must have it at this path."""
    files = {"": path} if path.is_file() else keys.files_in(path)
    small = sum(p.stat().st_size for p in files.values()) <= SMALL_BYTES
    return {
        "path": str(path),
        "digest": keys.path_digest(path),
        "files": {name: p.read_bytes() for name, p in files.items()} if small else None,
    }
