"""Prompt arms in the provider's batches: half the price, hours instead of minutes, and nothing paid twice."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from itera_nb.arms.caller import Answer, priced
from itera_nb.exceptions import StoppedError
from itera_nb.models.batches import BatchClient, BatchResult, BatchState
from itera_nb.models.client import CallError
from itera_nb.models.prompt import PromptError

from .batch_file import BatchFile, Handover
from .budget import BudgetReachedError
from .engine import Work
from .progress import relay
from .units import Unit, Units

if TYPE_CHECKING:
    from itera_nb.arms.prompt_caller import PromptCaller
    from itera_nb.models.anthropic import AnthropicClient

VENDOR = "anthropic"
FILE = "batches.jsonl"
MAX_REQUESTS = 100_000
MAX_BYTES = 64_000_000  # the API takes 256 MB; a batch is held in memory several times while it is sent
MAX_TRIES = 3
ID_LENGTH = 32
PATIENCE_S = 600.0
POLL_S = 5.0
POLL_CAP_S = 60.0
SETTLE_S = 60.0  # a batch whose creation was cut off may take as long to show in the provider's list
_STEP_S = 0.1
_BACKOFF_CAP_S = 30.0
_FINAL = {"invalid_request_error", "request_too_large"}
_HOPELESS = {"authentication_error", "permission_error", "billing_error", "not_found_error"}
_REFUSED = {"request", "rate_limit"}
T = TypeVar("T")


def parted(
    work: Work, units: Units, pending: Mapping[str, array[int]]
) -> tuple[dict[str, array[int]], dict[str, array[int]]]:
    """Units to be answered in batches, and those to be called one by one; by arm name, none of them empty.

    Batches take prompts to Anthropic's models if `[run] batch` says so. Rows that nobody may read never go in
    one: its results can be read at the provider by whoever has the key. What was handed over before is read
    from its batch whatever `[run] batch` says now.
    """
    path = work.log.path.with_name(FILE)
    handed = {i for h in BatchFile(path).handovers if not h.dropped for i in h.ids}
    if work.quiet or not (work.settings.batch or handed):
        return {}, {name: indices for name, indices in pending.items() if indices}
    in_batches: dict[str, array[int]] = {}
    called: dict[str, array[int]] = {}
    for name, indices in pending.items():
        spec = units[indices[0]].arm.spec if indices else None
        fits = spec is not None and spec.kind == "prompt" and (spec.model or "").startswith(f"{VENDOR}/")
        chosen = [fits and (work.settings.batch or units.key(i)[:ID_LENGTH] in handed) for i in indices]
        for parts, wanted in ((in_batches, True), (called, False)):
            if some := array("Q", (i for i, c in zip(indices, chosen, strict=True) if c is wanted)):
                parts[name] = some
    return in_batches, called


def run_batches(work: Work, units: Units, pending: Mapping[str, array[int]]) -> None:
    """Answer units in batches; blocks, in a thread that runs no event loop, until all are answered.

    What is under way at the provider when a run ends is found again by the next one, through `batches.jsonl`
    beside the attempt log. `pending` is as `parted` gives it.

    Raises:
        ArmError: An arm does not fit the rows.
        StoppedError: No key, the budget, a canceled batch, or an API says that nothing more will come.
    """
    with BatchFile(work.log.path.with_name(FILE)) as file:
        asyncio.run(_Batches(work, units, file).run(pending))


class _Batches:
    """Units that are to be handed over, and those that are with the provider."""

    def __init__(self, work: Work, units: Units, file: BatchFile) -> None:
        self._work = work
        self._units = units
        self._file = file
        self._callers: dict[str, PromptCaller] = {}
        self._indices: dict[str, int] = {}
        self._fresh: dict[str, None] = {}
        self._out: dict[str, set[str]] = {}
        self._reserved: dict[str, float] = {}
        self._unanswered: list[str] = []
        self._tries: Counter[str] = Counter()
        self._ending: StoppedError | None = None

    async def run(self, pending: Mapping[str, array[int]]) -> None:
        """Hand over, wait and read until nothing is left."""
        from itera_nb.arms.callers import Clients, caller_for

        work = self._work
        async with AsyncExitStack() as stack:
            clients = await stack.enter_async_context(Clients(work.models, quiet=work.quiet))
            for name, indices in pending.items():
                first = self._units[indices[0]]
                caller = cast("PromptCaller", caller_for(first.arm, clients, quiet=work.quiet))
                caller.check(first.row)
                self._callers[name] = await stack.enter_async_context(caller)
                self._indices |= {self._units.key(i)[:ID_LENGTH]: i for i in indices}
            self._client = BatchClient(cast("AnthropicClient", await clients.of(VENDOR)))
            await self._resume()
            while self._fresh or self._out:
                await self._hand_over()
                if self._out:
                    await self._collect()
                elif self._fresh and self._ending is None:  # others hold what the budget has left
                    await self._sleep(_STEP_S)
                # What is under way is found again by the next run; for a used-up budget it is awaited.
                if self._ending and not (self._out and isinstance(self._ending, BudgetReachedError)):
                    raise self._ending

    async def _resume(self) -> None:
        """Find what earlier runs handed over, and what they may have."""
        for handover in self._file.handovers:
            if handover.open:
                await self._settle(handover)
        latest = {i: h.batch for h in self._file.handovers if h.batch for i in h.ids if i in self._indices}
        for custom_id, batch in latest.items():
            self._out.setdefault(batch, set()).add(custom_id)
            if self._work.budget.reserve(0.0):
                self._reserved[custom_id] = 0.0
        self._fresh = dict.fromkeys(i for i in self._indices if i not in latest)
        for batch, ids in self._out.items():
            relay(f"batch {batch}: {len(ids)} requests of an earlier run are taken up again")

    # Handing over

    async def _hand_over(self) -> None:
        """Submit what the budget allows, in as few batches as the API takes."""
        for chunk in _chunks(self._requests()):
            await self._submit(chunk)

    def _requests(self) -> Iterator[dict[str, Any]]:
        """Requests of the units whose price could be reserved; the others stay."""
        for custom_id in list(self._fresh):
            unit = self._unit(custom_id)
            caller = self._callers[unit.arm.name]
            bound = caller.bound_usd(unit.row) if self._work.budget.limit_usd is not None else 0.0
            if self._ending is not None or not self._reserve(custom_id, bound):
                return
            del self._fresh[custom_id]
            try:
                request = caller.request(unit.row)
            except PromptError as error:
                answer = Answer("error", error_type=error.kind, error=str(error), cost_usd=0.0)
                self._finish(custom_id, answer)
                continue
            yield {"custom_id": custom_id, "params": self._client.params(request)}

    def _reserve(self, custom_id: str, bound_usd: float) -> bool:
        try:
            allowed = self._work.may_start(bound_usd)
        except StoppedError as error:
            self._ending = error
            return False
        if allowed:
            self._reserved[custom_id] = bound_usd
        return allowed

    async def _submit(self, chunk: list[dict[str, Any]]) -> None:
        ids = [request["custom_id"] for request in chunk]
        handover = self._file.intend(ids)
        try:
            self._file.created(handover, await self._client.submit(chunk))
        except CallError as error:
            await self._not_submitted(handover, error)
        except StoppedError:
            self._file.drop(handover)
            raise
        if handover.batch is None:
            for custom_id in ids:
                self._release(custom_id, 0.0)
                self._fresh[custom_id] = None
            return
        self._out[handover.batch] = set(ids)
        relay(
            f"batch {handover.batch}: {len(ids)} requests handed over; answers within 24 hours. "
            "This may be interrupted: the same command takes it up again"
        )

    async def _not_submitted(self, handover: Handover, error: CallError) -> None:
        if error.trouble not in _REFUSED:  # it may exist all the same
            await self._settle(handover)
            return
        self._file.drop(handover)
        if error.trouble == "request":
            raise StoppedError(
                f"the API takes no such batch ({error.error_type})", fix="say [run] batch = false"
            )
        await self._sleep(min(error.retry_after_s or POLL_S, _BACKOFF_CAP_S))

    async def _settle(self, handover: Handover) -> None:
        """Find out whether a handover arrived whose end nobody saw.

        Message batches carry no name of ours, so that it is told by its size and the ids in its results, for
        which it must have ended. Its time says nothing: this machine's clock may differ from the provider's.
        """
        relay(
            f"{len(handover.ids)} requests may have been handed over when a run was cut off: looking for them"
        )
        known = {h.batch for h in self._file.handovers if h.batch}
        earlier = itertools.takewhile(lambda h: h is not handover, self._file.handovers)
        until = {h.batch for h in earlier if h.batch}
        others: set[str] = set()
        for pause_s in (0.0, SETTLE_S):  # it may take a while to show in the list
            await self._sleep(pause_s)
            listed = await self._patiently(lambda: self._client.listed(until))
            alike = [b for b in listed if b.name not in known | others and b.size == len(handover.ids)]
            for found in sorted(alike, key=lambda b: not b.ended):
                if await self._holds(found.name, handover.ids):
                    self._file.created(handover, found.name)
                    return
                others.add(found.name)
        self._file.drop(handover)

    async def _holds(self, name: str, ids: set[str]) -> bool:
        """Whether a batch is ours: its first result tells, as ids are hashes."""
        for pause_s in _pauses():
            batch = await self._patiently(lambda: self._client.state(name))
            if batch.ended:
                break
            await self._sleep(pause_s)

        async def first() -> str | None:
            async for result in self._client.results(name):
                return result.custom_id
            return None

        return batch.readable and await self._patiently(first) in ids

    # Reading

    async def _collect(self) -> None:
        """Wait until a batch has ended, and read all that have."""
        for pause_s in _pauses():
            ended = []
            for name in self._out:
                state = await self._patiently(partial(self._client.state, name))
                if state.ended:
                    ended.append(state)
            for state in ended:
                await self._read(state)
            if ended:
                return
            await self._sleep(pause_s)

    async def _read(self, batch: BatchState) -> None:
        """Record what became of a batch's requests; those without an answer are to be handed over again."""
        asked = self._out[batch.name]

        async def once() -> None:
            async for result in self._client.results(batch.name):
                if result.custom_id in asked:
                    asked.discard(result.custom_id)
                    self._take(result)

        if batch.readable:
            await self._patiently(once)
        for custom_id in asked:  # deleted after 29 days, or left out
            self._again(custom_id, "expired")
        del self._out[batch.name]
        if self._unanswered:
            handover = next(h for h in self._file.handovers if h.batch == batch.name)
            self._file.unanswered(handover, self._unanswered)
            self._unanswered.clear()

    def _take(self, result: BatchResult) -> None:
        custom_id, unit = result.custom_id, self._unit(result.custom_id)
        if result.kind == "succeeded":
            caller = self._callers[unit.arm.name]
            model = (unit.arm.spec.model or "").partition("/")[2]
            try:
                answer = caller.answer(self._client.reply(result, model))
            except CallError as error:  # charged, and the same whenever it is read
                answer = Answer("error", error_type=error.error_type, error=str(error))
            # A batch says nothing about how long one answer takes.
            self._finish(custom_id, priced(unit.arm, replace(answer, latency_ms=None)))
        elif result.kind == "canceled":
            self._give_back(custom_id)
            self._ending = StoppedError(
                "a batch was canceled at the provider",
                fix="run the same command again to hand over what it did not answer",
            )
        elif result.error_type in _HOPELESS:
            self._give_back(custom_id)
            self._ending = StoppedError(
                f"the model's API answers requests of a batch with {result.error_type}",
                fix="check the key, its credit and `model`, then run the same command again",
            )
        elif result.error_type in _FINAL:
            self._finish(custom_id, _failed(result.error_type, result.error))
        else:
            self._again(custom_id, result.error_type or result.kind, result.error)

    def _again(self, custom_id: str, error_type: str, error: str = "") -> None:
        self._tries[custom_id] += 1
        if self._tries[custom_id] < MAX_TRIES:
            self._give_back(custom_id)
        elif error_type == "expired":  # not the row's fault
            self._give_back(custom_id)
            self._ending = StoppedError(
                f"{MAX_TRIES} batches one after the other expired unanswered",
                fix="run the same command again later, or say [run] batch = false",
            )
        else:
            self._finish(custom_id, _failed(error_type, error))

    def _give_back(self, custom_id: str) -> None:
        self._release(custom_id, 0.0)
        self._fresh[custom_id] = None
        self._unanswered.append(custom_id)

    def _finish(self, custom_id: str, answer: Answer) -> None:
        unit = self._unit(custom_id)
        self._release(custom_id, answer.cost_usd)
        self._work.record(unit, answer, retries=self._tries[custom_id])

    def _release(self, custom_id: str, cost_usd: float | None) -> None:
        bound = self._reserved.pop(custom_id, None)
        if bound is not None:
            self._work.budget.settle(bound, cost_usd)

    def _unit(self, custom_id: str) -> Unit:
        return self._units[self._indices[custom_id]]

    # Waiting

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat what costs nothing until it succeeds.

        Raises:
            StoppedError: It does not.
        """
        begun = time.monotonic()
        for tries in itertools.count():
            try:
                return await call()
            except CallError as error:
                wait_s = error.retry_after_s or 0.5 * 2**tries
                if not error.may_pass or time.monotonic() - begun > PATIENCE_S:
                    raise StoppedError(
                        f"the API says nothing about its batches ({error.error_type})",
                        fix="run the same command again later; nothing is handed over twice",
                    ) from None
            await self._sleep(min(wait_s, _BACKOFF_CAP_S))
        raise AssertionError

    async def _sleep(self, seconds: float) -> None:
        """Wait, and hear of a stop.

        Raises:
            StoppedError: The run is being stopped.
        """
        end = time.monotonic() + seconds
        while True:
            self._work.require_going()
            left = end - time.monotonic()
            if left <= 0:
                return
            await asyncio.sleep(min(left, _STEP_S))


def _failed(error_type: str, error: str) -> Answer:
    return Answer("error", error_type=error_type, error=error, cost_usd=0.0)


def _pauses() -> Iterator[float]:
    """Seconds between looks at a batch, growing."""
    pause_s = POLL_S
    while True:
        yield pause_s
        pause_s = min(1.5 * pause_s, POLL_CAP_S)


def _chunks(requests: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Requests in lists that one batch can hold."""
    chunk: list[dict[str, Any]] = []
    size = 0
    for request in requests:
        length = len(json.dumps(request))
        if chunk and (len(chunk) >= MAX_REQUESTS or size + length > MAX_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(request)
        size += length
    if chunk:
        yield chunk
