"""What the clients of both vendors share: SDKs that are generated alike, and one attempt a call."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from itera_nb.exceptions import ArmError

from .client import NO_MESSAGE, CallError, Origin, Reply, Request, check_params, translate

if TYPE_CHECKING:
    from itera_nb.spec import ModelSpec

SHARD = 8
C = TypeVar("C")


class SdkClient(ABC, Generic[C]):
    """A vendor's client for all calls of a run; to be used in one event loop, inside `async with`.

    On aiohttp one SDK client serves any number of calls. The SDKs' default transport looks at every open
    connection for each call, so that where there is no aiohttp (a `RuntimeError`) an SDK client gets at most
    `SHARD` calls at once. `make` gives an SDK client for an HTTP client, for `None` with the SDK's default.
    `quiet` switches the SDK's own logging off, which can show prompts.
    """

    own_host: str

    def __init__(
        self, origin: Origin, make: Callable[[Any], C], aiohttp: Callable[[], Any], *, quiet: bool
    ) -> None:
        if quiet:
            _silence(origin.sdk.__name__, "httpx2", "httpcore2", "aiohttp")
        self.origin = origin
        self._make = make
        try:
            http: Any = aiohttp()
        except RuntimeError:
            http = None
        self._sharded = http is None
        self._clients = [make(http)]
        self._in_flight = [0]
        self._known = set(inspect.signature(self._resource(self.sdk_client).create).parameters)

    @property
    def sdk_client(self) -> C:
        """One of the SDK's own clients, for what `send` does not do."""
        return self._clients[0]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(client.close() for client in self._clients))  # type: ignore[attr-defined]

    async def send(self, request: Request, *, timeout_s: float) -> Reply:
        """One call, without retries; what it raises says `Client.send`."""
        arguments = self.arguments(request)
        begun = time.perf_counter()
        try:
            with self._roomy() as client:
                async with asyncio.timeout(timeout_s):
                    # The raw response spares the SDK's models, a quarter of the CPU; errors are the same.
                    raw = await self._resource(client).with_raw_response.create(**arguments, timeout=None)
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
        client: Any = self.sdk_client
        own = client.base_url.host == self.own_host
        try:
            async with asyncio.timeout(timeout_s):
                return await self._has(client, model, own=own)
        except self.origin.sdk.NotFoundError:  # a gateway may not look models up, or list any
            return False if own else None
        except self.origin.sdk.PermissionDeniedError:  # a key may call models without listing them
            return None
        except Exception as error:  # noqa: BLE001 - as in `send`
            raise translate(error, self.origin, model) from None

    async def _has(self, client: Any, model: str, *, own: bool) -> bool | None:  # noqa: ARG002 - for gateways
        await client.models.retrieve(model, timeout=None)
        return True

    def arguments(self, request: Request) -> dict[str, Any]:
        """A request as the SDK takes it; `extra_body` holds what the SDK does not name.

        Raises:
            ArmError: A parameter is one that the request's own parts give.
        """
        check_params(request.params)
        words = self._in_own_words(request)
        arguments = {name: value for name, value in words.items() if name in self._known}
        if extra := {name: value for name, value in words.items() if name not in self._known}:
            arguments["extra_body"] = extra
        if request.tools:
            arguments["tools"] = request.tools
        return arguments | {"model": request.model}

    @abstractmethod
    def _in_own_words(self, request: Request) -> dict[str, Any]:
        """Parameters, turns, system text and schema of a request by the vendor's names for them."""

    @abstractmethod
    def read(self, body: Any, model: str, *, latency_ms: float) -> Reply:
        """A message or completion as a reply to a request of `model`; one of `NO_MESSAGE` if it is none."""

    @abstractmethod
    def _resource(self, client: C) -> Any:
        """The part of an SDK client whose `create` is a call."""

    @contextmanager
    def _roomy(self) -> Iterator[C]:
        """An SDK client that has room for one more call."""
        if not self._sharded:
            yield self.sdk_client
            return
        index = next((i for i, n in enumerate(self._in_flight) if n < SHARD), len(self._clients))
        if index == len(self._clients):
            self._clients.append(self._make(None))
            self._in_flight.append(0)
        self._in_flight[index] += 1
        try:
            yield self._clients[index]
        finally:
            self._in_flight[index] -= 1


def open_client(vendor: str, spec: ModelSpec | None, *, quiet: bool = False) -> SdkClient[Any]:
    """A vendor's client: Anthropic's, OpenAI's, or that of an OpenAI-compatible endpoint.

    Raises `ArmError` for an unknown vendor or a missing package, `StoppedError` without credentials.
    """
    from .anthropic import AnthropicClient
    from .openai_compatible import OpenAICompatibleClient

    if vendor == "anthropic":
        return AnthropicClient(spec, quiet=quiet)
    if vendor == "openai" or (spec is not None and spec.base_url is not None):
        return OpenAICompatibleClient(vendor, spec, quiet=quiet)
    raise ArmError(
        f"unknown vendor {vendor!r}: anthropic and openai are known",
        fix=f'for an OpenAI-compatible endpoint write [models.{vendor}] base_url = "https://..."',
    )


def _silence(*names: str) -> None:
    """Switch these loggers and all below them off, for the rest of the process.

    A logger that is merely `disabled` still lets its children through to the root's handlers.
    """
    for name in names:
        top = logging.getLogger(name)
        top.propagate = False
        top.handlers = [logging.NullHandler()]
        for existing in list(logging.Logger.manager.loggerDict):
            if existing == name or existing.startswith(f"{name}."):
                logging.getLogger(existing).disabled = True
