"""What every vendor's client has in common: a request, a reply, and the ways in which a call can fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self, TypeAlias

from itera_nb.exceptions import ArmError

Trouble: TypeAlias = Literal["rate_limit", "server", "connection", "late", "garbled", "request"]
DEFAULT_MAX_TOKENS = 1024
LIMITS = ("max_tokens", "max_completion_tokens")
_NO_PARAMS = {"model", "messages", "system", "tools", "stream", "timeout"} | {
    "extra_headers",
    "extra_query",
    "extra_body",
}


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
    """Refuse parameters that are a part of the request with a key of its own, or change how it is sent.

    Raises:
        ArmError: There is such a parameter.
    """
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
