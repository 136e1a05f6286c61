"""Prompt arms: one event loop, one client a vendor, as many workers as may be in flight."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from itera_nb.exceptions import ArmError, StoppedError
from itera_nb.models.anthropic import DEFAULT_MAX_TOKENS, AnthropicClient, CallError, Reply
from itera_nb.models.pricing import largest_price, price
from itera_nb.models.prompt import ParseError, Prompt, check_parse, compile_prompt, parse_output

from .attempts import Attempt
from .budget import BudgetReachedError
from .engine import Unit, Work, now

if TYPE_CHECKING:
    from itera_nb.spec import ArmSpec

_POLL_S = 0.05
_INVALID_STOPS = {"max_tokens", "model_context_window_exceeded"}


@dataclass(frozen=True, slots=True)
class _Arm:
    spec: ArmSpec
    prompt: Prompt
    vendor: str
    model: str
    slots: asyncio.Semaphore


def run_prompts(work: Work, units: Sequence[Unit]) -> None:
    """Answer all units; blocks, in a thread that runs no event loop.

    Raises:
        ArmError: A template does not fit the rows, or a vendor is unknown.
        StoppedError: No key, the budget, or the API says that nothing more will come.
    """
    asyncio.run(_run(work, units))


async def _run(work: Work, units: Sequence[Unit]) -> None:
    arms = _prepared(work, units)
    async with contextlib.AsyncExitStack() as stack:
        clients = {
            vendor: await stack.enter_async_context(_client(work, vendor))
            for vendor in {arm.vendor for arm in arms.values()}
        }
        waiting = iter(units)
        count = min(work.settings.max_concurrency, len(units))
        await _together(work, [_answer_all(work, waiting, arms, clients) for _ in range(count)])


def _prepared(work: Work, units: Sequence[Unit]) -> dict[str, _Arm]:
    """Every arm's parts, tried on its first row, so that a mistake costs no call."""
    from jinja2 import TemplateError

    arms: dict[str, _Arm] = {}
    for unit in units:
        if unit.arm.name in arms:
            continue
        spec = unit.arm.spec
        vendor, _, model = (spec.model or "").partition("/")
        if vendor != "anthropic" or not model:
            raise ArmError(
                f"arm {unit.arm.name}: model {spec.model!r} cannot be called in this version",
                fix='write `model` as "anthropic/MODEL"',
            )
        check_parse(spec.parse)
        prompt = compile_prompt(spec, unit.arm.root)
        try:
            prompt.render(unit.row)
        except TemplateError as error:
            said = type(error).__name__ if work.quiet else str(error)
            raise ArmError(
                f"arm {unit.arm.name}: {spec.prompt} does not fit the rows: {said}",
                fix="name every column that it uses in [source] inputs",
            ) from None
        slots = asyncio.Semaphore(spec.max_concurrency or work.settings.max_concurrency)
        arms[unit.arm.name] = _Arm(spec, prompt, vendor, model, slots)
    return arms


def _client(work: Work, vendor: str) -> AnthropicClient:
    from itera_nb.spec import ModelSpec

    return AnthropicClient(work.models.get(vendor, ModelSpec()), quiet=work.quiet)


async def _together(work: Work, workers: Sequence[Any]) -> None:
    """Run workers to their end; a used-up budget lets calls in flight end, anything else ends them all."""
    every = tasks = {asyncio.ensure_future(worker) for worker in workers}
    reached: BudgetReachedError | None = None
    try:
        while tasks:
            done, tasks = await asyncio.wait(tasks, timeout=_POLL_S, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                try:
                    task.result()
                except BudgetReachedError as error:
                    reached = error
            if work.stop.is_set():
                raise StoppedError("the run was stopped")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*every, return_exceptions=True)
    if reached is not None:
        raise reached


async def _answer_all(
    work: Work, units: Iterator[Unit], arms: Mapping[str, _Arm], clients: Mapping[str, AnthropicClient]
) -> None:
    for unit in units:
        arm = arms[unit.arm.name]
        async with arm.slots:
            await _answer(work, unit, arm, clients[arm.vendor])


async def _answer(work: Work, unit: Unit, arm: _Arm, client: AnthropicClient) -> None:
    from jinja2 import TemplateError

    try:
        user, system = arm.prompt.render(unit.row)
    except TemplateError as error:
        work.record(
            _attempt(work, unit, "error", error_type=type(error).__name__, error=str(error), cost_usd=0.0)
        )
        return
    max_tokens = int(arm.spec.params.get("max_tokens", DEFAULT_MAX_TOKENS))
    size = len(user.encode(errors="replace")) + len((system or "").encode(errors="replace"))
    bound = 0.0
    if work.budget.limit_usd is not None and arm.spec.cost != "free":
        bound = largest_price(f"{arm.vendor}/{arm.model}", size, max_tokens)
    while not work.may_start(bound):  # noqa: ASYNC110 - threads share the budget
        await asyncio.sleep(_POLL_S)
    cost: float | None = None
    try:
        attempt = await _call(work, unit, arm, client, user, system)
        cost = attempt.cost_usd
    finally:
        work.budget.settle(bound, cost)
    work.record(attempt)


async def _call(
    work: Work, unit: Unit, arm: _Arm, client: AnthropicClient, user: str, system: str | None
) -> Attempt:
    timeout_s = arm.spec.timeout_s or work.settings.timeout_s
    try:
        reply = await client.ask(arm.model, user, system, arm.spec.params, timeout_s=timeout_s)
    except CallError as error:
        return _attempt(
            work,
            unit,
            "timeout" if error.late else "error",
            error_type=error.error_type,
            error=str(error),
            # A refused request is not charged; one that was cut off may have been.
            cost_usd=None if error.late and arm.spec.cost != "free" else 0.0,
            latency_ms=1000 * timeout_s if error.late else None,
            retries=error.retries,
        )
    facts: dict[str, Any] = {
        "usage": [reply.usage],
        "cost_usd": 0.0 if arm.spec.cost == "free" else price(reply.usage),
        "latency_ms": reply.latency_ms,
        "retries": reply.retries,
    }
    return _read(work, unit, arm, reply, facts)


def _read(work: Work, unit: Unit, arm: _Arm, reply: Reply, facts: dict[str, Any]) -> Attempt:
    if reply.stop_reason == "refusal":
        return _attempt(work, unit, "refusal", error_type="refusal", **facts)
    if reply.stop_reason in _INVALID_STOPS:
        return _attempt(work, unit, "invalid", error_type=reply.stop_reason, **facts)
    try:
        output = parse_output(reply.text, arm.spec.parse)
    except ParseError as error:
        shown = f"{error}: {reply.text[:200]!r}"
        return _attempt(work, unit, "invalid", error_type="ParseError", error=shown, **facts)
    return _attempt(work, unit, "ok", output=output, **facts)


def _attempt(work: Work, unit: Unit, status: Any, *, error: str = "", **facts: Any) -> Attempt:
    return Attempt(
        key=unit.key,
        arm=unit.arm.name,
        row_id=unit.row_id,
        trial=unit.trial,
        status=status,
        error="" if work.quiet else error,
        ts=now(),
        **facts,
    )
