"""Arms that fail in every way, in real worker processes."""

import importlib.util
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from itera_nb.exceptions import ArmError
from itera_nb.scoring.workers import Worker, answers, call_each, module_constant

TROUBLE = """
    import asyncio, os, time
    from itera_nb import Output

    def f(row):
        x = row["x"]
        if x == "raise":
            raise ValueError(f"cannot do {x}")
        if x == "exit":
            raise SystemExit(3)
        if x == "crash":
            os._exit(3)
        if x == "leave":
            os._exit(0)
        if x == "segfault":
            os.kill(os.getpid(), 11)
        if x == "hang":
            while True:
                time.sleep(0.01)
        if x == "none":
            return None
        if x == "nan":
            return {"deep": [float("nan")]}
        if x == "object":
            return object()
        if x == "reported":
            return Output(None, error="backend is down", usage=[{"model": "anthropic/m", "input_tokens": 1}])
        return "got " + x

    class P:
        def predict(self, rows):
            return [f(row) for row in rows]

    async def g(row):
        await asyncio.sleep(60 if row["x"] == "sleep" else 0)
        return f(row)
"""
WANT = {
    "raise": ("error", "ValueError"),
    "exit": ("error", "SystemExit"),
    "crash": ("error", "Crash"),
    "leave": ("error", "Crash"),
    "segfault": ("error", "Crash"),
    "hang": ("timeout", "Timeout"),
    "none": ("invalid", "None"),
    "nan": ("invalid", "NaN"),
    "object": ("invalid", "NotJSON"),
    "reported": ("error", "Reported"),
}


def solve(bench, symbol, values, *, timeout_s=0.7, batch_size=None, **options):
    with Worker(bench.root, f"arms/arm.py:{symbol}", timeout_s=timeout_s, **options) as worker:
        items = [({"x": value},) for value in values]
        found = list(answers(worker, items, timeout_s=timeout_s, batch_size=batch_size))
    assert sorted(i for i, _ in found) == list(range(len(values)))
    return [answer for _, answer in sorted(found, key=lambda pair: pair[0])]


@pytest.mark.parametrize("symbol", ["f", "P", "g"])
def test_every_trouble_stays_with_its_row(bench, symbol):
    bench.write(TROUBLE)
    values = ["a", *WANT, "b", *(["sleep"] if symbol == "g" else [])]
    got = dict(zip(values, solve(bench, symbol, values), strict=True))
    assert (got["a"].output, got["b"].output) == ("got a", "got b")
    assert {v: (got[v].status, got[v].error_type) for v in WANT} == WANT
    assert "cannot do raise (arm.py:8)" in got["raise"].error
    assert got["reported"].usage == [{"model": "anthropic/m", "input_tokens": 1}]
    assert got["hang"].latency_ms == 700
    if symbol == "g":
        assert got["sleep"].status == "timeout"


def test_a_wrong_length_is_narrowed_down_to_its_row(bench):
    bench.write("""
        class P:
            def predict(self, rows):
                return [r["x"] for r in rows if r["x"] != "drop"]

        class Text:
            def predict(self, rows):
                return "ab"
    """)
    got = solve(bench, "P", ["a", "b", "c", "drop", "d"])
    assert [a.status for a in got] == ["ok", "ok", "ok", "invalid", "ok"]
    assert got[3].error_type == "WrongLength"
    assert {a.error_type for a in solve(bench, "Text", ["a", "b"])} == {"WrongLength"}


def test_chunks_have_the_asked_size_and_share_their_latency(bench):
    bench.write("""
        import time
        class P:
            def predict(self, rows):
                time.sleep(0.01 * len(rows))
                return [len(rows)] * len(rows)
    """)
    got = solve(bench, "P", "abcdefg", batch_size=3, timeout_s=5)
    assert [a.output for a in got] == [1, 3, 3, 3, 3, 3, 3]
    assert [a.amortised for a in got] == [False] + [True] * 6
    assert all(10 <= a.latency_ms < 100 for a in got)


def test_half_a_surrogate_pair_becomes_a_question_mark(bench):
    bench.write(r"""
        def f(row):
            return {"said": "ok \ud83d", "whole": "\U0001f600", "halves": "\ud83d\ude00"}
    """)
    whole = "\U0001f600"
    assert solve(bench, "f", "a", timeout_s=10)[0].output == {"said": "ok ?", "whole": whole, "halves": whole}


