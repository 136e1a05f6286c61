"""A judge and its check, from the dev rows to the page: another model, a person, nobody."""

import csv
import io
import json
import re

import pandas as pd
import pytest
from world import conclude, decide, go, in_process

from itera_nb.cli import rate as rate_command
from itera_nb.exceptions import IteraError
from itera_nb.testing import MessagesServer

JUDGE, SECOND = "anthropic/claude-haiku-4-5", "openai/gpt-5.5"
BLOCK = re.compile(r"Answer (\w{4}):\n<(data-\w+)>\n(.*?)\n</\2>", re.DOTALL)
QUOKKA = """
def answer(row):
    words = dict(word.split("=") for word in row["text"].split()[1:])
    right = int(words["level"]) < 80
    return words["answer"] if right else ("no" if words["answer"] == "yes" else "yes")
"""
KEYS = {"JUDGE_KEY": "loopback", "SECOND_KEY": "loopback"}


def right(prompt):
    """Whether each answer is right, by label in the order shown."""
    wanted = re.search(r"answer=(yes|no)", prompt)[1]
    return [(label, text == wanted) for label, _, text in BLOCK.findall(prompt)]


def verdict_on(prompt, *, turned=False):
    found = [(label, hit != turned) for label, hit in right(prompt)]
    if len(found) == 1:
        return {"reason": "", "failure_modes": [], "score": 9 if found[0][1] else 1}
    (a, one), (b, two) = found
    return {"reason": "", "failure_modes": [], "winner": "tie" if one == two else a if one else b}


def honest(prompt):
    return verdict_on(prompt)


def contrary(prompt):
    """A second judge that sees everything the other way round."""
    return verdict_on(prompt, turned="gpt" in prompt.body["model"])


