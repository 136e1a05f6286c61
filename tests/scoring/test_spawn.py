"""A kernel that ran workers must end when it is asked to."""

import subprocess
import sys
import textwrap


def test_nothing_is_left_running_after_the_last_worker(tmp_path):
    (tmp_path / "arms").mkdir()
    (tmp_path / "arms" / "one.py").write_text("def f(row):\n    return 'x'\n", "utf-8")
    code = f"""
        from pathlib import Path
        import psutil
        from itera_nb.scoring.workers import call_each
        print(call_each(Path({str(tmp_path)!r}), "arms/one.py:f", [({{"a": 1}},)])[0].output)
        print(len(psutil.Process().children(recursive=True)))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["x", "0"]
