"""Arms that answer row by row from one event loop: prompts, HTTP endpoints, commands, recorded outputs."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

from itera_nb._typing import JSON, Row

if TYPE_CHECKING:
    from .runtime import RunnableArm

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


def bad_report(said: str, usage: Any, cost: JSON, latency_ms: float | None = None) -> Answer:
    """The answer of an arm whose report of its call is wrong: what may be true of its price still counts."""
    reported = usage if isinstance(usage, list) else []
    calls: list[dict[str, Any]] = [call for call in reported if isinstance(call, dict)]
    known = cost if isinstance(cost, int | float) and is_amount(cost) else None
    return Answer(
        "invalid",
        error_type="BadReport",
        error=said,
        usage=calls or [{}],  # something was used: never the known 0 of a free arm
        cost_usd=known,
        latency_ms=latency_ms,
    )


def priced(arm: RunnableArm, answer: Answer) -> Answer:
    """An answer with its USD: free if registered so, as reported, priced call by call, or unknown.

    An arm of code that is registered as free and reports usage or a price all the same is not taken as free.
    """
    spec = arm.spec
    if spec.cost == "free" and (spec.kind in {"prompt", "recorded"} or not (answer.usage or answer.cost_usd)):
        return replace(answer, cost_usd=0.0)
    if answer.cost_usd is not None or not answer.usage:
        return answer
    from itera_nb.models.pricing import price

    prices = [price(call, model=spec.model, models=arm.models) for call in answer.usage]
    known = [p for p in prices if p is not None]
    return replace(answer, cost_usd=sum(known)) if len(known) == len(prices) else answer


class Caller(ABC):
    """One arm, ready to be called; entered once a run, called from one event loop only."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:  # noqa: B027 - most arms hold nothing
        """Release what the arm holds."""

    def check(self, row: Row) -> None:  # noqa: B027 - most arms have nothing to try
        """Try on a row what costs nothing (render a template), so that a mistake costs no call.

        Raises:
            ArmError: The arm does not fit the rows.
        """

    def bound_usd(self, row: Row) -> float:  # noqa: ARG002 - for arms whose rows tell
        """USD that one call can cost at most; 0 where the price is unknown or free."""
        return 0.0

    @abstractmethod
    async def call(self, row: Row, trial: int, *, timeout_s: float) -> Answer:
        """One call, without retries; its price is left to `priced`.

        Raises:
            itera_nb.models.client.CallError: It brought no answer; the engine decides about another try.
            itera_nb.exceptions.StoppedError: No call would bring one.
        """
