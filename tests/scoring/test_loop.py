"""Retries, limits and outages, with callers that need no socket."""

import asyncio
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itera_nb.arms import callers
from itera_nb.arms.caller import Answer
from itera_nb.exceptions import ArmError, StoppedError
from itera_nb.models.client import CallError
from itera_nb.scoring import loop
from itera_nb.scoring.attempts import AttemptLog
from itera_nb.spec import RunSpec


class Scripted:
    """A caller that does what `act(x, how many times x was called)` says: raise, sleep, or return an answer."""

    def __init__(self, act):
        self.act = act
        self.calls = []
        self.in_flight = self.most = 0

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exc):
        pass

    def check(self, row):
        pass

    def bound_usd(self, row):
        return 0.25

    async def call(self, row, trial, *, timeout_s):
        self.calls.append(row["x"])
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            await asyncio.sleep(0.001)
            said = self.act(row["x"], self.calls.count(row["x"]))
            if isinstance(said, float):
                await asyncio.sleep(said)
        finally:
            self.in_flight -= 1
        if isinstance(said, BaseException):
            raise said
        return said if isinstance(said, Answer) else Answer("ok", said, cost_usd=0.125)


@pytest.fixture
def call(bench, rows, monkeypatch):
    """Run scripted arms over values; gives attempts by value, and the callers by arm."""
    monkeypatch.setattr(loop, "BACKOFF_S", 0.004)
    monkeypatch.setattr(loop, "BACKOFF_CAP_S", 0.02)

    def call(values, *acts, patience_s=20.0, own=None, **options):
        made = {f"arm-{i}": Scripted(act) for i, act in enumerate(acts)}
        monkeypatch.setattr(callers, "caller_for", lambda arm, clients, quiet: made[arm.name])
        monkeypatch.setattr(loop.run_callers, "__kwdefaults__", {"patience_s": patience_s})
        arms = [bench.arm(name=name, kind="http", cost=None, **(own or {})) for name in made]
        call.made = made
        return bench.run(arms, rows(*values), **options)

    return call


def error(trouble, wait_s=None):
    return CallError(trouble, trouble.title(), "SECRET words", wait_s)


PASSING = ("rate_limit", "server", "connection", "garbled", "late")


@pytest.mark.parametrize("trouble", PASSING)
def test_what_passes_is_tried_again(call, trouble):
    got = call("abc", lambda x, n: error(trouble) if x == "b" and n < 3 else x.upper())
    assert [(a.output, a.retries) for a in got] == [("A", 0), ("B", 2), ("C", 0)]


def test_a_unit_that_waits_for_its_retry_holds_no_place(call):
    begun = time.monotonic()
    got = call(
        "abcdefgh",
        lambda x, n: error("server", 0.3) if x == "a" and n == 1 else x,
        settings=RunSpec(max_concurrency=1),
    )
    assert call.made["arm-0"].calls == list("abcdefgha")
    assert [a.retries for a in got] == [1, 0, 0, 0, 0, 0, 0, 0]
    assert time.monotonic() - begun >= 0.3


def test_a_retry_goes_before_what_has_not_begun(call):
    values = [f"{i:02}" for i in range(40)]
    call(
        values,
        lambda x, n: error("server", 0.005) if x == "00" and n == 1 else x,
        settings=RunSpec(max_concurrency=1),
    )
    assert call.made["arm-0"].calls.index("00", 1) < 39


@given(st.floats(0, 1e12) | st.none(), st.integers(0, 10_000))
def test_no_wait_is_longer_than_its_cap(told, retries):
    waited = loop._wait_s(CallError("server", "E", "", told), retries)
    if told is None:
        assert loop.BACKOFF_S <= waited <= 1.25 * loop.BACKOFF_CAP_S
    else:
        assert min(told, loop.RETRY_AFTER_CAP_S) <= waited <= 1.1 * loop.RETRY_AFTER_CAP_S


@pytest.mark.parametrize("trouble", PASSING)
def test_an_outage_ends_the_run_and_fails_no_row(call, bench, trouble):
    with pytest.raises(
        StoppedError, match=rf"no answer from arm-0 for 0.1 s \({trouble.title()}\)"
    ) as caught:
        call("abc", lambda x, n: error(trouble), patience_s=0.1)
    assert "SECRET" not in str(caught.value)
    assert "0 of 3 attempts" in str(caught.value)
    with AttemptLog(bench.log_path) as log:
        assert not log.finished
        assert log.cut_off <= 3, "at most a retry of each row that was under way"


