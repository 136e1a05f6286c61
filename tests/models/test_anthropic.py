"""The client through the real SDK against a loopback server."""

import asyncio
import itertools
import logging
import time

import pytest

from itera_nb.exceptions import StoppedError
from itera_nb.models import anthropic as module
from itera_nb.models.anthropic import AnthropicClient, CallError
from itera_nb.spec import ModelSpec
from itera_nb.testing import MessagesServer, Scripted


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("LOOPBACK_KEY", "loopback")


def ask(server, *prompts, params=None, patience_s=600.0, timeout_s=5.0, system=None):
    async def main():
        spec = ModelSpec(api_key_env="LOOPBACK_KEY", base_url=server.url)
        async with AnthropicClient(spec, patience_s=patience_s) as client:
            calls = [
                client.ask("claude-haiku-5-5", p, system, params or {}, timeout_s=timeout_s) for p in prompts
            ]
            return await asyncio.gather(*calls, return_exceptions=True)

    return asyncio.run(main())


def script(*answers):
    """Answers one after the other, the last one for ever."""
    rest = itertools.chain(answers, itertools.repeat(answers[-1]))
    return lambda _: next(rest)


def test_a_reply_has_text_usage_and_latency():
    answer = Scripted("hi", usage={"cache_read_input_tokens": 9}, latency_s=0.05)
    with MessagesServer(lambda _: answer) as server:
        [reply] = ask(server, "x", params={"temperature": 0, "max_tokens": 7}, system="short")
        body = server.requests[0]
    assert reply.text == "hi"
    assert reply.stop_reason == "end_turn"
    assert reply.usage["cache_read_input_tokens"] == 9
    assert reply.usage["model"] == "anthropic/claude-haiku-5-5"
    assert reply.latency_ms >= 50
    assert (body["max_tokens"], body["temperature"], body["system"]) == (7, 0, "short")


def test_max_tokens_has_a_default():
    with MessagesServer() as server:
        ask(server, "x")
        assert server.requests[0]["max_tokens"] == 1024


@pytest.mark.parametrize(
    "trouble",
    [
        Scripted(status=429, retry_after="0.01"),
        Scripted(status=529, retry_after="0.01"),
        Scripted(status=500, retry_after="0"),
        Scripted(fault="reset"),
        Scripted("cut", fault="truncated"),
        Scripted("cut", fault="malformed"),
    ],
)
def test_passing_troubles_are_retried(trouble):
    with MessagesServer(script(trouble, "fine")) as server:
        [reply] = ask(server, "x")
        assert (reply.text, reply.retries, server.calls["x"]) == ("fine", 1, 2)


@pytest.mark.parametrize(
    ("status", "word"), [(401, "LOOPBACK_KEY"), (402, "credit"), (403, "may"), (404, "claude-haiku-5-5")]
)
def test_what_no_row_survives_stops_at_once(status, word):
    with MessagesServer(lambda _: Scripted(status=status)) as server:
        [error] = ask(server, "x")
        assert isinstance(error, StoppedError)
        assert word in str(error)
        assert server.calls["x"] == 1


def test_no_credit_also_comes_as_a_bad_request():
    broke = Scripted(status=400, message="Your credit balance is too low")
    with MessagesServer(lambda _: broke) as server:
        [error] = ask(server, "x")
        assert isinstance(error, StoppedError)


def test_a_bad_request_fails_its_row_only():
    with MessagesServer(lambda p: Scripted(status=400) if p == "bad" else "fine") as server:
        bad, good = ask(server, "bad", "good")
        assert isinstance(bad, CallError)
        assert not bad.late
        assert good.text == "fine"
        assert server.calls["bad"] == 1


def test_a_row_that_alone_breaks_the_server_fails(monkeypatch):
    monkeypatch.setattr(module, "MAX_SERVER_ERRORS", 3)
    poison = Scripted(status=500, retry_after="0.05")
    with MessagesServer(lambda p: poison if p == "poison" else "fine") as server:
        poisoned, fine = ask(server, "poison", "good")
        assert isinstance(poisoned, CallError)
        assert poisoned.retries == 2
        assert fine.text == "fine"


@pytest.mark.parametrize("trouble", [Scripted(status=429, retry_after="0.05"), Scripted(fault="reset")])
def test_an_outage_stops_the_run_instead_of_failing_rows(trouble):
    with MessagesServer(lambda _: trouble) as server:
        [error] = ask(server, "x", patience_s=1.0)
        assert isinstance(error, StoppedError)
        assert "run the same command again" in error.fix


def test_retry_after_is_capped(monkeypatch):
    monkeypatch.setattr(module, "RETRY_AFTER_CAP_S", 0.05)
    with MessagesServer(script(Scripted(status=429, retry_after="4000000"), "fine")) as server:
        begun = time.monotonic()
        [reply] = ask(server, "x")
        assert reply.text == "fine"
        assert time.monotonic() - begun < 5


def test_a_rate_limit_holds_for_everyone():
    seen = []

    def answer(prompt):
        seen.append((prompt, time.monotonic()))
        return Scripted(status=429, retry_after="0.4") if len(seen) == 1 else "fine"

    async def main(server):
        async with AnthropicClient(ModelSpec(api_key_env="LOOPBACK_KEY", base_url=server.url)) as client:
            first = asyncio.create_task(client.ask("m", "first", None, {}, timeout_s=5))
            while not client._not_before:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await client.ask("m", "second", None, {}, timeout_s=5)
            await first

    with MessagesServer(answer) as server:
        asyncio.run(main(server))
    assert all(at - seen[0][1] >= 0.35 for _, at in seen[1:])


def test_a_late_answer_is_a_timeout_after_its_retries():
    with MessagesServer(lambda _: Scripted("late", latency_s=0.6)) as server:
        [error] = ask(server, "x", timeout_s=0.1)
        assert isinstance(error, CallError)
        assert error.late
        assert server.calls["x"] == 1 + module.MAX_LATE


def test_a_missing_key_is_said_before_any_call(monkeypatch):
    monkeypatch.delenv("LOOPBACK_KEY")
    with MessagesServer() as server:
        with pytest.raises(StoppedError, match="LOOPBACK_KEY is not set"):
            AnthropicClient(ModelSpec(api_key_env="LOOPBACK_KEY", base_url=server.url))
        assert not server.requests


def test_quiet_silences_the_sdks_logging():
    async def main():
        async with AnthropicClient(ModelSpec(api_key_env="LOOPBACK_KEY"), quiet=True):
            return logging.getLogger("anthropic").disabled

    try:
        assert asyncio.run(main())
    finally:
        for name in ("anthropic", "httpx2"):
            logging.getLogger(name).disabled = False
