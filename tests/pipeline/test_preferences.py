"""A scorer that prefers one output to another, from the frame to the page: the effect is a net win rate."""

import json
import re

import pytest
from world import conclude, decide, go, in_process

from itera_nb.scoring.runs import run_part

PREFER = """
from pathlib import Path


def prefer(output, baseline_output, row):
    return (output == row["label"]) - (baseline_output == row["label"])


def prefer_or_fail(output, baseline_output, row):
    if Path("{flag}").exists() and int(row["text"][6:11]) % 8 == 0:
        raise ValueError("no opinion")
    return prefer(output, baseline_output, row)
"""
SCORER = 'scorer = "arms/metric.py:prefer"'


def record_of(body):
    (record,) = body["verdict"]["records"]
    return record


@pytest.fixture
def flag(tmp_path):
    """While this file is there, `prefer_or_fail` has no opinion on an eighth of the rows."""
    return tmp_path / "no-opinion"


@pytest.fixture
def preferring(make_experiment, flag):
    def make(metric=SCORER, rows=120, **more):
        files = {"arms/metric.py": PREFER.replace("{flag}", str(flag))}
        return make_experiment(rows=rows, preset="confirm", metric=metric, files=files, **more)

    return make


@pytest.mark.slow
def test_a_net_win_rate_is_decided_on_and_explained(preferring):
    exp = preferring(effect=0.3, discordance=0.4)
    go(exp, until="seal")
    assert "compared with itself" in exp.metric.try_on().text
    go(exp)
    assert "better +" in in_process("run", exp.experiment.folder).out
    body = conclude(exp)
    record, arms = record_of(body), body["verdict"]["arms"]
    shares = arms["better"]["preference"]
    assert body["outcome"] == "ship"
    assert record["estimate"] == pytest.approx(shares["won"] - shares["lost"])
    assert record["estimate"] == pytest.approx(arms["better"]["mean"])
    assert shares["won"] > 0.2 > shares["lost"] > 0
    assert arms["base"]["mean"] == 0
    assert record["noise"]["deterministic"]
    folder = exp.experiment.folder
    text = (folder / "conclusion.md").read_text("utf-8")
    assert "points of net win rate" in text
    assert "A net win rate says which output was preferred, not that either is good." in text
    assert "% won" in text
    assert re.search(r"better wins \d+ % and loses \d+ %: net \+", text)
    data = json.loads((folder / "data.json").read_text("utf-8"))
    assert data["experiment"]["metric"] == "net win rate"
    assert set(data["itera"]["preference"]) == {"better"}
    assert (folder / "charts" / "arm-bar.png").stat().st_size > 10_000
    assert in_process("verify", folder).code == 0
    assert "won " in in_process("show", folder).out


def test_an_arm_that_fails_loses(preferring):
    broken = """
    def answer(row):
        raise RuntimeError("down")
    """
    exp = preferring(arms={"broken": broken})
    go(exp, until="metric")
    power = exp.experiment.state.last("metric_locked").body["power"]
    assert (power["discordance"], power["discordance_measured"], power["baseline"]) == (0.6, False, None)
    assert "baseline 0" not in exp.metric.lock().text
    table = run_part(exp.experiment, "dev", exp.experiment.spec.arms, trials=1).table
    assert set(table.loc[table["arm"] == "broken", "score"]) == {-1.0}
    assert set(table.loc[table["arm"] == "base", "score"]) == {0.0}


def test_missing_preferences_are_bounded_from_minus_one_to_one(preferring, flag):
    exp = preferring(metric='scorer = "arms/metric.py:prefer_or_fail"', effect=0.4)
    go(exp, until="pilot")
    flag.touch()  # not before: an eighth of the rows have no opinion then, and the pilot's could be one of them
    for step in (lambda: exp.run("train", trials=1), lambda: exp.run("dev"), exp.iterate, exp.gate, exp.lock):
        step()
    record = record_of(decide(exp))
    missing, n = record["missing"], record["missing"]["rows"]
    share = missing["unscored"] / (n * record["trials"])
    assert 0.05 < share < 0.25
    assert missing["worst"] == pytest.approx(record["estimate"] * (1 - share) - share, abs=0.02)
    assert missing["best"] == pytest.approx(record["estimate"] * (1 - share) + share, abs=0.02)
    assert missing["worst_must_pass"]


def test_an_iteration_is_compared_with_the_recorded_baseline(preferring):
    exp = preferring()
    go(exp, until="dev")
    log = exp.experiment.folder / "runs" / "attempts.jsonl"
    before = log.read_bytes()
    spec = exp.experiment.spec
    alone = run_part(exp.experiment, "dev", {"better": spec.arms["better"]}, trials=2).table
    assert log.read_bytes() == before
    assert set(alone["arm"]) == {"better"}
    full = exp.experiment.read_frame("runs/dev.parquet")
    assert alone["score"].tolist() == full.loc[full["arm"] == "better", "score"].tolist()


@pytest.mark.slow
def test_two_arms_that_both_win_are_compared_through_the_baseline(preferring):
    arms = {
        name: f"""
        def answer(row):
            words = dict(word.split("=") for word in row["text"].split()[1:])
            right = int(words["level"]) < {top}
            return words["answer"] if right else ("no" if words["answer"] == "yes" else "yes")
        """
        for name, top in {"good": 80, "best": 100}.items()
    }
    exp = preferring(rows=200, arms=arms)
    go(exp)
    body = decide(exp)
    assert body["outcome"] == "ship"
    assert body["arm"] == "best"
    assert body["verdict"]["chosen_because"].startswith("shown to be better")
