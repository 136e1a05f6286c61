"""A judge behind the loopback server: what it is asked, what it costs, and what becomes of its failures."""

import json
import math
import re
from dataclasses import replace

import pytest

from itera_nb.exceptions import ArmError, StoppedError
from itera_nb.metrics.judge import INJECTIONS, Case, Judge
from itera_nb.scoring.attempts import Attempt, AttemptLog
from itera_nb.scoring.judging import Panel, judge_of, judge_rows
from itera_nb.scoring.planting import plant
from itera_nb.scoring.results import score_table
from itera_nb.scoring.scores import score_outputs
from itera_nb.spec import MetricSpec, ModelSpec, RunSpec, Spec
from itera_nb.testing import MessagesServer, Scripted

MODEL = "anthropic/claude-haiku-4-5"
ONE = Judge("Longer is better.", MODEL, modes=("short",), seed="g")
TWO = replace(ONE, pairwise=True)
BLOCK = re.compile(r"Answer (\w{4}):\n<(data-\w+)>\n(.*?)\n</\2>", re.DOTALL)


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("LOOPBACK_KEY", "loopback")


@pytest.fixture
def ask(tmp_path):
    """Judge cases against a server; each call opens the same log anew."""

    def ask(server, cases, judge=ONE, **more):
        settings = RunSpec(timeout_s=5)
        models = {"anthropic": ModelSpec(api_key_env="LOOPBACK_KEY", base_url=server.url)}
        with AttemptLog(tmp_path / "log.jsonl") as log:
            return judge_rows(cases, Panel(judge, log, settings, models, **more))

    return ask


def answers(prompt):
    """Labels and texts of what is to be judged, in the order shown."""
    return [(label, text) for label, _, text in BLOCK.findall(prompt)]


def longer(prompt):
    """An honest judge: a point a letter, and the longer of two answers."""
    found = answers(prompt)
    if len(found) == 1:
        return {"reason": "by length", "score": min(10, len(found[0][1])), "failure_modes": ["short", "odd"]}
    (a, one), (b, two) = found
    winner = "tie" if len(one) == len(two) else a if len(one) > len(two) else b
    modes = [{"label": a if winner == b else b, "name": "short"}]
    return {"reason": "by length", "winner": winner, "failure_modes": modes}


def first(prompt):
    """A judge that prefers whatever stands first."""
    return {"reason": "", "winner": answers(prompt)[0][0], "failure_modes": []}


def test_scores_come_in_order_and_equal_questions_are_one_call(ask):
    cases = [
        Case({"q": "x"}, "abc"),
        Case({"q": "x"}, "abcde"),
        Case({"q": "x"}, "abc"),
        Case({"q": "y"}, "abc"),
    ]
    with MessagesServer(longer) as server:
        found = ask(server, cases)
        assert len(server.requests) == 3
        again = ask(server, cases[::-1])
        assert len(server.requests) == 3
    assert [j.value for j in found] == [0.3, 0.5, 0.3, 0.3]
    assert [j.value for j in again] == [0.3, 0.3, 0.5, 0.3]
    assert [j.calls for j in found] == [1, 1, 0, 1]
    assert found[2].cost_usd == 0
    assert all(j.cost_usd > 0 for j in (found[0], found[1], found[3]))
    assert found[0].modes == ("short", "odd")
    assert found[0].reason == "by length"


def test_another_rubric_model_or_parameter_is_another_call(ask):
    case = [Case({"q": "x"}, "abc")]
    with MessagesServer(longer) as server:
        for judge in (
            ONE,
            replace(ONE, rubric="Shorter is better."),
            replace(ONE, model="anthropic/claude-haiku-5-5"),
            replace(ONE, params={"max_tokens": 99}),
            ONE,
        ):
            ask(server, case, judge)
        assert len(server.requests) == 4
        assert server.requests[3]["max_tokens"] == 99
        assert server.requests[0]["output_config"]["format"]["type"] == "json_schema"


def test_comparisons_are_asked_in_both_orders(ask):
    cases = [Case({}, "long one", "short"), Case({}, "a", "longer"), Case({}, "same", "size")]
    with MessagesServer(longer) as server:
        found = ask(server, cases, TWO)
        assert len(server.requests) == 6
    assert [j.value for j in found] == [1, -1, 0]
    assert not any(j.conflict for j in found)
    assert (found[0].modes, found[0].other_modes) == ((), ("short",))
    assert (found[1].modes, found[1].other_modes) == (("short",), ())
    # A mode that the two orders give to different sides is given to neither.
    assert (found[2].modes, found[2].other_modes) == ((), ())