def test_an_address_that_was_never_reached_is_given_up_sooner(call, monkeypatch):
    monkeypatch.setattr(loop, "UNREACHED_S", 0.1)
    with pytest.raises(StoppedError, match=r"for 0\.1 s"):
        call("abc", lambda x, n: error("connection"))


@pytest.mark.parametrize(
    ("trouble", "status", "cost", "calls"),
    [
        ("server", "error", 0.0, loop.MAX_FAILURES),
        ("connection", "error", None, loop.MAX_FAILURES),
        ("garbled", "error", None, loop.MAX_FAILURES),
        ("late", "timeout", None, loop.MAX_LATE + 1),
        ("request", "error", 0.0, 1),
    ],
)
def test_a_row_that_is_never_answered_fails_alone(call, trouble, status, cost, calls):
    values = [f"{i:03}" for i in range(400)]
    got = call(values, lambda x, n: error(trouble) if x == "007" else x, settings=RunSpec(max_concurrency=2))
    failed = got[7]
    assert (failed.status, failed.cost_usd, failed.retries) == (status, cost, calls - 1)
    assert (failed.error_type, failed.error) == (trouble.title(), "SECRET words")
    assert Counter(a.status for a in got) == {"ok": 399, status: 1}


def test_a_rate_limit_is_never_a_rows_failure(call):
    values = [f"{i:03}" for i in range(300)]
    with pytest.raises(StoppedError, match="no answer"):
        call(values, lambda x, n: error("rate_limit") if x == "007" else x, patience_s=0.2)


def test_a_single_late_row_is_a_timeout_not_an_outage(call):
    (got,) = call("a", lambda x, n: error("late"))
    assert (got.status, got.retries) == ("timeout", loop.MAX_LATE)


def test_a_hopeless_call_stops_at_once(call):
    with pytest.raises(StoppedError, match="no key") as caught:
        call("abcdefgh", lambda x, n: StoppedError("no key"), settings=RunSpec(max_concurrency=2))
    assert "0 of 8 attempts" in str(caught.value)
    assert len(call.made["arm-0"].calls) <= 2


def test_a_mistake_of_a_caller_is_no_rows_failure(call, bench):
    with pytest.raises(ArmError, match="wrong"):
        call("abc", lambda x, n: ArmError("wrong"))
    with AttemptLog(bench.log_path) as log:
        assert not log.finished


def test_calls_at_once_are_limited_over_all_arms_and_for_each(call):
    values = [str(i) for i in range(60)]
    call(values, *[lambda x, n: x] * 3, settings=RunSpec(max_concurrency=6), own={"max_concurrency": 4})
    assert all(2 <= made.most <= 4 for made in call.made.values())


def test_an_arm_that_has_to_wait_does_not_hold_up_the_others(call):
    first = []
    call(
        "abcdef",
        lambda x, n: (first.append(x), error("rate_limit", 0.2))[1] if n == 1 else x,
        lambda x, n: x,
        settings=RunSpec(max_concurrency=2),
    )
    ends = call.made["arm-1"].calls
    assert ends == list("abcdef")
    assert sorted(first) == list("abcdef")


def test_a_wall_of_rate_limits_is_not_run_against(call):
    with pytest.raises(StoppedError, match="enough"):
        call(
            [str(i) for i in range(500)],
            lambda x, n: error("rate_limit", 0.5) if n == 1 else StoppedError("enough"),
            settings=RunSpec(max_concurrency=4),
        )
    assert loop._FEW <= len(set(call.made["arm-0"].calls)) <= loop._FEW + 4


def test_quiet_keeps_the_vendors_words_out(call, bench):
    call("abc", lambda x, n: error("request"), quiet=True)
    assert "SECRET" not in bench.log_path.read_text()


def test_a_budget_lets_calls_in_flight_end_and_counts_every_try(call, bench):
    with pytest.raises(StoppedError, match="budget"):
        call(
            [str(i) for i in range(40)],
            lambda x, n: error("server") if n == 1 and int(x) % 3 == 0 else x,
            budget_usd=2.0,
        )
    with AttemptLog(bench.log_path) as log:
        # The next call could cost 0.25 at most, each did cost 0.125.
        assert 1.75 < log.totals.cost_usd <= 2.0
        assert log.cut_off == 0


def test_calls_given_up_are_counted_and_told(call, bench, capfd):
    with pytest.raises(StoppedError, match="enough"):
        call("abcd", lambda x, n: StoppedError("enough") if x == "d" else 30.0)
    with AttemptLog(bench.log_path) as log:
        assert log.cut_off == 3  # the one that was refused cost nothing
    call("abcd", lambda x, n: x)
    assert "3 calls in flight when earlier runs ended may be paid twice" in capfd.readouterr().err
