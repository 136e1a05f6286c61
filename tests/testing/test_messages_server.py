"""The loopback APIs through the real SDKs: each kind of answer and of fault as an SDK reports it."""

import json
import subprocess
import sys
import urllib.request

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


def fetch(url, data=None):
    with urllib.request.urlopen(urllib.request.Request(url, data=data)) as response:
        return json.loads(response.read())


def test_answers_with_usage_and_counts_calls():
    with MessagesServer(lambda p: Scripted(p.upper(), usage={"cache_read_input_tokens": 7})) as server:
        message = ask(server, "abc")
        ask(server, "abc")
        assert message.content[0].text == "ABC"
        assert message.usage.cache_read_input_tokens == 7
        assert message.usage.output_tokens > 0
        assert server.calls == server.paid == {"abc": 2}
        assert server.requests[0]["max_tokens"] == 10
        assert server.headers[0]["authorization"] == "Bearer loopback"


def test_usage_has_cache_tiers_and_service_tier():
    tiers = {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 3}
    usage = {"cache_creation": tiers, "cache_creation_input_tokens": 5, "service_tier": "priority"}
    with MessagesServer([Scripted("x", usage=usage)]) as server:
        got = ask(server).usage
        assert got.cache_creation.ephemeral_1h_input_tokens == 3
        assert got.service_tier == "priority"


def test_a_list_is_answered_in_order_the_last_for_ever():
    with MessagesServer(["a", {"label": "b"}]) as server:
        assert [ask(server).content[0].text for _ in range(3)] == ["a", '{"label": "b"}', '{"label": "b"}']


def test_a_function_sees_the_whole_request():
    with MessagesServer(lambda p: f"{p.body['system']}/{p}/{p.headers['anthropic-version']}") as server:
        assert ask(server, "x", system="short").content[0].text.startswith("short/x/20")


def test_tool_calls():
    call = {"name": "look", "input": {"q": 1}}
    with MessagesServer([Scripted(tool_calls=[call])]) as server:
        message = ask(server)
        assert message.stop_reason == "tool_use"
        assert [(b.name, b.input) for b in message.content] == [("look", {"q": 1})]


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
    scripted = Scripted(status=status, retry_after="3", retry_after_ms="2900")
    with MessagesServer(lambda _: scripted) as server:
        with pytest.raises(error) as caught:
            ask(server)
        assert caught.value.status_code == status
        assert caught.value.response.headers["retry-after"] == "3"
        assert caught.value.response.headers["retry-after-ms"] == "2900"
        assert not server.paid


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


def test_faults_are_drawn_at_their_rate_and_the_same_again_after_a_reset():
    waits = []

    def statuses(server):
        seen = []
        for _ in range(60):
            try:
                ask(server)
                seen.append(200)
            except anthropic.APIStatusError as error:
                seen.append(error.status_code)
                waits.append(float(error.response.headers["retry-after"]))
        return seen

    with MessagesServer(faults={"429": 0.3, "529": 0.2}, seed=3) as server:
        first = statuses(server)
        assert fetch(f"{server.url}/stats")["faults"] == {
            "429": first.count(429),
            "529": first.count(529),
        }
        assert 15 <= len(first) - first.count(200) <= 45
        fetch(f"{server.url}/reset", b"")
        assert statuses(server) == first
        assert len(server.requests) == 60
    assert 0.2 <= min(waits) < max(waits) <= 1.0


def test_impossible_scripts_are_refused():
    with pytest.raises(ValueError, match="faults"):
        MessagesServer(faults={"flood": 0.1})
    with pytest.raises(ValueError, match="answers"):
        MessagesServer([])
    with pytest.raises(ValueError, match="answers"):
        MessagesServer("yes")


def test_tokens_and_models():
    with MessagesServer(models=["claude-haiku-5-5"]) as server, client(server) as sdk:
        turn = [{"role": "user", "content": "x" * 400}]
        assert sdk.messages.count_tokens(model="m", messages=turn).input_tokens > 100
        assert [m.id for m in sdk.models.list()] == ["claude-haiku-5-5"]
        assert sdk.models.retrieve("claude-haiku-5-5").id == "claude-haiku-5-5"
        for missing in (
            lambda: sdk.models.retrieve("gone"),
            lambda: sdk.messages.create(model="gone", max_tokens=1, messages=turn),
        ):
            with pytest.raises(anthropic.NotFoundError):
                missing()
        assert not server.paid


