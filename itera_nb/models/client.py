"""What every vendor's client has in common: a request, a reply, and the ways in which a call can fail.

`anthropic` and `openai` are generated alike: their exceptions have the same names and attributes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from types import ModuleType
from typing import Any, Literal, Protocol, Self, TypeAlias

from itera_nb.exceptions import ArmError, StoppedError

Trouble: TypeAlias = Literal["rate_limit", "server", "connection", "late", "garbled", "request"]
DEFAULT_MAX_TOKENS = 1024
LIMITS = ("max_tokens", "max_completion_tokens")
_EXTRA = {"extra_headers", "extra_query", "extra_body"}
_NO_PARAMS = {"model", "messages", "system", "tools", "stream", "timeout"} | _EXTRA
CONTEXT_OVERFLOW = "ContextOverflow"
# What reading a response that is none raises: cut off, no JSON, or JSON of another shape.
NO_MESSAGE = (ValueError, KeyError, IndexError, TypeError, AttributeError)
_STOP = {
    HTTPStatus.UNAUTHORIZED: ("the key is not accepted", "set {key} to a valid key"),
    HTTPStatus.PAYMENT_REQUIRED: (
        "the account has no credit",
        "add credit, or set {key} to another account's key",
    ),
    HTTPStatus.FORBIDDEN: ("the key may not use {model}", "set {key} to a key that may"),
    HTTPStatus.NOT_FOUND: (
        "there is no model {model}",
        "correct `model`, or [models.{vendor}] base_url, in experiment.toml",
    ),
}
_CONNECTION_STATUSES = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT}
# Vendors say "no credit" and "too long" in several ways; no status or code is common to them.
_NO_CREDIT_STATUSES = {HTTPStatus.BAD_REQUEST, HTTPStatus.TOO_MANY_REQUESTS}
_NO_CREDIT = ("credit balance is too low", "insufficient_quota")
_TOO_LONG = ("prompt is too long", "context_length_exceeded", "exceed_context_size", "maximum context length")


@dataclass(frozen=True, slots=True)
class Request:
    """One call of a model, before a vendor's own form is given to it."""

    model: str  # the model's name without its vendor
    messages: Sequence[Mapping[str, Any]]  # turns in order, `{"role": "user" | "assistant", "content": ...}`
    system: str | None = None
    # Further parameters as registered (`max_tokens`, `effort`, `thinking` ...)
    params: Mapping[str, Any] = field(default_factory=dict)
    tools: Sequence[Mapping[str, Any]] = ()  # tool definitions in the vendor's form
    schema: Mapping[str, Any] | None = None  # JSON schema that the answer must follow


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's answer."""

    text: str
    # Anthropic's word for why it ended (`end_turn`, `max_tokens`, `refusal` ...); other vendors' words are
    # translated
    stop_reason: str
    usage: Mapping[str, Any]  # the vendor's usage fields and `model` (`vendor/name`)
    latency_ms: float  # milliseconds of this call
    tool_calls: Sequence[Mapping[str, Any]] = ()  # `{"name": ..., "input": {...}}` in order


class CallError(Exception):
    """One call that brought no answer; whether it is tried again is the engine's decision.

    Args:
        trouble: What went wrong; all but `request` may pass.
        error_type: The exception's type.
        message: The vendor's words; may quote the prompt.
        retry_after_s: Seconds that the vendor asks to wait.
    """

    def __init__(
        self, trouble: Trouble, error_type: str, message: str, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.trouble = trouble
        self.error_type = error_type
        self.retry_after_s = retry_after_s

    @property
    def may_pass(self) -> bool:
        """Whether the same call could succeed later."""
        return self.trouble != "request"


def check_params(params: Mapping[str, Any]) -> None:
    """Refuse (`ArmError`) parameters that have a key of their own, or change how a request is sent."""
    if wrong := sorted(_NO_PARAMS & params.keys()):
        raise ArmError(
            f"params.{wrong[0]} is no parameter of a model",
            fix="use the arm's own keys: model, prompt, system, tools; timeout_s for seconds",
        )


def max_tokens(params: Mapping[str, Any]) -> int:
    """Tokens that an answer may have, in the vendor's own word for them or ours."""
    return int(max((params[name] for name in LIMITS if name in params), default=DEFAULT_MAX_TOKENS))


class Client(Protocol):
    """A vendor's client, shared by all arms of a run; to be used in one event loop, inside `async with`."""

    async def send(self, request: Request, *, timeout_s: float) -> Reply:
        """One call, without retries.

        Raises:
            CallError: It brought no answer.
            StoppedError: No call would bring one: key, credit, permission or model.
        """
        ...

    async def __aenter__(self) -> Self:
        """Ready to send."""
        ...

    async def __aexit__(self, *_: object) -> None:
        """Close all connections."""
        ...


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a call went, for messages; never the key itself."""

    vendor: str
    key_env: str
    sdk: ModuleType
    base_error: type[Exception]  # the exception of which all of the package's own are kinds


def translate(error: Exception, origin: Origin, model: str) -> Exception:
    """The exception to raise for whatever an SDK raised: the same one if it is a mistake of ours.

    A `StoppedError` holds none of the vendor's words: they may quote the key.
    """
    sdk = origin.sdk
    if isinstance(error, sdk.APIStatusError):
        return _of_status(error, origin, model)
    if isinstance(error, TimeoutError):
        return CallError("late", "Timeout", "no answer in time")
    if isinstance(error, sdk.APIConnectionError):  # some SDKs also call a reset a timeout of theirs
        return _call_error("connection", error)
    if isinstance(error, sdk.APIResponseValidationError | json.JSONDecodeError):
        return _call_error("garbled", error)
    if isinstance(error, origin.base_error):  # a profile or token that cannot be read or renewed
        return StoppedError(
            f"no access to {origin.vendor}: {type(error).__name__}",
            fix=f"set {origin.key_env}; what is missing: itera doctor",
        )
    return error


def trouble_of(status: int) -> Trouble:
    """What an API's refusal is called here."""
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "rate_limit"
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return "server"
    return "connection" if status in _CONNECTION_STATUSES else "request"


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that an API asks to wait, or `None`; `retry-after` is a number or a date."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * scale)
        except (KeyError, ValueError):
            continue
    try:
        return max(0.0, parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time())
    except (KeyError, ValueError):
        return None


def _of_status(error: Any, origin: Origin, model: str) -> CallError | StoppedError:
    status, said = error.status_code, str(error)
    if status in _NO_CREDIT_STATUSES and any(words in said for words in _NO_CREDIT):
        status = HTTPStatus.PAYMENT_REQUIRED
    if status in _STOP:
        what, fix = _STOP[HTTPStatus(status)]
        names = {"key": origin.key_env, "model": model, "vendor": origin.vendor}
        return StoppedError(
            f"the model's API says {int(error.status_code)}: {what.format(**names)}", fix=fix.format(**names)
        )
    trouble = trouble_of(status)
    if trouble == "request" and any(words in said for words in _TOO_LONG):
        return CallError(trouble, CONTEXT_OVERFLOW, said)
    return _call_error(trouble, error, retry_after_s(error.response.headers))


def _call_error(trouble: Trouble, error: Exception, wait_s: float | None = None) -> CallError:
    return CallError(trouble, type(error).__name__, str(error), wait_s)
