"""A second judge's labels beside the verdict: a flip is inconclusive, agreement changes nothing."""

import json
from dataclasses import replace

import numpy as np
import pytest

from itera_nb.stats.second_opinion import paired_opinion
from itera_nb.verdict.rule import evaluate
from itera_nb.verdict.second_opinion import SecondJudge

N = 300
BASE = (np.arange(N) % 2 == 0).astype(float)
GAIN = np.where(np.arange(N) % 10 == 1, 1.0, BASE)  # 30 rows won, none lost
WON = np.flatnonzero(GAIN > BASE)


@pytest.fixture
def decide(make_spec, make_evidence):
    def of(better, second=None, asked=None, rule='extension = "none"'):
        evidence = make_evidence({"base": BASE, "better": better})
        judge = None
        if second is not None:
            asked = np.arange(N) if asked is None else asked
            labels = np.asarray(better, float).copy()
            labels[asked] = np.asarray(second, float)[asked]
            judge = SecondJudge(
                "openai/gpt-5.5",
                replace(evidence, scores=evidence.scores | {"better": labels.reshape(-1, 1)}),
                {"better": paired_opinion((better - BASE)[asked], (labels - BASE)[asked])},
            )
        return evaluate(make_spec(rule), evidence, {}, {}, np.random.default_rng(1), second=judge)

    return of


def test_a_second_judge_of_the_same_mind_changes_nothing(decide):
    alone, both = decide(GAIN), decide(GAIN, GAIN)
    assert (both.outcome, both.arm) == (alone.outcome, alone.arm) == ("ship", "better")
    found = both.records[0].second_opinion
    assert (found.by, found.outcome, found.flipped, found.level) == (
        "openai/gpt-5.5",
        "ship",
        False,
        "trusted",
    )
    assert (found.agreeing, found.discordant) == (30, 30)
    assert replace(both.records[0], second_opinion=None) == alone.records[0]
    json.dumps(both.as_json(), allow_nan=False)


def test_a_flip_is_inconclusive_and_says_who_would_decide_otherwise(decide):
    doubted = GAIN.copy()
    doubted[WON[:24]] = 0  # the second judge sees the gain on 6 of 30 rows only
    verdict = decide(GAIN, doubted)
    record = verdict.records[0]
    assert (verdict.outcome, record.outcome, record.reason) == (
        "inconclusive",
        "inconclusive",
        "second_judge",
    )
    assert record.second_opinion.flipped
    assert record.second_opinion.level == "restart"
    assert "ship" in record.sentence
    assert record.second_opinion.outcome in record.sentence
    assert "openai/gpt-5.5" in record.sentence
    assert record.estimate == pytest.approx(0.1), "the effect printed stays the registered judge's"


def test_a_kill_that_a_second_judge_does_not_see_is_open_too(decide):
    verdict = decide(BASE, GAIN)
    assert verdict.records[0].second_opinion.outcome == "ship"
    assert (verdict.records[0].outcome, verdict.records[0].reason) == ("inconclusive", "second_judge")


def test_a_second_judge_never_gives_a_pass(decide):
    mixed = GAIN.copy()
    mixed[np.flatnonzero(BASE == 1)[:27]] = 0
    assert decide(mixed).outcome == "inconclusive"
    verdict = decide(mixed, GAIN)
    assert verdict.outcome == "inconclusive"
    assert verdict.records[0].reason != "second_judge"
    assert verdict.records[0].second_opinion.flipped


def test_few_labels_that_do_not_decide_flip_nothing(decide):
    doubted = GAIN.copy()
    doubted[WON[:3]] = 0
    verdict = decide(GAIN, doubted, asked=WON[:15])
    assert verdict.outcome == "ship"
    found = verdict.records[0].second_opinion
    assert (found.agreeing, found.discordant, found.rule_of_thumb) == (12, 15, True)
    assert found.direction_low < 0.60
    assert found.level == "unclear"