@pytest.fixture
def judged(make_experiment, monkeypatch):
    """An experiment whose metric is a judge on the loopback server."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)

    def make(server, second=SECOND, *, scorer="judge", rows=200, **more):
        toml = f"""
        [judge]
        rubric = "rubric.md"
        model = "{JUDGE}"
        second = "{second}"
        planted = 3
        [models.anthropic]
        api_key_env = "JUDGE_KEY"
        base_url = "{server.url}"
        [models.openai]
        api_key_env = "SECOND_KEY"
        base_url = "{server.url}/v1"
        """
        return make_experiment(
            rows=rows,
            preset="confirm",
            arms={"quokka": QUOKKA},
            metric=f'scorer = "{scorer}"',
            run="trials = 1",
            extra_toml="\n".join(line.strip() for line in toml.splitlines()),
            files={"rubric.md": "Right is what the row asks for."},
            **more,
        )

    return make


def audit_line(exp, id_="SG20"):
    data = json.loads((exp.experiment.folder / "data.json").read_text("utf-8"))
    return next(line for line in data["itera"]["audit"] if line["id"] == id_)


def seconds(server):
    return [r for r in server.requests if r["model"] == "gpt-5.5"]


@pytest.mark.parametrize("scorer", ["judge", pytest.param("preference", marks=pytest.mark.slow)])
def test_a_second_model_of_one_mind(judged, scorer):
    with MessagesServer(honest) as server:
        exp = judged(server, scorer=scorer)
        go(exp, until="dev")
        assert seconds(server) == []
        shown = exp.judge.check().text
        body = exp.experiment.state.last("judge_checked").body
        asked = len(seconds(server))
        # Equal outputs of a row are one question; a comparison is asked in both orders.
        assert 30 <= asked <= 60
        assert exp.judge.check().text == shown
        assert len(seconds(server)) == asked, "a finished check is read back"
        go(exp)
        verdict = conclude(exp)
        paid = len(server.requests)
        assert in_process("verify", exp.experiment.folder).code == 0
        assert len(server.requests) == paid
    figures = body["arms"]["quokka"]
    assert (body["second"], body["level"], figures["rows"]) == (SECOND, "trusted", 30)
    assert figures["agreeing"] == figures["discordant"] >= 6
    assert not figures["flipped"]
    assert "the same preference above 60%" in shown
    assert verdict["outcome"] == "ship"
    second = verdict["verdict"]["records"][0]["second_opinion"]
    assert (second["by"], second["level"], second["outcome"], second["rows"]) == (
        SECOND,
        "trusted",
        "ship",
        30,
    )
    results = exp.experiment.read_frame("runs/test.parquet")
    assert results.loc[results["second"].notna(), "id"].nunique() == 30
    assert not {"output", "reason"} & set(results.columns)
    line = audit_line(exp)
    assert line["status"] == "met", line
    page = (exp.experiment.folder / "conclusion.md").read_text("utf-8")
    assert "openai/gpt-5.5 rated 30 sealed rows blind" in page
    told = json.dumps([r["messages"] for r in server.requests])
    assert not re.search(r"\bbase\b|quokka", told)


def test_a_second_model_that_decides_otherwise(judged):
    with MessagesServer(contrary) as server:
        exp = judged(server)
        go(exp, until="dev")
        shown = exp.judge.check().text
        go(exp)
        verdict = conclude(exp)
    assert "restart: not supported" in shown
    assert "the rule would say otherwise on dev" in shown
    record = verdict["verdict"]["records"][0]
    assert (verdict["outcome"], record["reason"]) == ("inconclusive", "second_judge")
    assert record["second_opinion"]["flipped"]
    line = audit_line(exp)
    assert line["status"] == "not met"
    assert "restart" in line["evidence"]
    assert "4 of 5 fails" in line["evidence"]
    assert "the decision rests on who judges" in (exp.experiment.folder / "conclusion.md").read_text("utf-8")


def worksheet(exp):
    text = (exp.experiment.folder / "runs" / "ratings.csv").read_text("utf-8-sig")
    return list(csv.reader(io.StringIO(text, newline="")))


def fill(exp, lines):
    path = exp.experiment.folder / "runs" / "ratings.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines)


def rate_line(head, line):
    wanted = re.search(r"answer=(yes|no)", line[head.index("input: text")])[1]
    return "9" if line[head.index("output")] == wanted else "0"


def test_a_person_rates_blind_in_a_worksheet(judged):
    with MessagesServer(honest) as server:
        exp = judged(server, "human")
        go(exp, until="dev")
        shown = exp.judge.check().text
        calls = len(server.requests)
        head, *lines = worksheet(exp)
        assert head == ["number", "item", "input: text", "reference", "output", "rating"]
        assert "not rated yet" in shown
        assert all("CANARY" not in cell for cell in shown.split())
        text = (exp.experiment.folder / "runs" / "ratings.csv").read_text("utf-8-sig")
        assert not re.search(r"\bbase\b|quokka", text)
        (revealed,) = exp.experiment.state.all("revealed")
        dev = set(exp.experiment.read_frame("runs/dev.parquet")["id"])
        assert len(revealed.body["ids"]) == 30
        assert set(revealed.body["ids"]) <= dev
        rows = [line[2].split()[0] for line in lines]
        assert rows != sorted(rows)

        half = [[*line[:-1], rate_line(head, line)] for line in lines[: len(lines) // 2]]
        fill(exp, [head, *half, *lines[len(lines) // 2 :]])
        shown = exp.judge.check().text
        assert f"{len(lines) - len(half)} of {len(lines)} are not rated yet" in shown
        assert exp.experiment.state.last("judge_checked") is None

        fill(exp, [head, *([*line[:-1], rate_line(head, line)] for line in reversed(lines))])
        shown = exp.judge.check().text
        body = exp.experiment.state.last("judge_checked").body
        assert (body["second"], body["level"]) == ("human", "trusted")
        assert body["arms"]["quokka"]["rows"] == 30
        assert f"a person: {len(lines)} of {len(lines)} labels" in shown
        assert len(exp.experiment.state.all("revealed")) == 1
        assert len(server.requests) == calls, "no model is asked"
        go(exp)
        assert conclude(exp)["outcome"] == "ship"
    assert audit_line(exp)["status"] == "met"
    assert "a person rated 30 dev rows blind" in (exp.experiment.folder / "conclusion.md").read_text("utf-8")
    assert "30 of 40 dev rows were read" in audit_line(exp, "SG29")["evidence"]


def test_a_person_rates_in_the_terminal_and_goes_on_later(judged, monkeypatch, capsys):
    with MessagesServer(honest) as server:
        exp = judged(server, "human", rows=60)
        go(exp, until="dev")
        folder = exp.experiment.folder
        monkeypatch.setattr("sys.stdin.isatty", lambda: True)

        def answers(limit):
            seen = []

            def prompt(*_, **__):
                text = capsys.readouterr().out
                seen.append(text)
                if len(seen) > limit:
                    return "q"
                wanted = re.search(r"answer=(yes|no)", text)[1]
                return "10" if text.rstrip().endswith(wanted) else "0"

            monkeypatch.setattr("click.prompt", prompt)
            rate_command.rate.main([str(folder)], standalone_mode=False)
            return seen

        first = answers(3)
        assert len(first) == 4
        assert sum(bool(line[-1]) for line in worksheet(exp)[1:]) == 3
        assert not any(re.search(r"\bbase\b|quokka", text) for text in first)
        answers(1000)
    body = exp.experiment.state.last("judge_checked").body
    assert body["answered"] == body["asked"]
    assert body["level"] == "unclear", "12 dev rows are too few"


@pytest.mark.slow
def test_nobody_and_too_late_are_printed_and_refuse_nothing(judged):
    with MessagesServer(honest) as server:
        exp = judged(server, "none")
        go(exp, until="dev")
        assert "nobody checked the judge" in exp.judge.check().text
        go(exp)
        conclude(exp)
        assert exp.experiment.state.all("attempt_refused") == ()
        assert audit_line(exp)["status"] == "not met"
        assert "Nobody checked the judge" in (exp.experiment.folder / "conclusion.md").read_text("utf-8")
        with pytest.raises(IteraError, match="no person is asked"):
            rate_command.rate.main([str(exp.experiment.folder)], standalone_mode=False)

        late = judged(server, "human", name="2026-11-21-late", rows=60)
        go(late)
        decide(late)
        assert "before the test set was opened" in late.judge.check().text
        assert late.experiment.state.all("attempt_refused") == ()


def test_a_second_judge_that_cannot_be_reached_stops_and_goes_on(judged, monkeypatch):
    with MessagesServer(honest) as server:
        exp = judged(server, rows=60)
        go(exp, until="dev")
        monkeypatch.delenv("SECOND_KEY")
        with pytest.raises(IteraError, match="SECOND_KEY"):
            exp.judge.check()
        assert exp.experiment.state.last("judge_checked") is None
        monkeypatch.setenv("SECOND_KEY", "loopback")
        exp.judge.check()
    labels = pd.read_parquet(exp.experiment.folder / "runs" / "judge-check.parquet")
    assert labels["second"].notna().all()


@pytest.mark.slow
def test_run_prints_one_line_and_asks_once(judged):
    with MessagesServer(honest) as server:
        exp = judged(server, rows=60)
        done = in_process("run", exp.experiment.folder, "--yes")
        assert done.code == 0, done.text
        paid = len(server.requests)
        (line,) = [x for x in done.out.splitlines() if x.startswith("  judge ")]
        assert "openai/gpt-5.5: quokka " in line
        cell = (exp.experiment.folder / "notebooks" / "3-run.ipynb").read_text("utf-8")
        assert "against a second opinion, blind" in cell
        assert in_process("run", exp.experiment.folder, "--yes").code == 0
        assert len(server.requests) == paid
