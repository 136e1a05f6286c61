"""Message Batches through the real SDK against a loopback provider that counts what it charges."""

import json
import random
import signal
import subprocess
import sys
import textwrap
import time
from datetime import datetime, timedelta

import pytest
from genai_prices import Usage, calc_price

from itera_nb.exceptions import RecordError, StoppedError
from itera_nb.models.batches import BatchClient
from itera_nb.models.client import CallError
from itera_nb.scoring import batch
from itera_nb.scoring.attempts import AttemptLog, totals
from itera_nb.scoring.batch_file import BatchFile
from itera_nb.spec import ModelSpec, RunSpec
from itera_nb.testing import MessagesServer, Scripted

MODEL = "anthropic/claude-haiku-5-5"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setenv("LOOPBACK_KEY", "loopback")
    monkeypatch.setattr(batch, "POLL_S", 0.02)
    monkeypatch.setattr(batch, "SETTLE_S", 0.1)


@pytest.fixture
def ask(bench):
    bench.write("Label this: {{x}}", "arms/p.md")

    def ask(server, values, arms=None, **options):
        options = {
            "models": {"anthropic": ModelSpec(api_key_env="LOOPBACK_KEY", base_url=server.url)},
            "settings": RunSpec(batch=True),
        } | options
        rows = [{"id": i, "x": x} for i, x in enumerate(values)]
        return bench.run(arms or [prompt_arm(bench)], rows, **options)

    return ask


def prompt_arm(bench, name="v1", **spec):
    spec = {"kind": "prompt", "target": None, "cost": None, "prompt": "arms/p.md", "model": MODEL} | spec
    return bench.arm(name=name, **spec)