def batch_of(sdk, *texts):
    params = {"model": "claude-haiku-5-5", "max_tokens": 5}
    requests = [
        {"custom_id": f"id-{t}", "params": {**params, "messages": [{"role": "user", "content": t}]}}
        for t in texts
    ]
    return sdk.messages.batches.create(requests=requests)


def test_batches_come_out_of_order_with_partial_failure():
    odd = {
        "e": Scripted(status=500),
        "x": Scripted(fault="expired"),
        "c": Scripted(fault="canceled"),
    }
    texts = [*"abdfghij", *odd]
    with MessagesServer(lambda p: odd.get(p, p.upper())) as server, client(server) as sdk:
        batch = batch_of(sdk, *texts)
        shown = sdk.messages.batches.retrieve(batch.id)
        assert shown.processing_status == "ended"
        counts = shown.request_counts
        assert (counts.succeeded, counts.errored, counts.expired, counts.canceled) == (8, 1, 1, 1)
        results = list(sdk.messages.batches.results(batch.id))
        assert [r.custom_id for r in results] != [f"id-{t}" for t in texts]
        kinds = {r.custom_id[3:]: r.result for r in results}
        assert kinds["e"].error.error.type == "api_error"
        assert (kinds["x"].type, kinds["c"].type) == ("expired", "canceled")
        message = kinds["a"].message
        assert (message.content[0].text, message.usage.service_tier) == ("A", "batch")
        assert set(server.paid) == set("abdfghij")


def test_a_batch_takes_its_time_can_be_listed_and_canceled():
    with MessagesServer(batch_s=60) as server, client(server) as sdk:
        names = [batch_of(sdk, f"{n}").id for n in range(5)]
        assert [b.id for b in sdk.messages.batches.list(limit=2)] == names[::-1]
        running = sdk.messages.batches.retrieve(names[0])
        assert (running.processing_status, running.results_url) == ("in_progress", None)
        assert running.request_counts.processing == 1
        assert sdk.messages.batches.cancel(names[0]).processing_status == "ended"
        assert [r.result.type for r in sdk.messages.batches.results(names[0])] == ["canceled"]
        with pytest.raises(anthropic.NotFoundError):
            sdk.messages.batches.retrieve("gone")
        assert fetch(f"{server.url}/stats")["batches"] == 5


def test_streaming_is_refused_rather_than_faked():
    with MessagesServer() as server, pytest.raises(anthropic.BadRequestError, match="stream"):
        ask(server, stream=True)


def complete(server, **more):
    openai = pytest.importorskip("openai")
    with openai.OpenAI(api_key="loopback", base_url=f"{server.url}/v1", max_retries=0) as sdk:
        turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "hello"}]
        return sdk.chat.completions.create(model="gpt-5.5", messages=turns, **more)


def test_chat_completions_speak_openais_words():
    usage = {"input_tokens": 10, "cache_read_input_tokens": 7, "output_tokens": 3}
    answers = [
        Scripted({"label": "yes"}, usage=usage),
        Scripted("cut", stop_reason="max_tokens"),
        Scripted("never", stop_reason="refusal"),
        Scripted(tool_calls=[{"name": "look", "input": {"q": 1}}]),
    ]
    with MessagesServer(answers) as server:
        good, cut, refused, tool = (complete(server) for _ in answers)
        assert json.loads(good.choices[0].message.content) == {"label": "yes"}
        assert (good.usage.prompt_tokens, good.usage.completion_tokens) == (17, 3)
        assert good.usage.prompt_tokens_details.cached_tokens == 7
        assert cut.choices[0].finish_reason == "length"
        assert (refused.choices[0].finish_reason, refused.choices[0].message.refusal) == (
            "content_filter",
            "never",
        )
        function = tool.choices[0].message.tool_calls[0].function
        assert (function.name, json.loads(function.arguments)) == ("look", {"q": 1})
        assert server.calls == {"hello": 4}


def test_chat_completions_fail_as_openai_does():
    openai = pytest.importorskip("openai")
    with MessagesServer([Scripted(status=429, retry_after="2")]) as server:
        with pytest.raises(openai.RateLimitError, match="scripted") as caught:
            complete(server)
        assert caught.value.response.headers["retry-after"] == "2"


def test_as_a_process():
    command = [sys.executable, "-m", "itera_nb.testing", "--answers", "yes,no", "--latency", "0.05"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().strip()
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}]}).encode()
        answers = {fetch(f"{url}/v1/messages", body)["content"][0]["text"] for _ in range(2)}
        assert len(answers) == 1
        assert answers < {"yes", "no"}
        assert fetch(f"{url}/stats")["repeated"] == 1
        process.terminate()
