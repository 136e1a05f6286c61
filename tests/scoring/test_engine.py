import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from itera_nb.exceptions import ArmError, DataError, StoppedError
from itera_nb.scoring.attempts import AttemptLog, totals
from itera_nb.scoring.engine import RowGroup, Units
from itera_nb.scoring.results import results_table
from itera_nb.scoring.scores import RowScore

COUNTING = """
    import time
    from pathlib import Path
    CALLS = Path({calls!r})

    def note(text):
        with CALLS.open("a") as file:
            file.write(text + "\\n")

    def f(row):
        note("f " + row["x"])
        time.sleep({pause})
        return row["x"].upper()

    class P:
        def fit(self, rows, seed):
            self.seed = seed
            self.known = len(rows)
        def predict(self, rows):
            for row in rows:
                note("P " + row["x"])
            return [[self.known, self.seed, sorted(row)] for row in rows]

    async def g(row):
        note("g " + row["x"])
        return row["x"]
"""


@pytest.fixture
def calls(bench, tmp_path):
    path = tmp_path / "calls"
    path.touch()
    bench.write(COUNTING.format(calls=str(path), pause=0))
    return lambda: Counter(path.read_text().splitlines())


def test_every_unit_ends_in_one_attempt_and_is_called_once(bench, rows, calls):
    arms = [bench.arm("f", "one"), bench.arm("P", "two"), bench.arm("g", "three")]
    seen = []
    got = bench.run(
        arms, rows(*"abcde"), rows("t"), trials={"one": 1, "two": 2, "three": 1}, progress=seen.append
    )
    assert len(got) == len(seen) == 20
    assert all(a.status == "ok" and a.cost_usd == 0.0 and a.ts for a in got)
    assert set(calls().values()) == {1, 2}
    assert [(a.arm, a.row_id, a.trial) for a in got[:4]] == [
        ("one", "r0", 0),
        ("two", "r0", 0),
        ("three", "r0", 0),
        ("two", "r0", 1),
    ]


def test_arms_see_inputs_only_and_fit_sees_all(bench, rows, calls):
    got = bench.run(bench.arm("P"), rows("a"), rows("t", "u"), trials=2)
    assert [a.output for a in got] == [[2, 100, ["x"]], [2, 101, ["x"]]]


def test_what_is_finished_is_reused(bench, rows, calls):
    arm = bench.arm("f")
    first = bench.run(arm, rows("a", "b"))
    seen = []
    again = bench.run(arm, rows("a", "b", "c"), progress=seen.append)
    assert again[:2] == list(first)
    assert len(seen) == 3
    assert calls() == {"f a": 1, "f b": 1, "f c": 1}


def test_whatever_could_change_the_answer_is_asked_again(bench, rows, calls, tmp_path):
    resource = tmp_path / "corpus"
    resource.write_text("1")
    arm, base = bench.arm("f", resources={"corpus": resource}), rows("a")
    bench.run(arm, base)
    variants = [
        lambda: bench.run(bench.arm("f", digest="2", resources={"corpus": resource}), base),
        lambda: bench.run(bench.arm("f", name="again", resources={"corpus": resource}), base),
        lambda: bench.run(arm, base, rows("t")),
        lambda: bench.run(arm, base, namespace="second"),
        lambda: bench.run(arm, base, seed=lambda trial: 9),
        lambda: bench.run(arm, [base[0] | {"id": "other"}]),
        lambda: (resource.write_text("2"), bench.run(arm, base)),
    ]
    for number, variant in enumerate(variants, start=2):
        variant()
        assert calls() == {"f a": number}
    bench.run(arm, [base[0] | {"label": "corrected"}])  # no arm sees a label
    assert calls() == {"f a": len(variants) + 1}


def test_folds_are_fitted_on_their_own_rows(bench, rows, calls):
    a, b, c = rows("a", "b", "c")
    groups = [RowGroup([a], [b, c]), RowGroup([b, c], [a])]
    got = bench.run(bench.arm("P"), groups)
    assert [x.output[0] for x in got] == [2, 1, 1]


