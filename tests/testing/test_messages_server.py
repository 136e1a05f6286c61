"""The loopback Messages API through the real SDK: each kind of fault as the SDK reports it."""

import json

import anthropic
import pytest

from itera_nb.testing import MessagesServer, Scripted


def client(server):
    return anthropic.Anthropic(api_key="loopback", base_url=server.url, max_retries=0)


def ask(server, text="hello", **more):
    with client(server) as sdk:
        return sdk.messages.create(
            model="claude-haiku-5-5", max_tokens=10, messages=[{"role": "user", "content": text}], **more
        )


def test_answers_with_usage_and_counts_calls():
    with MessagesServer(lambda p: Scripted(p.upper(), usage={"cache_read_input_tokens": 7})) as server:
        message = ask(server, "abc")
        ask(server, "abc")
        assert message.content[0].text == "ABC"
        assert message.usage.cache_read_input_tokens == 7
        assert message.usage.output_tokens > 0
        assert server.calls == {"abc": 2}
        assert server.requests[0]["max_tokens"] == 10


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, anthropic.AuthenticationError),
        (429, anthropic.RateLimitError),
        (500, anthropic.InternalServerError),
        (529, anthropic.OverloadedError),
    ],
)
def test_errors_carry_their_status_and_retry_after(status, error):
    with MessagesServer(lambda _: Scripted(status=status, retry_after="3")) as server:
        with pytest.raises(error) as caught:
            ask(server)
        assert caught.value.status_code == status
        assert caught.value.response.headers["retry-after"] == "3"


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("reset", anthropic.APIConnectionError),
        ("truncated", anthropic.APIConnectionError),
        ("malformed", json.JSONDecodeError),
    ],
)
def test_broken_responses_are_errors(fault, error):
    with MessagesServer(lambda _: Scripted("text", fault=fault)) as server, pytest.raises(error):
        ask(server)


def test_stop_reasons_are_passed_on():
    with MessagesServer(lambda _: Scripted("no", stop_reason="refusal")) as server:
        assert ask(server).stop_reason == "refusal"
