"""Chat completions: OpenAI's own API, and every endpoint that speaks it (gateways, local servers)."""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from itera_nb.exceptions import ArmError

from .client import DEFAULT_MAX_TOKENS, CallError, Reply, Request, check_params
from .credentials import find_key
from .pool import Pool
from .silence import silence
from .troubles import NO_MESSAGE, Origin, translate

if TYPE_CHECKING:
    import openai

    from itera_nb.spec import ModelSpec

# Anthropic's words for why an answer ended, which the rest of the package knows.
_STOP_WORDS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "content_filter": "refusal",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
}
OWN_HOST = "api.openai.com"
_LIMITS = {"max_tokens", "max_completion_tokens"}


class OpenAICompatibleClient:
    """A client for all calls of a run to one endpoint; to be used in one event loop, inside `async with`.

    Args:
        vendor: The vendor's name, for prices and messages.
        spec: Where the key stands and, if not at OpenAI's, where the API is.
        quiet: Whether the SDK's own logging, which can show prompts, is switched off.

    Raises:
        ArmError: The package `openai` is not installed.
        StoppedError: There is no key; an endpoint on this machine needs none.
    """

    def __init__(self, vendor: str, spec: ModelSpec | None = None, *, quiet: bool = False) -> None:
        try:
            import openai
        except ImportError:
            raise ArmError(
                f"models of {vendor!r} are called through the package openai, which is not installed",
                fix='pip install "itera-nb[openai]"',
            ) from None
        found = find_key(vendor, spec)
        if quiet:
            silence("openai", "httpx2", "httpcore2", "aiohttp")
        base_url = spec.base_url if spec else None
        elsewhere = {"base_url": base_url} if base_url else {}

        def make(http: Any) -> openai.AsyncOpenAI:
            return openai.AsyncOpenAI(api_key=found.key, max_retries=0, http_client=http, **elsewhere)  # type: ignore[arg-type]

        self._vendor = vendor
        self._origin = Origin(vendor, found.variable, openai, openai.OpenAIError)
        self._pool = Pool(make, openai.DefaultAioHttpClient)
        self._known = set(inspect.signature(self._pool.any.chat.completions.create).parameters)
        # OpenAI's newer models refuse `max_tokens`; most other servers know nothing else.
        self._limit = "max_tokens" if base_url else "max_completion_tokens"

    async def __aenter__(self) -> Self:
        """Ready to send."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Close all connections."""
        await self._pool.close()

    async def send(self, request: Request, *, timeout_s: float) -> Reply:
        """One call, without retries.

        Raises:
            CallError: It brought no answer; `late` after `timeout_s` seconds.
            StoppedError: No call would bring one: key, credit, permission or model.
            ArmError: A parameter is one that the request's own parts give.
        """
        arguments = self._arguments(request)
        begun = time.perf_counter()
        try:
            with self._pool.client() as client:
                async with asyncio.timeout(timeout_s):
                    raw = await client.chat.completions.with_raw_response.create(**arguments, timeout=None)
        except Exception as error:  # noqa: BLE001 - translated; its chain could quote a row or a key
            raise translate(error, self._origin, request.model) from None
        latency_ms = 1000 * (time.perf_counter() - begun)
        try:
            completion = json.loads(raw.http_response.content)
            return _reply(completion, f"{self._vendor}/{request.model}", latency_ms)
        except NO_MESSAGE as error:
            raise CallError("garbled", type(error).__name__, "the response is no completion") from None

    async def knows(self, model: str, *, timeout_s: float) -> bool | None:
        """Whether the key is accepted and the model is there, `None` if the API does not tell; costs nothing.

        Raises:
            CallError: The API cannot be reached.
            StoppedError: The key is not accepted.
        """
        models, own = self._pool.any.models, self._pool.any.base_url.host == OWN_HOST
        try:
            async with asyncio.timeout(timeout_s):
                if own:
                    await models.retrieve(model, timeout=None)
                    return True
                listed = (await models.list(timeout=None)).data
            return True if any(found.id == model for found in listed) else None
        except self._origin.sdk.NotFoundError:  # most other servers cannot look one model up, or list any
            return False if own else None
        except self._origin.sdk.PermissionDeniedError:  # a key may call models without listing them
            return None
        except Exception as error:  # noqa: BLE001 - as in `send`
            raise translate(error, self._origin, model) from None

    def _arguments(self, request: Request) -> dict[str, Any]:
        limited = _LIMITS & request.params.keys()
        arguments: dict[str, Any] = {} if limited else {self._limit: DEFAULT_MAX_TOKENS}
        extra: dict[str, Any] = {}
        check_params(request.params)
        for given, value in request.params.items():
            name = {"effort": "reasoning_effort", "max_tokens": self._limit}.get(given, given)
            (arguments if name in self._known else extra)[name] = value
        if request.schema is not None:
            schema = {"name": "answer", "strict": True, "schema": request.schema}
            arguments["response_format"] = {"type": "json_schema", "json_schema": schema}
        if request.tools:
            arguments["tools"] = request.tools
        if extra:
            arguments["extra_body"] = extra
        system = [] if request.system is None else [{"role": "system", "content": request.system}]
        return arguments | {"model": request.model, "messages": [*system, *request.messages]}


def _reply(completion: Any, model: str, latency_ms: float) -> Reply:
    choice = completion["choices"][0]
    message = choice["message"]
    calls = [_tool_call(call["function"]) for call in message.get("tool_calls") or ()]
    reason = choice["finish_reason"] or ""
    stop = "refusal" if message.get("refusal") else _STOP_WORDS.get(reason, reason)
    usage = {name: value for name, value in (completion.get("usage") or {}).items() if value is not None}
    if completion.get("service_tier") is not None:
        usage["service_tier"] = completion["service_tier"]
    return Reply(message.get("content") or "", stop, usage | {"model": model}, latency_ms, tuple(calls))


def _tool_call(function: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return {"name": function["name"], "input": json.loads(function["arguments"])}
    except json.JSONDecodeError:  # the model's mistake, not the transport's
        return {"name": function["name"], "input": function["arguments"]}
