import math

from itera_nb.scoring.attempts import Attempt
from itera_nb.scoring.results import results_table
from itera_nb.scoring.scores import RowScore


def table(**options):
    usage = [{"model": "m", "input_tokens": 5, "cache_read_input_tokens": 10, "output_tokens": 2}] * 2
    attempts = [
        Attempt("a", "v1", 1, 0, "ok", output={"ü": 1}, usage=usage, cost_usd=0.5, latency_ms=9.0),
        Attempt("b", "v1", 1, 1, "error", error="SECRET"),
        Attempt("c", "v1", 2, 0, "ok", output="x"),
        Attempt("d", "v2", 1, 0, "ok", output="y"),
    ]
    scores = [
        RowScore(1.0),
        RowScore(0.0, modes=("m",), later=("n",)),
        RowScore(math.nan, unscored="KeyError"),
        RowScore(0.5),
    ]
    return results_table(attempts, scores, **options)


def test_one_line_an_attempt():
    got = table()
    first, second = got.iloc[0], got.iloc[1]
    assert (first["id"], first["input_tokens"], first["output_tokens"]) == ("1", 30, 4)
    assert first["output"] == '{"ü": 1}'
    assert math.isnan(second["cost_usd"])
    assert math.isnan(second["latency_ms"])
    assert (second["modes"], second["later_modes"]) == (["m"], ["n"])
    assert got["unscored"].tolist()[2] == "KeyError"


def test_outputs_and_error_texts_stay_out_for_test_rows():
    got = table(outputs=False)
    assert "output" not in got
    assert "SECRET" not in got.to_csv()