def test_numpy_values_become_plain(bench):
    bench.write("""
        import numpy as np
        class P:
            def predict(self, rows):
                return np.array([1.5] * len(rows))
        def f(row):
            return {"a": np.int64(3), "b": np.arange(2), "c": {"y", "x"}, "d": (1, 2)}
        def nan(row):
            return np.float32("nan")
    """)
    assert [a.output for a in solve(bench, "P", "ab", timeout_s=10)] == [1.5, 1.5]
    assert solve(bench, "f", "a", timeout_s=10)[0].output == {
        "a": 3,
        "b": [0, 1],
        "c": ["x", "y"],
        "d": [1, 2],
    }
    assert solve(bench, "nan", "a", timeout_s=10)[0].error_type == "NaN"


@pytest.mark.parametrize(
    ("signature", "want"),
    [
        ("self, rows, seed, resources", [2, 7, ["corpus"]]),
        ("self, rows", [2, None, None]),
        ("self, resources", [None, None, ["corpus"]]),
        ("self, rows, **more", [2, 7, ["corpus"]]),
        ("self, *, seed=0", [None, 7, None]),
    ],
)
def test_fit_gets_what_it_asks_for(bench, signature, want):
    bench.write(f"""
        class P:
            def fit({signature}):
                found = dict(locals(), **locals().get("more", {{}}))
                self.saw = [
                    len(found["rows"]) if "rows" in found else None,
                    found.get("seed"),
                    sorted(found["resources"]) if "resources" in found else None,
                ]
            def predict(self, rows):
                return [self.saw] * len(rows)
    """)
    fit_rows = [{"x": "a", "label": "A"}, {"x": "b", "label": "B"}]
    options = {"fit_rows": fit_rows, "seed": 7, "resources": {"corpus": bench.root}}
    assert solve(bench, "P", "a", timeout_s=10, **options)[0].output == want


def test_a_worker_that_died_is_fitted_again(bench, tmp_path):
    bench.write(f"""
        import os
        class P:
            def fit(self, rows, seed):
                self.label = rows[0]["label"] + str(seed)
                with open({str(tmp_path / "fits")!r}, "a") as file:
                    file.write("x")
            def predict(self, rows):
                if any(r["x"] == "crash" for r in rows):
                    os._exit(1)
                return [self.label for _ in rows]
    """)
    got = solve(bench, "P", ["a", "crash", "b"], fit_rows=[{"label": "L"}], seed=5, timeout_s=10)
    assert [a.output for a in got] == ["L5", None, "L5"]
    assert len((tmp_path / "fits").read_text()) >= 2


def test_siblings_params_and_sys_path(bench, tmp_path):
    production = tmp_path / "src"
    production.mkdir()
    (production / "prodcode.py").write_text("FEE = 3\n")
    bench.write("def double(x): return 2 * x\n", "arms/features.py")
    bench.write("""
        import sys
        import features, prodcode
        class P:
            def __init__(self, k): self.k = k
            def predict(self, rows): return [features.double(self.k) + prodcode.FEE for _ in rows]
        def f(row, k=1): return [k, "" in sys.path, sys.path[0].endswith("arms")]
    """)
    options = {"pythonpath": [production], "timeout_s": 10}
    assert solve(bench, "P", "a", params={"k": 5}, **options)[0].output == 13
    assert solve(bench, "f", "a", params={"k": 5}, **options)[0].output == [5, False, True]
    assert not list(bench.root.rglob("__pycache__"))


def test_planted_bytecode_is_not_run(bench):
    sibling = bench.write("V = 1\n", "arms/features.py")
    arm = bench.write("import features\ndef f(row): return [features.V, 1]\n")
    for path in (sibling, arm):
        stat = path.stat()
        forged = compile(path.read_text().replace("1", "2"), str(path), "exec")
        planted = Path(importlib.util.cache_from_source(path))
        planted.parent.mkdir(exist_ok=True)
        planted.write_bytes(
            importlib._bootstrap_external._code_to_timestamp_pyc(forged, int(stat.st_mtime), stat.st_size)
        )
    assert solve(bench, "f", "a", timeout_s=10)[0].output == [1, 1]


def test_an_async_function_runs_as_many_at_once_as_allowed(bench):
    bench.write("""
        import asyncio
        now = most = 0
        async def g(row):
            global now, most
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.02)
            now -= 1
            return most
    """)
    assert max(a.output for a in solve(bench, "g", "abcdefghij", concurrency=4, timeout_s=5)) == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nowhere_to_be_found", "ModuleNotFoundError"),
        ("def g(row): pass", "AttributeError"),
        ("f = 3", "TypeError"),
        ("def f(:", "SyntaxError"),
        (
            "class f:\n    def fit(self, rows): raise RuntimeError('no data')\n    def predict(self, rows): pass",
            "no data",
        ),
        ("import os; os._exit(7)", "Crash"),
    ],
)
def test_an_arm_that_cannot_be_loaded_is_named(bench, text, said):
    bench.write(text)
    with pytest.raises(ArmError, match=said) as caught:
        solve(bench, "f", "a", timeout_s=10)
    assert "arms/arm.py" in str(caught.value)


