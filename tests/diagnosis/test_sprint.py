"""Iterations: what a prediction's interval says, and which one a line ends in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from itera_nb.diagnosis.sprint import arm_spec, line_heads, outcome, predicted_mask, root_arm
from itera_nb.exceptions import ArmError
from itera_nb.ledger import Record
from itera_nb.protocol import State
from itera_nb.stats.paired import paired_delta

ARM = {"kind": "python", "target": "b.py:f"}


def delta(low, high):
    found = paired_delta(np.zeros(30))
    return found.__class__(
        **{f: getattr(found, f) for f in found.__slots__}
        | {"low": low, "high": high, "estimate": (low + high) / 2}
    )


def state(*events):
    return State(tuple(Record(n, "", type_, "", body, "") for n, (type_, body) in enumerate(events, 1)))


def iteration(name, parent):
    return ("iteration_registered", {"id": name, "parent": parent, "arm": ARM})


def gate(**kept):
    return ("gate", {"changes": [{"id": i, "kept": k} for i, k in kept.items()]})


@pytest.mark.parametrize(
    ("predicted", "low", "high", "said"),
    [
        (0.10, 0.02, 0.15, "supported"),
        (0.10, 0.02, 0.10, "supported"),
        (0.10, 0.02, 0.09, "neutral"),
        (0.10, -0.01, 0.15, "neutral"),
        (0.10, -0.01, 0.09, "falsified"),
        (0.10, 0.00, 0.09, "falsified"),
        (0.10, -0.20, -0.05, "falsified"),
        (-0.10, -0.15, -0.02, "supported"),
        (-0.10, -0.09, 0.01, "falsified"),
        (-0.10, 0.05, 0.20, "falsified"),
    ],
)
def test_the_interval_against_the_registered_prediction(predicted, low, high, said):
    assert outcome(predicted, delta(low, high)) == said


@given(st.floats(0.01, 1), st.floats(-1, 1), st.floats(-1, 1))
def test_a_prediction_of_a_loss_mirrors_that_of_a_gain(predicted, a, b):
    low, high = sorted((a, b))
    assert outcome(predicted, delta(low, high)) == outcome(-predicted, delta(-high, -low))


def test_a_line_ends_in_its_latest_gate_passed_iteration(make_spec):
    spec = make_spec(arms=("better", "other"))
    made = [iteration("one", "better"), iteration("two", "one"), iteration("three", "other")]
    assert line_heads(spec, state()) == {"better": "better", "other": "other"}
    both = state(*made, gate(one=True, two=True, three=False))
    assert line_heads(spec, both) == {"better": "two", "other": "other"}


def test_the_latest_is_locked_and_not_the_best(make_spec):
    """A kept change that scored less than an earlier one still ends the line; one that was not kept never does."""
    events = [iteration("good", "better"), gate(good=True), iteration("later", "better"), gate(later=True)]
    assert line_heads(make_spec(), state(*events)) == {"better": "later"}
    dropped = [iteration("good", "better"), gate(good=True), iteration("later", "good"), gate(later=False)]
    assert line_heads(make_spec(), state(*dropped)) == {"better": "good"}
    ungated = [iteration("good", "better"), gate(good=True), iteration("open", "good")]
    assert line_heads(make_spec(), state(*ungated)) == {"better": "good"}


def test_the_arm_behind_a_name(make_spec):
    spec = make_spec()
    events = state(iteration("one", "better"), iteration("two", "one"))
    assert root_arm(spec, events, "two") == "better"
    assert arm_spec(spec, events, "two").target == "b.py:f"
    assert arm_spec(spec, events, "better") is spec.arms["better"]
    with pytest.raises(ArmError, match="no arm or iteration 'three'") as caught:
        arm_spec(spec, events, "three")
    assert caught.value.fix == "one of: base, better, one, two"


def test_predicted_rows_are_those_whose_columns_equal_the_values():
    rows = [
        {"tenant": "a", "tier": 1, "tags": ["x"]},
        {"tenant": "b", "tier": 1, "tags": ["x", "y"]},
        {"tenant": "a", "tier": 2, "tags": []},
    ]
    assert predicted_mask(rows, {}).all()
    assert predicted_mask(rows, {"tenant": "a"}).tolist() == [True, False, True]
    assert predicted_mask(rows, {"tenant": "a", "tier": "2"}).tolist() == [False, False, True]
    assert predicted_mask(rows, {"tags": "['x']"}).tolist() == [True, False, False]
