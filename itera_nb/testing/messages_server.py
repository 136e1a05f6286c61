"""A model's API on loopback, so that arms can be tested without a key, a cent or a network."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from . import payloads
from .batches import Batches
from .http import Connection, Received, Response
from .payloads import Vendor
from .script import Answers, Prompt, Script, Scripted, echo

_CALLS: dict[str, Vendor] = {
    "/v1/messages": "anthropic",
    "/v1/chat/completions": "openai",
    "/chat/completions": "openai",
}


class MessagesServer:
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
        calls: Calls by prompt, those inside batches too.
        paid: Answers by prompt that a provider would have charged.
        max_in_flight: Most calls that were open at once.
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
        self._script = Script(answer, faults=faults, retry_after_s=retry_after_s, seed=seed)
        self._latency_s = latency_s
        self._models = models
        self._keep = keep
        self._port = port
        self._number = 0
        self._batch_s = batch_s
        self.batches = Batches(self._script, batch_s)
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""

    @property
    def calls(self) -> Counter[str]:
        """Calls by prompt."""
        return self._script.calls

    @property
    def paid(self) -> Counter[str]:
        """Answers by prompt that a provider would have charged."""
        return self._script.paid

    @property
    def max_in_flight(self) -> int:
        """Most calls that were open at once."""
        return self._script.max_in_flight

    def stats(self) -> dict[str, Any]:
        """Counts, as `GET /stats` tells them; `repeated` counts answers beyond a prompt's first."""
        script = self._script
        paid = sum(script.paid.values())
        return {
            "calls": sum(script.calls.values()),
            "paid": paid,
            "distinct": len(script.paid),
            "repeated": paid - len(script.paid),
            "faults": dict(script.faults),
            "max_in_flight": script.max_in_flight,
            "batches": self.batches.created,
            "cpu_s": sum(os.times()[:2]),
        }

    def reset(self) -> None:
        """Forget all requests, counts and batches."""
        self._script.reset()
        self.batches = Batches(self._script, self._batch_s)
        self.requests.clear()
        self.headers.clear()

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
        connections: set[asyncio.Transport] = set()
        server = await self._loop.create_server(
            lambda: Connection(self._handle, connections), "127.0.0.1", self._port, backlog=1024
        )
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        started.set()
        await self._end.wait()
        server.close()
        for transport in list(connections):
            transport.abort()
        await asyncio.sleep(0)  # let the connections hear of it

    def _handle(self, received: Received) -> Response:
        url = urlsplit(received.target)
        vendor = _CALLS.get(url.path)
        if received.method == "POST" and vendor:
            return self._call(received, vendor)
        try:
            return self._other(received, url.path, dict(parse_qsl(url.query)))
        except (KeyError, TypeError, ValueError) as error:
            known = isinstance(error, ValueError)
            status = 400 if known else 404
            return _json(status, payloads.error(status, str(error) if known else "not found"))

    def _other(self, received: Received, path: str, query: Mapping[str, str]) -> Response:
        """Everything but calls: by method, path and the id in it.

        Raises:
            KeyError: There is no such thing.
            ValueError: The body is wrong.
        """
        match [received.method, *path.strip("/").split("/")]:
            case ["GET", "stats"]:
                answer = self.stats()
            case ["POST", "reset"]:
                self.reset()
                answer = {}
            case ["POST", "v1", "messages", "count_tokens"]:
                answer = {"input_tokens": payloads.input_tokens(json.loads(received.body))}
            case ["GET", "v1", "models"]:
                answer = payloads.model_list(self._models or ())
            case ["GET", "v1", "models", *name] if name and self._exists("/".join(name)):
                answer = payloads.model("/".join(name))
            case [method, "v1", "messages", "batches", *rest]:
                return self._batch([method, *rest], received, query)
            case _:
                raise KeyError(path)
        return _json(200, answer)

    def _batch(self, route: Sequence[str], received: Received, query: Mapping[str, str]) -> Response:
        match route:
            case ["POST"]:
                requests = json.loads(received.body)["requests"]
                answer = self.batches.create(requests, received.headers, self.url)
            case ["GET"]:
                answer = self.batches.page(query, self.url)
            case ["GET", name]:
                answer = self.batches.retrieve(name, self.url)
            case ["POST", name, "cancel"]:
                answer = self.batches.cancel(name, self.url)
            case ["GET", name, "results"]:
                return Response(200, self.batches.results(name).encode())
            case _:
                raise KeyError(received.target)
        return _json(200, answer)

    def _exists(self, model: str) -> bool:
        return self._models is None or model in self._models

    def _call(self, received: Received, vendor: Vendor) -> Response:
        try:
            body = json.loads(received.body)
            prompt = Prompt(body, received.headers)
            model = str(body["model"])
        except (KeyError, IndexError, TypeError, ValueError):
            return _json(400, payloads.error(400, "not a request", vendor))
        if self._keep:
            self.requests.append(body)
            self.headers.append(received.headers)
        if body.get("stream"):
            return _json(400, payloads.error(400, "this server does not stream", vendor))
        if not self._exists(model):
            return _json(404, payloads.error(404, f"model: {model}", vendor))
        self._script.enter()
        scripted = self._script.draw(prompt)
        self._number += 1
        return self._response(body, scripted, vendor)

    def _response(self, body: Mapping[str, Any], scripted: Scripted, vendor: Vendor) -> Response:
        if scripted.status >= 400:
            payload = payloads.error(scripted.status, scripted.message, vendor)
        elif vendor == "anthropic":
            payload = payloads.message(self._number, body, scripted)
        else:
            payload = payloads.completion(self._number, body, scripted)
        name = "request-id" if vendor == "anthropic" else "x-request-id"
        headers = [(name, f"req_{self._number:08d}")]
        if scripted.retry_after is not None:
            headers.append(("retry-after", scripted.retry_after))
        if scripted.retry_after_ms is not None:
            headers.append(("retry-after-ms", scripted.retry_after_ms))
        return Response(
            scripted.status,
            _dump(payload),
            tuple(headers),
            self._latency_s if scripted.latency_s is None else scripted.latency_s,
            scripted.fault,
            self._script.leave,
        )


def _json(status: int, payload: Mapping[str, Any]) -> Response:
    return Response(status, _dump(payload))


def _dump(payload: Mapping[str, Any]) -> bytes:
    return json.dumps(payload, separators=(",", ":")).encode()
