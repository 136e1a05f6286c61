"""A model's API on loopback, so that arms can be tested without a key, a cent or a network."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Self

from aiohttp import web

from . import payloads
from .batches import Batches
from .payloads import Vendor
from .script import Answers, Prompt, Script, Scripted, echo

_CALLS: dict[str, Vendor] = {
    "/v1/messages": "anthropic",
    "/v1/chat/completions": "openai",
    "/chat/completions": "openai",
}
_LARGEST = 2**30


class MessagesServer(Script):
    """Anthropic's Messages, token counts, models and batches and OpenAI's chat completions on 127.0.0.1.

    It runs in a thread of its own while inside `with`. `GET /stats` tells the counts, `POST /reset` clears
    them; what the paths cannot do (streaming) is answered with 400.

    Args:
        answer: From a prompt (the last user turn; `prompt.body` is the whole request) to its text, an object
            (sent as JSON) or a `Scripted`; or a list of those, in order, the last one for ever. Called in the
            server's thread: it must not block.
        latency_s: Seconds before each answer that has none of its own.
        faults: Shares of calls that fail: `{"429": 0.07, "529": 0.03, "reset": 0.01}`.
        retry_after_s: Least and most seconds that a drawn 429 or 529 asks to wait.
        batch_s: Seconds that a batch takes.
        models: Models that exist; `None` for any name.
        keep: Keep all requests; without, only counts.
        seed: Of the faults' draws.
        port: Port; 0 for a free one.

    Attributes:
        url: Base URL of Anthropic's API (OpenAI's is `url + "/v1"`); set inside `with`.
        requests: Bodies of all calls (Messages, chat completions), in the order of their arrival.
        headers: Their headers, names in lower case.
        batches: All batches; the counts of `Script` are there too.
    """

    def __init__(
        self,
        answer: Answers = echo,
        *,
        latency_s: float = 0.0,
        faults: Mapping[str, float] | None = None,
        retry_after_s: tuple[float, float] = (0.2, 1.0),
        batch_s: float = 0.0,
        models: Sequence[str] | None = None,
        keep: bool = True,
        seed: int = 0,
        port: int = 0,
    ) -> None:
        self._latency_s = latency_s
        self._models = models
        self._keep = keep
        self._port = port
        self._number = 0
        self._batch_s = batch_s
        self.url = ""
        super().__init__(answer, faults=faults, retry_after_s=retry_after_s, seed=seed)

    def stats(self) -> dict[str, Any]:
        """Counts, as `GET /stats` tells them; `repeated` counts answers beyond a prompt's first."""
        paid = sum(self.paid.values())
        return {
            "calls": sum(self.calls.values()),
            "paid": paid,
            "distinct": len(self.paid),
            "repeated": paid - len(self.paid),
            "faults": dict(self.faults),
            "max_in_flight": self.max_in_flight,
            "batches": self.batches.created,
            "cpu_s": sum(os.times()[:2]),
        }

    def reset(self) -> None:
        """Forget all requests, counts and batches."""
        super().reset()
        self.batches = Batches(self, self._batch_s)
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []

    def __enter__(self) -> Self:
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        started.wait()
        if not self.url:
            raise OSError(f"port {self._port} of 127.0.0.1 cannot be opened")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    def _run(self, started: threading.Event) -> None:
        try:
            asyncio.run(self._serve(started))
        finally:
            started.set()

    async def _serve(self, started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        app = web.Application(client_max_size=_LARGEST)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self._port, backlog=1024).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        started.set()
        await self._end.wait()
        await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        data = await request.read()
        vendor = _CALLS.get(request.path)
        if request.method == "POST" and vendor:
            return await self._call(request, data, vendor)
        try:
            return self._other(request, data)
        except (KeyError, TypeError, ValueError) as error:
            known = isinstance(error, ValueError)
            return _error(400 if known else 404, str(error) if known else "not found")

    def _other(self, request: web.Request, data: bytes) -> web.Response:
        """Everything but calls: by method, path and the id in it."""
        match [request.method, *request.path.strip("/").split("/")]:
            case ["GET", "stats"]:
                return web.json_response(self.stats())
            case ["POST", "reset"]:
                self.reset()
                return web.json_response({})
            case ["POST", "v1", "messages", "count_tokens"]:
                return web.json_response({"input_tokens": payloads.input_tokens(json.loads(data))})
            case ["GET", "v1", "models"]:
                return web.json_response(payloads.model_list(self._models or ()))
            case ["GET", "v1", "models", *name] if name and self._exists("/".join(name)):
                return web.json_response(payloads.model("/".join(name)))
            case [method, "v1", "messages", "batches", *rest]:
                return self._batch([method, *rest], request, data)
            case _:
                raise KeyError(request.path)

    def _batch(self, route: Sequence[str], request: web.Request, data: bytes) -> web.Response:
        match route:
            case ["POST"]:
                requests = json.loads(data)["requests"]
                answer = self.batches.create(requests, _headers(request), self.url)
            case ["GET"]:
                answer = self.batches.page(request.query, self.url)
            case ["GET", name]:
                answer = self.batches.retrieve(name, self.url)
            case ["POST", name, "cancel"]:
                answer = self.batches.cancel(name, self.url)
            case ["GET", name, "results"]:
                return web.Response(text=self.batches.results(name))
            case _:
                raise KeyError(request.path)
        return web.json_response(answer)

    def _exists(self, model: str) -> bool:
        return self._models is None or model in self._models

    async def _call(self, request: web.Request, data: bytes, vendor: Vendor) -> web.StreamResponse:
        headers = _headers(request)
        try:
            body = json.loads(data)
            prompt = Prompt(body, headers)
            model = str(body["model"])
        except (KeyError, IndexError, TypeError, ValueError):
            return _error(400, "not a request", vendor)
        if self._keep:
            self.requests.append(body)
            self.headers.append(headers)
        if body.get("stream"):
            return _error(400, "this server does not stream", vendor)
        if not self._exists(model):
            return _error(404, f"model: {model}", vendor)
        self.enter()
        try:
            scripted = self.draw(prompt)
            self._number += 1
            response = self._response(body, scripted, vendor)
            await asyncio.sleep(self._latency_s if scripted.latency_s is None else scripted.latency_s)
        finally:
            self.leave()
        return await _broken(request, response, scripted.fault) if scripted.fault else response

    def _response(self, body: Mapping[str, Any], scripted: Scripted, vendor: Vendor) -> web.Response:
        if scripted.status >= 400:
            payload = payloads.error(scripted.status, scripted.message, vendor)
        elif vendor == "anthropic":
            payload = payloads.message(self._number, body, scripted)
        else:
            payload = payloads.completion(self._number, body, scripted)
        name = "request-id" if vendor == "anthropic" else "x-request-id"
        headers = scripted.headers | {name: f"req_{self._number:08d}"}
        return web.json_response(payload, status=scripted.status, headers=headers)


async def _broken(request: web.Request, response: web.Response, fault: str) -> web.StreamResponse:
    """No response but a reset, half of one, or a whole one whose body ends in the middle."""
    transport, data = request.transport, response.body
    assert transport is not None
    assert isinstance(data, bytes)
    half = data[: len(data) // 2]
    if fault == "reset":
        linger = struct.pack("ii", 1, 0)  # close with RST, not FIN
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()
    if fault != "truncated":
        return web.Response(body=half, content_type="application/json")
    cut = web.StreamResponse(headers={"content-type": "application/json", "content-length": str(len(data))})
    await cut.prepare(request)
    await cut.write(half)
    transport.close()
    return cut


def _headers(request: web.Request) -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}


def _error(status: int, said: str, vendor: Vendor = "anthropic") -> web.Response:
    return web.json_response(payloads.error(status, said, vendor), status=status)
