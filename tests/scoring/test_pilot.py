"""The pilot of prompt arms: shown in full, checked field by field, and the price of everything after it."""

import re
from collections import Counter

import pytest
from click.testing import CliRunner
from world import decide, go, tickets, write_csv

import itera_nb
from itera_nb.cli.run import run as run_command
from itera_nb.exceptions import IteraError, Refusal
from itera_nb.models.pricing import price
from itera_nb.report.pilot import forecast_line, pilot_line
from itera_nb.scoring.attempts import AttemptLog
from itera_nb.scoring.pilot import run_pilot
from itera_nb.scoring.plan import make_plan
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


def test_what_was_parsed_is_shown_beside_the_output(make_prompts):
    exp, _ = make_prompts(
        lambda p: f"Certainly! It is {answer(p)}.", arm='parse = { labels = ["fees", "transfer"] }'
    )
    pilot_of(exp)
    text = exp.pilot().text
    assert "v2, response\n    Certainly! It is " in text
    assert re.search(r"v2, output\n    (fees|transfer)\n", text)


JUDGE = """
[judge]
rubric = "rubric.md"
model = "anthropic/claude-opus-4-5"
"""


def judging(prompt):
    if "Rate answer" in prompt:
        return {"reason": "it names a team", "score": 7, "failure_modes": []}
    return answer(prompt)


def test_the_judge_sees_the_real_output_and_its_price_is_foreseen(make_prompts):
    exp, server = make_prompts(judging, metric='scorer = "judge"', extra=JUDGE)
    (exp.experiment.folder / "rubric.md").write_text("10: names the team. 0: anything else.", "utf-8")
    found = pilot_of(exp)
    asked = [
        r["messages"][0]["content"] for r in server.requests if "Rate answer" in r["messages"][0]["content"]
    ]
    assert found.questions["v2"] in asked
    assert answer(found.row["text"]) in found.questions["v2"]
    view = exp.pilot()
    assert "v2, what the judge is asked" in view.text
    assert "judge: it names a team" in view.text
    counts = exp.experiment.state.last("sealed").body["counts"]
    calls = 2 * 2 * (counts["dev"] + counts["test"])
    arms = calls * min(a.cost_usd for a in found.attempts.values())
    assert found.forecast.total.usd > arms


@pytest.mark.parametrize("scorer", ["judge", "preference"])
def test_the_range_holds_what_a_judge_costs_where_arms_agree(make_prompts, scorer):
    """Every trial of both arms says the same: one question a row, or none that tells them apart."""

    def reply(prompt):
        if "Compare answer" in prompt:
            return {"reason": "", "winner": "tie", "failure_modes": []}
        return judging(prompt)

    exp, _ = make_prompts(reply, metric=f'scorer = "{scorer}"', extra=JUDGE + "planted = 0\n")
    (exp.experiment.folder / "rubric.md").write_text("10: names the team. 0: anything else.", "utf-8")
    total = pilot_of(exp).forecast.total
    exp.run("train", trials=1)
    exp.run("dev")
    exp.iterate(), exp.gate(), exp.lock()
    decide(exp)
    experiment = exp.experiment
    with AttemptLog(experiment.path("runs", "attempts.jsonl")) as log:
        cost = log.totals.cost_usd
    test = experiment.read_frame(experiment.state.last("verdict").body["results"]["file"])
    cost += float(test["cost_usd"].sum() + test["judge_usd"].sum())
    assert total.low <= cost <= total.high
    assert total.usd < 2 * cost


def test_a_judge_that_would_see_something_else_stops(make_prompts, monkeypatch):
    exp, _ = make_prompts(judging, metric='scorer = "judge"', extra=JUDGE)
    (exp.experiment.folder / "rubric.md").write_text("10: names the team. 0: anything else.", "utf-8")
    go(exp, until="metric")
    monkeypatch.setattr("itera_nb.metrics.judge._tagged", lambda tag, _: f"<{tag}>[an answer]</{tag}>")
    with pytest.raises(Refusal, match="v2: the judge would not see its real output") as caught:
        exp.pilot()
    assert caught.value.safeguard == "SG10"


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
    assert "before the test set opens" in str(caught.value)
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


def test_a_label_that_looks_like_a_placeholder_is_none(make_prompts):
    exp, _ = make_prompts(["none"])
    data = exp.experiment.folder / "data.csv"
    data.write_text(data.read_text("utf-8").replace(",fees", ",None"), "utf-8")
    assert pilot_of(exp).table["output"].eq('"none"').all()


def test_the_command_shows_the_short_form_and_wants_a_look(make_prompts, monkeypatch):
    exp, _ = make_prompts()
    go(exp, until="metric")
    monkeypatch.setattr("itera_nb.notebooks.drive.execute", lambda *_: None)
    done = CliRunner().invoke(run_command, [str(exp.experiment.folder)])
    assert isinstance(done.exception, IteraError)
    assert "itera run --yes" in str(done.exception)
    assert "3 pilot    row" in done.output
    assert "price of the experiment: about $" in done.output
    assert "no budget_usd is registered" in done.output
    assert SYSTEM not in done.output
    done = CliRunner().invoke(run_command, [str(exp.experiment.folder), "--show-pilot"])
    assert SYSTEM in done.output


