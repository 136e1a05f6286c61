"""`exp.inspect()` of a real experiment: its tables, its reveals in the ledger, and its static twin."""

import json
import shutil

import numpy as np
import pytest

import itera_nb
from itera_nb.exceptions import Refusal
from itera_nb.report.audit import self_audit
from itera_nb.scoring.progress import HEADLESS
from itera_nb.scoring.runs import part_rows
from itera_nb.widgets import live
from itera_nb.widgets.inspection import rows_of
from itera_nb.widgets.row_views import Query, Views

DEV = 75
WIDER = """\
def answer(row):
    return "<b>yes</b>" if "level=1" in row["text"] else "no"
"""
ITERATION = """\
name = "wider"
parent = "better"
what = "another"
hypothesis = "It answers more."
predicted_effect = 0.1
class = "universal"
evidence = "none"
action = "delete"

[change]
target = "arms/wider.py:answer"
"""


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Where the first test leaves its experiment for the others."""
    return tmp_path_factory.mktemp("kept") / "scored"


@pytest.fixture
def scored(make_experiment, kept, tmp_path):
    """Train and dev are scored, in two trials, and one iteration on dev; a copy for each test."""
    if not kept.exists():
        shutil.copytree(_score(make_experiment), kept)
    return itera_nb.open(shutil.copytree(kept, tmp_path / "copy"))


def _score(make_experiment):
    files = {"iterations/queue/wider.toml": ITERATION, "arms/wider.py": WIDER}
    session = make_experiment(rows=150, extra_toml="[iterate]\n", files=files)
    session.frame.lock()
    session.source.sample()
    session.source.audit()
    session.split.seal()
    session.metric.try_on()
    session.metric.lock()
    session.pilot()
    session.run("train")
    session.run("dev")
    session.iterate()
    return session.experiment.folder


def canaries(session, part):
    return {f"CANARY{row['row_id'][1:]}X" for row in part_rows(session.experiment, part)}


def test_an_experiment_beneath_the_inspector(scored, monkeypatch):
    dev, train = (rows_of(scored.experiment, part) for part in ("dev", "train"))
    assert (dev.candidates, train.candidates) == (["better", "wider"], ["better"])
    assert dev.unread == len(dev) == DEV
    assert train.hidden is None
    arm = dev.arms["wider"]
    assert len(arm.output) == arm.score.shape[1] == 2
    assert {arm.output[0][i] for i in range(DEV)} == {"<b>yes</b>", "no"}
    assert list(train.texts) == ["text", "label"]
    assert set(dev.slices) == {"tenant"}
    scores = scored.experiment.state.scored("dev").body["arms"]
    for name in ("base", "better"):
        assert dev.arms[name].score.mean() == pytest.approx(scores[name]["mean"])
    found = Views(dev).make(Query("better", kind="win"))
    d = dev.values("better", "delta")
    assert sorted(found.order) == list(np.flatnonzero(d >= 0.5))


def test_the_twin_shows_train_text_and_no_dev_text_that_is_not_read(scored):
    view = scored.inspect()
    shown = view.html + view.text
    assert not any(word in shown for word in canaries(scored, "dev"))
    assert f"0 of {DEV} dev rows have been read" in view.text
    assert "(not read)" in view.text
    assert "where wider differs from base" in view.text
    assert view.text.index("dev rows") < view.text.index("train rows")
    assert scored.inspect("train").text.startswith("train rows")
    dev = rows_of(scored.experiment, "dev")
    i = next(
        i
        for i in range(DEV)
        if dev.arms["wider"].output[0][i].startswith("<b>") and dev.kinds("wider")[i] < 2
    )
    scored.reveal(dev.ids[i], "what does it say?")
    again = scored.inspect()
    assert "&lt;b&gt;yes&lt;/b&gt;" in again.html
    assert "<b>yes" not in again.html
    assert f"1 of {DEV} dev rows have been read" in again.text


def test_a_reveal_in_the_widget_is_in_the_ledger_the_pattern_and_the_audit(scored):
    widget = scored.inspect().build()
    sent = []
    widget.send = sent.append
    view = {"part": "dev", "arm": "better"}
    widget._on_message(
        widget, {"n": 1, "ask": "reveal", **view, "at": None, "expected": DEV, "why": "all"}, []
    )
    assert sent == [{"n": 1, "revealed": DEV, "unread": 0}]
    record = scored.experiment.state.last("revealed")
    assert record.body["why"] == "all"
    assert len(record.body["ids"]) == DEV
    widget._on_message(widget, {"n": 2, "ask": "detail", **view, "at": 4, "trial": 1}, [])
    assert sent[1]["texts"][0]["text"].startswith("CANARY")
    line = next(line for line in self_audit(scored.experiment) if line.id == "SG29")
    assert line.evidence.startswith(f"{DEV} of {DEV} dev rows were read: {DEV} to ")
    widget._on_message(widget, {"n": 3, "ask": "reveal", **view, "at": 0, "why": ""}, [])
    assert "error" in sent[2]
    widget.close()


def test_test_rows_are_refused_and_the_attempt_is_recorded(scored):
    for part in ("test", "sealed", "../sealed/test.parquet", ""):
        with pytest.raises(Refusal) as caught:
            scored.inspect(part)
        assert caught.value.safeguard == "SG01"
    assert scored.experiment.state.last("attempt_refused").body["safeguard"] == "SG01"


def test_a_person_gets_the_widget_and_a_headless_run_the_twin(scored, monkeypatch):
    view = scored.inspect()
    assert set(view._repr_mimebundle_()) == {"text/html", "text/plain"}
    monkeypatch.setattr(live, "attended", lambda: True)
    data, _ = view._repr_mimebundle_()
    assert set(data) == {"text/html", "text/plain", "application/vnd.jupyter.widget-view+json"}
    assert data["text/html"] == view.html
    monkeypatch.undo()
    monkeypatch.setenv(HEADLESS, "1")
    assert set(view._repr_mimebundle_()) == {"text/html", "text/plain"}


def test_a_notebook_saved_with_its_widgets_holds_ids_and_settings_only(scored, monkeypatch):
    from ipywidgets import Widget

    monkeypatch.setattr(live, "attended", lambda: True)
    view = scored.inspect("train")
    widget = view.build()
    widget.send = lambda _: None
    for ask in ({"ask": "start", "count": 250}, {"ask": "detail", "part": "train", "arm": "better", "at": 0}):
        widget._on_message(widget, {"n": 1, **ask}, [])
    saved = json.dumps(Widget.get_manager_state(widgets=[widget]), default=str)
    assert "CANARY" not in saved
    widget.close()
