"""The pilot of prompt arms: shown in full, checked field by field, and the price of everything after it."""

import math
import re

import pytest
from click.testing import CliRunner
from world import decide, go, tickets, write_csv

import itera_nb
from itera_nb.cli.run import run as run_command
from itera_nb.exceptions import IteraError, Refusal
from itera_nb.report.pilot import forecast_line, pilot_line
from itera_nb.scoring.pilot import run_pilot
from itera_nb.testing import MessagesServer, Scripted

MODEL = "claude-haiku-4-5"
SYSTEM = "Answer with <one> word & no more."


def answer(prompt):
    return prompt.split()[-2]


@pytest.fixture
def make_prompts(tmp_path, monkeypatch):
    """An experiment on two prompts against a loopback server, not begun; with the server."""
    servers = []

    def make(reply=answer, *, v1="Which team?\n\n{{text}}", v2="Which team, precisely?\n\n{{text}}", arm="", run="", extra="", metric='scorer = "exact"'):  # fmt: skip
        server = MessagesServer(reply).__enter__()
        servers.append(server)
        monkeypatch.setenv("PILOT_KEY", "dummy")
        folder = tmp_path / "2026-11-21-teams"
        (folder / "arms").mkdir(parents=True)
        write_csv(folder / "data.csv", tickets(60))
        (folder / "arms" / "v1.md").write_text(v1, "utf-8")
        (folder / "arms" / "v2.md").write_text(v2, "utf-8")
        (folder / "experiment.toml").write_text(
            f"""\
[frame]
question = "Should v2 replace v1 on these rows?"
hypothesis = "It answers the tricky ones."
[arms.v1]
baseline = true
kind = "prompt"
prompt = "arms/v1.md"
system = "{SYSTEM}"
model = "anthropic/{MODEL}"
params = {{ max_tokens = 100 }}
ref = "arms/v1.md:1"
{arm}
[arms.v2]
from = "v1"
prompt = "arms/v2.md"
change = "one word"
[source]
uri = "data.csv"
id = "ticket_id"
inputs = ["text"]
expected = "label"
slices = ["tenant"]
[metric]
{metric}
[run]
trials = 2
{run}
[models.anthropic]
api_key_env = "PILOT_KEY"
base_url = "{server.url}"
{extra}
""",
            "utf-8",
        )
        return itera_nb.open(folder), server

    yield make
    for server in servers:
        server.__exit__(None, None, None)


def pilot_of(exp):
    go(exp, until="metric")
    return run_pilot(exp.experiment)


def test_request_and_response_are_shown_in_full_and_literally(make_prompts):
    long = "<b>fees</b> " + "and a very long explanation " * 40
    exp, server = make_prompts(lambda _: Scripted(long))
    found = pilot_of(exp)
    before = len(server.requests)
    view = exp.pilot()
    assert len(server.requests) == before, "shown again without a call"
    sent = next(r for r in server.requests if "precisely" in r["messages"][0]["content"])
    assert found.requests["v2"].messages[0]["content"] == sent["messages"][0]["content"]
    for text in (sent["messages"][0]["content"], SYSTEM, long.strip(), '"max_tokens": 100', MODEL):
        assert "\n    ".join(text.split("\n")) in view.text
        assert (
            text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
            in view.html
        )
    assert "<b>fees" not in view.html
    assert found.row["text"] in view.text
    # The ledger keeps figures only.
    record = found.record.body
    assert record["arms"]["v2"]["output_tokens"] > 0
    assert found.row["text"] not in str(record)
    assert "explanation" not in str(record)


def test_the_short_form_fits_a_line(make_prompts):
    exp, _ = make_prompts()
    found = pilot_of(exp)
    line = pilot_line(exp.experiment.spec, found)
    output = answer(found.row["text"])
    assert re.fullmatch(
        rf'3 pilot    row {found.row["ticket_id"]}   v1 "{output}" · v2 "{output}" · \d+\+\d+ tokens · \$.*',
        line,
    ), line


