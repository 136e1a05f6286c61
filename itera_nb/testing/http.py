"""As much of an HTTP/1.1 server as a model's API needs: keep-alive, bodies with a length, no framework."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

_REASONS = {200: b"OK", 400: b"Bad Request", 404: b"Not Found", 429: b"Too Many Requests"}


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came.

    Args:
        method: Its method.
        target: Path and query.
        headers: Headers, names in lower case.
        body: The body's bytes.
    """

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """What is sent back.

    Args:
        status: HTTP status.
        body: The body's bytes.
        headers: Headers beside the content's type and length.
        delay_s: Seconds before it is sent.
        broken: Send no response but a reset, half a body, or a body that ends in the middle.
        done: Called when it was sent, or is not wanted any more.
    """

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    delay_s: float = 0.0
    broken: str | None = None
    done: Callable[[], None] | None = None


Handler: TypeAlias = Callable[[Received], Response]


class Connection(asyncio.Protocol):
    """One connection; requests on it are answered one after the other.

    Args:
        handle: From a request to its response; must not block.
        open_connections: Where open transports are kept, for the server's end.
    """

    def __init__(self, handle: Handler, open_connections: set[asyncio.Transport]) -> None:
        self._handle = handle
        self._open = open_connections
        self._buffer = bytearray()
        self._head: tuple[str, str, dict[str, str]] | None = None
        self._waiting: tuple[asyncio.TimerHandle, Response] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._open.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio calls it so
        """Drop what was to be sent."""
        self._open.discard(self._transport)
        if self._waiting is not None:
            timer, response = self._waiting
            timer.cancel()
            if response.done:
                response.done()

    def data_received(self, data: bytes) -> None:
        """Answer a request as soon as it is whole."""
        self._buffer += data
        self._proceed()

    def _proceed(self) -> None:
        while self._waiting is None and not self._transport.is_closing():
            if self._head is None:
                end = self._buffer.find(b"\r\n\r\n")
                if end < 0:
                    return
                self._head = _read_head(self._buffer[:end])
                del self._buffer[: end + 4]
                if self._head[2].get("expect", "").lower() == "100-continue":
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            method, target, headers = self._head
            length = int(headers.get("content-length", "0"))
            if len(self._buffer) < length:
                return
            body = bytes(self._buffer[:length])
            del self._buffer[:length]
            self._head = None
            self._respond(self._handle(Received(method, target, headers, body)))

    def _respond(self, response: Response) -> None:
        if response.delay_s <= 0:
            self._send(response)
            return
        timer = asyncio.get_running_loop().call_later(response.delay_s, self._send_late, response)
        self._waiting = (timer, response)

    def _send_late(self, response: Response) -> None:
        self._waiting = None
        self._send(response)
        self._proceed()

    def _send(self, response: Response) -> None:
        if response.done:
            response.done()
        if response.broken == "reset":
            linger = struct.pack("ii", 1, 0)  # close with RST, not FIN
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self._transport.abort()
            return
        data, length = response.body, len(response.body)
        if response.broken is not None:
            data = data[: length // 2]
            length = length if response.broken == "truncated" else len(data)
        lines = [
            b"HTTP/1.1 %d %s" % (response.status, _REASONS.get(response.status, b"Status")),
            b"content-type: application/json",
            b"content-length: %d" % length,
        ]
        lines += [f"{name}: {value}".encode() for name, value in response.headers]
        self._transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + data)
        if response.broken is not None:
            self._transport.close()


def _read_head(head: bytearray) -> tuple[str, str, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return method, target, headers
