"""Run arms over rows: every unit of work ends in one recorded attempt, and no finished one is run again."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from itera_nb._typing import Row
from itera_nb.arms.runtime import RunnableArm
from itera_nb.exceptions import ArmError, DataError, StoppedError

from . import keys
from .attempts import Attempt, AttemptLog, totals
from .budget import Budget, BudgetReachedError
from .child import Answer
from .workers import Worker, answers

if TYPE_CHECKING:
    from itera_nb.spec import ModelSpec, RunSpec

_POLL_S = 0.05
_AGAIN = "run the same command again: what is recorded is not repeated"


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Rows that are scored by arms fitted on the same other rows; k-fold has one group a fold.

    Row values are plain Python values (`str`, `int`, `float`, lists, mappings ...).

    Args:
        rows: Rows to answer, with all their columns.
        fit_rows: Rows for `fit`, with all their columns.
        label: The group's name in messages.
    """

    rows: Sequence[Row]
    fit_rows: Sequence[Row] = ()
    label: str = ""


@dataclass(frozen=True, slots=True)
class Unit:
    """One piece of work: an arm on a row in a trial; `row` holds the declared input columns only."""

    key: str
    arm: RunnableArm
    row: Row
    row_id: str | int
    trial: int
    group: int
    seed: int


def plan_units(
    arms: Sequence[RunnableArm],
    groups: Sequence[RowGroup],
    *,
    id_column: str,
    trials: Mapping[str, int] | int,
    seed: Callable[[int], int],
    namespace: str = "",
) -> list[Unit]:
    """All units of a run: row by row, then trial by trial, the arms side by side.

    Args:
        arms: The arms.
        groups: The rows.
        id_column: Column of the row id, unique over all groups.
        trials: Trials of every arm, or by arm name.
        seed: Seed of a trial.
        namespace: Keeps otherwise equal work apart (a second pass, another split).

    Raises:
        DataError: Ids repeat, or a row lacks a declared column.
    """
    resources = {arm.name: keys.resources_digest(arm.resources) for arm in arms}
    fitted = [keys.rows_digest(group.fit_rows) for group in groups]
    units: list[Unit] = []
    ids = [row[id_column] for group in groups for row in group.rows]
    if len(set(ids)) < len(ids):
        raise DataError(f"{len(ids) - len(set(ids))} rows repeat an id in column {id_column!r}")
    for number, group in enumerate(groups):
        for row in group.rows:
            for trial in range(trials if isinstance(trials, int) else max(trials[a.name] for a in arms)):
                for arm in arms:
                    if not isinstance(trials, int) and trial >= trials[arm.name]:
                        continue
                    inputs = _inputs(arm, row)
                    key = keys.digest(
                        {
                            "arm": arm.name,
                            "manifest": arm.digest,
                            "row": keys.digest(inputs),
                            "id": row[id_column],
                            "trial": trial,
                            "seed": seed(trial),
                            # A prompt does not learn: new training rows must not pay for its answers again.
                            "fit": "" if arm.spec.kind == "prompt" else fitted[number],
                            "namespace": namespace,
                            "resources": resources[arm.name],
                        }
                    )
                    units.append(Unit(key, arm, inputs, row[id_column], trial, number, seed(trial)))
    return units


