"""Arms that answer row by row: one event loop, as many calls in flight as a model takes, and every retry."""

from __future__ import annotations

import asyncio
import importlib
import math
import random
import time
from array import array
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass

from itera_nb.arms.caller import Answer, Caller, priced
from itera_nb.exceptions import StoppedError
from itera_nb.models.client import CONTEXT_OVERFLOW, CallError

from .engine import Work
from .limiter import Limiter
from .units import Unit, Units

PATIENCE_S = 600.0
UNREACHED_S = 60.0
RETRY_AFTER_CAP_S = 30.0
BACKOFF_S = 0.5
BACKOFF_CAP_S = 8.0
MAX_LATE = 2
MAX_FAILURES = 10
_POLL_S = 0.05
_FEW = 16
_MAYBE_PAID = {"late", "garbled", "connection"}


def run_callers(
    work: Work, units: Units, pending: Mapping[str, array[int]], *, patience_s: float = PATIENCE_S
) -> None:
    """Answer units of arms that are no python arms; blocks, in a thread that runs no event loop.

    `pending` holds by arm name the indices of the units to answer. An API that answers nobody for
    `patience_s` seconds ends the run.

    Raises:
        ArmError: An arm does not fit the rows.
        StoppedError: No key, the budget, or an API says that nothing more will come.
    """
    with asyncio.Runner(loop_factory=_fastest_loop()) as runner:
        runner.run(_Loop(work, patience_s).run(units, pending))


@dataclass(slots=True)
class _Api:
    """What all arms on one model (or one arm without a model) share.

    `stuck` counts units that failed and were not answered yet, `waiting` those that wait for another try.
    """

    name: str
    limiter: Limiter
    answered_at: float = -math.inf
    stuck: int = 0
    waiting: int = 0


@dataclass(slots=True)
class _Case:
    """A unit on its way to an answer."""

    unit: Unit
    bound_usd: float
    begun: float = 0.0
    retries: int = 0
    failures: int = 0
    late: int = 0


class _Lane:
    """An arm's units: those not begun, in order, and those that are due again."""

    def __init__(
        self, caller: Caller, api: _Api, units: Units, indices: array[int], *, most: int, timeout_s: float
    ) -> None:
        self.caller = caller
        self.api = api
        self.timeout_s = timeout_s
        self.due: deque[_Case] = deque()
        self.in_flight = 0
        self._units = units
        self._most = most
        self._fresh = iter(indices)
        self.position = next(self._fresh, None)

    @property
    def open(self) -> bool:
        """Whether a call could be sent now."""
        if self.in_flight >= self._most or not self.api.limiter.free:
            return False
        # A rate limit must not send every unit of the run against the same wall.
        crowded = self.api.waiting >= max(_FEW, 2 * self.api.limiter.limit)
        return bool(self.due) or (self.position is not None and not crowded)

    @property
    def rank(self) -> int:
        """Lower goes first: retries, then the order of the plan."""
        return -1 if self.due or self.position is None else self.position

    def next(self, *, priced: bool) -> _Case:
        """The case to call next."""
        if self.due:
            return self.due.popleft()
        assert self.position is not None
        unit = self._units[self.position]
        self.position = next(self._fresh, None)
        return _Case(unit, self.caller.bound_usd(unit.row) if priced else 0.0)

    def begin(self) -> None:
        self.in_flight += 1
        self.api.limiter.begin()

    def end(self) -> None:
        self.in_flight -= 1
        self.api.limiter.end()


