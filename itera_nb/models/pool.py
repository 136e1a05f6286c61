"""A vendor's SDK client, shared by all calls of a run, or a few of them where one would be slow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

SHARD = 8
C = TypeVar("C")


class Pool(Generic[C]):
    """SDK clients of one vendor.

    On aiohttp one client serves any number of calls. The SDKs' default transport looks at every open
    connection for each call, so that there a client gets at most `SHARD` calls at once.

    Args:
        make: From an HTTP client, or `None` for the SDK's default, to an SDK client.
        aiohttp: Makes the SDK's aiohttp client; raises `RuntimeError` where aiohttp is not installed.
    """

    def __init__(self, make: Callable[[Any], C], aiohttp: Callable[[], Any]) -> None:
        self._make = make
        try:
            http: Any = aiohttp()
        except RuntimeError:
            http = None
        self._sharded = http is None
        self._clients = [make(http)]
        self._in_flight = [0]

    @property
    def any(self) -> C:
        """One of the clients, for a call now and then."""
        return self._clients[0]

    @contextmanager
    def client(self) -> Iterator[C]:
        """A client that has room for one more call."""
        if not self._sharded:
            yield self._clients[0]
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

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(client.close() for client in self._clients))  # type: ignore[attr-defined]
