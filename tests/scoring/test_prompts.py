"""Prompt arms through the engine, against a loopback server."""

import time
from collections import deque

import pytest

from itera_nb.exceptions import ArmError, StoppedError
from itera_nb.scoring import limiter
from itera_nb.scoring.attempts import AttemptLog, totals
from itera_nb.spec import ModelSpec, RunSpec
from itera_nb.testing import MessagesServer, Scripted

MODEL = "anthropic/claude-haiku-5-5"


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("LOOPBACK_KEY", "loopback")


@pytest.fixture
def ask(bench):
    bench.write("Label this: {{x}}", "arms/p.md")

    def ask(server, values, arms=None, **options):
        options = {
            "models": {"anthropic": ModelSpec(api_key_env="LOOPBACK_KEY", base_url=server.url)}
        } | options
        rows = [{"id": i, "x": x} for i, x in enumerate(values)]
        return bench.run(arms or [prompt_arm(bench)], rows, **options)

    return ask


def prompt_arm(bench, name="v1", **spec):
    spec = {"kind": "prompt", "target": None, "cost": None, "prompt": "arms/p.md", "model": MODEL} | spec
    return bench.arm(name=name, **spec)


def test_rows_become_prompts_and_answers_outputs(bench, ask):
    arm = prompt_arm(bench, params={"max_tokens": 9}, parse={"labels": ["yes", "no"]}, system="short")
    with MessagesServer(lambda p: "It is Yes." if "a" in p[-1] else "no.") as server:
        got = ask(server, ["a", "b"], [arm])
        assert [a.output for a in got] == ["yes", "no"]
        assert all(a.cost_usd > 0 and a.latency_ms > 0 and not a.amortised for a in got)
        assert got[0].usage[0]["model"] == MODEL
        assert sorted(server.calls) == ["Label this: a", "Label this: b"]
        assert server.requests[0]["system"] == "short"


def test_every_ending_has_its_status(ask, bench):
    endings = {
        "refused": Scripted("no", stop_reason="refusal"),
        "cut": Scripted("half", stop_reason="max_tokens"),
        "full": Scripted("x", stop_reason="model_context_window_exceeded"),
        "bad": Scripted(status=400, message="prompt is bad"),
        "long": Scripted(status=400, message="prompt is too long: 210000 tokens > 200000 maximum"),
        "unparsed": Scripted("  "),
        "fine": Scripted("ok"),
    }
    with MessagesServer(lambda p: endings[p.split()[-1]]) as server:
        got = dict(zip(endings, ask(server, list(endings)), strict=True))
    assert {k: (a.status, a.error_type) for k, a in got.items()} == {
        "refused": ("refusal", "refusal"),
        "cut": ("invalid", "max_tokens"),
        "full": ("invalid", "model_context_window_exceeded"),
        "long": ("invalid", "ContextOverflow"),
        "bad": ("error", "BadRequestError"),
        "unparsed": ("invalid", "ParseError"),
        "fine": ("ok", ""),
    }
    assert got["refused"].cost_usd > 0
    assert got["bad"].cost_usd == 0


def test_faults_lose_no_row_and_repeat_none(ask):
    first = set()

    def answer(prompt):
        if prompt not in first and int(prompt.split()[-1]) % 5 == 0:
            first.add(prompt)
            return Scripted(status=529, retry_after="0.01")
        return Scripted(prompt, latency_s=0.005)

    with MessagesServer(answer) as server:
        got = ask(server, [str(i) for i in range(60)], settings=RunSpec(max_concurrency=8))
        assert totals(got).statuses == {"ok": 60}
        assert totals(got).retries == 12
        assert sum(server.calls.values()) == 72
        assert 2 <= server.max_in_flight <= 8
        ask(server, [str(i) for i in range(60)])
        assert sum(server.calls.values()) == 72