def test_the_range_holds_what_the_experiment_costs(make_prompts):
    exp, _ = make_prompts(
        lambda p: "x" * (8 * (len(p) % 7) + 20), run="budget_usd = 5.0", metric='scorer = "exact"'
    )
    found = pilot_of(exp)
    total = found.forecast.total
    assert 0 < total.low < total.usd < total.high < 3 * total.usd
    exp.run("train", trials=1)
    exp.run("dev")
    exp.iterate(), exp.gate(), exp.lock()
    decide(exp)
    experiment = exp.experiment
    tables = [experiment.read_frame(f"runs/{name}.parquet") for name in ("baseline-train", "dev")]
    train = experiment.read_frame("runs/train.parquet")
    tables.append(train[train["arm"] == "v2"])
    tables.append(experiment.read_frame(experiment.state.last("verdict").body["results"]["file"]))
    cost = sum(float(t["cost_usd"].sum()) for t in tables)
    assert total.low <= cost <= total.high
    assert total.usd == pytest.approx(cost, rel=0.35)
    assert re.search(
        r"about \$[\d.]+ \[[\d.]+, [\d.]+\] of a budget of \$5", forecast_line(experiment.spec, found)
    )


def test_a_range_over_the_budget_asks_once(make_prompts):
    exp, server = make_prompts()
    found = pilot_of(exp)
    budget = found.forecast.total.high * 0.9
    toml = exp.experiment.toml
    toml.write_text(
        toml.read_text("utf-8").replace("trials = 2", f"trials = 2\nbudget_usd = {budget:.6f}"), "utf-8"
    )
    exp = itera_nb.open(exp.experiment.folder)
    exp.amend("a budget was set")
    exp.metric.try_on()
    exp.pilot()
    before = len(server.requests)
    with pytest.raises(Refusal) as caught:
        exp.run("train", trials=1)
    assert caught.value.asks
    assert "more than budget_usd" in str(caught.value)
    assert '--accept budget="why"' in str(caught.value)
    assert len(server.requests) == before
    exp.accept("budget", "the upper end is unlikely")
    exp.run("train", trials=1)
    exp.run("dev")


def test_an_undefined_variable_stops_before_any_call(make_prompts):
    exp, server = make_prompts(v2="{{text}} {{tone}}")
    go(exp, until="metric")
    before = len(server.requests)
    with pytest.raises(
        Refusal, match=r"v2: arms/v2\.md does not fit a train row: 'tone' is undefined"
    ) as caught:
        exp.pilot()
    assert caught.value.safeguard == "SG10"
    assert len(server.requests) == before
    assert not exp.experiment.state.has("pilot_passed")


@pytest.mark.parametrize("text", ["TODO", "N/A", "<app.Answer object at 0x7f21aa>", "[object Object]", "{}"])
def test_a_stub_in_place_of_an_output_stops(make_prompts, text):
    """A scorer or judge that sees this sees nothing of the arm."""
    exp, _ = make_prompts(lambda p: Scripted(text) if "precisely" in p else Scripted(answer(p)))
    go(exp, until="metric")
    with pytest.raises(Refusal, match="v2: the output is empty or a placeholder") as caught:
        exp.pilot()
    assert caught.value.safeguard == "SG10"


def test_the_command_shows_the_short_form_and_wants_a_look(make_prompts, monkeypatch):
    exp, _ = make_prompts()
    go(exp, until="metric")
    monkeypatch.setattr("itera_nb.notebooks.runner.execute", lambda *_: None)
    done = CliRunner().invoke(run_command, [str(exp.experiment.folder)])
    assert isinstance(done.exception, IteraError)
    assert "itera run --yes" in str(done.exception)
    assert "3 pilot    row" in done.output
    assert "price of the experiment: about $" in done.output
    assert "no budget_usd is registered" in done.output
    assert SYSTEM not in done.output
    done = CliRunner().invoke(run_command, [str(exp.experiment.folder), "--show-pilot"])
    assert SYSTEM in done.output


def test_a_cache_written_by_the_first_call_is_read_in_the_forecast(make_prompts):
    """The steady state: 0.1 of the input price or less, not the 1.25 of the pilot's first call."""
    written = []

    def reply(prompt):
        fresh = prompt[:12] not in written
        written.append(prompt[:12])
        cache = {"cache_creation_input_tokens": 20_000} if fresh else {"cache_read_input_tokens": 20_000}
        return Scripted(answer(prompt), usage=cache)

    exp, _ = make_prompts(reply)
    found = pilot_of(exp)
    v2 = found.attempts["v2"]
    assert v2.usage[0]["cache_creation_input_tokens"] + v2.usage[0]["cache_read_input_tokens"] == 20_000
    counts = exp.experiment.state.last("sealed").body["counts"]
    calls = counts["train"] * 3 + 4 * (counts["dev"] + counts["test"])
    assert found.forecast.total.usd < calls * 0.5 * 20_000 * 1.25e-6
    assert not math.isnan(found.forecast.row_usd)