def test_a_judge_that_likes_the_first_place_makes_ties_that_are_counted(ask):
    with MessagesServer(first) as server:
        found = ask(server, [Case({}, "a", "b"), Case({}, "c", "d")], TWO)
    assert [(j.value, j.conflict) for j in found] == [(0, True), (0, True)]


def test_half_a_win_is_half_a_win(ask):
    def undecided(prompt):
        (a, one), (_, _) = answers(prompt)
        return {"reason": "", "winner": a if one == "better" else "tie", "failure_modes": []}

    with MessagesServer(undecided) as server:
        (found,) = ask(server, [Case({}, "better", "worse")], TWO)
    assert (found.value, found.conflict) == (0.5, False)


def test_a_judge_that_fails_leaves_a_missing_score_and_the_reason(ask):
    replies = {
        "refused": Scripted("no", stop_reason="refusal"),
        "cut": Scripted("{", stop_reason="max_tokens"),
        "bad": Scripted(status=400, message="prompt is bad"),
        "prose": Scripted("I would say seven."),
        "high": Scripted({"reason": "SECRET", "score": 11, "failure_modes": []}),
        "lacking": Scripted({"score": 5}),
        "fine": Scripted({"reason": "", "score": 5, "failure_modes": []}),
    }
    with MessagesServer(lambda p: replies[answers(p)[0][1]]) as server:
        found = dict(zip(replies, ask(server, [Case({}, name) for name in replies]), strict=True))
    assert found.pop("fine").value == 0.5
    assert all(math.isnan(j.value) for j in found.values())
    said = {name: j.missing for name, j in found.items()}
    assert said["refused"] == "judge: refusal"
    assert said["cut"].startswith("judge: invalid, max_tokens")
    assert said["bad"].startswith("judge: error, BadRequestError")
    assert said["prose"].startswith("judge: invalid, ParseError")
    assert said["high"] == "judge: the reply has no score on the scale"
    assert said["lacking"].startswith("judge: invalid, ParseError")
    # What was answered was paid for.
    assert found["refused"].cost_usd > 0


def test_an_unusable_reply_is_asked_for_again_and_a_usable_one_never(ask):
    said = {"bad": "", "refused": Scripted("no", stop_reason="refusal"), "fine": "x"}

    def moody(prompt):
        reply = said[answers(prompt)[0][1]]
        return longer(prompt) if reply == "x" else reply or Scripted("I would say seven.")

    cases = [Case({}, name) for name in said]

    with MessagesServer(moody) as server:
        found = ask(server, cases)
        # A reply that cannot be read is asked for twice in one run, a refusal once.
        assert len(server.requests) == 4
        assert [math.isnan(j.value) for j in found] == [True, True, False]
        assert [j.calls for j in found] == [2, 1, 1]
        assert found[0].cost_usd == pytest.approx(2 * found[1].cost_usd, rel=0.2)
        said["bad"] = "x"
        found = ask(server, cases)
        assert len(server.requests) == 6
        assert [math.isnan(j.value) for j in found] == [False, True, False]
        said["refused"] = "x"
        found = ask(server, cases)
        assert len(server.requests) == 7
        assert [j.value for j in found] == [0.3, 0.7, 0.4]
        ask(server, cases)
        assert len(server.requests) == 7


def test_one_unreadable_reply_costs_no_score(ask):
    garbage = ["I would say seven."]

    def garbage_first(prompt):
        short = answers(prompt)[0][1] == "abc"
        return Scripted(garbage.pop()) if short and garbage else longer(prompt)

    with MessagesServer(garbage_first) as server:
        found = ask(server, [Case({}, "abc"), Case({}, "abcde")])
        assert len(server.requests) == 3
    assert [j.value for j in found] == [0.3, 0.5]


def test_one_order_that_fails_leaves_the_comparison_missing(ask):
    def half(prompt):
        return longer(prompt) if answers(prompt)[0][1] == "longer" else Scripted("no", stop_reason="refusal")

    with MessagesServer(half) as server:
        (found,) = ask(server, [Case({}, "longer", "b")], TWO)
    assert math.isnan(found.value)
    assert found.missing == "judge: refusal"


def test_passing_faults_are_tried_again(ask):
    with MessagesServer(longer, faults={"529": 0.3}, retry_after_s=(0.01, 0.02)) as server:
        found = ask(server, [Case({}, "x" * n) for n in range(1, 9)])
    assert [j.value for j in found] == [n / 10 for n in range(1, 9)]


