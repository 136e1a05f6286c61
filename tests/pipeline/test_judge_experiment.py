"""An LLM judge behind a loopback server, from the rubric's lock to the page."""

import json
import re

import pandas as pd
import pytest
from world import conclude, decide, go, in_process, open_test

from itera_nb.exceptions import Refusal
from itera_nb.metrics.judge import INJECTIONS
from itera_nb.testing import MessagesServer, Scripted

KEY_ENV = "JUDGE_API_KEY"
RUBRIC = "An answer is good if it names the label of the reference, and bad otherwise."
BLOCK = re.compile(r"Answer (\w{4}):\n<(data-\w+)>\n(.*?)\n</\2>", re.DOTALL)
TOML = """
[judge]
rubric = "rubric.md"
model = "anthropic/claude-haiku-4-5"
planted = 3
{more}

[models.anthropic]
api_key_env = "JUDGE_API_KEY"
base_url = "{url}"
"""
MODES = "failure_modes = { wrong_label = 2.0, rude = 1.0 }"


def answers(prompt):
    return [(label, text) for label, _, text in BLOCK.findall(prompt)]


def right(prompt, text):
    return text.split("\n")[0] == re.search(r"Reference.*?\n<(data-\w+)>\n(.*?)\n", prompt, re.DOTALL)[2]


def judge(prompt):
    """Compares with the reference; its words quote the row, and one injection moves it."""
    found = answers(prompt)
    reason = f"it says {prompt.split('answer=')[1][:3]} of {re.search('CANARY[0-9]+X', prompt)[0]}"
    if len(found) == 2:
        (a, one), (b, two) = found
        good, bad = right(prompt, one), right(prompt, two)
        winner = "tie" if good == bad else a if good else b
        return {"reason": reason, "winner": winner, "failure_modes": []}
    good = right(prompt, found[0][1]) or INJECTIONS[0] in found[0][1]
    modes = [] if good else ["wrong_label", "unheard_of"]
    return {"reason": reason, "score": 9 if good else 2, "failure_modes": modes}


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv(KEY_ENV, "loopback")


@pytest.fixture
def judged(make_experiment):
    def make(server, scorer="judge", more="", **options):
        options = {"rows": 100, "preset": "confirm", "effect": 0.4} | options
        return make_experiment(
            "2026-11-21-judged",
            metric=f'scorer = "{scorer}"\n{MODES}',
            extra_toml=TOML.format(url=server.url, more=more),
            files={"rubric.md": RUBRIC},
            **options,
        )

    return make


@pytest.mark.slow
def test_from_the_rubric_to_the_page(judged):
    with MessagesServer(judge) as server:
        exp = judged(server)
        folder = exp.experiment.folder
        assert RUBRIC in exp.judge.rubric().text
        go(exp)
        calls = len(server.requests)
        go(exp)
        assert len(server.requests) == calls
        body = conclude(exp)
        assert json.dumps(server.requests).count(RUBRIC) == len(server.requests)
        shown = json.dumps([r["messages"] for r in server.requests])
        for hidden in ("arms/", "base.py", "acme", "zeta", "haiku"):
            assert hidden not in shown
        state = exp.experiment.state
        dev = state.scored("dev").body
        logged = [json.loads(x) for x in (folder / "runs" / "attempts.jsonl").read_text().splitlines()]
        asked = [a for a in logged if a["arm"] == "(judge)"]
    assert body["outcome"] == "ship"
    # Equal questions are one call: both arms and both trials of a row that they answer alike.
    assert len(asked) == calls < dev["judge"]["asked"]
    assert 0 < dev["judge"]["calls"] <= calls
    assert dev["judge"]["missing"] == 0
    planted = dev["planted"]
    assert (planted["rows"], planted["flips"]) == (3, 1)
    assert planted["low"] < 1 / 3 < planted["high"]
    # Free arms stay free: the judge's price stands apart.
    assert dev["arms"]["better"]["cost_per_1k_usd"] == 0
    assert dev["judge"]["cost_usd"] > 0
    test = body["verdict"]["judge"]
    assert test["asked"] == 2 * 2 * body["verdict"]["records"][0]["n"]
    assert test["cost_usd"] > 0
    (record,) = body["verdict"]["records"]
    assert 0.15 < record["estimate"] < 0.45
    modes = {m["id"]: m for m in record["failure_modes"]}
    assert modes["wrong_label"]["baseline_count"] > modes["wrong_label"]["arm_count"]
    assert modes["rude"]["arm_count"] == 0
    text = (folder / "conclusion.md").read_text("utf-8")
    assert "Scores are those of a language model (anthropic/claude-haiku-4-5) by a locked rubric." in text
    assert "of 3 outputs that had not passed or won, 1 did with an instruction" in text
    audit = {line["id"]: line for line in json.loads((folder / "data.json").read_text())["itera"]["audit"]}
    assert audit["SG05"]["status"] == "met"
    assert "rubric.md" in audit["SG05"]["evidence"]
    assert in_process("verify", folder).code == 0
    shown = in_process("show", folder)
    assert "judge: " in shown.out
    _nothing_of_the_test_rows(folder)