def test_an_id_or_column_that_does_not_fit_is_refused(bench, rows, calls):
    doubled = [*rows("a"), *rows("b")]
    with pytest.raises(DataError, match="1 rows repeat an id"):
        bench.run(bench.arm("f"), doubled)
    with pytest.raises(DataError, match="'y'"):
        bench.run(bench.arm("f", inputs=("x", "y")), rows("a"))
    with pytest.raises(ArmError, match="nowhere"):
        bench.run(bench.arm("nowhere"), rows("a"))
    assert not calls()


def test_units_are_planned_without_running(bench, rows):
    units = Units(
        [bench.arm("f")], [RowGroup(rows("a", "b"))], id_column="id", trials=3, seed=lambda trial: trial
    )
    assert len({unit.key for unit in units}) == 6
    assert units[0].row == {"x": "a"}


def test_costs_are_free_reported_priced_or_unknown(bench, rows):
    bench.write("""
        from itera_nb import Output
        def f(row):
            usage = {"model": "anthropic/" + row["x"], "input_tokens": 1000, "output_tokens": 100}
            return Output(1, usage=[usage, usage], cost_usd=7.0 if row["x"] == "reported" else None)
        def bare(row):
            return 1
    """)
    data = rows("reported", "claude-haiku-5-5", "unheard-of")
    paid = bench.run(bench.arm("f", "paid", cost=None), data)
    assert [a.cost_usd for a in paid] == [7.0, pytest.approx(0.0003), None]
    assert [a.cost_usd for a in bench.run(bench.arm("bare", "free"), data)] == [0.0] * 3
    claimed = bench.run(bench.arm("f", "claimed free"), data)
    assert [a.cost_usd for a in claimed] == [a.cost_usd for a in paid], (
        "what is reported is never taken as free"
    )
    assert bench.run(bench.arm("bare", "bare", cost=None), rows("a"))[0].cost_usd is None
    assert totals(paid).unknown_costs == 1


def test_a_report_that_cannot_be_added_up_fails_its_row_only(bench, rows):
    bench.write(
        """
        from itera_nb import Output
        def f(row):
            return Output("x", **row["x"])
        """
    )
    wrong = [
        {"cost_usd": "0.02"}, {"cost_usd": -1.0}, {"cost_usd": True}, {"cost_usd": [1]},
        {"first_token_ms": "soon"}, {"usage": [3]},
    ]  # fmt: skip
    got = bench.run(bench.arm(cost=None), rows({"cost_usd": 1}, *wrong, {"cost_usd": 2.0}))
    assert [a.status for a in got] == ["ok", *["invalid"] * len(wrong), "ok"]
    assert [a.cost_usd for a in got if a.status == "ok"] == [1, 2.0]
    [odd] = bench.run(bench.arm(cost=None), rows({"usage": [{"model": "a/b", "input_tokens": "many"}]}))
    assert (odd.status, odd.cost_usd) == ("ok", None)
    assert results_table([odd], [RowScore(1.0)])["input_tokens"].tolist() == [0]


def test_a_budget_is_not_crossed(bench, rows):
    bench.write("""
        from itera_nb import Output
        def f(row): return Output(1, cost_usd=0.25)
        def unknown(row): return 1
    """)
    arms = [
        bench.arm("f", "paid", cost=None),
        bench.arm("unknown", "unknown", cost=None),
        bench.arm("unknown", "free"),
    ]
    with pytest.raises(StoppedError, match=r"up to \$0\.25; \$1\.0000 of \$1\.1 is spent") as caught:
        bench.run(arms, rows(*"abcdefgh"), budget_usd=1.1)
    assert "cost of 8 attempts is unknown" in str(caught.value)
    assert "20 of 24 attempts" in str(caught.value)
    with AttemptLog(bench.log_path) as log:
        assert log.totals.cost_usd == 1.0
    assert len(bench.run(arms, rows(*"abcdefgh"), budget_usd=2.0)) == 24


