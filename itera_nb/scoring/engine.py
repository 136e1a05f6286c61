"""Run arms over rows: every unit of work ends in one recorded attempt, and no finished one is run again."""

from __future__ import annotations

import os
import threading
import time
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from itera_nb._typing import Row
from itera_nb.arms.caller import Answer, priced
from itera_nb.arms.runtime import RunnableArm
from itera_nb.exceptions import StoppedError

from .attempts import Attempt, AttemptLog
from .budget import Budget, BudgetReachedError
from .progress import Bar, relay
from .units import RowGroup, Unit, Units
from .workers import Worker, answers

if TYPE_CHECKING:
    from itera_nb.spec import ModelSpec, RunSpec

    from .cluster import Connect

__all__ = ["RowGroup", "Unit", "Units", "Work", "run"]

_POLL_S = 0.05
_ANSWER_FIELDS = tuple(f.name for f in fields(Answer))
_AGAIN = "run the same command again: what is recorded is not repeated"


def run(
    arms: Sequence[RunnableArm],
    groups: Sequence[RowGroup],
    *,
    log: AttemptLog,
    settings: RunSpec,
    id_column: str = "id",
    trials: Mapping[str, int] | int = 1,
    seed: Callable[[int], int] = lambda _: 0,
    models: Mapping[str, ModelSpec] | None = None,
    namespace: str = "",
    quiet: bool = False,
    progress: Callable[[Attempt], None] | None = None,
    budget_usd: float | None = None,
    cluster: Connect | None = None,
    counted: dict[str, float | None] | None = None,
) -> Sequence[Attempt]:
    """Run every unit that the log does not hold yet.

    Args:
        arms: The arms.
        groups: The rows.
        log: Where attempts are recorded and reused from.
        settings: Calls in flight, whether their number adapts to the vendor, and timeouts (seconds).
        id_column: Column of the row id.
        trials: Trials of every arm, or by arm name.
        seed: Seed of a trial, given to `fit`.
        models: How vendors are reached, by vendor.
        namespace: Keeps otherwise equal work apart.
        quiet: For rows that nobody may read: arms are silenced, errors are reduced to their type.
        progress: Called once for every unit, reused ones first, one at a time, from other threads. A
            `progress.Bar` is also told how many calls may be in flight.
        budget_usd: USD that all attempts of the log together may cost.
        cluster: Where python arms run instead of this computer; never for rows that nobody may read.
        counted: Attempt key -> USD (`None`: unknown) of what counts against the budget in place of the whole
            log; this run's attempts are added to it.

    Returns:
        One attempt a unit, in the order of `Units`, reused ones included, read from the log when looked at.

    Raises:
        ArmError: An arm cannot be loaded, fitted or rendered at all.
        StoppedError: Credentials, budget, an interrupt or a full disk ended the run; records are kept.
    """
    units = Units(arms, groups, id_column=id_column, trials=trials, seed=seed, namespace=namespace)
    pending = units.unfinished(log)
    if counted is not None:
        counted |= {a.key: a.cost_usd for a in log.select(k for k in units.iter_keys() if k in log)}
    spent = log.totals.cost_usd if counted is None else sum(usd or 0.0 for usd in counted.values())
    work = Work(log, settings, dict(models or {}), quiet, progress, Budget(budget_usd, spent))
    if progress is not None:
        for attempt in log.select(key for key in units.iter_keys() if key in log):
            progress(attempt)
    if any(pending.values()):
        if log.cut_off:
            relay(f"{log.cut_off} calls in flight when earlier runs ended may be paid twice")
            log.cut_off = 0
        _run_pending(work, units, pending, cluster)
    found = log.select(units.iter_keys())
    if counted is not None:
        counted |= {a.key: a.cost_usd for a in found}
    return found


