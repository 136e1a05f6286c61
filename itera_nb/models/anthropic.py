"""Anthropic's Messages API: one shared client, our own retries, and a clear word when a run has to stop."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from itera_nb.exceptions import StoppedError

if TYPE_CHECKING:
    import anthropic

    from itera_nb.spec import ModelSpec

DEFAULT_KEY = "ANTHROPIC_API_KEY"
DEFAULT_MAX_TOKENS = 1024
RETRY_AFTER_CAP_S = 30.0
BACKOFF_CAP_S = 8.0
MAX_LATE = 2
MAX_SERVER_ERRORS = 10
_STOP = {
    HTTPStatus.UNAUTHORIZED: ("the key is not accepted", "set {key} to a valid key"),
    HTTPStatus.PAYMENT_REQUIRED: (
        "the account has no credit",
        "add credit, or set {key} to another account's key",
    ),
    HTTPStatus.FORBIDDEN: ("the key may not use {model}", "set {key} to a key that may"),
    HTTPStatus.NOT_FOUND: ("there is no model {model}", "correct `model` in experiment.toml"),
}
_CONNECTION_STATUSES = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT}


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's answer: text, stop reason, usage in the vendor's fields, milliseconds of the last call."""

    text: str
    stop_reason: str
    usage: dict[str, Any]
    latency_ms: float
    retries: int


class CallError(Exception):
    """A call that failed for good, on this row only.

    Args:
        error_type: The SDK's exception type.
        message: The vendor's words; may quote the prompt.
        late: Whether it was a timeout.
        retries: Calls that failed before.
    """

    def __init__(self, error_type: str, message: str, *, late: bool, retries: int) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.late = late
        self.retries = retries


