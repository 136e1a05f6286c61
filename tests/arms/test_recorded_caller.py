"""Results that exist already: looked up, never dropped, never doubled."""

import math
from decimal import Decimal

import pandas as pd
import pytest

from itera_nb.exceptions import DataError

RECORDED = {"kind": "recorded", "inputs": ("row_id",)}


@pytest.fixture
def recorded(called):
    """Answers for ids out of a CSV with these lines."""

    def recorded(text, *ids, trials=(0,), name="f.csv", **spec):
        path = called.write(name, text) if isinstance(text, str) else text
        columns = {} if "score" in spec else {"output": "answer"}
        rows = [{"row_id": i} for i in ids]
        return called.call(*rows, trials=trials, file=path, **RECORDED | columns | spec)

    return recorded


def test_outputs_by_row_and_trial(recorded):
    text = "row_id,answer,attempt,usd,ms\n7,a,2,0.5,12\n7,b,10,,\n8,c,2,0.25,9\n"
    found = recorded(text, "7", "8", trials=(0, 1), trial="attempt", cost_usd="usd", latency_ms="ms")
    assert [(a.status, a.output) for a in found] == [("ok", "a"), ("ok", "b"), ("ok", "c"), ("error", None)]
    assert (found[0].cost_usd, found[0].latency_ms) == (0.5, 12.0)
    assert (found[1].cost_usd, found[1].latency_ms) == (None, None)
    assert found[3].error_type == "NotRecorded"


def test_ids_are_compared_as_text(recorded):
    assert [a.output for a in recorded("row_id,answer\n007,a\n7,b\n", "007", "7")] == ["a", "b"]


def test_scores_are_taken_as_they_are(recorded):
    text = "row_id,correct\n1,true\n2,0.25\n3,no\n4,\n5,n/a\n"
    found = recorded(text, "1", "2", "3", "4", "5", score="correct")
    assert [a.output for a in found] == [1.0, 0.25, 0.0, None, "n/a"]
    assert {a.status for a in found} == {"ok"}


def test_a_score_that_no_log_could_hold_is_unscored(recorded, tmp_path):
    found = recorded("row_id,correct\n1,true\n2,nan\n3,inf\n4,1e999\n", "1", "2", "3", "4", score="correct")
    assert [a.output for a in found] == [1.0, None, None, None]
    path = tmp_path / "f.parquet"
    scores = [Decimal("0.25"), Decimal("1.00"), None]
    pd.DataFrame({"row_id": ["1", "2", "3"], "correct": scores, "half": [0.5, math.inf, 1]}).to_parquet(path)
    assert [a.output for a in recorded(path, "1", "2", "3", score="correct")] == [0.25, 1.0, None]
    assert [a.output for a in recorded(path, "1", "2", "3", score="half")] == [0.5, None, 1.0]


def test_an_empty_output_is_a_failure(recorded):
    [answer] = recorded("row_id,answer\n1,\n2,x\n", "1")
    assert (answer.status, answer.error_type) == ("invalid", "None")


def test_cost_may_be_free(recorded):
    assert recorded("row_id,answer\n1,a\n", "1", "2", cost="free")[1].cost_usd == 0.0


def test_two_lines_for_one_unit_are_refused_by_id(recorded):
    with pytest.raises(DataError, match="two lines for row '1'"):
        recorded("row_id,answer\n1,CANARY\n1,b\n", "1")


@pytest.mark.parametrize("text", ["row,answer\n1,a\n", "row_id,reply\n1,a\n"])
def test_a_missing_column_is_named(recorded, text):
    with pytest.raises(DataError, match="has no column"):
        recorded(text, "1")


def test_other_files(recorded, tmp_path):
    lines = '{"row_id": "1", "answer": ["a", "b"]}\n{"row_id": "2", "answer": {"k": 1}}\n'
    assert [a.output for a in recorded(lines, "1", "2", name="f.jsonl")] == [["a", "b"], {"k": 1}]
    path = tmp_path / "f.parquet"
    pd.DataFrame({"row_id": ["1", "2"], "answer": [1.5, 2.0], "t": [1, 1]}).to_parquet(path)
    assert [a.output for a in recorded(path, "1", "2", trial="t")] == [1.5, 2.0]


def test_outputs_are_json_values(recorded, tmp_path):
    path = tmp_path / "f.parquet"
    days = pd.to_datetime(["2026-11-01", None])
    pd.DataFrame({"row_id": ["1", "2"], "answer": [1.5, math.nan], "day": days}).to_parquet(path)
    assert [(a.status, a.output) for a in recorded(path, "1", "2")] == [("ok", 1.5), ("invalid", None)]
    assert recorded(path, "1", output="day")[0].output.startswith("2026-11-01")
