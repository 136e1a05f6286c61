"""A model's client without a socket, for tests of what stands above it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, NoReturn, Self

from itera_nb.exceptions import StoppedError
from itera_nb.models.client import CallError, Reply, Request, Trouble, retry_after_s, trouble_of

from . import payloads
from .script import Answers, Prompt, Script, Scripted, echo

_STOP = {401, 402, 403, 404}
_TROUBLES: dict[str, Trouble] = {"reset": "connection", "truncated": "garbled", "malformed": "garbled"}


class FakeClient(Script):
    """An `itera_nb.models.client.Client` that answers by a script, whose counts are there too.

    Its arguments are those of `MessagesServer`; `vendor` is the one that usage names.

    Attributes:
        requests: All requests, in order.
    """

    def __init__(
        self,
        answer: Answers = echo,
        *,
        latency_s: float = 0.0,
        faults: Mapping[str, float] | None = None,
        retry_after_s: tuple[float, float] = (0.2, 1.0),
        vendor: str = "anthropic",
        seed: int = 0,
    ) -> None:
        super().__init__(answer, faults=faults, retry_after_s=retry_after_s, seed=seed)
        self._latency_s = latency_s
        self._vendor = vendor
        self.requests: list[Request] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def send(self, request: Request, *, timeout_s: float) -> Reply:
        """One call.

        Raises:
            CallError: As scripted, or later than `timeout_s`.
            StoppedError: A scripted 401, 402, 403 or 404.
        """
        self.requests.append(request)
        body = _body(request)
        begun = time.perf_counter()
        self.enter()
        try:
            scripted = self.draw(Prompt(body))
            wait_s = self._latency_s if scripted.latency_s is None else scripted.latency_s
            await asyncio.sleep(min(wait_s, timeout_s))
            if wait_s > timeout_s:
                raise CallError("late", "TimeoutError", f"no answer within {timeout_s:g} s")
            if scripted.fault or scripted.status >= 400:
                _fail(scripted)
            usage = payloads.usage_of(body, scripted)
            return Reply(
                text=payloads.text_of(scripted),
                stop_reason=payloads.stop_reason_of(scripted),
                usage={"model": f"{self._vendor}/{request.model}", **usage},
                latency_ms=1000 * (time.perf_counter() - begun),
                tool_calls=tuple(scripted.tool_calls),
            )
        finally:
            self.leave()


def _body(request: Request) -> dict[str, Any]:
    body = {**request.params, "model": request.model, "messages": list(request.messages)}
    if request.system is not None:
        body["system"] = request.system
    if request.tools:
        body["tools"] = list(request.tools)
    return body


def _fail(scripted: Scripted) -> NoReturn:
    if scripted.fault:
        trouble = _TROUBLES.get(scripted.fault, "request")
        raise CallError(trouble, scripted.fault, scripted.message)
    if scripted.status in _STOP:
        raise StoppedError(f"the model's API says {scripted.status}: {scripted.message}")
    name = str(payloads.error(scripted.status, "")["error"]["type"])
    wait_s = retry_after_s(scripted.headers)
    raise CallError(trouble_of(scripted.status), name, scripted.message, wait_s)
