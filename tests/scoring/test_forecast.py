"""The price of a whole experiment from one row: scaled by prompt sizes, bounded by what is known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itera_nb.models.pricing import price
from itera_nb.scoring.attempts import Attempt
from itera_nb.scoring.forecast import (
    Range,
    Varying,
    judged_range,
    one_call_range,
    prompt_range,
    scaled_usage,
    varying,
)

MODEL = "anthropic/claude-haiku-4-5"


def attempt(inputs=100, outputs=50, **usage):
    usage = {"model": MODEL, "input_tokens": inputs, "output_tokens": outputs, **usage}
    return Attempt("k", "v2", "r1", 0, "ok", usage=[usage], cost_usd=price(usage))


def usd(inputs, outputs):
    return price({"model": MODEL, "input_tokens": inputs, "output_tokens": outputs})


def test_equal_rows_cost_what_the_pilot_row_did():
    found = prompt_range(
        attempt(), [400] * 30, 400, 1000, Varying(usd=1.0, margin=0.0, spread=0.0, ratio=1.0)
    )
    assert found.low == found.usd == found.high == pytest.approx(usd(100, 50))


def test_input_follows_the_prompts_sizes():
    found = prompt_range(attempt(), [800] * 30, 400, 1000, Varying(1.0, 0.0, 0.0, 1.0))
    assert found.usd == pytest.approx(usd(200, 50))


def test_without_a_prompt_baseline_the_output_lies_between_what_was_seen_and_max_tokens():
    found = prompt_range(attempt(), [400] * 30, 400, 1000, None)
    assert found.low == found.usd == pytest.approx(usd(100, 50))
    assert found.high == pytest.approx(usd(100, 1000))


def test_the_output_varies_as_the_baselines_does():
    known = varying([0.1, 0.2, 0.3], [50, 100, 150], 50)
    assert known.ratio == pytest.approx(2)
    found = prompt_range(attempt(), [400] * 30, 400, 1000, known)
    assert found.usd == pytest.approx(usd(100, 100))
    assert found.high == pytest.approx(usd(100, 150))
    assert found.low == pytest.approx(usd(100, 33), rel=0.01)


def test_a_cache_is_read_but_for_the_worst_case():
    written = attempt(inputs=20, cache_creation_input_tokens=2_000)
    found = prompt_range(written, [400] * 30, 400, 1000, Varying(1.0, 0.0, 0.0, 1.0))
    read = {"model": MODEL, "input_tokens": 20, "output_tokens": 50, "cache_read_input_tokens": 2_000}
    assert found.usd == pytest.approx(price(read))
    assert found.high == pytest.approx(written.cost_usd)


def test_a_batch_is_priced_as_such():
    known = Varying(1.0, 0.0, 0.0, 1.0)
    whole, half = (prompt_range(attempt(), [400] * 30, 400, 1000, known, batch=b) for b in (False, True))
    assert half.usd == pytest.approx(whole.usd / 2)


def test_openai_usage_keeps_its_own_fields():
    usage = {"model": "openai/gpt-5-mini", "prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    scaled = scaled_usage(usage, 2.0, 30, cold=False, batch=False)
    assert scaled == {"model": "openai/gpt-5-mini", "prompt_tokens": 200, "completion_tokens": 30}
    assert price(scaled) > price(usage)


def test_unknown_stays_unknown():
    strange = Attempt("k", "v2", "r1", 0, "ok", usage=[{"model": "acme/new", "output_tokens": 5}])
    assert prompt_range(strange, [400], 400, 100, None) is None
    assert varying([0.1, float("nan")], [1, 1], 1) is None
    assert varying([0.1], [1], 1) is None


def test_what_was_measured_has_its_own_error():
    found = varying([0.1, 0.3], [10, 10], 10).row
    assert (found.low, found.usd, found.high) == pytest.approx((0.0, 0.2, 0.2 + 1.2706), rel=1e-4)
    wider = varying([0.4, 0.5, 0.6], [10, 10, 10], 10).row
    assert wider.high - wider.usd == pytest.approx(
        4.3027 * 0.1 / 3**0.5, rel=1e-4
    )  # t of 2 degrees of freedom
    assert one_call_range(0.2).plus(one_call_range(0.1)).times(10).high == pytest.approx(6.0)


@given(
    st.integers(1, 5_000),
    st.integers(1, 2_000),
    st.lists(st.integers(50, 20_000), min_size=1, max_size=40),
    st.integers(50, 20_000),
    st.integers(1, 4_000),
    st.one_of(st.none(), st.builds(Varying, st.just(1.0), st.just(0.1), st.floats(0, 3), st.floats(0.1, 10))),
    st.integers(0, 3_000),
)
def test_the_estimate_lies_in_its_range(inputs, outputs, sizes, own, most, known, cached):
    found = prompt_range(attempt(inputs, outputs, cache_read_input_tokens=cached), sizes, own, most, known)
    assert 0 <= found.low <= found.usd * (1 + 1e-12) <= found.high * (1 + 2e-12)


CALL = Range(1.0, 1.0, 1.0)


def test_equal_outputs_are_one_question_to_a_judge():
    """The low end takes every repeated output as equal, the high end none; the baseline's trials say between."""
    found = judged_range(CALL, [3, 3], pairwise=False, fresh=0.0)
    assert (found.low, found.usd, found.high) == (1, 1.5, 6)
    assert judged_range(CALL, [3, 3], pairwise=False, fresh=1.0).usd == 4.5
    assert judged_range(CALL, [1], pairwise=False, fresh=None) == CALL
    assert judged_range(CALL, [3], pairwise=False, fresh=None).usd == 2


def test_equal_outputs_of_two_arms_may_be_no_question_at_all():
    found = judged_range(CALL, [2, 2, 2], pairwise=True, fresh=0.0)
    assert (found.low, found.usd, found.high) == (0, 2, 8)
    assert judged_range(CALL, [2, 2, 2], pairwise=True, fresh=1.0).usd == 4
