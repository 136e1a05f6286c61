"""From a row to a request and from a reply to an answer, with a client that needs no network."""

import json

import pytest

from itera_nb.arms.callers import Clients
from itera_nb.arms.prompt_caller import PromptCaller
from itera_nb.exceptions import ArmError, StoppedError
from itera_nb.models.client import Reply
from itera_nb.models.prompt import Shot
from itera_nb.testing import FakeClient

HAIKU = {"kind": "prompt", "model": "anthropic/claude-haiku-5-5", "prompt": "p.md"}
USAGE = {"model": "anthropic/claude-haiku-5-5", "input_tokens": 1000, "output_tokens": 100}


@pytest.fixture
def prompt(called):
    called.write("p.md", "Which team? {{text}}")
    return called


@pytest.fixture
def caller(prompt):
    def caller(*, quiet=False, **spec):
        return PromptCaller(prompt.arm(**HAIKU | spec), Clients({}), quiet=quiet)

    return caller


def reply(text="fees", stop_reason="end_turn", tool_calls=()):
    return Reply(text, stop_reason, USAGE, 12.5, tool_calls)


def test_a_row_becomes_one_request(prompt):
    client = FakeClient(lambda _: "fees")
    [answer] = prompt.call(
        {"text": "x"}, client=client, params={"max_tokens": 5}, system="Be brief.", **HAIKU
    )
    [request] = client.requests
    assert (answer.status, answer.output) == ("ok", "fees")
    assert answer.latency_ms >= 0
    assert answer.cost_usd > 0
    assert request.model == "claude-haiku-5-5"
    assert request.messages == [{"role": "user", "content": "Which team? x"}]
    assert (request.system, request.params) == ("Be brief.", {"max_tokens": 5})


def test_params_tools_and_schema_reach_the_request(prompt, caller):
    prompt.write("tools.json", '[{"name": "look", "input_schema": {"type": "object"}}]')
    prompt.write("reply.json", '{"type": "object"}')
    params = {"max_tokens": 9, "effort": "low", "thinking": {"type": "adaptive"}}
    request = caller(tools="tools.json", parse={"schema": "reply.json"}, params=params).request({"text": "x"})
    assert request.params == params
    assert request.schema == {"type": "object"}
    assert request.tools == [{"name": "look", "input_schema": {"type": "object"}}]


def test_tool_calls_are_the_output_of_an_arm_with_tools(prompt, caller):
    prompt.write("tools.json", '[{"name": "look"}]')
    arm = caller(tools="tools.json")
    called = arm.answer(reply("", "tool_use", [{"name": "look", "input": {"id": 7}, "id": "toolu_1"}]))
    assert called.output == [{"name": "look", "input": {"id": 7}}]
    assert arm.answer(reply("no tool needed")).output == "no tool needed"


@pytest.mark.parametrize(
    ("given", "status", "error_type"),
    [
        (reply(stop_reason="refusal"), "refusal", "refusal"),
        (reply(stop_reason="max_tokens"), "invalid", "max_tokens"),
        (reply(stop_reason="model_context_window_exceeded"), "invalid", "model_context_window_exceeded"),
        (reply(""), "invalid", "ParseError"),
    ],
)
def test_what_is_no_answer_has_a_status_and_a_price(caller, given, status, error_type):
    answer = caller().answer(given)
    assert (answer.status, answer.error_type, answer.output) == (status, error_type, None)
    assert (answer.usage, answer.latency_ms) == ([USAGE], 12.5)


def test_what_does_not_parse_is_shown_but_not_in_quiet(caller):
    parse = {"labels": ["fees"]}
    assert "no label occurs: 'CANARY'" in caller(parse=parse).answer(reply("CANARY")).error
    assert caller(parse=parse, quiet=True).answer(reply("CANARY")).error == ""


def test_a_row_that_the_template_does_not_fit_costs_no_call(prompt):
    prompt.write("p.md", "{{text.upper()}}")
    client = FakeClient(lambda _: "fees")
    good, bad = prompt.call({"text": "x"}, {"text": 3}, client=client, **HAIKU)
    assert (good.status, bad.status, bad.error_type, bad.cost_usd) == ("ok", "error", "UndefinedError", 0.0)
    assert len(client.requests) == 1


def test_the_check_names_the_column_and_is_silent_about_rows(prompt, caller):
    prompt.write("p.md", "{{body}}")
    with pytest.raises(ArmError, match="body"):
        caller().check({"text": "x"})
    prompt.write("p.md", "{{ {}[text] }}")
    with pytest.raises(ArmError) as caught:
        caller(quiet=True).check({"text": "CANARY"})
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"model": "claude"}, "names no vendor"),
        ({"params": {"model": "other"}}, "params.model"),
        ({"parse": {"label": 1}}, "parse"),
        ({"prompt": "gone.md"}, "cannot be read"),
        ({"tools": "gone.json"}, "cannot be read"),
    ],
)
def test_mistakes_are_found_before_any_call(caller, wrong, said):
    with pytest.raises(ArmError, match=said):
        caller(**wrong)


def test_an_unknown_vendor_or_a_missing_key_stops(prompt, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ArmError, match="unknown vendor"):
        prompt.call({"text": "x"}, **HAIKU | {"model": "nobody/x"})
    with pytest.raises(StoppedError, match="OPENAI_API_KEY is not set"):
        prompt.call({"text": "x"}, **HAIKU | {"model": "openai/x"})


def test_the_bound_holds_and_knows_what_is_free(prompt, caller):
    row = {"text": "How are the fees? " * 40}
    client = FakeClient(lambda _: "fees")
    [answer] = prompt.call(row, client=client, params={"max_tokens": 50}, **HAIKU)
    assert caller(params={"max_tokens": 50}).bound_usd(row) >= answer.cost_usd > 0
    limits = ({"max_tokens": 9000}, {"max_completion_tokens": 9000})
    dear, as_dear = (caller(params=limit).bound_usd(row) for limit in limits)
    assert dear == as_dear > 10 * caller(params={"max_tokens": 50}).bound_usd(row)
    assert caller(cost="free").bound_usd(row) == 0
    assert caller(model="anthropic/no-such-model").bound_usd(row) == 0


def test_an_example_is_written_as_the_arm_is_asked_to(prompt):
    client = FakeClient(lambda _: '{"team": "fees"}')
    shots = [Shot({"text": "a"}, "transfer")]
    [answer] = prompt.call(
        {"text": "x"}, client=client, shots=shots, few_shot=1, parse={"json": True, "field": "team"}, **HAIKU
    )
    contents = [turn["content"] for turn in client.requests[0].messages]
    assert contents == ["Which team? a", json.dumps({"team": "transfer"}), "Which team? x"]
    assert answer.output == "fees"
