from datetime import UTC, datetime, timedelta

import pytest
from genai_prices import Usage, calc_price
from hypothesis import given
from hypothesis import strategies as st

from itera_nb.exceptions import SpecError
from itera_nb.models.pricing import largest_price, price, prices_version
from itera_nb.spec import ModelSpec, PriceSpec, load_spec

HAIKU = "anthropic/claude-haiku-5-5"
AT = datetime(2026, 11, 1, tzinfo=UTC)
OWN = {
    "input": 1.0,
    "output": 10.0,
    "cache_read": 0.1,
    "cache_write": 1.25,
    "cache_write_1h": 2.0,
    "batch": 0.5,
}


def usd(**usage):
    return price(usage, model=HAIKU, at=AT)


def own(**prices):
    """`[models]` with a price of one's own for `x/m`."""
    return {"x": ModelSpec(prices={"m": PriceSpec(**prices)})}


def test_known_prices_per_million_tokens():
    # $0.10 in, $0.50 out, cache read $0.01, 5-minute write $0.125, 1-hour write $0.20 per million
    assert usd(input_tokens=1000, output_tokens=100) == pytest.approx(0.000150)
    cached = {"cache_read_input_tokens": 200, "cache_creation_input_tokens": 300}
    assert usd(input_tokens=500, output_tokens=100, **cached) == pytest.approx(
        0.00005 + 0.00005 + 0.000002 + 0.0000375
    )
    tiers = {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200}
    assert usd(input_tokens=500, output_tokens=100, **cached, cache_creation=tiers) == pytest.approx(
        0.00005 + 0.00005 + 0.000002 + 0.0000125 + 0.00004
    )


tokens = st.integers(0, 400_000)
times = st.datetimes(datetime(2026, 1, 1), datetime(2027, 6, 1)).map(lambda t: t.replace(tzinfo=UTC))  # noqa: DTZ001


@given(
    st.sampled_from(["claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5", "claude-haiku-4-5"]),
    st.tuples(tokens, tokens, tokens, tokens, tokens),
    st.sampled_from(["standard", "batch", "priority", None]),
    st.sampled_from(["standard", "fast", None]),
    times,
)
def test_anthropics_price_is_that_of_the_price_list(name, counts, tier, speed, at):
    fresh, answered, read, short, long = counts
    usage = {
        "model": f"anthropic/{name}",
        "input_tokens": fresh,
        "output_tokens": answered,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": short + long,
        "cache_creation": {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long},
        "service_tier": tier,
        "speed": speed,
        "inference_geo": "global",
    }
    context = {"processing": "batch"} if tier == "batch" else {}
    context |= {"speed": "fast"} if speed == "fast" else {}
    want = calc_price(
        Usage(
            input_tokens=fresh + read + short + long,
            output_tokens=answered,
            cache_read_tokens=read,
            cache_write_tokens=short + long,
            cache_write_5m_tokens=short,
            cache_write_1h_tokens=long,
        ),
        name,
        provider_id="anthropic",
        genai_request_timestamp=at,
        price_context=context or None,
    )
    assert price(usage, at=at) == pytest.approx(float(want.total_price), rel=1e-12, abs=0)


@given(
    st.sampled_from(["gpt-4o", "gpt-4o-mini", "gpt-5", "o4-mini"]),
    st.tuples(tokens, tokens, tokens),
    st.sampled_from(["default", "flex", "priority", "batch", None]),
    st.booleans(),
    times,
)
def test_openais_price_is_that_of_the_price_list(name, counts, tier, responses, at):
    fresh, read, answered = counts
    asked, said = ("input", "output") if responses else ("prompt", "completion")
    usage = {
        "model": f"openai/{name}",
        f"{asked}_tokens": fresh + read,
        f"{said}_tokens": answered,
        f"{asked}_tokens_details": {"cached_tokens": read},
        "total_tokens": fresh + read + answered,
        "service_tier": tier,
    }
    context = {"processing": "batch"} if tier == "batch" else {"service_tier": tier} if tier else None
    want = calc_price(
        Usage(input_tokens=fresh + read, cache_read_tokens=read, output_tokens=answered),
        name,
        provider_id="openai",
        genai_request_timestamp=at,
        price_context=context,
    )
    assert price(usage, at=at) == pytest.approx(float(want.total_price), rel=1e-12, abs=0)


def test_the_price_is_that_of_the_requests_own_time():
    """Haiku 5.5's batch price began on 2026-10-14."""
    usage = {"model": HAIKU, "input_tokens": 1000, "output_tokens": 0, "service_tier": "batch"}
    began = datetime(2026, 10, 14, tzinfo=UTC)
    assert price(usage, at=began) == price(usage, at=began - timedelta(seconds=1)) / 2


def test_a_sum_of_requests_has_another_price_than_the_requests():
    each = usd(input_tokens=60_000, output_tokens=0)
    assert usd(input_tokens=120_000, output_tokens=0) > 4 * each


@pytest.mark.parametrize("model", [None, "anthropic/no-such-model", "nobody/x", "claude-haiku-5-5"])
def test_unknown_is_unknown_not_free(model):
    assert price({"input_tokens": 10, "output_tokens": 1}, model=model) is None


