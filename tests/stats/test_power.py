import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from itera_nb.stats.decision import Rule, decide
from itera_nb.stats.paired import paired_delta
from itera_nb.stats.power import closed_form_rows, exact_power, miller_variance, required_rows, rule_of_thumb

SUPERIORITY = [
    (0.05, 0.02, 985), (0.05, 0.05, 157), (0.10, 0.03, 871), (0.10, 0.10, 78), (0.15, 0.02, 2943),
    (0.15, 0.08, 178), (0.15, 0.15, 52), (0.20, 0.03, 1754), (0.20, 0.05, 624), (0.20, 0.10, 154),
    (0.30, 0.02, 5924), (0.30, 0.15, 102), (0.40, 0.05, 1259), (0.40, 0.10, 313),
]  # fmt: skip


@pytest.mark.parametrize(("discordance", "effect", "rows"), SUPERIORITY)
def test_sizes_of_the_specification(discordance, effect, rows):
    assert required_rows(effect, discordance) == pytest.approx(rows, rel=0.01, abs=1)


@pytest.mark.parametrize(
    ("effect", "sizes"),
    [(0.08, {0.15: 179, 0.20: 246, 0.30: 366}), (0.10, {0.15: 114, 0.20: 154, 0.30: 234})],
)
def test_sizes_of_the_default_rule(effect, sizes):
    found = {d: required_rows(effect, d, min_effect=0.05) for d in sizes}
    assert found == pytest.approx(sizes, rel=0.01, abs=1)


def test_sizes_of_the_strict_rule_and_of_a_kill():
    strict = {
        d: required_rows(0.10, d, min_effect=0.05, criterion=lambda x: x.strict) for d in (0.15, 0.20, 0.30)
    }
    assert strict == pytest.approx({0.15: 446, 0.20: 607, 0.30: 926}, rel=0.01)
    kill = {d: required_rows(0.0, d, min_effect=0.05, criterion=lambda x: x.kill) for d in (0.05, 0.15, 0.30)}
    assert kill == pytest.approx({0.05: 177, 0.15: 479, 0.30: 952}, rel=0.01)


def test_rule_of_thumb_has_almost_no_power():
    found = {x.effect: (x.test_rows, round(100 * x.power, 1)) for x in rule_of_thumb()}
    assert found == {0.10: (6, 0.0), 0.05: (16, 1.6), 0.02: (60, 4.0)}
    assert (rule_of_thumb(0.01)[0].test_rows, rule_of_thumb(0.01)[0].power) == (0, 0.0)


def test_a_threshold_at_the_expected_effect_is_never_likely_to_ship():
    for rows in (100, 1_000, 5_000):
        assert exact_power(rows, 0.2, 0.05, min_effect=0.05).ship < 0.52
    with pytest.raises(ValueError, match="power"):
        required_rows(0.05, 0.2, min_effect=0.05)


@given(st.integers(20, 120), st.sampled_from([0.1, 0.3]), st.sampled_from([0.0, 0.05, 0.1]))
def test_enumeration_is_a_probability_and_grows_with_the_effect(rows, discordance, effect):
    weak, strong = (exact_power(rows, discordance, x) for x in (effect - 0.05, effect))
    for odds in (weak, strong):
        assert min(odds.ship, odds.kill, odds.inconclusive) >= -1e-12
        assert odds.strict <= odds.ship + 1e-12
    assert strong.ship >= weak.ship - 1e-9
    assert strong.kill <= weak.kill + 1e-9


def test_enumeration_agrees_with_the_rule_itself():
    rng = np.random.default_rng(9)
    counts = rng.multinomial(60, [0.14, 0.06, 0.80], size=3_000)
    outcomes = [
        decide(paired_delta(np.repeat([1.0, -1.0, 0.0], c), binary=True), Rule()).outcome for c in counts
    ]
    odds = exact_power(60, 0.20, 0.08)
    assert np.mean([x == "pass" for x in outcomes]) == pytest.approx(odds.ship, abs=0.03)
    assert np.mean([x == "kill" for x in outcomes]) == pytest.approx(odds.kill, abs=0.01)


def test_closed_form_is_close_where_it_should_be():
    for effect, rows in ((0.02, 3928), (0.05, 624), (0.08, 244)):
        assert closed_form_rows(effect, 0.2 - effect**2) == pytest.approx(rows, rel=0.03)
    assert closed_form_rows(0.05, 0.2, design_effect=1.4) == pytest.approx(1.4 * closed_form_rows(0.05, 0.2))
    assert miller_variance(0.1, 0.3, 0.3, 3) == pytest.approx(0.3)
    with pytest.raises(ValueError):
        closed_form_rows(0.05, 0.2, null=0.05)


def test_impossible_effects_are_refused():
    with pytest.raises(ValueError, match="impossible"):
        exact_power(100, 0.05, 0.10)
