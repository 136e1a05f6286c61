import json
from io import BytesIO

import matplotlib as mpl
import pytest
from click.testing import CliRunner
from matplotlib.colors import to_rgb
from PIL import Image

from itera_nb import cli
from itera_nb.exceptions import DataError
from itera_nb.report.charts import (
    CHARTS,
    DPI,
    HARM,
    WIDTH,
    alt_text,
    arm_bar,
    cost_vs_accuracy,
    forest_plot,
    pictures,
    png,
)

NAMES = ["ship", "scope", "kill", "inconclusive", "hostile", "crowded", "published-only"]


def texts(figure):
    figure.canvas.draw()
    found = [figure.get_suptitle(), *(t.get_text() for t in figure.texts)]
    for axes in figure.axes:
        found += [t.get_text() for t in axes.texts + axes.get_xticklabels() + axes.get_yticklabels()]
        found += [axes.get_xlabel(), axes.get_ylabel(), axes.get_title(loc="left")]
    return [t.replace(r"\$", "$") for t in found if t]


@pytest.mark.parametrize("name", NAMES)
def test_all_three_charts_of_every_outcome_are_one_column_wide(load, name):
    drawn = pictures(load(name))
    assert list(drawn) == ["arm-bar.png", "forest-plot.png", "cost-vs-accuracy.png"]
    for picture in drawn.values():
        with Image.open(BytesIO(picture)) as image:
            assert image.width == pytest.approx(WIDTH * DPI, abs=1)
            assert image.info["dpi"] == pytest.approx((DPI, DPI), abs=1)


def test_a_picture_is_reproducible_and_carries_the_record(load):
    data = load("scope")
    first = pictures(data)
    with mpl.rc_context({"font.size": 20, "text.color": "red", "savefig.dpi": 30, "axes.facecolor": "black"}):
        assert pictures(data) == first
    with Image.open(BytesIO(first["arm-bar.png"])) as image:
        assert image.text == {"itera-record": data["itera"]["record"]["head"]}


def test_drawing_leaves_no_global_state(load):
    from matplotlib import pyplot as plt

    before = dict(mpl.rcParams)
    for draw in CHARTS.values():
        draw(load("scope"))
    assert plt.get_fignums() == []
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(
    ("name", "chart", "title"),
    [
        ("scope", "forest-plot", "char-lr gains 3.9 points, but loses 13.0 on tweets"),
        ("scope", "arm-bar", "char-lr scores 72.3\u00a0% where 71.4\u00a0% was needed"),
        ("scope", "cost-vs-accuracy", "No arm is billed: char-lr gains 3.9 points, +0.4\u00a0ms at p95"),
        ("ship", "forest-plot", "v2 gains 8.5 points; no slice is flagged"),
        ("ship", "cost-vs-accuracy", "v2 gains 8.5 points and costs $0.02 per 1,000 rows (+1 %)"),
        ("kill", "forest-plot", "haiku loses 3.9 points, most on fr (6.0)"),
        ("kill", "cost-vs-accuracy", "haiku loses 3.9 points and saves $2.20 per 1,000 rows (−92 %)"),
        ("inconclusive", "forest-plot", "hybrid is not shown to differ (+4.3 points); no slice is flagged"),
        ("inconclusive", "arm-bar", "hybrid scores 0.580, short of the 0.587 needed"),
    ],
)
def test_a_title_gives_the_finding(load, name, chart, title):
    assert alt_text(load(name), chart) == title
    drawn = CHARTS[chart](load(name)).get_suptitle().replace(r"\$", "$")
    assert drawn.replace("\n", " ") == title


def test_a_harmful_slice_differs_in_colour_and_in_marker(load):
    points = {}
    for line in forest_plot(load("scope")).axes[0].lines:
        if line.get_marker() not in {"None", None, ""}:
            points[round(float(line.get_xdata()[0]), 1)] = (line.get_marker(), to_rgb(line.get_color()))
    assert points[-13.0] == ("X", to_rgb(HARM))
    others = [style for x, style in points.items() if x != -13.0]
    assert len(others) == 4
    assert all(marker != "X" and colour != to_rgb(HARM) for marker, colour in others)


