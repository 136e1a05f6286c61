"""The client through the real SDK against a loopback server."""

import asyncio
import logging

import anthropic
import pytest

from itera_nb.exceptions import ArmError, StoppedError
from itera_nb.models import sdk
from itera_nb.models.anthropic import AnthropicClient
from itera_nb.models.client import CallError, Request
from itera_nb.spec import ModelSpec
from itera_nb.testing import MessagesServer, Scripted, payloads

MODEL = "claude-haiku-5-5"
SCHEMA = {"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]}


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("LOOPBACK_KEY", "sk-loopback-0123456789")


def spec(server):
    return ModelSpec(api_key_env="LOOPBACK_KEY", base_url=server.url)


def send(server, *prompts, timeout_s=5.0, **parts):
    async def main():
        async with AnthropicClient(spec(server)) as client:
            requests = [Request(MODEL, [{"role": "user", "content": p}], **parts) for p in prompts]
            return await asyncio.gather(
                *(client.send(r, timeout_s=timeout_s) for r in requests), return_exceptions=True
            )

    return asyncio.run(main())


def test_a_reply_has_text_usage_and_latency():
    answer = Scripted("hi", usage={"cache_read_input_tokens": 9, "speed": None}, latency_s=0.05)
    with MessagesServer([answer]) as server:
        [reply] = send(server, "x", params={"max_tokens": 7}, system="short")
        body = server.requests[0]
    assert (reply.text, reply.stop_reason) == ("hi", "end_turn")
    assert reply.usage["cache_read_input_tokens"] == 9
    assert reply.usage["model"] == f"anthropic/{MODEL}"
    assert "speed" not in reply.usage
    assert 50 <= reply.latency_ms < 5000
    assert (body["max_tokens"], body["system"]) == (7, "short")
    assert body["messages"] == [{"role": "user", "content": "x"}]


def test_parameters_reach_the_wire():
    params = {"temperature": 0.5, "top_k": 3, "effort": "low", "thinking": {"type": "adaptive"}, "new": 1}
    params |= {"tool_choice": {"type": "auto"}, "stop_sequences": ["."]}
    tools = [{"name": "look", "input_schema": {"type": "object"}}]
    with MessagesServer() as server:
        send(server, "x", params=params, tools=tools, schema=SCHEMA)
        body = server.requests[0]
    assert {k: body[k] for k in ("temperature", "top_k", "new", "thinking")} == {
        k: params[k] for k in ("temperature", "top_k", "new", "thinking")
    }
    assert body["output_config"] == {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}}
    assert (body["tools"], body["tool_choice"]) == (tools, {"type": "auto"})
    assert body["max_tokens"] == 1024
    assert "extra_body" not in body


def test_output_config_may_be_given_whole():
    with MessagesServer() as server:
        send(server, "x", params={"output_config": {"effort": "high"}}, schema=SCHEMA)
        config = server.requests[0]["output_config"]
    assert (config["effort"], config["format"]["type"]) == ("high", "json_schema")


@pytest.mark.parametrize("name", ["model", "stream", "timeout", "messages", "extra_body", "system"])
def test_parts_of_the_request_are_no_parameters(name):
    with MessagesServer() as server:
        [error] = send(server, "x", params={name: 1})
        assert isinstance(error, ArmError)
        assert f"params.{name}" in str(error)
        assert not server.requests


def test_tool_calls_are_read():
    calls = [{"name": "look", "input": {"at": "x"}}, {"name": "stop", "input": {}}]
    with MessagesServer([Scripted("let me see", tool_calls=calls)]) as server:
        [reply] = send(server, "x")
    assert (reply.text, reply.stop_reason, list(reply.tool_calls)) == ("let me see", "tool_use", calls)


@pytest.mark.parametrize("reason", ["refusal", "max_tokens", "model_context_window_exceeded", "pause_turn"])
def test_the_stop_reason_is_the_vendors_word(reason):
    with MessagesServer([Scripted("cut", stop_reason=reason)]) as server:
        [reply] = send(server, "x")
    assert reply.stop_reason == reason


@pytest.mark.parametrize(
    ("scripted", "trouble", "wait_s"),
    [
        (Scripted(status=429, retry_after="7"), "rate_limit", 7.0),
        (Scripted(status=429, retry_after="7", retry_after_ms="250"), "rate_limit", 0.25),
        (Scripted(status=429, retry_after="Wed, 21 Oct 2020 07:28:00 GMT"), "rate_limit", 0.0),
        (Scripted(status=429, retry_after="-3"), "rate_limit", 0.0),
        (Scripted(status=529, retry_after="0.5"), "server", 0.5),
        (Scripted(status=500), "server", None),
        (Scripted(status=504), "server", None),
        (Scripted(status=408), "connection", None),
        (Scripted(status=409), "connection", None),
        (Scripted(fault="reset"), "connection", None),
        (Scripted("cut", fault="truncated"), "connection", None),
        (Scripted("cut", fault="malformed"), "garbled", None),
        (Scripted(status=400), "request", None),
        (Scripted(status=413), "request", None),
    ],
)
def test_each_trouble_has_its_name_and_is_sent_once(scripted, trouble, wait_s):
    with MessagesServer([scripted]) as server:
        [error] = send(server, "x")
        assert isinstance(error, CallError)
        assert (error.trouble, error.retry_after_s) == (trouble, wait_s)
        assert error.may_pass == (trouble != "request")
        assert server.calls["x"] == 1