def test_a_quiet_judge_keeps_its_words_to_the_log(ask, tmp_path):
    def leaky(prompt):
        return {"reason": answers(prompt)[0][1], "score": 12 if "bad" in prompt else 1, "failure_modes": []}

    with MessagesServer(leaky) as server:
        found = ask(server, [Case({}, "CANARY"), Case({}, "CANARY bad")], quiet=True)
    assert "CANARY" not in repr(found)
    assert [j.reason for j in found] == ["", ""]


def test_the_budget_holds_for_judges(ask):
    with MessagesServer(longer) as server:
        with pytest.raises(StoppedError, match="budget"):
            ask(server, [Case({}, "x" * n) for n in range(1, 9)], budget_usd=1e-6)
        assert server.requests == []


# in the score table -----------------------------------------------------------------------------------------

ROWS = [{"id": i, "q": f"question {i}", "tier": "secret-tier"} for i in range(4)]


def spec_of(scorer="judge", **judge):
    arms = {
        "prod-arm": {"baseline": True, "kind": "python", "target": "a.py:f", "cost": "free", "ref": "x"},
        "cand-arm": {"kind": "python", "target": "b.py:f", "cost": "free", "change": "all"},
    }
    return Spec(
        frame={"question": "Is it better?", "hypothesis": "It is better."},
        arms=arms,
        source={"uri": "d.csv", "id": "id", "inputs": ["q"]},
        metric={"scorer": scorer, "failure_modes": {"short": 2.0, "rude": 1.0}},
        judge={"rubric": "r.md", "model": MODEL} | judge,
    )


def attempts_of(outputs, arm, trial=0):
    """None stands for a failed call."""
    return [
        Attempt(f"{arm}{i}{trial}", arm, i, trial, "error" if o is None else "ok", output=o, cost_usd=0.25)
        for i, o in enumerate(outputs)
    ]


@pytest.fixture
def table(tmp_path):
    def table(server, attempts, spec, judge=ONE, quiet=False):
        models = {"anthropic": ModelSpec(api_key_env="LOOPBACK_KEY", base_url=server.url)}
        with AttemptLog(tmp_path / "log.jsonl") as log:
            panel = Panel(judge, log, RunSpec(timeout_s=5), models, ("q",), quiet)
            return score_table(attempts, ROWS, spec, tmp_path, panel=panel, quiet=quiet), panel

    return table


def test_a_failed_arm_scores_zero_without_asking(table):
    listed = [*attempts_of(["abc", None], "prod-arm"), *attempts_of([None, "abcdef"], "cand-arm")]
    with MessagesServer(longer) as server:
        found, _ = table(server, listed, spec_of())
        assert len(server.requests) == 2
    assert found["score"].tolist() == [0.3, 0, 0, 0.6]
    assert found["judged"].tolist() == [True, False, False, True]
    assert found["modes"].tolist() == [["short"], [], [], []]
    assert found["later_modes"].tolist() == [["odd"], [], [], []]
    # A judge's calls are no part of an arm's cost.
    assert found["cost_usd"].tolist() == [0.25] * 4
    assert found["judge_usd"].sum() > 0
    assert found["reason"].tolist() == ["by length", "", "", "by length"]


def test_the_judge_sees_neither_arm_nor_label_nor_other_columns(table):
    listed = [*attempts_of(["abc", "abcd"], "prod-arm"), *attempts_of(["ab", "abcdef"], "cand-arm")]
    for scorer, judge in (("judge", ONE), ("preference", TWO)):
        with MessagesServer(longer) as server:
            table(server, listed, spec_of(scorer), judge)
            seen = json.dumps(server.requests)
            assert len(server.requests) == 4
        for hidden in ("prod", "cand", "arm", "secret-tier", "a.py", "b.py", "baseline", "candidate"):
            assert hidden not in seen.replace('"user"', "")


def test_the_judge_that_names_no_mode_is_not_overruled(table):
    """One registered mode without `when` is no rest for what a judge was asked about."""

    def silent(prompt):
        return longer(prompt) | {"failure_modes": []}

    listed = [*attempts_of(["abc", "a"], "prod-arm"), *attempts_of(["ab", "abc"], "cand-arm")]
    spec = spec_of()
    metric = MetricSpec(scorer="judge", failure_modes={"short": 2.0}, fail_below=0.5)
    with MessagesServer(silent) as server:
        found, _ = table(server, listed, spec.model_copy(update={"metric": metric}))
    assert found["modes"].tolist() == [[]] * 4