@dataclass(slots=True)
class Work:
    """What the threads of one run share: the log, the money, and the word to stop."""

    log: AttemptLog
    settings: RunSpec
    models: Mapping[str, ModelSpec]
    quiet: bool
    progress: Callable[[Attempt], None] | None
    budget: Budget
    stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _workers: set[Worker] = field(default_factory=set)

    def record(self, unit: Unit, answer: Answer, *, retries: int = 0) -> None:
        """Record what became of a unit and report it."""
        facts = {name: getattr(answer, name) for name in _ANSWER_FIELDS}
        if self.quiet:
            facts["error"] = ""
        attempt = Attempt(
            key=unit.key,
            arm=unit.arm.name,
            row_id=unit.row_id,
            trial=unit.trial,
            ts=datetime.now(UTC).isoformat(timespec="milliseconds"),
            retries=retries,
            **facts,
        )
        with self._lock:
            self.log.append(attempt)
            if self.progress is not None:
                self.progress(attempt)

    def report_limit(self, name: str, limit: int) -> None:
        """Report how many calls of a model may now be in flight."""
        if isinstance(self.progress, Bar):
            with self._lock:
                self.progress.limit(name, limit)

    def require_going(self) -> None:
        """Raise `StoppedError` once the run is being stopped."""
        if self.stop.is_set():
            raise StoppedError("the run was stopped")

    def may_start(self, bound_usd: float) -> bool:
        """Whether a call of at most `bound_usd` may start now; False: ask again in a moment.

        Raises:
            StoppedError: The run is being stopped, or the budget is used up.
        """
        self.require_going()
        allowed = self.budget.reserve(bound_usd)
        if allowed is False:
            raise BudgetReachedError(
                f"the next call could cross the budget: a call may cost up to ${bound_usd:.4g}; "
                f"${self.budget.spent_usd:.4f} of ${self.budget.limit_usd:g} is spent",
                fix='raise budget_usd (once it is locked: itera amend --why "…"), or for the test rows '
                'itera run --accept budget="why"; then run the same command again: no call is repeated',
            )
        return allowed is True

    @contextmanager
    def watched(self, worker: Worker) -> Iterator[None]:
        """While inside, `halt` ends this worker."""
        with self._lock:
            self._workers.add(worker)
        try:
            self.require_going()
            yield
        finally:
            with self._lock:
                self._workers.discard(worker)

    def halt(self) -> None:
        """Stop everything at once; what is in flight is given up."""
        self.stop.set()
        with self._lock:
            for worker in self._workers:
                worker.halt()


def _run_pending(
    work: Work, units: Units, pending: Mapping[str, array[int]], cluster: Connect | None
) -> None:
    """Drive callers on one event loop and python arms in workers, until done or stopped."""
    from .batch import parted, run_batches

    called: dict[str, array[int]] = {}
    jobs: dict[tuple[str, int, int], array[int]] = defaultdict(lambda: array("Q"))
    for name, indices in pending.items():
        if indices and units[indices[0]].arm.spec.kind != "python":
            called[name] = indices
            continue
        for index in indices:
            unit = units[index]
            jobs[name, unit.trial, unit.group].append(index)
    tasks = [partial(_run_python, work, units, job) for job in jobs.values()]
    if cluster is not None and jobs:
        from .cluster import run_jobs

        tasks = [partial(run_jobs, work, units, list(jobs.values()), cluster)]
    in_batches, called = parted(work, units, called)
    with ThreadPoolExecutor(max_workers=_cpus() + bool(called) + bool(in_batches)) as pool:
        futures: list[Future[None]] = []
        try:
            if in_batches:
                futures.append(pool.submit(run_batches, work, units, in_batches))
            if called:
                from .loop import run_callers

                futures.append(pool.submit(run_callers, work, units, called))
            futures.extend(pool.submit(task) for task in tasks)
            _wait(futures)
        except BaseException as error:
            work.halt()
            for future in futures:
                future.cancel()
            wait(futures)
            if isinstance(error, KeyboardInterrupt | StoppedError):
                # No chain: what lies behind it may quote a row.
                raise _stopped(work, error, units, pending) from None
            raise


