"""Anthropic's Messages API, through its SDK: one attempt a call, on the transport that costs least."""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .client import DEFAULT_MAX_TOKENS, CallError, Reply, Request, check_params
from .credentials import find_key
from .pool import Pool
from .silence import silence
from .troubles import NO_MESSAGE, Origin, translate

if TYPE_CHECKING:
    import anthropic

    from itera_nb.spec import ModelSpec

VENDOR = "anthropic"
OWN_HOST = "api.anthropic.com"


class AnthropicClient:
    """A client for all calls of a run to Anthropic; to be used in one event loop, inside `async with`.

    Args:
        spec: Where the key stands and, if not at Anthropic's, where the API is.
        quiet: Whether the SDK's own logging, which can show prompts, is switched off.

    Raises:
        StoppedError: There are no credentials.
    """

    def __init__(self, spec: ModelSpec | None = None, *, quiet: bool = False) -> None:
        import anthropic

        found = find_key(VENDOR, spec)
        if quiet:
            silence("anthropic", "httpx2", "httpcore2", "aiohttp")

        def make(http: Any) -> anthropic.AsyncAnthropic:
            return anthropic.AsyncAnthropic(
                api_key=found.key,
                base_url=spec.base_url if spec else None,
                max_retries=0,
                http_client=http,
                open_telemetry=False,  # spans cost time, and could show what nobody may read
            )

        self.origin = Origin(VENDOR, found.variable, anthropic, anthropic.AnthropicError)
        self._pool = Pool(make, anthropic.DefaultAioHttpClient)
        self._known = set(inspect.signature(self._pool.any.messages.create).parameters)

    async def __aenter__(self) -> Self:
        """Ready to send."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Close all connections."""
        await self._pool.close()

    @property
    def sdk_client(self) -> anthropic.AsyncAnthropic:
        """The SDK's own client, for calls that are no messages."""
        return self._pool.any

    async def send(self, request: Request, *, timeout_s: float) -> Reply:
        """One call, without retries.

        Raises:
            CallError: It brought no answer; `late` after `timeout_s` seconds.
            StoppedError: No call would bring one: key, credit, permission or model.
            ArmError: A parameter is one that the request's own parts give.
        """
        arguments = self.arguments(request)
        begun = time.perf_counter()
        try:
            with self._pool.client() as client:
                async with asyncio.timeout(timeout_s):
                    # The raw response spares the SDK's models, a quarter of the CPU; errors are the same.
                    raw = await client.messages.with_raw_response.create(**arguments, timeout=None)
        except Exception as error:  # noqa: BLE001 - translated; its chain could quote a row or a key
            raise translate(error, self.origin, request.model) from None
        latency_ms = 1000 * (time.perf_counter() - begun)
        try:
            return self.read(json.loads(raw.http_response.content), request.model, latency_ms=latency_ms)
        except NO_MESSAGE as error:
            raise CallError("garbled", type(error).__name__, "the response is no message") from None

    async def knows(self, model: str, *, timeout_s: float) -> bool | None:
        """Whether the key is accepted and the model is there, `None` if the API does not tell; costs nothing.

        Raises:
            CallError: The API cannot be reached.
            StoppedError: The key is not accepted.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._pool.any.models.retrieve(model, timeout=None)
        except self.origin.sdk.NotFoundError:  # a gateway may not list models at all
            return False if self._pool.any.base_url.host == OWN_HOST else None
        except self.origin.sdk.PermissionDeniedError:  # a key may call models without listing them
            return None
        except Exception as error:  # noqa: BLE001 - as in `send`
            raise translate(error, self.origin, model) from None
        return True

    def arguments(self, request: Request) -> dict[str, Any]:
        """A request as the SDK takes it; `extra_body` holds what the SDK does not name.

        Raises:
            ArmError: A parameter is one that the request's own parts give.
        """
        arguments: dict[str, Any] = {"max_tokens": DEFAULT_MAX_TOKENS}
        extra: dict[str, Any] = {}
        config: dict[str, Any] = {}
        check_params(request.params)
        for name, value in request.params.items():
            if name == "effort":
                config["effort"] = value
            elif name == "output_config":
                config |= value
            elif name in self._known:
                arguments[name] = value
            else:  # temperature, top_p, top_k and whatever is newer than the SDK
                extra[name] = value
        if request.schema is not None:
            config["format"] = {"type": "json_schema", "schema": request.schema}
        if config:
            arguments["output_config"] = config
        if request.system is not None:
            arguments["system"] = request.system
        if request.tools:
            arguments["tools"] = request.tools
        if extra:
            arguments["extra_body"] = extra
        return arguments | {"model": request.model, "messages": request.messages}

    def read(self, message: Any, model: str, *, latency_ms: float) -> Reply:
        """A message in the API's form as a reply; `model` is the name that it was asked for by.

        Raises:
            KeyError: It is no message; `TypeError` and the like too.
        """
        text: list[str] = []
        calls: list[Mapping[str, Any]] = []
        for block in message["content"]:
            if block["type"] == "text":
                text.append(block["text"])
            elif block["type"] == "tool_use":
                calls.append({"name": block["name"], "input": block["input"]})
        usage = {name: value for name, value in message["usage"].items() if value is not None}
        usage["model"] = f"{VENDOR}/{model}"
        return Reply("".join(text), message["stop_reason"] or "", usage, latency_ms, tuple(calls))