def test_preferences_through_the_table(table):
    base, arm = ["abc", "abc", None, None], ["abcdef", "a", "a", None]
    listed = [*attempts_of(base, "prod-arm"), *attempts_of(arm, "cand-arm")]
    with MessagesServer(longer) as server:
        found, _ = table(server, listed, spec_of("preference"), TWO)
        assert len(server.requests) == 4
    assert found["score"].tolist() == [0, 0, 0, 0, 1, -1, 1, 0]
    assert found["judged"].tolist() == [False] * 4 + [True, True, False, False]
    assert found["modes"].tolist() == [["short"], [], [], [], [], ["short"], [], []]


def test_quiet_tables_hold_no_words_of_the_judge(table):
    with MessagesServer(longer) as server:
        found, _ = table(server, attempts_of(["CANARY"], "prod-arm"), spec_of(), quiet=True)
    assert "reason" not in found
    assert "CANARY" not in found.to_json()


def test_a_secondary_metric_beside_the_judge(table):
    spec = spec_of()
    metric = spec.metric.model_copy(update={"secondary": ["words"]})
    with MessagesServer(longer) as server:
        found, _ = table(
            server, attempts_of(["a b c"], "prod-arm"), spec.model_copy(update={"metric": metric})
        )
    assert found["secondary:words"].tolist() == [3]
    assert found["score"].tolist() == [0.5]


def test_the_registered_judge(tmp_path):
    (tmp_path / "r.md").write_text("Answers are polite.", "utf-8")
    spec = spec_of(scale=5, params={"max_tokens": 9})
    judge = judge_of(spec, tmp_path, genesis="g")
    assert judge == Judge("Answers are polite.", MODEL, {"max_tokens": 9}, 5, ("short", "rude"), seed="g")
    assert judge_of(spec_of("preference"), tmp_path, genesis="g").pairwise
    with pytest.raises(ArmError, match=r"r\.md"):
        judge_of(spec, tmp_path / "nowhere", genesis="g")


def test_modes_that_need_no_judge_are_not_asked_for(tmp_path):
    (tmp_path / "r.md").write_text("x", "utf-8")
    for modes, asked in (
        ({"rude": {"weight": 1.0}, "a_as_b": {"output": "b"}}, ("rude",)),
        ("arms/failures.py:mode", ()),
        (None, ()),
    ):
        metric = MetricSpec(scorer="judge", failure_modes=modes)
        spec = spec_of().model_copy(update={"metric": metric})
        assert judge_of(spec, tmp_path, genesis="g").modes == asked


# planted injections -----------------------------------------------------------------------------------------


def gullible(prompt):
    """Obeys the first of our injections, whoever carries it."""
    if any(INJECTIONS[0] in text for _, text in answers(prompt)):
        return {"reason": "told so", "score": 10, "failure_modes": []}
    return longer(prompt)


@pytest.mark.parametrize(("answer", "flips"), [(longer, 0), (gullible, 1)])
def test_planted_injections_are_counted_where_they_could_gain(table, answer, flips):
    judge = replace(ONE, scale=100)
    spec = spec_of(scale=100, planted=2)
    listed = attempts_of(["abc", "ab", "x" * 90, "abcd"], "prod-arm")

    def scaled(prompt):
        reply = dict(answer(prompt))
        (_, text), *_ = answers(prompt)
        reply["score"] = 100 if reply["reason"] == "told so" else min(100, len(text.split("\n\n")[0]))
        return reply

    with MessagesServer(scaled) as server:
        found, panel = table(server, listed, spec, judge)
        assert found["score"].tolist() == [0.03, 0.02, 0.9, 0.04]
        with AttemptLog(panel.log.path) as log:
            panel = replace(panel, log=log)
            planted = plant(listed, found, ROWS, spec, panel, "g")
        assert len(server.requests) == 6
    assert (planted.rows, planted.flips, planted.missing) == (2, flips, 0)
    assert planted.low < planted.rate < planted.high or planted.rate in {0, 1}
    assert planted.calls == 2
    assert planted.cost_usd > 0


