import base64
import json
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from itera_nb.exceptions import RecordError, StoppedError
from itera_nb.scoring.attempts import Attempt, AttemptLog, totals


def attempt(key, **more):
    return Attempt(**({"key": key, "arm": "a", "row_id": "r", "trial": 0, "status": "ok"} | more))


def write(path, *attempts, codec=None):
    with AttemptLog(path, codec) as log:
        for one in attempts:
            log.append(one)


def read(path, codec=None):
    with AttemptLog(path, codec) as log:
        return {attempt.key: attempt for attempt in log.finished}


def test_what_is_written_is_read_back(tmp_path):
    path = tmp_path / "runs" / "log.jsonl"
    full = attempt(
        "k",
        output={"ü": [1, None, "\ud800", "a\nb\u2028"]},
        usage=[{"model": "m", "input_tokens": 3}],
        cost_usd=0.1,
        latency_ms=3.5,
        amortised=True,
        retries=2,
        ts="t",
        trace=[1],
        first_token_ms=1.0,
    )
    write(path, full)
    assert read(path) == {"k": full}
    assert len(path.read_bytes().splitlines()) == 1


def test_the_first_attempt_of_a_key_counts(tmp_path):
    path = tmp_path / "log"
    with AttemptLog(path) as log:
        log.append(attempt("k", output=1))
        assert log.append(attempt("k", output=2)).output == 1
    with path.open("a") as file:
        file.write(
            json.dumps({"key": "k", "arm": "a", "row_id": "r", "trial": 0, "status": "ok", "output": 3})
            + "\n"
        )
    assert read(path)["k"].output == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(cut=st.integers(1, 400))
def test_a_torn_tail_is_cut_off_and_writing_goes_on(tmp_path, cut):
    path = tmp_path / "log"
    path.unlink(missing_ok=True)
    write(path, attempt("a"), attempt("b", output="x" * 50))
    data = path.read_bytes()
    torn = data[: max(0, len(data) - cut)]
    path.write_bytes(torn)
    write(path, attempt("c"))
    assert path.read_bytes().count(b"\n") == torn.count(b"\n") + 1
    assert set(read(path)) == {"a", "b", "c"} - ({"b"} if torn.count(b"\n") < 2 else set()) - (
        {"a"} if torn.count(b"\n") < 1 else set()
    )


def test_zeros_after_a_power_cut_are_cut_off(tmp_path):
    path = tmp_path / "log"
    write(path, attempt("a"))
    with path.open("ab") as file:
        file.write(b"\0" * 100 + b"\n" + b"\0" * 5)
    assert set(read(path)) == {"a"}
    assert b"\0" not in path.read_bytes()


def test_damage_before_the_end_is_named(tmp_path):
    path = tmp_path / "log"
    write(path, attempt("a"), attempt("b"))
    path.write_bytes(path.read_bytes().replace(b'{"key":"a"', b'{"kex":"a"', 1))
    with pytest.raises(RecordError, match="line 1 is damaged"):
        AttemptLog(path)
    path.unlink()
    write(path, attempt("a"))  # the failed opening left no lock behind


def test_two_runs_do_not_interleave(tmp_path):
    path = tmp_path / "log"
    with AttemptLog(path):
        with pytest.raises(StoppedError, match="another run"):
            AttemptLog(path)
        code = "import sys, pathlib; from itera_nb.scoring.attempts import AttemptLog; AttemptLog(pathlib.Path(sys.argv[1]))"
        other = subprocess.run(
            [sys.executable, "-c", code, path], capture_output=True, text=True, check=False
        )
        assert "another run is writing" in other.stderr
    write(path, attempt("a"))


class Base64:
    def encode(self, text):
        return base64.b64encode(text.encode()).decode()

    def decode(self, text):
        return base64.b64decode(text, validate=True).decode()