class AnthropicClient:
    """A client for all prompt arms of a run; to be used in one event loop, inside `async with`.

    Args:
        spec: Where the key stands and, if not at Anthropic's, where the API is.
        quiet: Whether the SDK's own logging, which can show prompts, is switched off.
        patience_s: Seconds after which a vendor that never answers ends the run.

    Raises:
        StoppedError: The key's variable is not set.
    """

    def __init__(self, spec: ModelSpec, *, quiet: bool = False, patience_s: float = 600.0) -> None:
        self._key_env = spec.api_key_env or DEFAULT_KEY
        key = os.environ.get(self._key_env)
        if not key:
            raise StoppedError(
                f"no API key: {self._key_env} is not set",
                fix=f"set {self._key_env}, or name another variable as [models.anthropic] api_key_env",
            )
        if quiet:
            for name in ("anthropic", "httpx2"):
                logging.getLogger(name).disabled = True
        import anthropic

        self._sdk = anthropic
        options: dict[str, Any] = {"base_url": spec.base_url} if spec.base_url else {}
        try:
            options["http_client"] = anthropic.DefaultAioHttpClient()
        except RuntimeError:  # aiohttp is not installed; httpx2 is slower with many connections, but works
            options.pop("http_client", None)
        self._client = anthropic.AsyncAnthropic(api_key=key, max_retries=0, **options)
        self._known = set(inspect.signature(self._client.messages.create).parameters)
        self._patience_s = patience_s
        self._not_before = 0.0
        self._answered_at = 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._client.close()

    async def ask(
        self, model: str, prompt: str, system: str | None, params: Mapping[str, Any], *, timeout_s: float
    ) -> Reply:
        """One answer. Rate limits, overload and broken connections are retried; a rate limit holds for all.

        Args:
            model: The model's name without its vendor.
            prompt: The user's turn.
            system: The system text.
            params: Further parameters; those the SDK does not name go into the request's body as they are.
            timeout_s: Seconds that one call may take.

        Raises:
            CallError: This row has no answer; others may.
            StoppedError: No row would have one: key, credit, model, or a vendor out of reach.
        """
        request = self._request(model, prompt, system, params)
        begun, retries, late, server_errors = time.monotonic(), 0, 0, 0
        while True:
            await self._turn()
            sent = time.perf_counter()
            try:
                async with asyncio.timeout(timeout_s):
                    message = await self._client.messages.create(**request, timeout=timeout_s)
                reply = _reply(message, model, 1000 * (time.perf_counter() - sent), retries)
            except Exception as error:
                self._stop_if_hopeless(error, model)
                is_late = isinstance(error, TimeoutError | self._sdk.APITimeoutError)
                late += is_late
                server_errors += self._is_server_error(error)
                # A row's failure counts against its arm, so that an outage ends the run instead; but where
                # others are answered, a row that never is has failed.
                alone = self._answered_at > begun and server_errors >= MAX_SERVER_ERRORS
                if late > MAX_LATE or alone or not self._may_retry(error):
                    raise CallError(
                        type(error).__name__, str(error), late=bool(is_late), retries=retries
                    ) from error
                wait_s = self._wait_s(error, retries)
                if time.monotonic() + wait_s - begun > self._patience_s:
                    raise StoppedError(
                        f"no answer from the model's API for {self._patience_s:g} s ({type(error).__name__})",
                        fix="run the same command again later; what is recorded is not repeated",
                    ) from None
                retries += 1
                await asyncio.sleep(wait_s)
            else:
                self._answered_at = time.monotonic()
                return reply

    def _request(
        self, model: str, prompt: str, system: str | None, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        named = {name: value for name, value in params.items() if name in self._known}
        unnamed = {name: value for name, value in params.items() if name not in self._known}
        request = {"max_tokens": DEFAULT_MAX_TOKENS, **named, "model": model}
        request["messages"] = [{"role": "user", "content": prompt}]
        if system is not None:
            request["system"] = system
        if unnamed:
            request["extra_body"] = unnamed
        return request

    async def _turn(self) -> None:
        """Wait while a rate limit holds for everyone."""
        while (wait_s := self._not_before - time.monotonic()) > 0:  # noqa: ASYNC110 - the time may move
            await asyncio.sleep(wait_s)

    def _stop_if_hopeless(self, error: Exception, model: str) -> None:
        if not isinstance(error, self._sdk.APIStatusError):
            return
        status = error.status_code
        if status == HTTPStatus.BAD_REQUEST and "credit balance" in str(error):
            status = HTTPStatus.PAYMENT_REQUIRED
        if status in _STOP:
            what, fix = _STOP[HTTPStatus(status)]
            names = {"key": self._key_env, "model": model}
            said = f"the model's API says {int(status)}: {what.format(**names)}"
            raise StoppedError(said, fix=fix.format(**names)) from None

    def _is_server_error(self, error: Exception) -> bool:
        if isinstance(error, self._sdk.APIStatusError):
            return error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR
        return _is_garbled(error, self._sdk)

    def _may_retry(self, error: Exception) -> bool:
        if isinstance(error, self._sdk.APIStatusError):
            status = error.status_code
            return status in {*_CONNECTION_STATUSES, HTTPStatus.TOO_MANY_REQUESTS} or self._is_server_error(
                error
            )
        return isinstance(error, TimeoutError | self._sdk.APIConnectionError) or _is_garbled(error, self._sdk)

    def _wait_s(self, error: Exception, retries: int) -> float:
        """Seconds until the next try: as told, at most 30, else doubling from 0.5 to 8; with jitter."""
        told = _retry_after(error) if isinstance(error, self._sdk.APIStatusError) else None
        base = min(BACKOFF_CAP_S, 0.5 * 2**retries) if told is None else min(told, RETRY_AFTER_CAP_S)
        wait_s = base * random.uniform(1.0, 1.25)  # noqa: S311 - jitter
        if isinstance(error, self._sdk.RateLimitError):
            self._not_before = max(self._not_before, time.monotonic() + wait_s)
        return wait_s


def _reply(message: Any, model: str, latency_ms: float, retries: int) -> Reply:
    usage = message.usage.model_dump(mode="json", exclude_none=True)
    text = "".join(block.text for block in message.content if block.type == "text")
    return Reply(
        text, message.stop_reason or "", {"model": f"anthropic/{model}", **usage}, latency_ms, retries
    )


def _is_garbled(error: Exception, sdk: Any) -> bool:
    """Whether a response came that is not one: cut off, or no JSON."""
    return isinstance(error, sdk.APIResponseValidationError | json.JSONDecodeError | AttributeError)


def _retry_after(error: anthropic.APIStatusError) -> float | None:
    headers = error.response.headers
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * scale)
        except (KeyError, ValueError):
            continue
    return None
