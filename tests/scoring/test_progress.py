"""How far a run is, told to a file in figures."""

import json

import pytest

from itera_nb.scoring.attempts import Attempt
from itera_nb.scoring.progress import PROGRESS, Bar, progress_bar

SECRET = "the text of a row"


def attempt(status="ok", cost_usd=0.25):
    return Attempt("k", SECRET, SECRET, 0, status, SECRET, error=SECRET, cost_usd=cost_usd)


@pytest.fixture
def told(tmp_path, monkeypatch):
    file = tmp_path / "progress.json"
    monkeypatch.setenv(PROGRESS, str(file))
    return file


def test_a_job_is_told_figures_and_no_row(told):
    with progress_bar("dev", 4) as step:
        assert json.loads(told.read_text()) == {
            "label": "dev",
            "done": 0,
            "total": 4,
            "text": "0.0 units/s",
        }
        step(attempt())
        step(attempt("error", None))
        step.limit("anthropic/a-model", 8)
    found = json.loads(told.read_text())
    assert (found["done"], found["total"]) == (2, 4)
    assert found["text"].endswith("left, $0.25, 1 failed, 8 at once")
    assert SECRET not in told.read_text()
    assert list(told.parent.iterdir()) == [told]


def test_nobody_is_told_unless_a_job_asks(tmp_path, monkeypatch):
    monkeypatch.delenv(PROGRESS, raising=False)
    with progress_bar("dev", 1) as step:
        step(attempt())
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses_does_not_end_the_run(tmp_path, monkeypatch):
    monkeypatch.setenv(PROGRESS, str(tmp_path / "no" / "such" / "folder.json"))
    with progress_bar("dev", 1) as step:
        step(attempt())


def test_a_bar_tells_money_failures_and_calls_at_once(capsys):
    with progress_bar("dev", 3) as bar:
        bar(Attempt("a", "v1", 1, 0, "ok", cost_usd=0.25))
        assert bar._bar.postfix == "$0.25, 0 failed"
        bar.limit("anthropic/m", 16)
        bar.limit("openai/m", 8)
        bar(Attempt("b", "v1", 2, 0, "error"))
        assert bar._bar.postfix == "$0.25, 1 failed, 16+8 at once"
        assert bar._bar.n == 2


def test_the_engine_tells_a_bar_the_limit(bench, rows, monkeypatch):
    from itera_nb.arms import callers
    from itera_nb.arms.caller import Answer

    class Caller:
        async def __aenter__(self):
            return self

        async def __aexit__(self, *exc):
            pass

        def check(self, row):
            pass

        async def call(self, row, trial, *, timeout_s):
            return Answer("ok", 1)

    monkeypatch.setattr(callers, "caller_for", lambda *_, **__: Caller())
    told = []
    monkeypatch.setattr(Bar, "limit", lambda self, name, limit: told.append((name, limit)))
    with progress_bar("dev", 1) as bar:
        bench.run(bench.arm(kind="http"), rows("a"), progress=bar)
        assert bar._bar.n == 1
    assert told == [("arm", 16)]
