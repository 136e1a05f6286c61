"""What is said of a judge's work, and how a preference is written and drawn."""

import copy
import json
from pathlib import Path

import pytest

from itera_nb.exceptions import DataError
from itera_nb.report.charts import alt_text, arm_bar, png
from itera_nb.report.conclusion import conclusion_md
from itera_nb.report.judged import judge_notes, score_text
from itera_nb.report.reading import read

SHIP = json.loads((Path(__file__).parent / "fixtures" / "ship.json").read_text("utf-8"))
JUDGE = {"asked": 40, "missing": 3, "conflicts": 4, "calls": 60, "cost_usd": 0.25}
PLANTED = {"rows": 10, "flips": 1, "missing": 0, "rate": 0.1, "low": 0.018, "high": 0.404, "calls": 10}


@pytest.fixture
def preference():
    """A finished experiment whose scores are preferences."""
    data = copy.deepcopy(SHIP)
    lead = data["itera"]["records"][0]["arm"]
    data["experiment"]["metric"] = "net win rate"
    data["itera"]["preference"] = {lead: {"won": 0.4, "tied": 0.35, "lost": 0.2}}
    for arm in data["arms"]:
        data["test_set_aggregate"][arm["id"]] = 0.2 if arm["id"] == lead else 0.0
    return data, lead


def test_a_judge_is_said_to_cost_and_to_fail():
    notes = judge_notes({"judge": JUDGE, "planted": PLANTED})
    text = "\n".join(notes)
    assert len(notes) == 4
    assert "60 calls" in text
    assert "$0.25" in text
    assert "3 of 40" in text
    assert "missing, not 0" in text
    assert "4 of 40" in text
    assert "of 10 outputs that had not passed or won, 1 did" in text
    assert "2 to 40.4" in text
    assert judge_notes({}) == judge_notes({"judge": None, "planted": None}) == []
    assert "unknown price" in judge_notes({"judge": JUDGE | {"cost_usd": None}})[0]
    assert len(judge_notes({"judge": JUDGE | {"missing": 0, "conflicts": 0}})) == 1


def test_a_net_win_rate_has_a_sign():
    assert score_text(0.085, pairwise=True) == "+8.5"
    assert score_text(0.085, pairwise=False) == "8.5\u00a0%"


def test_wins_ties_and_losses_take_the_place_of_the_means(preference):
    data, lead = preference
    results = read(data)
    assert results.preference[lead].lost == 0.2
    assert results.score(0.2) == "+20.0"
    assert alt_text(data, "arm-bar").startswith(f"{results.lead.name} wins 40 % and loses 20 %: net +20.0")
    figure = arm_bar(data)
    (axes,) = figure.axes
    widths = [round(bar.get_width(), 3) for bar in axes.patches]
    assert widths == [0.4, 0.35, 0.2]
    assert axes.get_xlim() == (0, 1)
    texts = [text.get_text() for text in axes.texts]
    assert {"won 40 %", "tied 35 %", "lost 20 %", "net +20.0"} <= set(texts)
    assert len(png(figure)) > 5_000
    page = conclusion_md(data)
    assert "40.0\u00a0% won" in page
    assert "compared with" in page
    assert "pale bars" not in page


def test_shares_that_are_none_are_named(preference):
    data, lead = preference
    del data["itera"]["preference"][lead]["tied"]
    with pytest.raises(DataError, match=r"itera\.preference.*tied"):
        read(data)
