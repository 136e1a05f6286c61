"""From an SDK's exception to what it means for a run: a call that failed, or a run that has to stop.

`anthropic` and `openai` are generated alike: their exceptions have the same names and attributes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from types import ModuleType
from typing import Any

from itera_nb.exceptions import StoppedError

from .client import CallError, Trouble

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
class Origin:
    """Where a call went, for messages; never the key itself."""

    vendor: str
    key_env: str
    sdk: ModuleType
    base_error: type[Exception]  # the exception of which all of the package's own are kinds


def translate(error: Exception, origin: Origin, model: str) -> Exception:
    """What an exception of a call means.

    Args:
        error: Whatever the SDK raised.
        origin: Where the call went.
        model: The model's name without its vendor.

    Returns:
        The exception to raise: `CallError`, `StoppedError`, or the same one if it is a mistake of ours. A
        `StoppedError` holds none of the vendor's words: they may quote the key.
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