def _nothing_of_the_test_rows(folder):
    """A judge's words quote rows; those of sealed rows are nowhere but in the source and under the seal."""
    test = pd.read_parquet(folder / "runs" / "test.parquet")
    assert "reason" not in test
    canaries = [f"CANARY{i[1:]}X".encode() for i in test["id"].unique()]
    for path in (p for p in folder.rglob("*") if p.is_file() and p.name != "data.csv"):
        found = path.read_bytes()
        assert not any(c in found for c in canaries), path


def test_a_rubric_edited_after_its_lock_is_refused(judged):
    with MessagesServer(judge) as server:
        exp = judged(server, rows=60)
        go(exp, until="metric")
        rubric = exp.experiment.folder / "rubric.md"
        rubric.write_text("Any answer is good.", "utf-8")
        before = len(server.requests)
        for step in (exp.pilot, lambda: exp.run("dev")):
            with pytest.raises(Refusal) as caught:
                step()
            assert caught.value.safeguard == "SG04"
            assert "rubric.md" in caught.value.what
        assert len(server.requests) == before
        rubric.write_text(RUBRIC, "utf-8")
        exp.pilot()


@pytest.mark.slow
def test_comparisons_in_both_orders(judged):
    with MessagesServer(judge) as server:
        exp = judged(server, "preference", rows=120)
        go(exp)
        body = conclude(exp)
    (record,) = body["verdict"]["records"]
    assert body["outcome"] == "ship"
    assert 0.2 < record["estimate"] < 0.6
    assert body["verdict"]["judge"]["conflicts"] == 0
    text = (exp.experiment.folder / "conclusion.md").read_text("utf-8")
    assert "net win rate" in text
    _nothing_of_the_test_rows(exp.experiment.folder)


def test_rows_without_a_judgement_are_missing_and_can_undo_a_pass(judged):
    moods = []

    def moody(prompt):
        refused = moods and int(re.search("CANARY([0-9]+)X", prompt)[1]) % 5 == 0
        return Scripted("I would rather not.", stop_reason="refusal") if refused else judge(prompt)

    with MessagesServer(moody) as server:
        exp = judged(server, effect=0.2, rows=150)
        go(exp, until="pilot")
        moods.append("tired")
        go(exp)
        rubric, before = exp.experiment.folder / "rubric.md", len(server.requests)
        rubric.write_text("Any answer is good.", "utf-8")
        with pytest.raises(Refusal, match=r"rubric\.md") as caught:
            open_test(exp.experiment)
        assert caught.value.safeguard == "SG04"
        assert len(server.requests) == before
        rubric.write_text(RUBRIC, "utf-8")
        body = decide(exp)
    (record,) = body["verdict"]["records"]
    missing = record["missing"]
    assert missing["unscored"] == body["verdict"]["judge"]["missing"] / 2 > 0
    assert missing["failed_calls"] == 0
    assert missing["worst"] < record["estimate"] < missing["best"]
    assert missing["worst_must_pass"]
    assert (record["outcome"], record["reason"]) == ("inconclusive", "missing_scores")
    modes = {m["id"]: m for m in record["failure_modes"]}
    assert modes["wrong_label"]["arm_count"] < record["n"]


def test_a_garbage_reply_on_the_pilot_row_locks_nothing(judged):
    """The pilot names the judge and says what to do; the next run asks it again, and only where it must."""
    moods = ["sane"]

    def moody(prompt):
        return Scripted("Hm.") if moods[0] == "mad" else judge(prompt)

    with MessagesServer(moody) as server:
        exp = judged(server, rows=60, accuracy=0.0, effect=1.0)  # the arms never answer alike
        go(exp, until="baseline")
        moods[0] = "mad"
        with pytest.raises(Refusal, match="the judge anthropic/claude-haiku-4-5 gave no score") as caught:
            go(exp, until="pilot")
        assert caught.value.safeguard == "SG10"
        assert "run again: itera run" in str(caught.value)
        assert "mend the arm" not in str(caught.value)
        moods[0] = "sane"
        before = len(server.requests)
        go(exp, until="pilot")
        assert 0 < len(server.requests) - before <= 2
        assert exp.experiment.state.has("pilot_passed")
