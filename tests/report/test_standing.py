"""Where an experiment stands, from its ledger alone, and the stepper that shows it."""

import pytest

from itera_nb.ledger import Record
from itera_nb.protocol import PHASES, State
from itera_nb.report.standing import standing, stepper


@pytest.fixture
def steps(make_experiment):
    session = make_experiment(run="trials = 2")

    def after(*acts):
        for act in acts:
            act(session)
        return standing(session.experiment.state)

    return after


def test_nothing_yet(steps):
    found = steps()
    assert (found.phase, found.locked, found.command, found.text) == (
        "0-frame",
        (),
        "itera run",
        "phase 0 of 5",
    )
    assert [s.state for s in found.steps] == ["current"] + ["waiting"] * 5
    assert found.steps[0].why is None
    assert found.steps[1].why == "the frame is not locked yet."
    assert (found.seal.state, found.seal.rows, found.seal.sha256) == ("none", None, None)
    assert [f.id for f in found.figures] == ["noise", "power", "spend"]


def test_each_phase_is_done_when_its_records_are_there(steps):
    found = steps(lambda s: s.frame.lock(), lambda s: s.source.sample(), lambda s: s.split.seal())
    assert [s.state for s in found.steps[:3]] == ["done", "done", "current"]
    assert found.steps[1].took_s > 0
    assert found.seal.state == "sealed"
    assert found.seal.rows > 0
    assert found.text == "phase 2 of 5 \N{MIDDLE DOT} frame locked"
    found = steps(
        lambda s: s.source.audit(),
        lambda s: s.metric.try_on(),
        lambda s: s.metric.lock(),
        lambda s: s.pilot(),
    )
    found = steps(lambda s: s.run("train", trials=1))
    assert found.phase == "3-run", "scores on train alone do not finish the run"
    assert {f.id: f.value for f in found.figures}["noise"].endswith("points")
    assert "test rows" in found.figures[1].note
    found = steps(lambda s: s.run("dev"))
    assert found.phase == "4-diagnose"
    assert found.locked == ("frame", "metric")


def test_the_stepper_is_an_ordered_list_with_one_current_step(steps):
    view = stepper("<b>fees", steps(lambda s: s.frame.lock()))
    assert view.html.count('aria-current="step"') == 1
    assert view.html.count("<li") == 6
    assert "&lt;b&gt;fees" in view.html
    assert "<b>fees" not in view.html
    lines = view.text.splitlines()
    titles = [phase[2:].capitalize() for phase in PHASES]
    assert [title in line for title, line in zip(titles, lines[1:], strict=False)] == [True] * 6
    assert "locked: frame" in view.text
    assert "next: itera run" in view.text


def test_what_the_judge_cost_is_spent_too():
    arms = {"base": {"cost_usd": 0.25}, "better": {"cost_usd": 0.5}}
    body = {"rows": "dev", "iteration": None, "arms": arms, "judge": {"cost_usd": 1.0}}

    def spent(body):
        return standing(State((Record(1, "", "scored", "2026-11-21T10:00:00.000+00:00", body, ""),))).figures[
            2
        ]

    assert (spent(body).value, spent(body).note) == ("$1.75", "train and dev")
    unknown = spent(body | {"judge": {"cost_usd": None}})
    assert (unknown.value, unknown.note) == ("$0.75", "1 of unknown price")
    assert spent(body | {"judge": None}).value == "$0.75"


def test_a_finished_one(finished):
    with finished.entered() as session:
        found = standing(session.experiment.state)
    assert found.phase is None
    assert {s.state for s in found.steps} == {"done"}
    assert found.seal.state == "decided"
    assert found.text.startswith("concluded")
    assert set(found.locked) == {"frame", "metric", "arms"}