@pytest.mark.parametrize(
    "usage",
    [
        {"tokens": 5},
        {"input_tokens": "many"},
        {"input_tokens": -5, "output_tokens": 1},
        {"input_tokens": {1}, "output_tokens": 1},
        {"input_tokens": float("nan"), "output_tokens": 1},
        {},
    ],
)
@pytest.mark.parametrize("model", [HAIKU, "openai/gpt-4o", "x/m"])
def test_usage_of_another_shape_is_unknown(usage, model):
    assert price(usage, model=model, models=own(**OWN)) is None


def test_prices_of_ones_own_win_over_the_list():
    models = {"anthropic": ModelSpec(prices={"claude-haiku-5-5": PriceSpec(**OWN)})}
    usage = {"model": HAIKU, "input_tokens": 1000, "output_tokens": 100}
    assert price(usage, models=models) == pytest.approx((1000 * 1 + 100 * 10) / 1e6, rel=1e-12)
    other = {"model": "anthropic/claude-haiku-4-5", "input_tokens": 1000, "output_tokens": 100}
    assert price(other, models=models) == price(other)


def test_each_tier_has_its_own_price():
    usage = {
        "model": "x/m",
        "input_tokens": 1,
        "output_tokens": 10,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 3000,
        "cache_creation": {"ephemeral_5m_input_tokens": 1000, "ephemeral_1h_input_tokens": 2000},
    }
    want = (1 * 1.0 + 10 * 10.0 + 100 * 0.1 + 1000 * 1.25 + 2000 * 2.0) / 1e6
    assert price(usage, models=own(**OWN)) == pytest.approx(want, rel=1e-12)
    batch = usage | {"service_tier": "batch"}
    assert price(batch, models=own(**OWN)) == pytest.approx(want / 2, rel=1e-12)


@pytest.mark.parametrize("asked", ["prompt", "input"])
def test_openais_input_includes_the_cached(asked):
    said = {"prompt": "completion", "input": "output"}[asked]
    usage = {
        "model": "x/m",
        f"{asked}_tokens": 1000,
        f"{said}_tokens": 10,
        f"{asked}_tokens_details": {"cached_tokens": 600},
    }
    assert price(usage, models=own(**OWN)) == pytest.approx((400 * 1 + 600 * 0.1 + 10 * 10) / 1e6, rel=1e-12)


@pytest.mark.parametrize(
    "used",
    [{"cache_read_input_tokens": 1}, {"service_tier": "batch"}, {"speed": "fast"}, {"service_tier": "flex"}],
)
def test_what_prices_toml_does_not_say_is_unknown(used):
    usage = {"model": "x/m", "input_tokens": 5, "output_tokens": 1}
    models = own(input=1.0, output=2.0)
    assert price(usage, models=models) == pytest.approx(7e-6)
    assert price(usage | used, models=models) is None


def test_the_largest_price_bounds_a_call():
    text = "How are the fees? " * 40
    assert largest_price(HAIKU, len(text), 100) >= usd(input_tokens=len(text) // 3, output_tokens=100)
    assert largest_price("anthropic/no-such-model", 100, 100) == 0
    assert largest_price("x/m", 100, 100, models=own(**OWN)) == pytest.approx(1100e-6)
    opus = "anthropic/claude-opus-5-5"
    assert largest_price(opus, 9, 100, params={"speed": "fast"}) > largest_price(opus, 9, 100, params={})


def test_the_price_list_has_a_version():
    assert prices_version().startswith("genai-prices 0.")


@pytest.fixture
def toml(tmp_path):
    path = tmp_path / "experiment.toml"
    path.write_text(
        """\
frame = { question = "Does b beat a?", hypothesis = "It answers more." }
arms.a = { baseline = true, kind = "prompt", prompt = "a.md", model = "x/m", ref = "a.md" }
arms.b = { from = "a", prompt = "b.md", change = "words" }
source = { uri = "d.csv", id = "id", expected = "label" }
models.x = { base_url = "http://127.0.0.1:1/v1" }
""",
        "utf-8",
    )
    return path


def test_prices_toml_joins_the_models(toml):
    (toml.parent / "prices.toml").write_text(
        '["x/m"]\ninput = 1\noutput = 2.5\n\n["y/n/o"]\ninput = 0\noutput = 0\n'
    )
    models = load_spec(toml).models
    assert models["x"].base_url == "http://127.0.0.1:1/v1"
    assert models["x"].prices == {"m": PriceSpec(input=1, output=2.5)}
    assert models["y"].prices == {"n/o": PriceSpec(input=0, output=0)}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('["x/m"]\ninput = 1\noutput = -2\n', 3, "greater than or equal to 0"),
        ('["x/m"]\ninput = 1\n', 1, "required"),
        ('["x/m"]\ninput = 1\noutput = 2\ncache_raed = 3\n', 4, 'did you mean "cache_read"'),
        ('\n["m"]\ninput = 1\noutput = 2\n', 2, "vendor/model"),
        ("[x\n", 1, "toml"),
    ],
)
def test_a_mistake_in_prices_toml_has_its_line(toml, text, line, words):
    (toml.parent / "prices.toml").write_text(text)
    with pytest.raises(SpecError) as raised:
        load_spec(toml)
    assert f"prices.toml:{line}:" in str(raised.value)
    assert words in str(raised.value)


def test_a_changed_prices_toml_is_read_again_and_counts_as_a_change(make_experiment):
    exp = make_experiment().experiment
    assert exp.spec.models == {}
    before = exp.registered(("models",))
    (exp.folder / "prices.toml").write_text('["x/m"]\ninput = 1\noutput = 2\n')
    assert exp.spec.models["x"].prices["m"].output == 2
    assert exp.registered(("models",)) != before
