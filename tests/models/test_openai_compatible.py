"""The client through the real SDK against a loopback server."""

import asyncio
import sys

import pytest

from itera_nb.exceptions import ArmError, StoppedError
from itera_nb.models.client import CallError, Request
from itera_nb.models.openai_compatible import OpenAICompatibleClient
from itera_nb.models.pricing import price
from itera_nb.models.sdk import open_client
from itera_nb.spec import ModelSpec
from itera_nb.testing import MessagesServer, Scripted, payloads

MODEL = "gpt-4o-mini"
SCHEMA = {"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]}


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("LOOPBACK_KEY", "sk-loopback-0123456789")
    monkeypatch.delenv("LOCAL_API_KEY", raising=False)


def at(server, **keys):
    return ModelSpec(base_url=f"{server.url}/v1", **keys)


def send(server, *prompts, vendor="openai", timeout_s=5.0, spec=None, **parts):
    async def main():
        client = OpenAICompatibleClient(vendor, spec or at(server, api_key_env="LOOPBACK_KEY"))
        async with client:
            requests = [Request(MODEL, [{"role": "user", "content": p}], **parts) for p in prompts]
            return await asyncio.gather(
                *(client.send(r, timeout_s=timeout_s) for r in requests), return_exceptions=True
            )

    return asyncio.run(main())


def test_a_reply_has_text_and_usage_that_can_be_priced():
    answer = Scripted("hi", usage={"input_tokens": 900, "cache_read_input_tokens": 100, "output_tokens": 10})
    with MessagesServer([answer]) as server:
        [reply] = send(server, "x", system="short")
        body, headers = server.requests[0], server.headers[0]
    assert (reply.text, reply.stop_reason) == ("hi", "end_turn")
    assert reply.usage["prompt_tokens"] == 1000
    assert reply.usage["model"] == f"openai/{MODEL}"
    assert reply.latency_ms > 0
    # $0.15 in, $0.075 cached, $0.60 out per million
    assert price(reply.usage) == pytest.approx((900 * 0.15 + 100 * 0.075 + 10 * 0.6) / 1e6)
    assert body["messages"] == [{"role": "system", "content": "short"}, {"role": "user", "content": "x"}]
    assert headers["authorization"] == "Bearer sk-loopback-0123456789"


def test_parameters_reach_the_wire():
    params = {"temperature": 0, "effort": "low", "top_k": 3, "seed": 4, "max_tokens": 9, "grammar": "x"}
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    with MessagesServer() as server:
        send(server, "x", params=params, tools=tools, schema=SCHEMA)
        body = server.requests[0]
    assert (body["temperature"], body["reasoning_effort"], body["top_k"], body["seed"]) == (0, "low", 3, 4)
    assert (body["max_tokens"], body["grammar"], body["tools"]) == (9, "x", tools)
    assert body["response_format"]["json_schema"] == {"name": "answer", "strict": True, "schema": SCHEMA}
    assert "effort" not in body


def test_the_limit_has_the_name_that_the_endpoint_knows(monkeypatch):
    with MessagesServer() as server:
        send(server, "x")
        send(server, "x", params={"max_completion_tokens": 5})
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        send(server, "x", spec=ModelSpec(api_key_env="LOOPBACK_KEY"), params={"max_tokens": 7})
        limits = [{k: v for k, v in r.items() if k.startswith("max_")} for r in server.requests]
    assert limits == [{"max_tokens": 1024}, {"max_completion_tokens": 5}, {"max_completion_tokens": 7}]


@pytest.mark.parametrize(
    ("scripted", "word"),
    [
        (Scripted("x"), "end_turn"),
        (Scripted("x", stop_reason="max_tokens"), "max_tokens"),
        (Scripted("no", stop_reason="refusal"), "refusal"),
        (Scripted("", tool_calls=[{"name": "look", "input": {"at": 1}}]), "tool_use"),
    ],
)
def test_stop_words_are_translated(scripted, word):
    with MessagesServer([scripted]) as server:
        [reply] = send(server, "x")
    assert reply.stop_reason == word
    assert list(reply.tool_calls) == list(scripted.tool_calls)


def test_arguments_that_are_no_json_are_kept_as_the_model_wrote_them(monkeypatch):
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{bad"}}
    choice = {"message": {"content": None, "tool_calls": [call]}, "finish_reason": "tool_calls"}
    monkeypatch.setattr(payloads, "completion", lambda *_: {"choices": [choice]})
    with MessagesServer() as server:
        [reply] = send(server, "x")
    assert reply.tool_calls == ({"name": "look", "input": "{bad"},)
    assert reply.usage == {"model": f"openai/{MODEL}"}
    assert price(reply.usage) is None


@pytest.mark.parametrize(
    ("scripted", "trouble", "wait_s"),
    [
        (Scripted(status=429, retry_after="7"), "rate_limit", 7.0),
        (Scripted(status=500), "server", None),
        (Scripted(status=503, retry_after="1"), "server", 1.0),
        (Scripted(fault="reset"), "connection", None),
        (Scripted("cut", fault="truncated"), "connection", None),
        (Scripted("cut", fault="malformed"), "garbled", None),
        (Scripted(status=400), "request", None),
        (Scripted(status=422), "request", None),
    ],
)
def test_each_trouble_has_its_name_and_is_sent_once(scripted, trouble, wait_s):
    with MessagesServer([scripted]) as server:
        [error] = send(server, "x")
        assert isinstance(error, CallError)
        assert (error.trouble, error.retry_after_s) == (trouble, wait_s)
        assert server.calls["x"] == 1


@pytest.mark.parametrize("body", [None, [], {}, {"choices": []}, {"choices": [{"message": None}]}])
def test_json_that_is_no_completion_is_garbled(body, monkeypatch):
    monkeypatch.setattr(payloads, "completion", lambda *_: body)
    with MessagesServer() as server:
        [error] = send(server, "x")
    assert error.trouble == "garbled"


def test_a_late_answer_is_late():
    with MessagesServer([Scripted("late", latency_s=1.0)]) as server:
        [error] = send(server, "x", timeout_s=0.1)
    assert error.trouble == "late"


@pytest.mark.parametrize(
    ("scripted", "what"),
    [
        (Scripted(status=401, message="Incorrect API key provided: sk-loop***6789"), "key is not accepted"),
        (Scripted(status=403), f"may not use {MODEL}"),
        (Scripted(status=404), f"no model {MODEL}"),
        (Scripted(status=429, message="You exceeded your quota. (insufficient_quota)"), "no credit"),
    ],
)
def test_what_no_row_survives_stops_and_says_what_to_set(scripted, what):
    with MessagesServer([scripted]) as server:
        [error] = send(server, "x")
        assert isinstance(error, StoppedError)
        assert what in error.what
        assert "sk-loop" not in str(error)
        assert server.calls["x"] == 1


def test_a_server_on_this_machine_needs_no_key():
    with MessagesServer() as server:
        [reply] = send(server, "x", vendor="local", spec=at(server))
        assert reply.usage["model"] == f"local/{MODEL}"
        assert "sk-" not in server.headers[0]["authorization"]


def test_a_server_elsewhere_needs_one():
    spec = ModelSpec(base_url="https://models.example.com/v1")
    with pytest.raises(StoppedError, match="LOCAL_API_KEY is not set"):
        OpenAICompatibleClient("local", spec)


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ArmError, match=r'pip install "itera-nb\[openai\]"'):
        OpenAICompatibleClient("openai", ModelSpec(api_key_env="LOOPBACK_KEY"))


def test_whether_a_model_exists_costs_nothing(monkeypatch):
    async def knows(path, *models):
        spec = ModelSpec(api_key_env="LOOPBACK_KEY", base_url=f"{server.url}/{path}")
        async with OpenAICompatibleClient("openai", spec) as client:
            return [await client.knows(m, timeout_s=5) for m in models]

    with MessagesServer(models=[MODEL]) as server:
        assert asyncio.run(knows("v1", MODEL, "gone")) == [True, None]
        assert asyncio.run(knows("nowhere", MODEL)) == [None]
        monkeypatch.setattr(OpenAICompatibleClient, "own_host", "127.0.0.1")
        assert asyncio.run(knows("v1", MODEL, "gone")) == [True, False]
        assert not server.requests


def test_vendors_are_opened_by_name():
    spec = ModelSpec(api_key_env="LOOPBACK_KEY")

    async def kinds():
        found = []
        for vendor, given in [
            ("anthropic", spec),
            ("openai", spec),
            ("local", ModelSpec(base_url="http://127.0.0.1:1/v1")),
        ]:
            async with open_client(vendor, given) as client:
                found.append(type(client).__name__)
        return found

    assert asyncio.run(kinds()) == ["AnthropicClient", "OpenAICompatibleClient", "OpenAICompatibleClient"]
    with pytest.raises(
        ArmError, match=r"unknown vendor 'antropic': anthropic and openai are known"
    ) as raised:
        open_client("antropic", None)
    assert "[models.antropic] base_url" in raised.value.fix