def test_quiet_leaks_nothing(bench, rows, capfd, caplog):
    bench.write("""
        def f(row):
            print("SECRET", row)
            raise ValueError("SECRET " + row["x"])
    """)
    got = bench.run(bench.arm("f"), rows("SECRET 1", "SECRET 2"), quiet=True)
    assert [a.error_type for a in got] == ["ValueError"] * 2
    assert "SECRET" not in bench.log_path.read_text()
    assert "SECRET" not in "".join(capfd.readouterr()) + caplog.text


RUN = """
    import sys
    sys.path[:0] = {paths!r}
    from pathlib import Path
    from conftest import Bench, rows_of
    bench = Bench.__new__(Bench)
    bench.root, bench.log_path = Path({root!r}), Path({log!r})
    arms = [bench.arm("f", "one"), bench.arm("P", "two", batch_size=4)]
    rows = rows_of(*"abcdefghijklmnopqrst")
    try:
        print(len(bench.run(arms, rows, trials=2)), "finished")
    except BaseException as error:
        print(error)
"""


@pytest.fixture
def scratch(tmp_path):
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture
def run_script(bench, tmp_path, scratch, monkeypatch):
    bench.write(COUNTING.format(calls=str(tmp_path / "calls"), pause=0.02))
    script = tmp_path / "run.py"
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    monkeypatch.setenv("TMPDIR", str(scratch))
    script.write_text(textwrap.dedent(RUN.format(paths=paths, root=str(bench.root), log=str(bench.log_path))))

    def start():
        return subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)

    return start


def recorded(path):
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.parametrize("after", [1, 12, 37])
def test_after_kill_9_no_finished_unit_is_called_again(bench, run_script, tmp_path, after):
    process = run_script()
    until(lambda: len(recorded(bench.log_path)) >= after)
    process.kill()
    process.wait()
    process.stdout.close()
    finished = recorded(bench.log_path)
    assert after <= len(finished) < 80
    time.sleep(1.2)  # workers leave with their parent
    before = Counter((tmp_path / "calls").read_text().splitlines())
    with run_script() as again:
        assert again.stdout.read() == "80 finished\n"
    lines = Counter((tmp_path / "calls").read_text().splitlines()) - before
    both = {"one": "f", "two": "P"}
    pending = Counter({f"{kind} {x}": 2 for kind in "fP" for x in "abcdefghijklmnopqrst"})
    for attempt in finished:
        pending[f"{both[attempt['arm']]} {'abcdefghijklmnopqrst'[int(attempt['row_id'][1:])]}"] -= 1
    assert lines == +pending
    assert len(recorded(bench.log_path)) == 80


def test_workers_leave_with_their_parent_and_clean_up(bench, run_script, scratch, tmp_path):
    pid_file = tmp_path / "pid"
    hang = f"""
        import os, time
        from pathlib import Path
        def f(row):
            Path({str(pid_file)!r}).write_text(str(os.getpid()) + ".")
            time.sleep(60)
        P = f
    """
    bench.write(hang)
    process = run_script()
    until(lambda: pid_file.exists() and pid_file.read_text().endswith("."))
    process.kill()
    process.communicate()
    until(lambda: not Path(f"/proc/{pid_file.read_text()[:-1]}").exists())
    until(lambda: not list(scratch.glob("itera-*/output")))


def test_ctrl_c_keeps_what_is_recorded(bench, run_script):
    process = run_script()
    until(lambda: len(recorded(bench.log_path)) >= 5)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=20)
    assert f"interrupted; {len(recorded(bench.log_path))} of 80 attempts of this run are recorded" in said
    assert "run the same command again" in said


def test_nothing_is_left_behind(bench, rows, calls):
    before = threading.active_count()
    bench.run([bench.arm("f", "one"), bench.arm("P", "two")], rows("a", "b"), trials=2)
    until(lambda: threading.active_count() <= before)
    listed = subprocess.run(
        ["ps", "--ppid", str(os.getpid()), "-o", "args="], capture_output=True, text=True, check=False
    ).stdout
    assert "spawn_main" not in listed
