from datetime import UTC, datetime

import pytest

from itera_nb.models.pricing import largest_price, price, prices_version

HAIKU = "anthropic/claude-haiku-5-5"
AT = datetime(2026, 11, 1, tzinfo=UTC)


def usd(**usage):
    return price(usage, model=HAIKU, at=AT)


def test_known_prices_per_million_tokens():
    # $0.10 in, $0.50 out, cache read $0.01, 5-minute write $0.125 per million
    assert usd(input_tokens=1000, output_tokens=100) == pytest.approx(0.000150)
    assert usd(
        input_tokens=500, output_tokens=100, cache_read_input_tokens=200, cache_creation_input_tokens=300
    ) == pytest.approx(0.00005 + 0.00005 + 0.000002 + 0.0000375)


def test_a_sum_of_requests_has_another_price_than_the_requests():
    each = usd(input_tokens=60_000, output_tokens=0)
    assert usd(input_tokens=120_000, output_tokens=0) > 4 * each


def test_batch_costs_half_and_the_model_may_stand_in_usage():
    standard = usd(input_tokens=1000, output_tokens=100)
    assert usd(input_tokens=1000, output_tokens=100, service_tier="batch") == pytest.approx(standard / 2)
    assert price({"model": HAIKU, "input_tokens": 1000, "output_tokens": 100}, at=AT) == standard


@pytest.mark.parametrize("model", [None, "anthropic/no-such-model", "nobody/x", "claude-haiku-5-5"])
def test_unknown_is_unknown_not_free(model):
    assert price({"input_tokens": 10, "output_tokens": 1}, model=model) is None


def test_usage_of_another_shape_is_unknown():
    assert price({"tokens": 5}, model=HAIKU) is None
    assert price({"input_tokens": "many"}, model=HAIKU) is None


def test_openai_usage_is_read():
    cost = price({"model": "openai/gpt-4o", "prompt_tokens": 1000, "completion_tokens": 100})
    assert cost is not None
    assert cost > 0


def test_the_largest_price_bounds_a_call():
    text = "How are the fees? " * 40
    assert largest_price(HAIKU, len(text), 100) >= usd(input_tokens=len(text) // 3, output_tokens=100)
    assert largest_price("anthropic/no-such-model", 100, 100) == 0


def test_the_price_list_has_a_version():
    assert prices_version().startswith("genai-prices 0.")