def run(
    arms: Sequence[RunnableArm],
    groups: Sequence[RowGroup],
    *,
    id_column: str,
    trials: Mapping[str, int] | int,
    log: AttemptLog,
    settings: RunSpec,
    seed: Callable[[int], int],
    models: Mapping[str, ModelSpec] | None = None,
    namespace: str = "",
    quiet: bool = False,
    progress: Callable[[Attempt], None] | None = None,
    budget_usd: float | None = None,
) -> list[Attempt]:
    """Run every unit that the log does not hold yet.

    Args:
        arms: The arms.
        groups: The rows (see `plan_units`).
        id_column: Column of the row id.
        trials: Trials of every arm, or by arm name.
        log: Where attempts are recorded and reused from.
        settings: Concurrency and timeouts (seconds).
        seed: Seed of a trial, given to `fit`.
        models: How vendors are reached, by vendor.
        namespace: Keeps otherwise equal work apart.
        quiet: For rows that nobody may read: arms are silenced, errors are reduced to their type.
        progress: Called once for every unit, reused ones first, one at a time, from other threads.
        budget_usd: USD that all attempts of the log together may cost.

    Returns:
        One attempt a unit, in the order of `plan_units`, reused ones included.

    Raises:
        ArmError: An arm cannot be loaded, fitted or rendered at all.
        StoppedError: Credentials, budget, an interrupt or a full disk ended the run; records are kept.
    """
    units = plan_units(arms, groups, id_column=id_column, trials=trials, seed=seed, namespace=namespace)
    pending = [unit for unit in units if unit.key not in log.finished]
    work = Work(log, settings, dict(models or {}), quiet, progress, budget_usd)
    if progress is not None:
        for unit in units:
            if unit.key in log.finished:
                progress(log.finished[unit.key])
    if pending:
        _run_pending(work, pending, groups)
    return [log.finished[unit.key] for unit in units]


class Work:
    """What the threads of one run share: the log, the money, and the word to stop."""

    def __init__(
        self,
        log: AttemptLog,
        settings: RunSpec,
        models: Mapping[str, ModelSpec],
        quiet: bool,
        progress: Callable[[Attempt], None] | None,
        budget_usd: float | None,
    ) -> None:
        self.log = log
        self.settings = settings
        self.models = models
        self.quiet = quiet
        self.stop = threading.Event()
        self.budget = Budget(budget_usd, totals(log.finished.values()).cost_usd)
        self._progress = progress
        self._lock = threading.Lock()
        self._workers: set[Worker] = set()

    def record(self, attempt: Attempt) -> None:
        """Record an attempt and report it."""
        with self._lock:
            self.log.append(attempt)
            if self._progress is not None:
                self._progress(attempt)

    def may_start(self, bound_usd: float) -> bool:
        """Whether a call of at most `bound_usd` may start now; False: ask again in a moment.

        Raises:
            StoppedError: The run is being stopped, or the budget is used up.
        """
        if self.stop.is_set():
            raise StoppedError("the run was stopped")
        allowed = self.budget.reserve(bound_usd)
        if allowed is False:
            raise BudgetReachedError(
                f"the next call could cross the budget of ${self.budget.limit_usd:g} "
                f"(${self.budget.spent_usd:.4f} spent)",
                fix="raise the budget and run the same command again; what is recorded is not repeated",
            )
        return allowed is True

    @contextmanager
    def watched(self, worker: Worker) -> Iterator[None]:
        """While inside, `halt` ends this worker."""
        with self._lock:
            self._workers.add(worker)
        try:
            if self.stop.is_set():
                raise StoppedError("the run was stopped")
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


