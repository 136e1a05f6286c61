"""A Messages API on loopback, so that arms can be tested without a key, a cent or a network."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, Literal, Self, TypeAlias

Fault: TypeAlias = Literal["reset", "truncated", "malformed"]
_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    529: "overloaded_error",
}


@dataclass(frozen=True, slots=True)
class Scripted:
    """One answer of the server.

    Args:
        text: The model's text.
        status: HTTP status; an error above 399.
        fault: Break the response: drop the connection, cut the body off, or send no JSON.
        stop_reason: Why the model stopped.
        usage: Usage fields beside or instead of the counted ones.
        retry_after: Value of the retry-after header.
        latency_s: Seconds before the response.
        message: An error's message.
    """

    text: str = ""
    status: int = 200
    fault: Fault | None = None
    stop_reason: str = "end_turn"
    usage: dict[str, Any] = field(default_factory=dict)
    retry_after: str | None = None
    latency_s: float = 0.0
    message: str = "scripted"


class MessagesServer:
    """`POST /v1/messages` on 127.0.0.1, while inside `with`.

    Args:
        answer: From a prompt (the last user turn) to its text or to a `Scripted`; called in request threads.

    Attributes:
        url: Base URL for a client.
        requests: Bodies of all requests, in the order of their arrival.
        calls: Requests by prompt.
        max_in_flight: Most requests that were open at once.
    """

    def __init__(self, answer: Callable[[str], str | Scripted] = lambda prompt: prompt) -> None:
        self._answer = answer
        self._lock = threading.Lock()
        self._in_flight = 0
        self.requests: list[dict[str, Any]] = []
        self.calls: Counter[str] = Counter()
        self.max_in_flight = 0
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def respond(self, body: dict[str, Any]) -> Scripted:
        """Count a request and find its response."""
        content = body["messages"][-1]["content"]
        prompt = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
        with self._lock:
            self.requests.append(body)
            self.calls[prompt] += 1
            self._in_flight += 1
            self.max_in_flight = max(self.max_in_flight, self._in_flight)
        try:
            answer = self._answer(prompt)
            scripted = Scripted(answer) if isinstance(answer, str) else answer
            time.sleep(scripted.latency_s)
            return scripted
        finally:
            with self._lock:
                self._in_flight -= 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is none of the test's business."""


class _Handler(BaseHTTPRequestHandler):
    owner: ClassVar[MessagesServer]
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path.partition("?")[0] != "/v1/messages":
            self._send(404, _error(404, "unknown path"))
            return
        scripted = self.owner.respond(body)
        if scripted.fault == "reset":
            linger = struct.pack("ii", 1, 0)  # close with RST, not FIN
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
            self.connection.close()
            return
        good = scripted.status < 400
        payload = _message(body, scripted) if good else _error(scripted.status, scripted.message)
        self._send(scripted.status, payload, scripted)

    def _send(self, status: int, payload: dict[str, Any], scripted: Scripted | None = None) -> None:
        data = json.dumps(payload).encode()
        fault = scripted.fault if scripted else None
        length = len(data)
        if fault is not None:
            data = data[: length // 2]
            length = length if fault == "truncated" else len(data)
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(length))
        if scripted and scripted.retry_after is not None:
            self.send_header("retry-after", scripted.retry_after)
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = fault is not None

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's name
        """Keep quiet."""


def _message(body: dict[str, Any], scripted: Scripted) -> dict[str, Any]:
    usage = {
        "input_tokens": len(json.dumps(body["messages"])) // 4,
        "output_tokens": len(scripted.text) // 4 + 1,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "service_tier": "standard",
    }
    return {
        "id": "msg_loopback",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": [{"type": "text", "text": scripted.text}],
        "stop_reason": scripted.stop_reason,
        "stop_sequence": None,
        "usage": usage | scripted.usage,
    }


def _error(status: int, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": _ERRORS.get(status, "api_error"), "message": message}}
