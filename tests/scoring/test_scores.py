import math

import pytest

from itera_nb.exceptions import ArmError
from itera_nb.scoring.attempts import Attempt
from itera_nb.scoring.scores import mode_weights, score_outputs
from itera_nb.spec import MetricSpec, Spec

ROWS = [{"id": i, "x": f"t{i}", "label": label} for i, label in enumerate("aabb")]


def attempts(*outputs, statuses=()):
    found = []
    for i, output in enumerate(outputs):
        status = statuses[i] if i < len(statuses) else "ok"
        found.append(Attempt(f"k{i}", "v1", i, 0, status, output=output))
    return found


def spec_of(metric, **run):
    arms = {
        "v1": {"baseline": True, "target": "a.py:f", "cost": "free", "ref": "x"},
        "v2": {"target": "b.py:f", "cost": "free", "change": "all"},
    }
    spec = Spec(
        frame={"question": "Is it better?", "hypothesis": "It is better."},
        arms=arms,
        source={"uri": "d.csv", "id": "id", "inputs": ["x"], "expected": "label"},
        run=run,
    )
    return spec.model_copy(update={"metric": metric})


def score(bench, metric, listed, rows=ROWS, *, timeout_s=60.0, **more):
    return score_outputs(listed, rows, spec_of(metric, timeout_s=timeout_s), bench.root, **more)


def test_failed_attempts_score_zero_and_stay(bench):
    listed = attempts("a", None, None, "b", statuses=["ok", "error", "timeout", "ok"])
    got = score(bench, MetricSpec(), listed)
    assert [r.score for r in got] == [1, 0, 0, 1]
    assert [r.unscored for r in got] == [None] * 4


def test_a_label_that_cannot_be_used_leaves_nan(bench):
    rows = [{"id": 0, "label": None}, {"id": 1, "label": "a"}]
    got = score(bench, MetricSpec(), attempts("a", "a"), rows)
    assert math.isnan(got[0].score)
    assert got[0].unscored.startswith("ValueError")
    assert got[0].modes == ()
    assert score(bench, MetricSpec(), attempts("a", "a"), rows, quiet=True)[0].unscored == "ValueError"


OWN = """
    import numpy as np
    from itera_nb import Score
    def metric(output, expected, row):
        if output == "raise": raise KeyError("SECRET " + row["x"])
        if output == "none": return None
        if output == "nan": return float("nan")
        if output == "big": return 1.5
        if output == "text": return "good"
        if output == "crash": import os; os._exit(2)
        if output == "hang": import time; time.sleep(60)
        if output == "score": return Score(0.25, modes=("rude", "unheard_of"))
        if output == "numpy": return np.float64(0.75)
        return output == expected
"""


def test_a_scorer_that_fails_leaves_nan_with_the_reason(bench):
    bench.write(OWN, "arms/metric.py")
    outputs = ["raise", "none", "nan", "big", "text", "crash", "hang", "score", "numpy", "a", "z"]
    rows = [{"id": i, "x": "t", "label": "a"} for i in range(len(outputs))]
    metric = MetricSpec(scorer="arms/metric.py:metric", failure_modes={"rude": 2.0})
    got = score(bench, metric, attempts(*outputs), rows, timeout_s=0.7)
    assert [r.unscored.split(":")[0] for r in got[:7]] == [
        "KeyError",
        "returned None",
        "NaN",
        "returned a number outside [0, 1]",
        "returned str, not a number",
        "Crash",
        "Timeout",
    ]
    assert all(math.isnan(r.score) for r in got[:7])
    assert [r.score for r in got[7:]] == [0.25, 0.75, 1.0, 0.0]
    assert (got[7].modes, got[7].later) == (("rude",), ("unheard_of",))
    quiet = score(bench, metric, attempts("raise"), rows, quiet=True)
    assert "SECRET" in repr(got)
    assert "SECRET" not in repr(quiet)


def test_modes_that_are_no_names_cost_neither_the_score_nor_the_run(bench):
    bench.write(
        """
        MODES = ["rude", None, 5, ["rude", 5], {"rude": 1}]  # of a mapping the keys are the names
        def metric(output, expected, row): return {"value": 0.25, "modes": MODES[output]}
        """,
        "arms/metric.py",
    )
    metric = MetricSpec(scorer="arms/metric.py:metric", failure_modes={"rude": {}, "other": {}})
    got = score(bench, metric, attempts(*range(5)), [{"id": i, "label": "a"} for i in range(5)])
    assert [r.score for r in got] == [0.25] * 5
    assert [(r.modes, r.later) for r in got] == [(("rude",), ()), *[((), ())] * 3, (("rude",), ())]
    assert [bool(r.mode_error) for r in got] == [False, False, True, True, False]


def test_predicates_name_the_modes_of_failed_rows(bench):
    metric = MetricSpec(
        failure_modes={"a_as_b": {"expected": "a", "output": "b", "weight": 2.0}, "other": {"weight": 1.0}}
    )
    got = score(bench, metric, attempts("a", "b", None, "c", statuses=["ok", "ok", "refusal"]))
    assert [r.modes for r in got] == [(), ("a_as_b",), ("other",), ("other",)]
    assert mode_weights(spec_of(metric), bench.root) == {"a_as_b": 2.0, "other": 1.0}
    with pytest.raises(ArmError, match="tennant"):
        score(bench, MetricSpec(failure_modes={"m": {"tennant": "x"}}), attempts("a"))


def test_an_own_function_names_modes_and_later_ones_stay_apart(bench):
    bench.write(
        """
        MODES = {"wrong": 1.0, "worse": 3}
        def mode(output, expected, row):
            if output == "bad": raise RuntimeError("SECRET")
            if output == "odd": return 5
            return {"b": "wrong", "c": ["worse", "new"]}.get(output)
        """,
        "arms/failures.py",
    )
    metric = MetricSpec(failure_modes="arms/failures.py:mode")
    rows = [{"id": i, "label": "a"} for i in range(6)]
    got = score(
        bench, metric, attempts("a", "b", "c", "bad", "odd", None, statuses=["ok"] * 5 + ["error"]), rows
    )
    assert [r.modes for r in got] == [(), ("wrong",), ("worse",), (), (), ()]
    assert [r.later for r in got] == [(), (), ("new",), (), (), ()]
    assert [(r.mode_error or "").split(":")[0] for r in got] == ["", "", "", "RuntimeError", "TypeError", ""]
    assert mode_weights(spec_of(metric), bench.root) == {"wrong": 1.0, "worse": 3.0}
    quiet = score(bench, metric, attempts("bad", "bad"), rows, quiet=True)
    assert "SECRET" not in repr(quiet)


def test_another_scorer_may_be_asked_for(bench):
    rows = [{"id": 0, "label": ["a", "b"]}]
    metric = MetricSpec(scorer="ndcg@10", secondary=["mrr"])
    listed = attempts(["x", "a"])
    assert score(bench, metric, listed, rows, scorer="mrr")[0].score == 0.5
    assert score(bench, metric, listed, rows)[0].score != 0.5
    with pytest.raises(ArmError, match="no scorer"):
        score(bench, metric, listed, rows, scorer="bleu")


def test_a_graded_score_fails_below_its_limit(bench):
    bench.write("def metric(output, expected, row): return output", "arms/metric.py")
    metric = MetricSpec(
        scorer="arms/metric.py:metric", fail_below=0.6, failure_modes={"low": {"weight": 1.0}}
    )
    got = score(bench, metric, attempts(0.59, 0.6))
    assert [r.modes for r in got] == [("low",), ()]
