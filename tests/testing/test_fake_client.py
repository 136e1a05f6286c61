"""The in-process client: the same script, the same troubles as over the wire."""

import asyncio

import pytest

from itera_nb.exceptions import StoppedError
from itera_nb.models.client import CallError, Client, Request
from itera_nb.testing import FakeClient, Scripted


def send(client: Client, *prompts, timeout_s=5.0, **more):
    async def main():
        async with client:
            calls = [
                client.send(Request("haiku", [{"role": "user", "content": p}], **more), timeout_s=timeout_s)
                for p in prompts
            ]
            return await asyncio.gather(*calls, return_exceptions=True)

    return asyncio.run(main())


def test_a_reply_has_text_usage_and_latency():
    client = FakeClient(lambda p: Scripted({"label": p}, latency_s=0.02, usage={"output_tokens": 5}))
    [reply] = send(client, "a", system="short", params={"max_tokens": 9})
    assert reply.text == '{"label": "a"}'
    assert reply.stop_reason == "end_turn"
    assert (reply.usage["model"], reply.usage["output_tokens"]) == ("anthropic/haiku", 5)
    assert 20 <= reply.latency_ms < 2000
    assert client.requests[0].system == "short"
    assert client.calls == client.paid == {"a": 1}


def test_calls_run_at_the_same_time():
    client = FakeClient(latency_s=0.05)
    assert [r.text for r in send(client, *"abc")] == ["a", "b", "c"]
    assert client.max_in_flight == 3


@pytest.mark.parametrize(
    ("scripted", "trouble", "retry_after_s"),
    [
        (Scripted(status=429, retry_after="2"), "rate_limit", 2.0),
        (Scripted(status=429, retry_after="2", retry_after_ms="1500"), "rate_limit", 1.5),
        (Scripted(status=529), "server", None),
        (Scripted(status=500), "server", None),
        (Scripted(status=400), "request", None),
        (Scripted(fault="reset"), "connection", None),
        (Scripted(fault="truncated"), "garbled", None),
        (Scripted(latency_s=9), "late", None),
    ],
)
def test_troubles(scripted, trouble, retry_after_s):
    client = FakeClient([scripted])
    [error] = send(client, "a", timeout_s=0.02)
    assert isinstance(error, CallError)
    assert (error.trouble, error.retry_after_s) == (trouble, retry_after_s)
    assert error.may_pass == (trouble != "request")


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_what_no_call_survives_stops(status):
    [error] = send(FakeClient([Scripted(status=status)]), "a")
    assert isinstance(error, StoppedError)


def test_drawn_faults_are_counted_and_not_paid():
    client = FakeClient(faults={"529": 0.5}, seed=1)
    replies = send(client, *map(str, range(40)))
    failed = [r for r in replies if isinstance(r, CallError)]
    assert len(failed) == 40 - sum(client.paid.values())
    assert 8 <= len(failed) <= 32
