"""Two prompts with `[run] batch = true`: train and dev go in batches, the pilot and the sealed rows do not."""

import json
from types import SimpleNamespace

import pytest
from genai_prices import Usage, calc_price
from world import new_world, tickets, write_csv

from itera_nb.testing import MessagesServer

MODEL = "claude-haiku-4-5"
ROWS, TRIALS = 60, 2


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    world = new_world(tmp_path_factory.mktemp("batches") / "world")
    write_csv(world.project / "eval.csv", tickets(ROWS))
    (world.project / "v1.md").write_text("Which team?\n\n{{text}}", "utf-8")
    (world.project / "v2.md").write_text("Read carefully: which team?\n\n{{text}}", "utf-8")
    flags = (
        "--data eval.csv --id ticket_id --expected label --slices tenant "
        f"--baseline v1.md --arm v2.md --model anthropic/{MODEL}"
    )
    with MessagesServer(lambda prompt: prompt.split()[-2], batch_s=0.2) as server:
        world.itera("new", "prompts", *flags.split(), cwd=world.project)
        toml = world.folder / "experiment.toml"
        text = toml.read_text("utf-8").replace("trials = 3", f"trials = {TRIALS}\nbatch = true")
        models = f'\n[models.anthropic]\napi_key_env = "LOOPBACK_KEY"\nbase_url = "{server.url}"\n'
        toml.write_text(text + models, "utf-8")
        run = world.itera("run", "--yes", LOOPBACK_KEY="loopback")
        direct_dev, batches = len(server.requests), server.batches.created
        verdict = world.itera("verdict", LOOPBACK_KEY="loopback")
    return SimpleNamespace(
        world=world, run=run, verdict=verdict, server=server, direct_dev=direct_dev, batches=batches
    )


def attempts(world):
    lines = (world.folder / "runs" / "attempts.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_it_runs_to_a_verdict(done):
    assert done.run.code == 0, done.run.text
    assert done.verdict.code in {0, 10, 20, 30}, done.verdict.text
    assert "requests handed over" in done.run.err
    assert "nan" not in done.run.out.lower()


def test_only_the_pilot_and_the_sealed_rows_are_called_directly(done):
    counts = done.world.records("sealed")[0]["body"]["counts"]
    sealed = 2 * TRIALS * counts["test"]
    logged = attempts(done.world)
    # The baseline's train rows are measured before the pilot, so that only the candidate's pilot call is new.
    assert 1 <= done.direct_dev <= 2
    assert done.batches == done.server.batches.created >= 2
    assert len(done.server.requests) == done.direct_dev + sealed
    assert sum(done.server.paid.values()) == len(logged) + sealed
    assert len({a["key"] for a in logged}) == len(logged)


def test_dev_costs_half_and_tells_no_latency(done):
    batched = [a for a in attempts(done.world) if a["usage"][0]["service_tier"] == "batch"]
    assert len(batched) == len(attempts(done.world)) - done.direct_dev
    for attempt in batched:
        [usage] = attempt["usage"]
        tokens = Usage(input_tokens=usage["input_tokens"], output_tokens=usage["output_tokens"])
        context = {"processing": "batch"}
        price = calc_price(tokens, MODEL, provider_id="anthropic", price_context=context).total_price
        assert attempt["cost_usd"] == pytest.approx(float(price), rel=1e-12)
        assert attempt["latency_ms"] is None


def test_the_page_shows_the_latency_of_the_sealed_rows(done):
    assert "p95" in (done.world.folder / "conclusion.md").read_text("utf-8")
    assert done.world.itera("verify").code == 0
