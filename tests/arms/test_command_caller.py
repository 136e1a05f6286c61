"""Commands in any language: one process a row, and nothing of it is left."""

import asyncio
import sys
import textwrap
import time

import psutil
import pytest

from itera_nb.arms.callers import Clients, caller_for
from itera_nb.arms.snapshot import take_once
from itera_nb.exceptions import ArmError, StoppedError

ECHO = "import json, sys\nrow = json.load(sys.stdin)\nprint(json.dumps({'output': row['text'][::-1], 'cost_usd': 0.5}))\n"


@pytest.fixture
def run(called):
    """Calls a Python program, written into the snapshot, on texts."""

    def run(code, *texts, **spec):
        called.write("arms/run.py", textwrap.dedent(code))
        command = {"kind": "command", "command": [sys.executable, "arms/run.py"]}
        return called.call(*({"text": t} for t in texts or ("x",)), **command | spec)

    return run


def test_a_row_in_and_an_answer_out(run):
    one, two = run(ECHO, "abc", "ü{}")
    assert (one.status, one.output, one.cost_usd) == ("ok", "cba", 0.5)
    assert two.output == "}{ü"
    assert one.latency_ms > 0


def test_a_string_is_split_without_a_shell(called):
    called.write("arms/say.py", "import sys; print(sys.argv[1:])")
    [answer] = called.call(
        {"text": "x"}, kind="command", command=f"{sys.executable} arms/say.py 'a b' $HOME ; *"
    )
    assert answer.output == "['a b', '$HOME', ';', '*']"


def test_it_works_in_the_snapshot_with_params(run, called):
    code = "import json, os, sys; print(json.dumps([os.getcwd(), json.load(sys.stdin)]))"
    [answer] = run(code, params={"k": 3})
    assert answer.output == [str(called.root.resolve()), {"k": 3, "text": "x"}]


def test_credentials_are_kept_from_it_unless_named(run, monkeypatch):
    for name in ("ANTHROPIC_API_KEY", "GH_TOKEN", "AWS_SECRET", "ITERA_STATE_DIR", "PLAIN"):
        monkeypatch.setenv(name, "v")
    code = "import json, os; print(json.dumps(sorted(os.environ)))"
    names = set(run(code)[0].output)
    assert "PLAIN" in names
    assert not names & {"ANTHROPIC_API_KEY", "GH_TOKEN", "AWS_SECRET", "ITERA_STATE_DIR"}
    assert "GH_TOKEN" in run(code, env=["GH_TOKEN"])[0].output


def test_a_poisoned_python_path_is_not_run(run, monkeypatch, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n", "utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONSTARTUP", str(tmp_path / "sitecustomize.py"))
    assert run("print(1)")[0].output == 1
    assert not (tmp_path / "ran").exists()


def test_a_failed_command_says_its_last_line(run):
    code = "import sys; print('first', file=sys.stderr); print('CANARY', file=sys.stderr); sys.exit(3)"
    [answer] = run(code)
    assert (answer.status, answer.error_type, answer.error) == ("error", "Exit 3", "CANARY")
    [quiet] = run(code, quiet=True)
    assert (quiet.error_type, quiet.error) == ("Exit 3", "")
    [killed] = run("import os; os.kill(os.getpid(), 9)", cost="free")
    assert (killed.status, killed.error_type, killed.cost_usd) == ("error", "Signal 9", 0.0)


def test_a_late_command_is_killed_with_its_children(run, tmp_path):
    pids = tmp_path / "pids"
    code = f"""\
        import os, subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        open({str(pids)!r}, "w").write(f"{{os.getpid()}} {{child.pid}}")
        time.sleep(60)
        """
    begun = time.monotonic()
    [answer] = run(code, timeout_s=1.5)
    assert (answer.status, answer.error_type, answer.latency_ms) == ("timeout", "Timeout", 1500)
    assert time.monotonic() - begun < 20
    for pid in map(int, pids.read_text().split()):
        gone = not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        assert gone, pid


def test_a_child_that_keeps_the_output_open_ends_at_the_deadline(run):
    code = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); print('x')"
    [answer] = run(code, timeout_s=1.5)
    assert answer.status == "timeout"


def test_input_that_nobody_reads_is_no_fault(run):
    [answer] = run("print('fine')", "x" * 3_000_000)
    assert answer.output == "fine"


def test_too_much_output_is_refused(run, monkeypatch):
    monkeypatch.setattr("itera_nb.arms.reported.MAX_BYTES", 100_000)
    [answer] = run("import itertools\nfor _ in itertools.count(): print('x' * 1000)", timeout_s=30)
    assert (answer.status, answer.error_type) == ("invalid", "TooLarge")


def test_much_on_standard_error_does_not_block_it(run):
    [answer] = run("import sys; sys.stderr.write('y' * 1_000_000); print('fine')")
    assert answer.output == "fine"


def test_no_bytecode_is_written_or_read_beside_the_files(run, called):
    called.write("arms/helper.py", "VALUE = 1\n")
    assert run("import helper; print(helper.VALUE)")[0].output == 1
    assert not list(called.root.rglob("__pycache__"))


def test_a_missing_program_is_found_before_any_call(called):
    with pytest.raises(ArmError, match="no program no-such-program"):
        called.call({"text": "x"}, kind="command", command="no-such-program --x")
    with pytest.raises(ArmError, match="command"):
        called.call({"text": "x"}, kind="command", command="echo 'open")
    with pytest.raises(ArmError, match="empty"):
        called.call({"text": "x"}, kind="command", command=[])


def test_a_script_that_the_system_cannot_start_stops_the_run_and_blames_no_row(called):
    called.write("arms/answer.sh", "echo fees\n").chmod(0o755)
    [stopped] = called.call({"text": "x"}, kind="command", command="arms/answer.sh")
    assert isinstance(stopped, StoppedError)
    assert "arms/answer.sh cannot be started (Exec format error)" in str(stopped)


def test_nothing_is_left_in_the_temporary_folder(run, monkeypatch, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    run("import json; print(1)")
    assert not list(scratch.iterdir())


def test_a_program_of_the_folder_stays_one_in_its_snapshot(called, tmp_path):
    program = called.write("arms/classify", "#!/bin/sh\ncat >/dev/null; echo fees\n")
    program.chmod(0o755)
    called.root = take_once({"arms/classify": program}, tmp_path / "snapshots")
    [answer] = called.call({"text": "x"}, kind="command", command=["arms/classify"])
    assert answer.output == "fees"


def test_a_run_that_is_stopped_kills_it(called, tmp_path):
    pid = tmp_path / "pid"
    called.write(
        "arms/run.py", f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    )
    arm = called.arm(kind="command", command=[sys.executable, "arms/run.py"])

    async def main():
        async with caller_for(arm, Clients({})) as caller:
            call = asyncio.ensure_future(caller.call({"text": "x"}, 0, timeout_s=60))
            while not (pid.exists() and pid.read_text()):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)

    asyncio.run(main())
    assert not psutil.pid_exists(int(pid.read_text()))
