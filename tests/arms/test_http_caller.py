"""Endpoints on loopback: what is sent, what comes back, and whose fault it is."""

import asyncio
import contextlib
import json
import threading

import pytest
from aiohttp import web

from itera_nb.exceptions import StoppedError
from itera_nb.models.client import CallError


class Endpoint:
    """`handle` behind `POST /` on loopback, in a thread of its own."""

    def __init__(self):
        self.bodies, self.headers, self.elsewhere = [], [], 0
        self.handle = lambda body: web.json_response({"output": body["text"]})

    async def _post(self, request):
        self.bodies.append(json.loads(await request.text()))
        self.headers.append(dict(request.headers))
        answer = self.handle(self.bodies[-1])
        return await answer if asyncio.iscoroutine(answer) else answer

    async def _other(self, _):
        self.elsewhere += 1
        return web.Response(text="other")

    @contextlib.contextmanager
    def running(self):
        loop, ready = asyncio.new_event_loop(), threading.Event()

        async def start():
            app = web.Application()
            app.router.add_post("/", self._post)
            app.router.add_post("/other", self._other)
            runner = web.AppRunner(app, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
            ready.set()
            return runner

        def serve():
            runner = loop.run_until_complete(start())
            loop.run_forever()
            loop.run_until_complete(runner.cleanup())
            loop.close()

        thread = threading.Thread(target=serve)
        thread.start()
        assert ready.wait(10)
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()


@pytest.fixture
def endpoint():
    with Endpoint().running() as found:
        yield found


def test_inputs_and_params_are_posted_and_nothing_else(called, endpoint):
    [answer] = called.call({"text": "hi ü"}, kind="http", url=endpoint.url, params={"k": 3})
    assert (answer.status, answer.output) == ("ok", "hi ü")
    assert answer.latency_ms > 0
    assert endpoint.bodies == [{"k": 3, "text": "hi ü"}]


def test_headers_come_from_the_environment(called, endpoint, monkeypatch):
    monkeypatch.setenv("SERVICE_TOKEN", "s3cret\n")
    headers = {"Authorization": "Bearer env:SERVICE_TOKEN", "X-Key": "env:SERVICE_TOKEN"}
    called.call({"text": "x"}, kind="http", url=endpoint.url, headers=headers)
    assert endpoint.headers[0]["Authorization"] == "Bearer s3cret"
    assert endpoint.headers[0]["X-Key"] == "s3cret"
    monkeypatch.delenv("SERVICE_TOKEN")
    with pytest.raises(StoppedError, match="SERVICE_TOKEN is not set"):
        called.call({"text": "x"}, kind="http", url=endpoint.url, headers=headers)


@pytest.mark.parametrize(
    ("status", "trouble"),
    [
        (429, "rate_limit"),
        (408, "server"),
        (500, "server"),
        (503, "server"),
        (400, "request"),
        (404, "request"),
    ],
)
def test_statuses_are_troubles(called, endpoint, status, trouble):
    endpoint.handle = lambda _: web.Response(status=status, text="CANARY", headers={"Retry-After": "7"})
    [error] = called.call({"text": "x"}, kind="http", url=endpoint.url)
    assert isinstance(error, CallError)
    assert (error.trouble, error.error_type, error.retry_after_s) == (trouble, f"HTTP{status}", 7.0)
    assert str(error) == "CANARY"
    [quiet] = called.call({"text": "x"}, kind="http", url=endpoint.url, quiet=True)
    assert str(quiet) == ""


@pytest.mark.parametrize(
    ("value", "least", "most"), [("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0), ("soon", None, None)]
)
def test_retry_after_may_be_a_date_or_nonsense(called, endpoint, value, least, most):
    endpoint.handle = lambda _: web.Response(status=429, headers={"Retry-After": value})
    [error] = called.call({"text": "x"}, kind="http", url=endpoint.url)
    assert error.retry_after_s in {least, most}


@pytest.mark.parametrize("status", [401, 403])
def test_what_no_row_survives_stops(called, endpoint, status):
    endpoint.handle = lambda _: web.Response(status=status)
    [error] = called.call({"text": "x"}, kind="http", url=endpoint.url)
    assert isinstance(error, StoppedError)


def test_redirects_are_not_followed(called, endpoint):
    endpoint.handle = lambda _: web.Response(status=307, headers={"Location": "/other"})
    [error] = called.call({"text": "x"}, kind="http", url=endpoint.url)
    assert isinstance(error, StoppedError)
    assert "redirects" in str(error)
    assert endpoint.elsewhere == 0


def test_a_late_answer_is_late(called, endpoint):
    async def late(_):
        await asyncio.sleep(5)

    endpoint.handle = late
    [error] = called.call({"text": "x"}, kind="http", url=endpoint.url, timeout_s=0.1)
    assert (error.trouble, error.error_type) == ("late", "Timeout")


def test_nobody_there_is_a_connection_error(called):
    [error] = called.call({"text": "x"}, kind="http", url="http://127.0.0.1:9/")
    assert (error.trouble, error.may_pass) == ("connection", True)


def test_cookies_do_not_link_rows(called, endpoint):
    endpoint.handle = lambda _: web.Response(text="x", headers={"Set-Cookie": "row=1"})
    called.call({"text": "a"}, {"text": "b"}, trials=(0, 1), kind="http", url=endpoint.url)
    assert len(endpoint.headers) == 4
    assert not any("Cookie" in headers for headers in endpoint.headers)


def test_an_endless_answer_is_refused(called, endpoint, monkeypatch):
    monkeypatch.setattr("itera_nb.arms.reported.MAX_BYTES", 1000)
    endpoint.handle = lambda _: web.Response(text="x" * 5000)
    [answer] = called.call({"text": "x"}, kind="http", url=endpoint.url)
    assert (answer.status, answer.error_type) == ("invalid", "TooLarge")
    assert answer.cost_usd is None, "it may have been charged"