def now() -> str:
    """UTC time, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _inputs(arm: RunnableArm, row: Row) -> dict[str, Any]:
    try:
        return {column: row[column] for column in arm.inputs}
    except KeyError as error:
        raise DataError(f"a row has no column {error.args[0]!r}, which [source] inputs names") from None


def _run_pending(work: Work, pending: Sequence[Unit], groups: Sequence[RowGroup]) -> None:
    """Drive prompt units on one event loop and python units in workers, until done or stopped."""
    prompts = [unit for unit in pending if unit.arm.spec.kind == "prompt"]
    jobs: dict[tuple[str, int, int], list[Unit]] = defaultdict(list)
    for unit in pending:
        if unit.arm.spec.kind == "python":
            jobs[unit.arm.name, unit.trial, unit.group].append(unit)
        elif unit.arm.spec.kind != "prompt":
            raise ArmError(f"arm {unit.arm.name}: kind {unit.arm.spec.kind!r} cannot run in this version")
    tasks: list[Callable[[], None]] = [_python_job(work, job, groups) for job in jobs.values()]
    with ThreadPoolExecutor(max_workers=_cpus() + bool(prompts)) as pool:
        futures: list[Future[None]] = []
        try:
            if prompts:
                from .prompts import run_prompts

                futures.append(pool.submit(run_prompts, work, prompts))
            futures.extend(pool.submit(task) for task in tasks)
            _wait(futures)
        except BaseException as error:
            work.halt()
            for future in futures:
                future.cancel()
            wait(futures)
            if isinstance(error, KeyboardInterrupt | StoppedError):
                # No chain: what lies behind it may quote a row.
                raise _stopped(work, error, pending) from None
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


def _stopped(work: Work, error: KeyboardInterrupt | StoppedError, pending: Sequence[Unit]) -> StoppedError:
    """Why the run ended and how much is recorded."""
    done = sum(unit.key in work.log.finished for unit in pending)
    kept = f"{done} of {len(pending)} attempts of this run are recorded"
    if isinstance(error, KeyboardInterrupt):
        return StoppedError(f"interrupted; {kept}", fix=_AGAIN)
    unknown = totals(work.log.finished.values()).unknown_costs
    if unknown and isinstance(error, BudgetReachedError):
        kept += f"; the cost of {unknown} attempts is unknown and not in it"
    return StoppedError(f"{error.what}; {kept}", fix=error.fix or _AGAIN)


def _python_job(work: Work, units: Sequence[Unit], groups: Sequence[RowGroup]) -> Callable[[], None]:
    """A task that answers the units of one (arm, trial, group) in a worker of their own."""
    return lambda: _run_python(work, units, groups[units[0].group])


def _run_python(work: Work, units: Sequence[Unit], group: RowGroup) -> None:
    arm, spec = units[0].arm, units[0].arm.spec
    assert spec.target is not None
    timeout_s = spec.timeout_s or work.settings.timeout_s
    options = {
        "quiet": work.quiet,
        "params": spec.params,
        "fit_rows": [dict(row) for row in group.fit_rows],
        "seed": units[0].seed,
        "resources": dict(arm.resources),
        "concurrency": spec.max_concurrency or work.settings.max_concurrency,
        "timeout_s": timeout_s,
    }
    meter = _Meter(work)
    with Worker(arm.root, spec.target, arm.pythonpath, **options) as worker, work.watched(worker):
        items = [(unit.row,) for unit in units]
        try:
            for index, answer in answers(
                worker, items, timeout_s=timeout_s, batch_size=spec.batch_size, gate=meter.begin
            ):
                attempt = _attempt(units[index], answer)
                meter.add(attempt.cost_usd)
                work.record(attempt)
        finally:
            meter.end()


class _Meter:
    """Reserves what a task of a python arm may cost: its rows times the dearest row so far."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._dearest = self._bound = self._cost = 0.0
        self._open = False

    def begin(self, rows: int) -> None:
        self.end()
        bound = rows * self._dearest
        while not self._work.may_start(bound):
            time.sleep(_POLL_S)
        self._bound, self._cost, self._open = bound, 0.0, True

    def add(self, cost_usd: float | None) -> None:
        self._dearest = max(self._dearest, cost_usd or 0.0)
        self._cost += cost_usd or 0.0

    def end(self) -> None:
        if self._open:
            self._work.budget.settle(self._bound, self._cost)
            self._open = False


def _attempt(unit: Unit, answer: Answer) -> Attempt:
    facts = {f.name: getattr(answer, f.name) for f in fields(Answer)}
    facts["cost_usd"] = _cost(unit, answer)
    return Attempt(key=unit.key, arm=unit.arm.name, row_id=unit.row_id, trial=unit.trial, ts=now(), **facts)


def _cost(unit: Unit, answer: Answer) -> float | None:
    """USD of an answer: free if registered so, else as reported, else priced call by call, else unknown."""
    if unit.arm.spec.cost == "free":
        return 0.0
    if answer.cost_usd is not None or not answer.usage:
        return answer.cost_usd
    from itera_nb.models.pricing import price

    prices = [price(call, model=unit.arm.spec.model) for call in answer.usage]
    return None if None in prices else sum(p for p in prices if p is not None)


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