def _wait(futures: Sequence[Future[None]]) -> None:
    """Wait so that Ctrl-C is heard; raise the first failure; a used-up budget lets calls in flight end."""
    waiting = set(futures)
    reached: BudgetReachedError | None = None
    while waiting:
        done, waiting = wait(waiting, timeout=_POLL_S, return_when=FIRST_EXCEPTION)
        for future in done:
            try:
                future.result()
            except BudgetReachedError as error:
                reached = error
    if reached is not None:
        raise reached


def _stopped(
    work: Work, error: KeyboardInterrupt | StoppedError, units: Units, pending: Mapping[str, array[int]]
) -> StoppedError:
    """Why the run ended and how much is recorded."""
    done = sum(units.key(index) in work.log for indices in pending.values() for index in indices)
    kept = f"{done} of {sum(map(len, pending.values()))} attempts of this run are recorded"
    if isinstance(error, KeyboardInterrupt):
        return StoppedError(f"interrupted; {kept}", fix=_AGAIN)
    unknown = work.log.totals.unknown_costs
    if unknown and isinstance(error, BudgetReachedError):
        kept += f"; the cost of {unknown} attempts is unknown and not in it"
    kind = BudgetReachedError if isinstance(error, BudgetReachedError) else StoppedError
    return kind(f"{error.what}; {kept}", fix=error.fix or _AGAIN)


def worker_options(work: Work, unit: Unit, fit_rows: Sequence[Row]) -> dict[str, Any]:
    """What the workers of a python arm in a trial are told, wherever they are (fields of `child.Setup`)."""
    spec = unit.arm.spec
    return {
        "params": dict(spec.params),
        "fit_rows": [dict(row) for row in fit_rows],
        "seed": unit.seed,
        "concurrency": spec.max_concurrency or work.settings.max_concurrency,
        "timeout_s": spec.timeout_s or work.settings.timeout_s,
    }


def _run_python(work: Work, all_units: Units, indices: Sequence[int]) -> None:
    """Answer the units of one (arm, trial, group) in a worker of their own."""
    units = [all_units[index] for index in indices]
    arm, spec = units[0].arm, units[0].arm.spec
    assert spec.target is not None
    options = worker_options(work, units[0], all_units.groups[units[0].group].fit_rows)
    options |= {"quiet": work.quiet, "resources": dict(arm.resources)}
    timeout_s = options["timeout_s"]
    meter = _Meter(work, free=spec.cost == "free")
    with Worker(arm.root, spec.target, arm.pythonpath, **options) as worker, work.watched(worker):
        items = [(unit.row,) for unit in units]
        try:
            for index, answer in answers(
                worker, items, timeout_s=timeout_s, batch_size=spec.batch_size, gate=meter.begin
            ):
                answer = priced(units[index].arm, answer)  # noqa: PLW2901 - the same one
                meter.add(answer.cost_usd)
                work.record(units[index], answer)
        finally:
            meter.end()


class _Meter:
    """Reserves what a task of a python arm may cost: its rows times the dearest row so far."""

    def __init__(self, work: Work, *, free: bool) -> None:
        self._work = work
        self._free = free
        self._dearest = self._bound = self._cost = 0.0
        self._rows = 0

    def begin(self, rows: int) -> None:
        self.end()
        bound = rows * self._dearest
        while not self._work.may_start(bound):
            time.sleep(_POLL_S)
        self._bound, self._cost, self._rows = bound, 0.0, rows
        self._note(rows)

    def add(self, cost_usd: float | None) -> None:
        self._dearest = max(self._dearest, cost_usd or 0.0)
        self._cost += cost_usd or 0.0

    def end(self) -> None:
        if self._rows:
            self._work.budget.settle(self._bound, self._cost)
            if not self._work.stop.is_set():  # else they were given up, and stay noted
                self._note(-self._rows)
            self._rows = 0

    def _note(self, rows: int) -> None:
        if not self._free:
            self._work.log.in_flight(rows)


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