def events(bench):
    lines = (bench.root.parent / "batches.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def numbers(count):
    return [str(n) for n in range(count)]


def test_answers_find_their_rows_though_they_come_out_of_order(ask, bench):
    arms = [prompt_arm(bench, system="short", params={"temperature": 0.2}), prompt_arm(bench, "v2")]
    with MessagesServer(batch_s=0.1) as server:
        got = ask(server, numbers(40), arms, trials=2)
        assert [a.output for a in got] == [f"Label this: {n}" for n in numbers(40) for _ in range(4)]
        assert server.batches.created == 1
        assert not server.requests
        assert set(server.paid.values()) == {4}
        assert all(a.status == "ok" and a.latency_ms is None for a in got)
        ask(server, numbers(40), arms, trials=2)
        assert server.batches.created == 1


def test_the_price_is_the_batch_rate(ask):
    usage = {"input_tokens": 1000, "output_tokens": 100, "cache_read_input_tokens": 50}
    with MessagesServer([Scripted("x", usage=usage)]) as server:
        [in_batch] = ask(server, ["a"])
        [alone] = ask(server, ["b"], settings=RunSpec())
    tokens = Usage(input_tokens=1050, output_tokens=100, cache_read_tokens=50)
    known = {"provider_id": "anthropic", "model_ref": "claude-haiku-5-5"}
    batched = calc_price(tokens, **known, price_context={"processing": "batch"}).total_price
    assert in_batch.cost_usd == pytest.approx(float(batched), rel=1e-12)
    assert in_batch.cost_usd == pytest.approx(alone.cost_usd / 2, rel=1e-12)
    assert in_batch.usage[0]["service_tier"] == "batch"


def test_every_ending_has_its_status(ask, bench):
    endings = {
        "refused": Scripted("no", stop_reason="refusal"),
        "cut": Scripted("half", stop_reason="max_tokens"),
        "bad": Scripted(status=400, message="prompt is bad"),
        "unparsed": Scripted("  "),
        "fine": Scripted("ok"),
    }
    with MessagesServer(lambda p: endings[p.split()[-1]]) as server:
        got = dict(zip(endings, ask(server, list(endings)), strict=True))
        assert server.batches.created == 1
    assert {k: (a.status, a.error_type) for k, a in got.items()} == {
        "refused": ("refusal", "refusal"),
        "cut": ("invalid", "max_tokens"),
        "bad": ("error", "invalid_request_error"),
        "unparsed": ("invalid", "ParseError"),
        "fine": ("ok", ""),
    }
    assert got["refused"].cost_usd > 0
    assert got["bad"].cost_usd == 0


def test_what_failed_or_expired_goes_into_the_next_batch(ask):
    """Every fifth request fails at its first try, every seventh expires; one never succeeds."""

    def answer(prompt):
        n = int(prompt.split()[-1])
        if n == 13:
            return Scripted(status=529)
        if server.calls[prompt] == 1 and n % 5 == 0:
            return Scripted(status=500)
        return Scripted(fault="expired") if server.calls[prompt] == 1 and n % 7 == 0 else str(n)

    with MessagesServer(answer) as server:
        got = ask(server, numbers(40))
        assert totals(got).statuses == {"ok": 39, "error": 1}
        assert (got[13].error_type, got[13].cost_usd, got[13].retries) == ("overloaded_error", 0.0, 3)
        assert [a.output for a in got if a.row_id != 13] == [n for n in numbers(40) if n != "13"]
        assert server.batches.created == batch.MAX_TRIES
        assert set(server.paid.values()) == {1}
        assert got[5].retries == got[7].retries == 1


def test_batches_that_all_expire_end_the_run_and_fail_no_row(ask, bench):
    with MessagesServer([Scripted(fault="expired")]) as server:
        with pytest.raises(StoppedError, match="expired unanswered; 0 of 3"):
            ask(server, numbers(3))
        assert server.batches.created == batch.MAX_TRIES


def test_a_canceled_batch_ends_the_run_and_the_next_one_hands_over_the_rest(ask):
    def answer(prompt):
        return Scripted(fault="canceled") if prompt[-1] in "02" and server.calls[prompt] == 1 else "x"

    with MessagesServer(answer) as server:
        with pytest.raises(StoppedError, match="canceled at the provider; 2 of 4"):
            ask(server, numbers(4))
        assert totals(ask(server, numbers(4))).statuses == {"ok": 4}
        assert set(server.paid.values()) == {1}


@pytest.mark.parametrize("status", [401, 402, 403])
def test_no_credit_within_a_batch_ends_the_run_after_what_was_answered(ask, status):
    def answer(prompt):
        return Scripted(status=status) if prompt[-1] == "1" and server.calls[prompt] == 1 else "x"

    with MessagesServer(answer) as server:
        with pytest.raises(StoppedError, match="2 of 3"):
            ask(server, numbers(3))
        assert totals(ask(server, numbers(3))).statuses == {"ok": 3}
        assert set(server.paid.values()) == {1}


def test_batches_are_cut_by_count_and_by_size(ask, monkeypatch):
    monkeypatch.setattr(batch, "MAX_REQUESTS", 10)
    with MessagesServer() as server:
        ask(server, numbers(25))
        assert server.batches.created == 3
        monkeypatch.setattr(batch, "MAX_BYTES", 2500)
        got = ask(server, ["x" * 1000] * 4)
        assert totals(got).statuses == {"ok": 4}
        assert server.batches.created == 5


def test_a_budget_hands_over_what_it_can_pay_and_goes_on_with_what_is_left_of_it(ask, bench):
    usage = {"input_tokens": 100, "output_tokens": 100}
    arm = prompt_arm(bench, params={"max_tokens": 2000})
    with MessagesServer(lambda _: Scripted("x", usage=usage)) as server:
        with pytest.raises(StoppedError, match="budget"):
            ask(server, numbers(200), [arm], budget_usd=0.005)
        with AttemptLog(bench.log_path) as log:
            spent = log.totals
        assert spent.count == sum(server.paid.values()) < 200
        assert server.batches.created > 1
        assert 0.0035 < spent.cost_usd <= 0.005


def test_other_arms_are_called_one_by_one(ask, bench):
    bench.write("def f(row):\n    return row['x']")
    local = prompt_arm(bench, "local", model="local/small")
    with MessagesServer() as server:
        models = {
            "anthropic": ModelSpec(api_key_env="LOOPBACK_KEY", base_url=server.url),
            "local": ModelSpec(api_key_env="LOOPBACK_KEY", base_url=f"{server.url}/v1"),
        }
        pytest.importorskip("openai")
        got = ask(server, numbers(4), [prompt_arm(bench), local, bench.arm("f", "code")], models=models)
        assert totals(got).statuses == {"ok": 12}
        assert server.batches.created == 1
        assert len(server.requests) == 4


def test_rows_that_nobody_may_read_never_go_in_a_batch(ask, bench):
    with MessagesServer() as server:
        got = ask(server, numbers(4), quiet=True)
        assert totals(got).statuses == {"ok": 4}
        assert server.batches.created == 0
    assert not (bench.root.parent / "batches.jsonl").exists()


def test_the_file_holds_no_text(ask, bench):
    with MessagesServer() as server:
        ask(server, ["a secret row"])
    assert "secret" not in (bench.root.parent / "batches.jsonl").read_text("utf-8")
    intent, created = events(bench)
    assert len(intent["ids"][0]) == batch.ID_LENGTH
    assert created["batch"] == "msgbatch_000001"


@pytest.mark.parametrize(
    ("error", "arrived"),
    [
        (CallError("connection", "APIConnectionError", "reset"), True),
        (CallError("connection", "APIConnectionError", "reset"), False),
        (CallError("late", "Timeout", "late"), True),
        (CallError("rate_limit", "RateLimitError", "slow down", 0.01), False),
    ],
)
def test_a_creation_without_an_answer_is_looked_for_before_it_is_repeated(ask, monkeypatch, error, arrived):
    submit, calls = BatchClient.submit, []

    async def cut_off(self, requests):
        calls.append(len(requests))
        if len(calls) > 1:
            return await submit(self, requests)
        if arrived:
            await submit(self, requests)
        raise error

    monkeypatch.setattr(BatchClient, "submit", cut_off)
    with MessagesServer(batch_s=0.05) as server:
        assert totals(ask(server, numbers(5))).statuses == {"ok": 5}
        assert server.batches.created == 1
        assert set(server.paid.values()) == {1}
        assert len(calls) == 2 - arrived


def test_a_batch_of_others_with_as_many_requests_is_not_taken_for_ours(ask, monkeypatch):
    submit, calls = BatchClient.submit, []

    async def cut_off(self, requests):
        calls.append(requests)
        if len(calls) == 1:
            await submit(self, [{**r, "custom_id": f"other-{n}"} for n, r in enumerate(requests)])
            raise CallError("connection", "APIConnectionError", "reset")
        return await submit(self, requests)

    monkeypatch.setattr(BatchClient, "submit", cut_off)
    with MessagesServer() as server:
        assert totals(ask(server, numbers(5))).statuses == {"ok": 5}
        assert server.batches.created == 2


def test_what_is_with_the_provider_is_read_from_there_even_when_batches_are_switched_off(ask, monkeypatch):
    with MessagesServer() as server, monkeypatch.context() as patch:

        async def stop(self, name):
            raise StoppedError("pulled the plug")

        patch.setattr(BatchClient, "state", stop)
        with pytest.raises(StoppedError, match="plug"):
            ask(server, numbers(5))
        patch.undo()
        monkeypatch.setenv("LOOPBACK_KEY", "loopback")
        got = ask(server, numbers(8), settings=RunSpec(batch=False))
        assert totals(got).statuses == {"ok": 8}
        assert set(server.paid.values()) == {1}
        assert len(server.requests) == 3


def test_what_the_api_took_no_batch_of_is_called_once_batches_are_switched_off(ask, monkeypatch):
    async def refused(self, requests):
        raise CallError("request", "invalid_request_error", "no batches for this model")

    monkeypatch.setattr(BatchClient, "submit", refused)
    with MessagesServer() as server:
        with pytest.raises(StoppedError, match="batch = false"):
            ask(server, numbers(3))
        assert totals(ask(server, numbers(3), settings=RunSpec(batch=False))).statuses == {"ok": 3}
        assert len(server.requests) == 3


def test_a_batch_that_this_key_does_not_know_is_not_handed_over_again(ask, bench):
    with MessagesServer() as server:
        ask(server, ["a"])
        bench.log_path.unlink()
        server.reset()
        with pytest.raises(StoppedError, match="knows no batch msgbatch_000001") as caught:
            ask(server, ["a"])
        assert "LOOPBACK_KEY" in caught.value.fix
        assert not server.paid


def test_results_that_break_off_are_read_again(ask, monkeypatch):
    results, calls = BatchClient.results, []

    async def broken(self, name):
        calls.append(name)
        async for result in results(self, name):
            yield result
            if len(calls) == 1:
                raise CallError("connection", "APIConnectionError", "reset")

    monkeypatch.setattr(BatchClient, "results", broken)
    with MessagesServer() as server:
        assert totals(ask(server, numbers(5))).statuses == {"ok": 5}
        assert len(calls) == 2
        assert set(server.paid.values()) == {1}


CHILD = """
    import os, signal, sys
    from pathlib import Path
    from itera_nb.arms.runtime import RunnableArm
    from itera_nb.models.batches import BatchClient
    from itera_nb.scoring import batch
    from itera_nb.scoring.attempts import AttemptLog
    from itera_nb.scoring.engine import RowGroup, Work, run
    from itera_nb.spec import ArmSpec, ModelSpec, RunSpec

    folder, url, step, count = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
    batch.POLL_S, batch.SETTLE_S = 0.02, 0.1
    die = lambda: os.kill(os.getpid(), signal.SIGKILL)
    submit, state, record = BatchClient.submit, BatchClient.state, Work.record
    done = 0

    async def dying_submit(self, requests):
        if step == "before create":
            die()
        name = await submit(self, requests)
        if step == "after create":
            die()
        return name

    async def dying_state(self, name):
        if step == "before poll":
            die()
        return await state(self, name)

    def dying_record(self, *args, **more):
        global done
        record(self, *args, **more)
        done += 1
        if step == "half read" and done == count // 2:
            die()

    BatchClient.submit, BatchClient.state, Work.record = dying_submit, dying_state, dying_record
    spec = ArmSpec(kind="prompt", prompt="arms/p.md", model="anthropic/claude-haiku-5-5")
    arm = RunnableArm("v1", spec, folder / "snapshot", "1", ("x",), (), {})
    rows = [{"id": i, "x": str(i)} for i in range(count)]
    print("ready", flush=True)
    with AttemptLog(folder / "attempts.jsonl") as log:
        run([arm], [RowGroup(rows, ())], id_column="id", trials=1, log=log, settings=RunSpec(batch=True),
            seed=lambda t: 100 + t,
            models={"anthropic": ModelSpec(api_key_env="LOOPBACK_KEY", base_url=url)})
    print("done")
"""


def child(bench, server, step, count):
    script = bench.root.parent / "child.py"
    script.write_text(textwrap.dedent(CHILD), "utf-8")
    command = [sys.executable, script, bench.root.parent, server.url, step, str(count)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    "steps",
    [
        ["before create"],
        ["after create"],
        ["before poll"],
        ["half read"],
        ["before create", "after create", "before poll", "half read"],
    ],
)
def test_killed_at_any_step_nothing_is_paid_twice(ask, bench, steps):
    count = 30
    with MessagesServer(lambda p: p[-1], batch_s=0.1) as server:
        for step in steps:
            killed = child(bench, server, step, count)
            assert killed.returncode == -signal.SIGKILL, killed.stderr
        finished = child(bench, server, "none", count)
        assert finished.stdout == "ready\ndone\n", finished.stderr
        assert server.batches.created == 1
        assert len(server.paid) == count
        assert set(server.paid.values()) == {1}
    with AttemptLog(bench.log_path) as log:
        assert totals(log.finished).statuses == {"ok": count}


@pytest.mark.parametrize(
    "shift", [timedelta(hours=-30), timedelta(hours=-2), timedelta(hours=2), timedelta(days=9)]
)
def test_a_wrong_local_clock_hands_nothing_over_twice(ask, bench, shift):
    """The intent bears this machine's time, the batch the provider's; only the ids in it are ours."""
    count = 12
    with MessagesServer(lambda p: p[-1]) as server:
        ask(server, ["x", "y"])
        assert child(bench, server, "after create", count).returncode == -signal.SIGKILL
        path = bench.root.parent / "batches.jsonl"
        lines = events(bench)
        lines[-1]["at"] = (datetime.fromisoformat(lines[-1]["at"]) + shift).isoformat()
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
        assert child(bench, server, "none", count).stdout == "ready\ndone\n"
        assert server.batches.created == 2
        assert set(server.paid.values()) == {1}


def test_a_batch_that_shows_late_is_looked_for_again(ask, monkeypatch):
    submit, listed, looks = BatchClient.submit, BatchClient.listed, []

    async def cut_off(self, requests):
        await submit(self, requests)
        raise CallError("connection", "APIConnectionError", "reset")

    async def late(self, until):
        looks.append(until)
        return await listed(self, until) if len(looks) > 1 else []

    monkeypatch.setattr(BatchClient, "submit", cut_off)
    monkeypatch.setattr(BatchClient, "listed", late)
    with MessagesServer() as server:
        assert totals(ask(server, numbers(5))).statuses == {"ok": 5}
        assert server.batches.created == 1


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_random_moments_nothing_is_paid_twice(ask, bench, seed):
    count, moments = 30, random.Random(seed)
    script = bench.root.parent / "child.py"
    script.write_text(textwrap.dedent(CHILD), "utf-8")

    def answer(prompt):
        return Scripted(status=500) if server.calls[prompt] == 1 and prompt[-1] in "37" else prompt[-1]

    with MessagesServer(answer, batch_s=0.2) as server:
        command = [sys.executable, script, bench.root.parent, server.url, "none", str(count)]
        for _ in range(4):
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
                assert process.stdout.readline() == b"ready\n"
                time.sleep(moments.uniform(0.0, 1.5))
                process.kill()
        assert child(bench, server, "none", count).stdout == "ready\ndone\n"
        assert len(server.paid) == count
        assert set(server.paid.values()) == {1}


def test_ctrl_c_while_a_batch_is_under_way_loses_nothing(ask, bench):
    count = 10
    script = bench.root.parent / "child.py"
    script.write_text(textwrap.dedent(CHILD), "utf-8")
    with MessagesServer(lambda p: p[-1], batch_s=9) as server:
        command = [sys.executable, script, bench.root.parent, server.url, "none", str(count)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            while not server.batches.created:
                time.sleep(0.02)
            time.sleep(0.3)
            begun = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=20)
            assert time.monotonic() - begun < 8, "nobody waits for the batch"
            assert "0 of 10 attempts of this run are recorded" in said
        assert child(bench, server, "none", count).stdout == "ready\ndone\n"
        assert set(server.paid.values()) == {1}


def test_the_file_survives_a_torn_line_and_refuses_a_changed_one(tmp_path):
    path = tmp_path / "batches.jsonl"
    with BatchFile(path) as file:
        first = file.intend(["a", "b"])
        file.created(first, "msgbatch_1")
        file.unanswered(first, ["b"])
        second = file.intend(["c"])
        file.drop(second)
        third = file.intend(["d"])
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"event":"created","na')
    with BatchFile(path) as file:
        assert [(h.ids, h.batch, h.open) for h in file.handovers] == [
            ({"a"}, "msgbatch_1", False),
            ({"c"}, None, False),
            ({"d"}, None, True),
        ]
        assert file.handovers[2].name == third.name
    assert path.read_bytes() == whole
    path.write_bytes(whole.replace(b"created", b"creeted"))
    with pytest.raises(RecordError, match="line 2"):
        BatchFile(path)