class _Loop:
    """Workers that end when there is nothing to do for them, and are started when there is."""

    def __init__(self, work: Work, patience_s: float) -> None:
        self._work = work
        self._patience_s = patience_s
        self._most = work.settings.max_concurrency
        self._lanes: list[_Lane] = []
        self._running = 0
        self._workers: set[asyncio.Task[None]] = set()
        self._ending: StoppedError | None = None
        self._failure: BaseException | None = None
        self._wake = asyncio.Event()

    async def run(self, units: Units, pending: Mapping[str, array[int]]) -> None:
        """Answer every unit; what is in flight at a used-up budget is awaited, at any other end given up."""
        async with AsyncExitStack() as stack:
            self._lanes = await self._opened(stack, units, pending)
            try:
                self._fill()
                while self._running or (self._left() and self._ending is None):
                    self._wake.clear()
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._wake.wait(), _POLL_S)
                    if self._failure is not None:
                        raise self._failure
                    self._work.require_going()
                    self._fill()
            finally:
                for worker in self._workers:
                    worker.cancel()
                await asyncio.gather(*self._workers, return_exceptions=True)
        if self._ending is not None:
            raise self._ending

    async def _opened(
        self, stack: AsyncExitStack, units: Units, pending: Mapping[str, array[int]]
    ) -> list[_Lane]:
        """Every arm ready to call, tried on its first row, so that a mistake costs no call."""
        from itera_nb.arms.callers import Clients, caller_for

        work, settings = self._work, self._work.settings
        clients = await stack.enter_async_context(Clients(work.models, quiet=work.quiet))
        apis: dict[str, _Api] = {}
        lanes = []
        for indices in pending.values():
            first = units[indices[0]]
            arm, spec = first.arm, first.arm.spec
            caller = caller_for(arm, clients, quiet=work.quiet)
            caller.check(first.row)
            name = spec.model or arm.name
            limiter = Limiter(self._most, adaptive=settings.adaptive)
            api = apis.setdefault(name, _Api(name, limiter))
            work.report_limit(name, api.limiter.limit)
            most, timeout_s = spec.max_concurrency or self._most, spec.timeout_s or settings.timeout_s
            lanes.append(_Lane(caller, api, units, indices, most=most, timeout_s=timeout_s))
        for lane in lanes:
            await stack.enter_async_context(lane.caller)
        return lanes

    def _left(self) -> bool:
        return any(lane.due or lane.position is not None or lane.api.waiting for lane in self._lanes)

    def _fill(self) -> None:
        """Start a worker for every call that may be sent now."""
        while (taken := self._take()) is not None:
            worker = asyncio.ensure_future(self._work_on(*taken))
            self._workers.add(worker)
            worker.add_done_callback(self._left_work)

    def _left_work(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        if not worker.cancelled() and worker.exception() is not None:
            self._failure = self._failure or worker.exception()
        if self._failure is not None or not self._running:
            self._wake.set()

    def _take(self) -> tuple[_Lane, _Case] | None:
        """The next call with its place taken and its price reserved, or nothing if none may be sent now."""
        if self._ending is not None or self._failure is not None or self._running >= self._most:
            return None
        ready = [lane for lane in self._lanes if lane.open]
        if not ready:
            return None
        lane = min(ready, key=lambda lane: lane.rank)
        case = lane.next(priced=self._work.budget.limit_usd is not None)
        try:
            allowed = self._work.may_start(case.bound_usd)
        except StoppedError as error:
            self._ending = error
            allowed = False
        if not allowed:
            lane.due.appendleft(case)
            return None
        lane.begin()
        self._running += 1
        case.begun = case.begun or time.monotonic()
        return lane, case

    async def _work_on(self, lane: _Lane, case: _Case) -> None:
        taken: tuple[_Lane, _Case] | None = (lane, case)
        while taken is not None:
            await self._call(*taken)
            taken = self._take()

    async def _call(self, lane: _Lane, case: _Case) -> None:
        unit, log, answer = case.unit, self._work.log, None
        paid = int(unit.arm.spec.cost != "free")
        log.in_flight(paid)
        try:
            answer = priced(unit.arm, await lane.caller.call(unit.row, unit.trial, timeout_s=lane.timeout_s))
            self._answered(lane.api)
        except (CallError, StoppedError) as error:
            log.in_flight(-paid)
            paid = 0
            answer = self._after(error, lane, case)
        finally:
            lane.end()
            self._running -= 1
            self._work.budget.settle(case.bound_usd, answer.cost_usd if answer else None)
        if answer is not None:
            lane.api.stuck -= case.retries > 0
            self._work.record(unit, answer, retries=case.retries)
        log.in_flight(-paid)

    def _answered(self, api: _Api) -> None:
        api.answered_at = time.monotonic()
        if api.limiter.answered():
            self._limit_changed(api)

    def _after(self, error: CallError | StoppedError, lane: _Lane, case: _Case) -> Answer | None:
        """What a failed call leaves: an answer that says so, or nothing if it will be tried again.

        Raises:
            StoppedError: It says so, or the API has answered nobody for too long.
        """
        if isinstance(error, StoppedError):
            raise error
        api, now = lane.api, time.monotonic()
        if error.trouble == "rate_limit":
            if api.limiter.rate_limited():
                self._limit_changed(api)
        elif error.may_pass:
            api.limiter.faltered()
            case.failures += 1
        case.late += error.trouble == "late"
        wait_s = _wait_s(error, case.retries)
        patience_s = self._patience_s
        if error.trouble == "connection" and api.answered_at == -math.inf:  # a wrong address, or no network
            patience_s = min(patience_s, UNREACHED_S)
        impatient = now + wait_s - case.begun > patience_s
        # A row's failure counts against its arm, so that an outage ends the run instead; but where others are
        # answered, a row that never is has failed.
        others = api.answered_at > case.begun and error.trouble != "rate_limit"
        too_late = case.late > MAX_LATE and (others or api.stuck <= 1)
        if not error.may_pass or too_late or (others and (impatient or case.failures >= MAX_FAILURES)):
            return priced(case.unit.arm, _failed(error, lane))
        if impatient:
            raise StoppedError(
                f"no answer from {api.name} for {patience_s:g} s ({error.error_type})",
                fix="run the same command again later; what is recorded is not repeated",
            )
        api.stuck += case.retries == 0
        case.retries += 1
        api.waiting += 1
        asyncio.get_running_loop().call_later(wait_s, self._due, lane, case)
        return None

    def _due(self, lane: _Lane, case: _Case) -> None:
        lane.api.waiting -= 1
        lane.due.append(case)
        self._wake.set()

    def _limit_changed(self, api: _Api) -> None:
        self._work.report_limit(api.name, api.limiter.limit)
        self._wake.set()


def _failed(error: CallError, lane: _Lane) -> Answer:
    late = error.trouble == "late"
    return Answer(
        "timeout" if late else "invalid" if error.error_type == CONTEXT_OVERFLOW else "error",
        error_type=error.error_type,
        error=str(error),
        # A refused request is not charged; one whose answer was lost may have been.
        cost_usd=None if error.trouble in _MAYBE_PAID else 0.0,
        latency_ms=1000 * lane.timeout_s if late else None,
    )


def _wait_s(error: CallError, retries: int) -> float:
    """Seconds until the next try: as told, at most 30, else doubling from 0.5 to 8; with jitter."""
    if error.retry_after_s is not None:
        return min(error.retry_after_s, RETRY_AFTER_CAP_S) * random.uniform(1.0, 1.1)  # noqa: S311 - jitter
    doubled: float = BACKOFF_S * 2 ** min(retries, 10)
    return min(doubled, BACKOFF_CAP_S) * random.uniform(1.0, 1.25)  # noqa: S311 - jitter


def _fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, where it is installed."""
    try:
        found: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
    except ImportError:
        return None
    return found