def test_a_prompt_that_is_too_long_is_named():
    said = "prompt is too long: 210000 tokens > 200000 maximum"
    with MessagesServer([Scripted(status=400, message=said)]) as server:
        [error] = send(server, "x")
    assert (error.trouble, error.error_type) == ("request", "ContextOverflow")


def test_a_late_answer_is_late():
    with MessagesServer([Scripted("late", latency_s=1.0)]) as server:
        [error] = send(server, "x", timeout_s=0.1)
        assert (error.trouble, error.may_pass) == ("late", True)
        assert server.calls["x"] == 1


def test_a_server_that_is_not_there_is_a_connection_trouble():
    with MessagesServer() as server:
        pass
    [error] = send(server, "x")
    assert error.trouble == "connection"


@pytest.mark.parametrize(
    "body", [None, [], {}, "text", {"content": None}, {"content": [{"type": "text"}], "usage": {}}]
)
def test_json_that_is_no_message_is_garbled(body, monkeypatch):
    monkeypatch.setattr(payloads, "message", lambda *_, **__: body)
    with MessagesServer() as server:
        [error] = send(server, "x")
    assert error.trouble == "garbled"


@pytest.mark.parametrize(
    ("status", "what", "fix"),
    [
        (401, "not accepted", "set LOOPBACK_KEY"),
        (402, "no credit", "LOOPBACK_KEY"),
        (403, f"may not use {MODEL}", "LOOPBACK_KEY"),
        (404, f"no model {MODEL}", "base_url"),
    ],
)
def test_what_no_row_survives_stops_and_says_what_to_set(status, what, fix):
    said = "the vendor says sk-loopback-0123456789 is wrong"
    with MessagesServer([Scripted(status=status, message=said)]) as server:
        [error] = send(server, "x")
        assert isinstance(error, StoppedError)
        assert what in error.what
        assert fix in error.fix
        assert "sk-loopback" not in str(error)
        assert error.__suppress_context__
        assert server.calls["x"] == 1


def test_no_credit_also_comes_as_a_bad_request():
    broke = Scripted(status=400, message="Your credit balance is too low to access the API")
    with MessagesServer([broke]) as server:
        [error] = send(server, "x")
    assert isinstance(error, StoppedError)
    assert "no credit" in error.what


def test_without_aiohttp_connections_are_shared_out(monkeypatch):
    def missing():
        raise RuntimeError("aiohttp is not installed")

    made = []
    real = anthropic.AsyncAnthropic
    monkeypatch.setattr(anthropic, "DefaultAioHttpClient", missing)
    monkeypatch.setattr(
        anthropic, "AsyncAnthropic", lambda **options: made.append(real(**options)) or made[-1]
    )
    with MessagesServer(latency_s=0.2) as server:
        replies = send(server, *(f"p{i}" for i in range(20)))
        assert sorted(r.text for r in replies) == sorted(f"p{i}" for i in range(20))
        assert server.max_in_flight == 20
    assert len(made) == -(-20 // sdk.SHARD)
    assert all(client.is_closed() for client in made)


def test_a_missing_key_is_said_before_any_call(monkeypatch):
    monkeypatch.delenv("LOOPBACK_KEY")
    with MessagesServer() as server:
        with pytest.raises(StoppedError, match="LOOPBACK_KEY is not set"):
            AnthropicClient(spec(server))
        assert not server.requests


@pytest.mark.parametrize(("quiet", "shown"), [(False, True), (True, False)])
def test_quiet_silences_the_sdks_logging(quiet, shown, caplog, monkeypatch):
    loggers = [
        n for n in logging.Logger.manager.loggerDict if n.startswith(("anthropic", "httpx2", "aiohttp"))
    ]
    for name in {*loggers, "anthropic", "httpx2", "httpcore2", "aiohttp"}:
        logger = logging.getLogger(name)
        for attribute, fresh in (("disabled", False), ("propagate", True), ("handlers", [])):
            monkeypatch.setattr(logger, attribute, fresh)
        logger.setLevel(logging.NOTSET)
    monkeypatch.setattr(logging.getLogger("anthropic"), "level", logging.DEBUG)

    async def main(server):
        async with AnthropicClient(spec(server), quiet=quiet) as client:
            await client.send(Request(MODEL, [{"role": "user", "content": "SECRET ROW"}]), timeout_s=5)

    with caplog.at_level(logging.DEBUG), MessagesServer() as server:
        asyncio.run(main(server))
    assert ("SECRET ROW" in caplog.text) == shown


def test_whether_a_model_exists_costs_nothing(monkeypatch):
    async def main(server):
        async with AnthropicClient(spec(server)) as client:
            return [await client.knows(m, timeout_s=5) for m in (MODEL, "claude-gone")]

    with MessagesServer(models=[MODEL]) as server:
        assert asyncio.run(main(server)) == [True, None]  # a gateway: it may only not list it
        monkeypatch.setattr(AnthropicClient, "own_host", "127.0.0.1")
        assert asyncio.run(main(server)) == [True, False]
        assert not server.requests
