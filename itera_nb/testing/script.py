"""What a test wants a model to do: scripted answers, for the loopback server and the in-process fake."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypeAlias

Fault: TypeAlias = Literal["reset", "truncated", "malformed", "expired", "canceled"]


@dataclass(frozen=True, slots=True)
class Scripted:
    """One answer.

    Args:
        text: The model's text; an object is sent as JSON (structured output).
        status: HTTP status; an error above 399.
        fault: Break the response: drop the connection, cut the body off, or send no JSON; `expired` and
            `canceled` are what becomes of a request inside a batch.
        stop_reason: Why the model stopped, in Anthropic's words; `refusal`, `max_tokens`,
            `model_context_window_exceeded` are those a test wants. With `tool_calls` it is `tool_use`.
        usage: Usage fields (Anthropic's names, cache tiers and `service_tier` too) beside or instead of
            the counted ones.
        retry_after: Value of the retry-after header.
        retry_after_ms: Value of the retry-after-ms header.
        latency_s: Seconds before the response; the server's own where it is `None`.
        message: An error's message.
        tool_calls: `{"name": ..., "input": {...}}` in order.
    """

    text: str | Mapping[str, Any] = ""
    status: int = 200
    fault: Fault | None = None
    stop_reason: str = "end_turn"
    usage: Mapping[str, Any] = field(default_factory=dict)
    retry_after: str | None = None
    retry_after_ms: str | None = None
    latency_s: float | None = None
    message: str = "scripted"
    tool_calls: Sequence[Mapping[str, Any]] = ()

    @property
    def headers(self) -> dict[str, str]:
        """The headers that say how long to wait."""
        told = {"retry-after": self.retry_after, "retry-after-ms": self.retry_after_ms}
        return {name: value for name, value in told.items() if value is not None}


class Prompt(str):
    """The last user turn's text, and the request that it came in.

    Attributes:
        body: The request's body; `{}` where there is none.
        headers: The request's headers, in lower case.
    """

    __slots__ = ("body", "headers")

    body: Mapping[str, Any]
    headers: Mapping[str, str]

    def __new__(cls, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Self:
        """Read a request's last turn."""
        self = super().__new__(cls, _text_of(body["messages"][-1]["content"]))
        self.body = body
        self.headers = headers or {}
        return self


Answer: TypeAlias = str | Mapping[str, Any] | Scripted
Answers: TypeAlias = Callable[[Prompt], Answer] | Sequence[Answer]


def echo(prompt: Prompt) -> str:
    """The prompt itself."""
    return str(prompt)


class Script:
    """Answers and faults, drawn one a call.

    Attributes:
        calls: Calls by prompt, those inside batches too.
        paid: Answers that a provider would charge, by prompt; a broken response is not charged here.
        faults: Failures, drawn or scripted, by status or kind.
        max_in_flight: Most calls that were open at once.
    """

    def __init__(
        self,
        answers: Answers = echo,
        *,
        faults: Mapping[str, float] | None = None,
        retry_after_s: tuple[float, float] = (0.2, 1.0),
        seed: int = 0,
    ) -> None:
        if isinstance(answers, str) or not (callable(answers) or answers):
            raise ValueError("answers: a function, or a list of at least one answer")
        self._answers = answers
        self._shares = dict(faults or {})
        unknown = [
            f for f in self._shares if not f.isdigit() and f not in {"reset", "truncated", "malformed"}
        ]
        if unknown or sum(self._shares.values()) > 1:
            raise ValueError(
                f"faults: statuses, reset, truncated or malformed, at most 1 together; {unknown}"
            )
        self._retry_after_s = retry_after_s
        self._seed = seed
        self._lock = threading.Lock()
        self._next = 0
        self.reset()

    def reset(self) -> None:
        """Forget all counts and begin the draws anew; answers of a list go on."""
        self._rng = random.Random(self._seed)  # noqa: S311 - faults, not secrets
        self._in_flight = 0
        self.calls: Counter[str] = Counter()
        self.paid: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.max_in_flight = 0

    def draw(self, prompt: Prompt) -> Scripted:
        """Count a call and decide on its answer."""
        with self._lock:
            self.calls[str(prompt)] += 1
            drawn = self._fault()
            answer = drawn or self._answer(prompt)
            scripted = answer if isinstance(answer, Scripted) else Scripted(answer)
            if scripted.fault or scripted.status >= 400:
                self.faults[scripted.fault or str(scripted.status)] += 1
            else:
                self.paid[str(prompt)] += 1
            return scripted

    def enter(self) -> None:
        """A call is open."""
        with self._lock:
            self._in_flight += 1
            self.max_in_flight = max(self.max_in_flight, self._in_flight)

    def leave(self) -> None:
        """A call is over."""
        with self._lock:
            self._in_flight -= 1

    def _answer(self, prompt: Prompt) -> Answer:
        if callable(self._answers):
            return self._answers(prompt)
        answer = self._answers[min(self._next, len(self._answers) - 1)]
        self._next += 1
        return answer

    def _fault(self) -> Scripted | None:
        if not self._shares:
            return None
        left = self._rng.random()
        for kind, share in self._shares.items():
            left -= share
            if left < 0:
                wait = f"{self._rng.uniform(*self._retry_after_s):.2f}"
                if kind.isdigit():
                    told = wait if kind in {"429", "529"} else None
                    return Scripted(status=int(kind), retry_after=told, latency_s=0.0)
                return Scripted("cut", fault=kind, latency_s=0.0)  # type: ignore[arg-type]
        return None


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)
