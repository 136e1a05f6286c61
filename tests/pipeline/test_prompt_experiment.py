"""Two prompts against a Messages API on loopback: every call is paid once, priced by request, and keyless on disk."""

import json
from collections import Counter
from types import SimpleNamespace

import pandas as pd
import pytest
from genai_prices import Usage, calc_price
from world import conclude, go, in_process, new_world, tickets, write_csv

from itera_nb.testing import MessagesServer

KEY_ENV = "TICKETS_API_KEY"
KEY = "sk-ant-dummy-0123456789abcdef0123456789abcdef"
MODEL = "claude-haiku-4-5"
ROWS, TRIALS = 60, 2


def answer(prompt):
    """The second prompt says what to do with tricky rows."""
    words = prompt.split()
    known = {"plain", "tricky"} if "carefully" in words else {"plain"}
    return words[-2] if words[-1] in known else "other"


@pytest.fixture(scope="module")
def priced(tmp_path_factory):
    """A whole experiment on two prompts, first without the key; the server's calls after each command."""
    world = new_world(tmp_path_factory.mktemp("prompts") / "world")
    write_csv(world.project / "eval.csv", tickets(ROWS))
    (world.project / "v1.md").write_text("Which team?\n\n{{text}}", "utf-8")
    (world.project / "v2.md").write_text("Read carefully: which team?\n\n{{text}}", "utf-8")
    flags = (
        "--data eval.csv --id ticket_id --expected label --slices tenant "
        f"--baseline v1.md --arm v2.md --model anthropic/{MODEL}"
    )
    with MessagesServer(answer) as server:
        done, calls = SimpleNamespace(), {}
        done.new = world.itera("new", "prompts", *flags.split(), cwd=world.project)
        toml = world.folder / "experiment.toml"
        text = toml.read_text("utf-8").replace("trials = 3", f"trials = {TRIALS}\nbudget_usd = 5.0")
        toml.write_text(
            f'{text}\n[models.anthropic]\napi_key_env = "{KEY_ENV}"\nbase_url = "{server.url}"\n', "utf-8"
        )
        done.plan_without_key = world.itera("plan")
        done.run_without_key = world.itera("run", "--yes")
        calls["run without key"] = len(server.requests)
        done.run = world.itera("run", "--yes", **{KEY_ENV: KEY})
        calls["run"] = len(server.requests)
        with world.entered() as exp, pytest.MonkeyPatch.context() as patch:
            patch.setenv(KEY_ENV, KEY)
            go(exp)
            calls["run again"] = len(server.requests)
            done.verdict = conclude(exp)
            calls["verdict"] = len(server.requests)
            done.verify = in_process("verify", world.folder)
    return SimpleNamespace(world=world, done=done, calls=calls, server=server)


def attempts(world):
    """The dev log's attempts."""
    return [
        json.loads(line)
        for line in (world.folder / "runs" / "attempts.jsonl").read_text("utf-8").splitlines()
    ]


def test_missing_key_stops_before_the_first_call(priced):
    done = priced.done.run_without_key
    assert done.code == 2
    assert f"{KEY_ENV} is not set" in done.text
    assert f"set {KEY_ENV}" in done.text
    assert "Traceback" not in done.text, done.text
    assert priced.calls["run without key"] == 0
    assert f"{KEY_ENV} not found" in priced.done.plan_without_key.out


def test_runs_to_a_verdict_without_a_refusal(priced):
    done = priced.done
    assert done.run.code == 0, done.run.text
    assert done.verdict["outcome"] in {"ship", "inconclusive"}
    assert done.verify.code == 0, done.verify.text
    assert priced.world.records("attempt_refused") == []


def test_every_unit_is_called_once(priced):
    """Pilot, train, dev and a second run share one log; the test pass has its own."""
    logged = attempts(priced.world)
    assert priced.calls["run"] == len(logged)
    assert priced.calls["run again"] == priced.calls["run"]
    counts = priced.world.records("sealed")[0]["body"]["counts"]
    assert priced.calls["verdict"] - priced.calls["run"] == 2 * TRIALS * counts["test"]
    units = Counter((a["arm"], a["row_id"], a["trial"]) for a in logged)
    assert set(units.values()) == {1}
    # The baseline is measured on train in all trials, the candidate once; dev has all of them.
    assert len(units) == counts["train"] * (TRIALS + 1) + 2 * TRIALS * counts["dev"]


def test_costs_are_those_of_each_request(priced):
    for attempt in attempts(priced.world):
        (usage,) = attempt["usage"]
        tokens = Usage(input_tokens=usage["input_tokens"], output_tokens=usage["output_tokens"])
        price = calc_price(tokens, MODEL, provider_id="anthropic").total_price
        assert attempt["cost_usd"] == pytest.approx(float(price), rel=1e-9)
        assert attempt["cost_usd"] > 0
    (dev,) = [r["body"] for r in priced.world.records("scored") if r["body"]["rows"] == "dev"]
    scored = pd.read_parquet(priced.world.folder / "runs" / "dev.parquet").groupby("arm")["cost_usd"].sum()
    for arm, figures in dev["arms"].items():
        assert figures["cost_usd"] == pytest.approx(scored[arm])
    data = json.loads((priced.world.folder / "data.json").read_text("utf-8"))
    assert all(arm["cost_per_1k_usd"] > 0 for arm in data["arms"])


def test_no_key_in_any_file(priced):
    for path in (p for p in priced.world.root.rglob("*") if p.is_file()):
        assert KEY.encode() not in path.read_bytes(), path


def test_requests_hold_no_label_and_no_other_column(priced):
    for request in priced.server.requests:
        prompt = request["messages"][0]["content"]
        assert prompt.startswith(("Which team?", "Read carefully"))
        assert "enterprise" not in prompt
        assert request["model"] == MODEL