def test_a_standard_librarys_name_is_refused(bench):
    bench.write("def f(row): return 1", "arms/json.py")
    with (
        pytest.raises(ArmError, match="standard library"),
        Worker(bench.root, "arms/json.py:f") as worker,
    ):
        worker.start()


def test_a_hang_takes_its_own_children_with_it(bench, tmp_path):
    pid_file = tmp_path / "pid"
    bench.write(f"""
        import subprocess, sys
        def f(row):
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
            open({str(pid_file)!r}, "w").write(str(child.pid))
            child.wait()
    """)
    assert solve(bench, "f", "a")[0].status == "timeout"
    pid = int(pid_file.read_text())
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        time.sleep(0.02)
    os.kill(pid, 9)
    pytest.fail("the arm's own process outlived it")


def test_quiet_says_nothing(bench, capfd, tmp_path):
    bench.write("""
        import os, sys
        def f(row):
            print("SECRET out"); print("SECRET err", file=sys.stderr)
            os.write(1, b"SECRET fd 1"); os.write(2, b"SECRET fd 2")
            if row["x"] == "crash":
                os._exit(1)
            raise ValueError("SECRET " + row["x"])
    """)
    got = solve(bench, "f", ["SECRET row", "crash"], quiet=True, timeout_s=10)
    assert [a.error_type for a in got] == ["ValueError", "Crash"]
    assert "SECRET" not in repr(got)
    assert "SECRET" not in "".join(capfd.readouterr())
    loud = solve(bench, "f", ["row", "crash"], timeout_s=10)
    assert "SECRET row" in loud[0].error
    assert "SECRET fd 2" in loud[1].error
    assert "SECRET" not in "".join(capfd.readouterr())


def test_calls_may_return_none_and_failures_stay_with_their_item(bench):
    bench.write("""
        def score(output, expected, row):
            if output == "bad":
                raise KeyError("bad")
            return None if output == "skip" else output == expected
        MODES = {"a": 1.0}
    """)
    items = [("a", "a", {}), ("bad", "a", {}), ("skip", "a", {}), ("b", "a", {})] * 30
    got = call_each(bench.root, "arms/arm.py:score", items)
    assert [a.output for a in got[:4]] == [True, None, None, False]
    assert [a.status for a in got[:4]] == ["ok", "error", "ok", "ok"]
    assert got[4:8] != got[:4] or len(got) == 120
    assert module_constant(bench.root, "arms/arm.py:score", "MODES") == {"a": 1.0}
    assert module_constant(bench.root, "arms/arm.py:score", "NOPE") is None


@pytest.mark.parametrize("flags", [[], ["-I"]])
def test_a_script_without_a_main_guard_runs_once(bench, tmp_path, flags):
    bench.write("def f(row): return row['x']")
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
            import sys
            sys.path.insert(0, {str(Path.cwd())!r})
            from pathlib import Path
            from itera_nb.scoring.workers import Worker, answers
            print("body")
            with Worker(Path({str(bench.root)!r}), "arms/arm.py:f") as worker:
                print([a.output for _, a in answers(worker, [({{"x": 1}},), ({{"x": 2}},)], timeout_s=10)])
        """)
    )
    done = subprocess.run([sys.executable, *flags, script], capture_output=True, text=True, check=True)
    assert done.stdout == "body\n[1, 2]\n"


def test_a_workers_imports_are_light():
    code = "import sys; import itera_nb.scoring.child, itera_nb.scoring.spawn; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"numpy", "pandas", "scipy", "duckdb", "pyarrow", "pydantic", "anthropic", "filelock", "jinja2"}
    assert not heavy & set(done.stdout.split())


def test_a_row_whose_worker_was_killed_from_outside_is_tried_once_more(tmp_path):
    """SIGKILL comes from outside (a run that is being killed, no memory): it is not yet the row's failure."""
    (tmp_path / "arms").mkdir()
    flag = tmp_path / "flag"
    code = f"""
import os, pathlib, signal
flag = pathlib.Path({str(flag)!r})
def f(row):
    if row["n"] == 1 and not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if row["n"] == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return "x"
"""
    (tmp_path / "arms" / "k.py").write_text(code, "utf-8")
    got = call_each(tmp_path, "arms/k.py:f", [({"n": n},) for n in range(4)])
    assert [a.status for a in got] == ["ok", "ok", "error", "ok"]
    assert got[2].error_type == "Killed"