def test_calls_at_once_settle_where_the_vendor_takes_them(ask, monkeypatch):
    monkeypatch.setattr(limiter, "COOLDOWN_S", 0.15)
    recent = deque()

    def answer(prompt):
        now = time.monotonic()
        while recent and recent[0] < now - 0.05:
            recent.popleft()
        if len(recent) >= 12:
            return Scripted(status=429, retry_after="0.02")
        recent.append(now)
        return Scripted(prompt, latency_s=0.05)

    with MessagesServer(answer) as server:
        got = ask(server, [str(i) for i in range(500)], settings=RunSpec(max_concurrency=64))
        assert totals(got).statuses == {"ok": 500}
        assert server.max_in_flight <= 64
    early, late = (sum(a.retries for a in part) for part in (got[:250], got[250:]))
    assert late < early
    with MessagesServer(answer) as server:
        fixed = ask(
            server, [f"{i}." for i in range(500)], settings=RunSpec(max_concurrency=64, adaptive=False)
        )
    assert totals(got).retries < totals(fixed).retries / 2


def test_trials_and_equal_arms_are_asked_each_for_itself(ask, bench):
    with MessagesServer() as server:
        got = ask(server, ["a"], [prompt_arm(bench), prompt_arm(bench, "again")], trials=3)
        assert len(got) == server.calls["Label this: a"] == 6


def test_an_arms_own_limit_of_calls_in_flight_holds(ask, bench):
    with MessagesServer(lambda p: Scripted(p, latency_s=0.02)) as server:
        ask(server, list("abcdefgh"), [prompt_arm(bench, max_concurrency=2)])
        assert server.max_in_flight == 2


def test_a_wrong_key_stops_at_once_and_python_arms_with_it(ask, bench):
    bench.write("import time\ndef f(row):\n    time.sleep(30)")
    arms = [prompt_arm(bench), bench.arm("f", "slow")]
    begun = time.monotonic()
    with MessagesServer(lambda _: Scripted(status=401)) as server:
        with pytest.raises(StoppedError, match="LOOPBACK_KEY") as caught:
            ask(server, list("abcdefgh"), arms, settings=RunSpec(max_concurrency=2))
        assert sum(server.calls.values()) <= 2
    assert "0 of 16 attempts of this run are recorded" in str(caught.value)
    assert time.monotonic() - begun < 10


def test_no_key_stops_before_any_call(ask, monkeypatch):
    monkeypatch.delenv("LOOPBACK_KEY")
    with MessagesServer() as server:
        with pytest.raises(StoppedError, match="LOOPBACK_KEY is not set"):
            ask(server, ["a"])
        assert not server.requests


def test_a_budget_is_not_crossed(ask, bench):
    usage = {"input_tokens": 1000, "output_tokens": 100}  # $0.00015
    bench.write("Label this {{x}}" + " please" * 300, "arms/long.md")
    arm = prompt_arm(bench, prompt="arms/long.md", params={"max_tokens": 100})
    with MessagesServer(lambda _: Scripted("x", usage=usage)) as server:
        with pytest.raises(StoppedError, match="budget"):
            ask(server, [str(i) for i in range(40)], [arm], budget_usd=0.002)
        with AttemptLog(bench.log_path) as log:
            spent = log.totals
        assert spent.count == sum(server.calls.values())
        assert 0.0016 <= spent.cost_usd <= 0.002


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ({"model": "gpt-5.5"}, "gpt-5.5"),
        ({"parse": {"label": ["x"]}}, "parse"),
        ({"prompt": "arms/gone.md"}, "gone.md"),
        ({"prompt": "arms/q.md"}, "does not fit the rows: 'subject' is undefined"),
    ],
)
def test_a_mistake_costs_no_call(ask, bench, spec, word):
    bench.write("{{subject}}", "arms/q.md")
    with MessagesServer() as server:
        with pytest.raises(ArmError, match=word):
            ask(server, ["a"], [prompt_arm(bench, **spec)])
        assert not server.requests


def test_quiet_leaks_nothing(ask, bench, capfd, caplog, monkeypatch):
    answers = {"1": Scripted(status=400, message="SECRET bad"), "2": Scripted("SECRET no label")}
    arm = prompt_arm(bench, parse={"labels": ["yes"]})
    with MessagesServer(lambda p: answers[p[-1]]) as server:
        got = ask(server, ["SECRET 1", "SECRET 2"], [arm], quiet=True)
    assert [a.status for a in got] == ["error", "invalid"]
    assert "SECRET" not in bench.log_path.read_text()
    assert "SECRET" not in "".join(capfd.readouterr()) + caplog.text
