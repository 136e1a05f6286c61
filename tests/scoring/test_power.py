"""Power at the metric's lock: from the sealed counts, the measured baseline and the registered rule."""

import pytest
from world import go

from itera_nb.report.power import power_line, power_view
from itera_nb.scoring.power import power_at_lock, power_expected


def locked(make_experiment, **keys):
    exp = make_experiment(**keys)
    go(exp, until="metric")
    return exp, exp.experiment.state.last("metric_locked").body["power"]


def test_the_lock_carries_the_power_of_the_sealed_rows(make_experiment):
    exp, power = locked(make_experiment, rows=200)
    sealed = exp.experiment.state.last("sealed").body
    assert power["test_rows"] == sealed["counts"]["test"] == 140
    assert [o["truth"] for o in power["odds"]] == [0.0, 0.05, 0.1]
    for o in [*power["odds"], *power["top_up_odds"]]:
        assert sum(o[k] for k in ("ship", "scope", "kill", "inconclusive")) == pytest.approx(1, abs=2e-4)
    nothing, smallest, hoped = power["odds"]
    assert nothing["ship"] < 0.03 < smallest["ship"] < hoped["ship"]
    assert power["top_up_odds"][2]["ship"] > hoped["ship"]
    assert power["baseline"] == pytest.approx(exp.experiment.state.last("baseline_measured").body["value"])
    for name, parts in sealed["slices"].items():
        assert power["slices"][name]["rows"] == parts["test"]
        assert power["slices"][name]["detectable_loss"] == pytest.approx(
            2.8 * (0.2 / parts["test"]) ** 0.5, abs=1e-4
        )


def test_the_same_again(make_experiment):
    exp, power = locked(make_experiment)
    assert power_at_lock(exp.experiment) == power


def test_a_relative_effect_is_resolved_with_the_measured_baseline(make_experiment):
    _, power = locked(make_experiment, rule='min_effect = "10%"\nextension = "none"')
    assert power["min_effect"] == pytest.approx(0.1 * power["baseline"], abs=1e-4)
    assert power["expected"] == pytest.approx(0.2 * power["baseline"], abs=1e-4)
    assert power["top_up_odds"] == []
    assert "a guess: twice the smallest" in power_view(power).text


def test_what_the_baseline_leaves_bounds_the_discordance_and_the_effects(make_experiment):
    _, power = locked(make_experiment, rows=200, accuracy=0.99, effect=0.01, rule="min_effect = 0.12")
    assert power["headroom"] < 0.12
    assert power["discordance"] == pytest.approx(max(2 * power["headroom"], 0.01), abs=1e-3)
    assert [o["truth"] for o in power["odds"]] == [0.0]
    assert power_expected(power) is None
    assert "points to gain: less than is hoped for" in power_view(power).text


def test_no_worse_looks_at_the_margin_and_at_equal_arms(make_experiment):
    rule = 'goal = "no_worse"\nmargin = 0.1\nmin_saving = 0.5'
    _, power = locked(make_experiment, rows=400, rule=rule)
    assert [o["truth"] for o in power["odds"]] == [-0.1, 0.0]
    assert power["odds"][0]["ship"] < 0.03 < power["odds"][1]["ship"]
    assert power_expected(power) == power["odds"][1]["ship"] + power["odds"][1]["scope"]


def test_it_is_shown_where_the_metric_is_locked(make_experiment):
    exp, power = locked(make_experiment, source='cluster = "text"')
    shown = exp.metric.lock()
    for part in ("power of the sealed rows", "truth 0", "+10.0 pp", "tenant=acme", "counted as independent"):
        assert part in shown.html, part
        assert part in shown.text, part
    line = power_line(power)
    assert line.startswith(f"power of {power['test_rows']} test rows: truth 0 kill ")
    assert f"+10.0 pp ship {100 * power_expected(power):.0f} %" in line
