from itera_nb.scoring.attempts import Attempt
from itera_nb.scoring.progress import Bar, progress_bar


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