def test_a_codec_hides_every_line(tmp_path):
    path = tmp_path / "log"
    write(path, attempt("k", output="row text"), codec=Base64())
    assert b"row text" not in path.read_bytes()
    assert read(path, Base64())["k"].output == "row text"


def test_a_log_under_another_key_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "log"
    write(path, attempt("k"))
    before = path.read_bytes()
    with pytest.raises(RecordError, match="line 1"):
        AttemptLog(path, Base64())
    assert path.read_bytes() == before


def test_a_full_disk_keeps_the_log_whole(tmp_path):
    path = tmp_path / "log"
    script = f"""
        import pathlib, resource, signal
        from itera_nb.exceptions import StoppedError
        from itera_nb.scoring.attempts import Attempt, AttemptLog
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        with AttemptLog(pathlib.Path({str(path)!r})) as log:
            try:
                for i in range(100):
                    log.append(Attempt(str(i), "a", "r", 0, "ok"))
            except StoppedError as error:
                print(len(log.finished), error)
    """
    import textwrap

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
    )
    assert "cannot be written" in done.stdout
    assert path.read_bytes().endswith(b"\n")
    assert len(read(path)) == int(done.stdout.split()[0]) > 0


def test_totals_are_those_of_the_file(tmp_path):
    path = tmp_path / "log"
    wanted = [
        attempt("a", cost_usd=0.5, retries=2),
        attempt("b", status="error"),
        attempt("c", cost_usd=0.25),
    ]
    write(path, *wanted, attempt("a", cost_usd=9.0))
    with AttemptLog(path) as log:
        assert log.totals == totals(wanted) == totals(log.finished)
        log.append(attempt("d", cost_usd=1.0))
        assert (log.totals.count, log.totals.cost_usd) == (4, 1.75)


@pytest.mark.parametrize("codec", [None, Base64()])
def test_attempts_are_read_back_by_key_even_after_the_log_is_closed(tmp_path, codec):
    path = tmp_path / "log"
    with AttemptLog(path, codec) as log:
        for i in range(20):
            log.append(attempt(str(i), output="ü" * i))
        got = log.select(str(i) for i in (7, 3, 7))
        with pytest.raises(KeyError):
            log.select(["20"])
    assert [a.output for a in got] == ["ü" * 7, "ü" * 3, "ü" * 7]
    assert (len(got), got[1].key, [a.key for a in got[1:]]) == (3, "3", ["3", "7"])


def test_a_log_that_is_changed_while_it_is_read_is_no_answer(tmp_path):
    with AttemptLog(tmp_path / "log") as log:
        log.append(attempt("a"))
        (tmp_path / "log").write_bytes(b"x" * 200)
        with pytest.raises(RecordError, match="was changed"):
            log.finished[0]


def test_calls_in_flight_outlive_the_process(tmp_path):
    script = f"""
        import os, pathlib
        from itera_nb.scoring.attempts import AttemptLog
        log = AttemptLog(pathlib.Path({str(tmp_path / "log")!r}))
        log.in_flight(12)
        log.in_flight(-5)
        os._exit(9)
    """
    import textwrap

    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
    with AttemptLog(tmp_path / "log") as log:
        assert log.cut_off == 7
        log.in_flight(1)
        log.in_flight(-1)
    with AttemptLog(tmp_path / "log") as log:
        assert log.cut_off == 7


def test_a_log_holds_little_in_memory(tmp_path):
    import tracemalloc

    with AttemptLog(tmp_path / "log") as log:
        tracemalloc.start()
        for i in range(5000):
            log.append(attempt(f"{i:064}", output="x" * 2000))
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert held / 5000 < 250


def test_totals_come_from_the_attempts():
    got = totals(
        [attempt("a", cost_usd=0.5, retries=2), attempt("b", status="error"), attempt("c", cost_usd=0.25)]
    )
    assert (got.count, got.statuses, got.cost_usd, got.unknown_costs, got.retries) == (
        3,
        {"ok": 2, "error": 1},
        0.75,
        1,
        2,
    )