def test_a_person_is_asked_about_outputs_and_price_once(make_prompts, monkeypatch):
    """The baseline's train run fits into the budget, the rest may not."""
    exp, _ = make_prompts(run="budget_usd = 0.0025")
    go(exp, until="metric")

    def execute(_, phase):
        if phase == "3-run":
            raise InterruptedError(phase)

    monkeypatch.setattr("itera_nb.notebooks.drive.execute", execute)
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True)
    folder = str(exp.experiment.folder)
    stopped = CliRunner().invoke(run_command, [folder], input="y\n\n")
    assert "Looks right?" in stopped.output
    assert "Why go on?" in stopped.output
    assert "stopped before the budget" in str(stopped.exception)
    done = CliRunner().invoke(run_command, [folder], input="y\nit is worth it\n")
    assert isinstance(done.exception, InterruptedError)
    assert exp.experiment.state.answer("budget").body["why"] == "it is worth it"
    again = CliRunner().invoke(run_command, [folder], input="y\n")
    assert isinstance(again.exception, InterruptedError)
    assert "Why go on?" not in again.output


def test_cost_is_steady_state_never_a_first_calls(make_prompts):
    """A cache write is priced as such and averaged over all rows; the forecast reads what the pilot wrote."""
    calls_of = Counter()

    def reply(prompt):
        calls_of[prompt[:12]] += 1
        fresh = calls_of[prompt[:12]] % 10 == 1  # so does the pilot's first call of v2
        cache = {"cache_creation_input_tokens": 20_000} if fresh else {"cache_read_input_tokens": 20_000}
        return Scripted(answer(prompt), usage=cache)

    exp, _ = make_prompts(reply)
    found = pilot_of(exp)
    counts = exp.experiment.state.last("sealed").body["counts"]
    calls = counts["train"] * 3 + 4 * (counts["dev"] + counts["test"])
    write, read = (price({"model": f"anthropic/{MODEL}", "input_tokens": 0, "output_tokens": 0, name: 20_000}) for name in ("cache_creation_input_tokens", "cache_read_input_tokens"))  # fmt: skip
    total = found.forecast.total
    assert total.usd < calls * (read + write) / 2 < total.high
    exp.run("train", trials=1)
    exp.run("dev")
    dev = exp.experiment.read_frame("runs/dev.parquet").groupby("arm")["cost_usd"]
    arms = exp.experiment.state.scored("dev").body["arms"]
    for arm, mean in dev.mean().items():
        assert arms[arm]["cost_per_1k_usd"] == pytest.approx(1000 * mean)
    # From here on the plan's price is what dev did cost.
    assert make_plan(exp.experiment).row_usd == pytest.approx(2 * sum(dev.mean()))


@pytest.mark.parametrize("who", ["arm", "judge"])
def test_a_budget_guards_nothing_without_prices_and_asks_before_the_first_call(make_prompts, who):
    more = JUDGE.replace("claude-opus-4-5", "opus-99") if who == "judge" else ""
    metric = 'scorer = "judge"' if who == "judge" else 'scorer = "exact"'
    exp, server = make_prompts(judging, run="budget_usd = 5.0", metric=metric, extra=more)
    folder, name = exp.experiment.folder, "anthropic/opus-99" if who == "judge" else "anthropic/tiny-99"
    (folder / "rubric.md").write_text("10: names the team.", "utf-8")
    if who == "arm":
        toml = exp.experiment.toml
        toml.write_text(toml.read_text("utf-8").replace(f"anthropic/{MODEL}", name), "utf-8")
        exp = itera_nb.open(folder)
    with pytest.raises(Refusal, match=f"no price of {name}") as caught:
        go(exp, until="metric")
    assert (caught.value.safeguard, caught.value.asks) == ("budget", True)
    assert '--accept budget="why"' in caught.value.instead
    assert "prices.toml" in caught.value.instead
    assert not server.requests
    if who == "arm":
        (folder / "prices.toml").write_text(f'["{name}"]\ninput = 0.01\noutput = 0.01\n')
    else:
        exp.accept("budget", "the judge is our own")
    exp = itera_nb.open(folder)
    exp.metric.try_on()
    assert server.requests


PAID = """\
from itera_nb import Output


def today(row):
    return Output(row["text"].split()[-2]{today})


def better(row):
    return Output(row["text"].split()[-2]{better})
"""
USAGE = ', usage=[{"model": "anthropic/claude-haiku-4-5", "input_tokens": 9, "output_tokens": 9}]'


@pytest.mark.parametrize(
    ("paid", "stops"), [(USAGE, True), (", cost_usd=0.01", True), (", cost_usd=0.0", False)]
)
def test_an_arm_that_is_registered_as_free_and_reports_usage_stops(make_prompts, paid, stops):
    exp, _ = make_prompts()
    folder = exp.experiment.folder
    (folder / "arms" / "a.py").write_text(PAID.format(today="", better=paid), "utf-8")
    toml = exp.experiment.toml
    head, rest = toml.read_text("utf-8").split("[arms.v1]")
    arms = """[arms.today]
baseline = true
kind = "python"
cost = "free"
target = "arms/a.py:today"
ref = "a.py"
[arms.better]
from = "today"
target = "arms/a.py:better"
change = "code"
[source]"""
    toml.write_text(head + arms + rest.split("[source]")[1], "utf-8")
    exp = itera_nb.open(folder)
    go(exp, until="metric")
    if not stops:
        assert run_pilot(exp.experiment).forecast.total.high == 0
        return
    said = 'better: cost = "free", but the arm reports model usage: remove cost = "free"'
    with pytest.raises(Refusal, match=re.escape(said)) as caught:
        exp.pilot()
    assert caught.value.safeguard == "SG10"


def test_the_plan_shows_odds_of_a_kill_below_a_relative_min_effect_only(make_prompts):
    exp, _ = make_prompts(["fees"], extra='[rule]\nmin_effect = "20%"\n')
    go(exp, until="metric")
    lines = [line for line in exp.plan().text.splitlines() if "ship" in line and "rows" not in line]
    assert {line.count("kill") for line in lines} == {1}