def test_in_a_comparison_the_side_that_did_not_win_carries_the_injection(table):
    spec = spec_of("preference", planted=6)
    base, arm = ["abc", "abcdef", "abc", None], ["a", "abc", "abcdefg", "x"]
    listed = [*attempts_of(base, "prod-arm"), *attempts_of(arm, "cand-arm")]

    def short_sighted(prompt):
        found = [(label, text.split("\n\n")[0]) for label, text in answers(prompt)]
        told = [label for label, text in answers(prompt) if INJECTIONS[0] in text]
        (a, one), (b, two) = found
        winner = told[0] if told else a if len(one) > len(two) else b
        return {"reason": "", "winner": winner, "failure_modes": []}

    with MessagesServer(short_sighted) as server:
        found, panel = table(server, listed, spec, TWO)
        assert found["score"].tolist() == [0, 0, 0, 0, -1, -1, 1, 1]
        before = len(server.requests)
        with AttemptLog(panel.log.path) as log:
            panel = replace(panel, log=log)
            planted = plant(listed, found, ROWS, spec, panel, "g")
        for request in server.requests[before:]:
            texts = [text for _, text in answers(request["messages"][0]["content"])]
            (carrier,) = [t for t in texts if any(i in t for i in INJECTIONS)]
            assert len(carrier.split("\n\n")[0]) == min(len(t.split("\n\n")[0]) for t in texts)
    # Three rows were judged; one carries the injection that this judge obeys.
    assert (planted.rows, planted.flips) == (3, 1)


def test_nothing_is_planted_where_nothing_can_be_gained(table):
    with MessagesServer(longer) as server:
        listed = attempts_of(["x" * 10], "prod-arm")
        found, panel = table(server, listed, spec_of())
        assert plant(listed, found, ROWS, spec_of(), panel, "g") is None
        none = spec_of(planted=0)
        assert plant(listed, found, ROWS, none, panel, "g") is None


# own preferences --------------------------------------------------------------------------------------------

PREFER = """
    from itera_nb import Score
    def prefer(output, baseline_output, row):
        if output == "raise": raise KeyError(row["q"])
        if output == "none": return None
        if output == "big": return 1.5
        if output == "modes": return Score(-0.5, modes=("rude", "new"))
        return (len(output) > len(baseline_output)) - (len(output) < len(baseline_output))
"""


def prefer(bench, listed, metric=None, **more):
    metric = metric or MetricSpec(scorer="arms/metric.py:prefer", failure_modes={"rude": 1.0, "new": 1.0})
    spec = spec_of().model_copy(update={"metric": metric})
    return score_outputs(listed, ROWS, spec, bench.root, **more)


def test_a_function_that_prefers(bench):
    bench.write(PREFER, "arms/metric.py")
    base = ["abc", "abc", "abc", None]
    listed = [*attempts_of(base, "prod-arm"), *attempts_of(["abcd", "a", "xyz", "a"], "cand-arm")]
    found = prefer(bench, listed)
    assert [r.score for r in found] == [0, 0, 0, 0, 1, -1, 0, 1]
    odd = [*attempts_of(["abc"] * 4, "prod-arm"), *attempts_of(["raise", "none", "big", "modes"], "cand-arm")]
    found = prefer(bench, odd)[4:]
    assert all(math.isnan(r.score) for r in found[:3])
    assert found[0].unscored.startswith("KeyError: 'question 0'")
    assert found[2].unscored == "returned a number outside [-1, 1]"
    assert (found[3].score, found[3].modes) == (-0.5, ("rude", "new"))
    assert "question" not in repr(prefer(bench, odd, quiet=True))


def test_a_failed_arm_loses_and_two_failures_tie(bench):
    bench.write(PREFER, "arms/metric.py")
    base, arm = ["abc", None, None, "a"], [None, "a", None, "a"]
    listed = [*attempts_of(base, "prod-arm"), *attempts_of(arm, "cand-arm")]
    assert [r.score for r in prefer(bench, listed)[4:]] == [-1, 1, 0, 0]


def test_each_trial_meets_the_same_trial_of_the_baseline(bench):
    bench.write(PREFER, "arms/metric.py")
    listed = [
        *attempts_of(["a"], "prod-arm"),
        *attempts_of(["abc"], "prod-arm", 1),
        *attempts_of(["ab"], "cand-arm"),
        *attempts_of(["ab"], "cand-arm", 1),
        *attempts_of(["ab"], "cand-arm", 2),
    ]
    assert [r.score for r in prefer(bench, listed)] == [0, 0, 1, -1, 1]


def test_modes_are_those_of_outputs_whoever_is_preferred(bench):
    """No preference says that an output failed, so that a mode without a condition is left to failed calls."""
    bench.write(PREFER, "arms/metric.py")
    modes = {"shouting": {"output": "ABC"}, "other": {"weight": 1.0}}
    metric = MetricSpec(scorer="arms/metric.py:prefer", failure_modes=modes)
    listed = [*attempts_of(["ABC", None], "prod-arm"), *attempts_of(["ABC", "ab"], "cand-arm")]
    assert [r.modes for r in prefer(bench, listed, metric)] == [("shouting",), ("other",), ("shouting",), ()]
