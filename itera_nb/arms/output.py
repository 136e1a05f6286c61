"""What an arm returns when a bare value is not enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from itera_nb._typing import JSON


@dataclass(frozen=True, slots=True)
class Output:
    """One answer of an arm with what it cost and how it came about.

    Args:
        value: The answer: any JSON value except null.
        usage: One mapping a model call: the vendor's usage fields and `model` (`vendor/name`).
        cost_usd: What the answer cost in USD; wins over a price computed from `usage`.
        trace: Any JSON value that helps a person to read the answer.
        error: Says that no answer came about, and why; the row counts as failed.
        first_token_ms: Milliseconds until the first token, for streamed answers.
    """

    value: Any
    usage: Sequence[Mapping[str, Any]] = ()
    cost_usd: float | None = None
    trace: JSON = None
    error: str | None = None
    first_token_ms: float | None = None