def test_the_forest_shows_zero_the_needed_effect_the_floor_and_the_rows(load):
    figure = forest_plot(load("scope"))
    upright = {
        round(float(line.get_xdata()[0]), 3)
        for line in figure.axes[0].lines
        if len(set(line.get_xdata())) == 1
    }
    assert {0.0, 3.0, -2.0} <= upright
    shown = texts(figure)
    assert {"needed +3", "floor −2", "all 3,880 rows", "tweets  n=812", "−13.0  [−15.2, −10.8]"} <= set(shown)


def test_each_candidate_has_its_panel_and_a_control_has_none(load):
    assert [axes.get_title(loc="left") for axes in forest_plot(load("kill")).axes] == ["haiku", "haiku-terse"]


def test_the_bar_chart_starts_at_zero_and_marks_the_line_to_reach(load):
    data = load("ship")
    axes = arm_bar(data).axes[0]
    assert axes.get_xlim()[0] == 0
    needed = data["test_set_aggregate"]["v1"] + 0.05
    assert any(float(line.get_xdata()[0]) == pytest.approx(needed) for line in axes.lines)
    assert any("± 0.8" in t for t in texts(arm_bar(data)))


def test_price_is_the_axis_where_somebody_pays(load):
    axes = cost_vs_accuracy(load("ship")).axes[0]
    assert "USD" in axes.get_xlabel()
    assert axes.get_xlim()[0] == 0


def test_latency_stands_in_for_a_price_that_is_zero(load):
    assert "latency" in cost_vs_accuracy(load("scope")).axes[0].get_xlabel()


def test_without_price_and_latency_the_chart_says_so(load):
    figure = cost_vs_accuracy(load("published-only"))
    assert figure.axes[0].get_xlabel().startswith("cost and latency are not known")
    assert "not known" in figure.get_suptitle()


def test_an_arm_of_unknown_price_is_named_not_placed_at_zero(load):
    data = load("kill")
    data["arms"][2]["cost_per_1k_usd"] = None
    axes = cost_vs_accuracy(data).axes[0]
    assert "not known: haiku-terse" in axes.get_xlabel()
    assert not any("haiku-terse" in t.get_text() for t in axes.texts)


@pytest.mark.parametrize("chart", CHARTS)
def test_labels_are_literal_text(load, chart):
    shown = " ".join(texts(CHARTS[chart](load("hostile"))))
    assert r"v1 $\frac{x}{0}$ $a_b$" in shown
    assert "<script>" in shown
    assert not {"\u202e", "\u2067", "\x1b", "\x07"} & set(shown)


def test_a_character_that_no_font_has_is_a_box_not_a_warning(load):
    data = load("ship")
    data["slices"][0]["name"] = "\U000e0fff\U0001f9ff 日本語"
    png(forest_plot(data))


@pytest.mark.parametrize("chart", CHARTS)
def test_the_emptiest_file_that_is_valid_is_drawn(load, chart):
    data = load("published-only")
    data["experiment"]["threshold_pct"] = 0
    data["slices"], data["effect_sizes"] = [], {}
    data["test_set_aggregate"] = {"lexicon": 0, "char-lr": 0}
    data["variance_trials"] = {"lexicon": [], "char-lr": []}
    assert png(CHARTS[chart](data)).startswith(b"\x89PNG")


def test_a_wrong_file_writes_nothing(load, tmp_path):
    data, out = load("scope"), tmp_path / "charts"
    del data["effect_sizes"]["char-lr"]["per_slice"]["domain=nyt"]["ci_low"]
    with pytest.raises(DataError, match=r"effect_sizes\.char-lr\.per_slice\.domain=nyt\.ci_low"):
        pictures(data)
    (tmp_path / "data.json").write_text(json.dumps(data), "utf-8")
    done = CliRunner().invoke(cli.itera, ["charts", "--data", str(tmp_path / "data.json"), "--out", str(out)])
    assert isinstance(done.exception, DataError)
    assert not out.exists()
