"""Arms that answer row by row from one event loop: prompts, HTTP endpoints, commands, recorded outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self, TypeAlias

from itera_nb._typing import JSON, Row

Status: TypeAlias = Literal["ok", "error", "timeout", "refusal", "invalid"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one row; the fields are those of an attempt.

    `cost_usd` is USD or `None` for unknown; `latency_ms` is the time of the call that counted.
    """

    status: Status
    output: JSON = None
    error_type: str = ""
    error: str = ""
    usage: list[dict[str, Any]] = field(default_factory=list)
    cost_usd: float | None = None
    latency_ms: float | None = None
    amortised: bool = False
    trace: JSON = None
    first_token_ms: float | None = None


def is_amount(value: JSON) -> bool:
    """Whether a reported cost or time is one: a finite number from 0, or nothing."""
    if value is None:
        return True
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


class Caller(Protocol):
    """One arm, ready to be called; entered once a run, called from one event loop only."""

    async def __aenter__(self) -> Self:
        """Ready to call."""
        ...

    async def __aexit__(self, *_: object) -> None:
        """Release what the arm holds."""
        ...

    def check(self, row: Row) -> None:
        """Try on a row what costs nothing (render a template), so that a mistake costs no call.

        Raises:
            ArmError: The arm does not fit the rows.
        """
        ...

    def bound_usd(self, row: Row) -> float:
        """USD that one call can cost at most; 0 where the price is unknown or free."""
        ...

    async def call(self, row: Row, trial: int, *, timeout_s: float) -> Answer:
        """One call, without retries.

        Raises:
            itera_nb.models.client.CallError: It brought no answer; the engine decides about another try.
            itera_nb.exceptions.StoppedError: No call would bring one.
        """
        ...
