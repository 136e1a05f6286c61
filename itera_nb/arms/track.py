"""`itera_nb.track(client)`: what a client's calls used, collected for the row that an arm is answering."""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeVar
from weakref import WeakSet

from itera_nb.exceptions import ArmError

Client = TypeVar("Client")
_PAID = {"messages", "completions", "complete", "responses", "embeddings"} | {
    "generations",
    "edits",
    "variations",
    "speech",
    "transcriptions",
    "translations",
}


@dataclass(slots=True, eq=False)
class Tracked:
    """What tracked clients did for one row."""

    # One mapping a call: the vendor's usage fields and `model`; only `model` where the usage cannot be known,
    # so that the row's cost is unknown and not too low
    calls: list[dict[str, Any]] = field(default_factory=list)
    begun: float = field(default_factory=time.perf_counter)  # `time.perf_counter()` when the row began
    # Milliseconds from there to the first token of the last streamed call
    first_token_ms: float | None = None

    def shares(self, rows: int) -> list[Tracked]:
        """These calls shared out in their order over rows that were answered together."""
        ends = [i * len(self.calls) // rows for i in range(rows + 1)]
        return [Tracked(self.calls[a:b], self.begun, self.first_token_ms) for a, b in pairwise(ends)]


_row: ContextVar[Tracked | None] = ContextVar("itera_nb_row", default=None)
_open: list[Tracked] = []
_watched: WeakSet[Any] = WeakSet()


@contextmanager
def tracking() -> Iterator[Tracked]:
    """Collect the calls that tracked clients make inside, in this context and in what it starts."""
    tracked = Tracked()
    token = _row.set(tracked)
    _open.append(tracked)
    try:
        yield tracked
    finally:
        _open.remove(tracked)
        _row.reset(token)


def track(client: Client, *, vendor: str | None = None) -> Client:
    """Collect the usage of every call of a client, so that answers carry what they cost.

    The client is returned itself and behaves as before; outside of an arm's call nothing is collected. An arm
    that returns an `Output` with usage or a cost of its own keeps that. A row on which an arm calls nothing
    costs 0. Calls from threads that the arm starts belong to its row while it answers one row at a time;
    otherwise nobody can tell, and the rows' cost is unknown.

    Args:
        client: A client of the packages `anthropic` or `openai`, for synchronous or async use.
        vendor: The vendor's name in prices, where it is not the package's.

    Raises:
        ArmError: It is another package's.
    """
    package = next((c.__module__.partition(".")[0] for c in type(client).__mro__ if _is_sdk(c)), None)
    if package is None:
        raise ArmError(
            f"track: a {type(client).__name__} is no client of anthropic or openai",
            fix="return itera_nb.Output(value, usage=[...]) from the arm",
        )
    if client not in _watched:
        _watch(client, vendor or package)
        _watched.add(client)
    return client


def is_tracking() -> bool:
    """Whether any client is tracked, so that a row without a call is one that cost nothing."""
    return len(_watched) > 0


def _is_sdk(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in {"anthropic", "openai"} and hasattr(kind, "request")


def _watch(client: Any, vendor: str) -> None:
    """Put a wrapper around the one method that all of the SDK's calls go through, and around copying."""
    request, copy = client.request, client.copy

    def tracked_copy(*args: Any, **options: Any) -> Any:
        return track(copy(*args, **options), vendor=vendor)

    async def later(cast_to: Any, options: Any, **more: Any) -> Any:
        with _cut_off(options, vendor):
            result = await request(cast_to, options, **more)
        return _noted(result, options, vendor)

    def now(cast_to: Any, options: Any, **more: Any) -> Any:
        with _cut_off(options, vendor):
            result = request(cast_to, options, **more)
        return _noted(result, options, vendor)

    client.request = later if inspect.iscoroutinefunction(request) else now
    client.copy = client.with_options = tracked_copy


def _noted(result: Any, options: Any, vendor: str) -> Any:
    """The result as it is, with its usage in the row's list; a stream's is filled in as it is read."""
    call, rows = _began(options, vendor)
    if len(rows) != 1:  # no arm's call, or whose it was cannot be told
        return result
    iterator: Any = getattr(result, "_iterator", None)
    if hasattr(iterator, "__anext__"):
        result._iterator = _observed_async(iterator, _Stream(call, rows[0]))  # noqa: SLF001 - no other door
    elif hasattr(iterator, "__next__"):
        result._iterator = _observed(iterator, _Stream(call, rows[0]))  # noqa: SLF001 - no other door
    else:
        call |= _usage(result)
    return result


@contextmanager
def _cut_off(options: Any, vendor: str) -> Iterator[None]:
    """A refused request is not charged; one that was cut off may have been."""
    try:
        yield
    except BaseException as error:
        if not hasattr(error, "status_code"):
            _began(options, vendor)
        raise


def _began(options: Any, vendor: str) -> tuple[dict[str, Any], list[Tracked]]:
    """A call without usage, and the rows in whose lists it now stands; none if it is a free one."""
    path = str(options.url).partition("?")[0]
    if options.method.lower() != "post" or path.rsplit("/", 1)[-1] not in _PAID:
        return {}, []
    body = options.json_data if isinstance(options.json_data, dict) else {}
    call: dict[str, Any] = {"model": f"{vendor}/{body.get('model', '')}"}
    rows = _rows()
    for row in rows:
        row.calls.append(call)
    return call, rows


def _rows() -> list[Tracked]:
    """The row whose call this is; in a thread that knows none, all that are being answered."""
    row = _row.get()
    return list(_open) if row is None else [row] if row in _open else []


def _usage(result: Any) -> dict[str, Any]:
    """Usage fields of a result; of a raw response if its body has been read."""
    response = getattr(result, "http_response", None)
    if response is not None:
        try:
            message = json.loads(response.content)
            return {**message["usage"], **_tier(message.get("service_tier"))}
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError):
            return {}
    return _fields(getattr(result, "usage", None)) | _tier(getattr(result, "service_tier", None))


def _fields(usage: Any) -> dict[str, Any]:
    return dict(usage.model_dump(mode="json", exclude_none=True)) if hasattr(usage, "model_dump") else {}


def _tier(tier: Any) -> dict[str, Any]:
    return {"service_tier": tier} if isinstance(tier, str) else {}


class _Stream:
    """What one stream's events say. Its usage counts once a later event than the first has told it."""

    def __init__(self, call: dict[str, Any], row: Tracked) -> None:
        self._call = call
        self._row = row
        self._begun: dict[str, Any] = {}
        self._token = False

    def see(self, event: Any) -> None:
        """Take usage and the time of the first token from an event of either vendor."""
        if not self._token and _is_token(event):
            self._token = True
            self._row.first_token_ms = 1000 * (time.perf_counter() - self._row.begun)
        whole = getattr(event, "message", None) or getattr(event, "response", None) or event
        found = _fields(getattr(whole, "usage", None))
        if not found:
            return
        self._begun |= found | _tier(getattr(whole, "service_tier", None))
        if getattr(event, "type", None) != "message_start":
            self._call.update(self._begun)


def _is_token(event: Any) -> bool:
    kind = getattr(event, "type", None)
    if isinstance(kind, str):
        return kind.endswith("delta") and kind != "message_delta"
    return any(getattr(choice.delta, "content", None) for choice in getattr(event, "choices", None) or ())


def _observed(events: Iterator[Any], stream: _Stream) -> Iterator[Any]:
    for event in events:
        stream.see(event)
        yield event


async def _observed_async(events: AsyncIterator[Any], stream: _Stream) -> AsyncIterator[Any]:
    async for event in events:
        stream.see(event)
        yield event
