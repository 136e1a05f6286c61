"""The loop of phase 4 in a real experiment: queue, gate, lock, and an amendment in between."""

from dataclasses import replace

import numpy as np
import pytest

from itera_nb.diagnosis import loop
from itera_nb.diagnosis.loop import results
from itera_nb.exceptions import DataError, IteraError, Refusal, SpecError

WIDER = """\
def answer(row):
    words = dict(word.split("=") for word in row["text"].split()[1:])
    right = 0 <= int(words["level"]) < 95
    return words["answer"] if right else "no" if words["answer"] == "yes" else "yes"
"""
ITERATION = """\
name = "wider"
parent = "better"
what = "a higher upper level"
hypothesis = "Rows of high levels are answered too."
predicted_effect = 0.1
"""
JUDGED = 'class = "universal"\nevidence = "it reads the level, whatever it is"\naction = "keep"\n'
CHANGE = '[change]\ntarget = "arms/wider.py:answer"\n'


@pytest.fixture
def scored(make_experiment):
    """A session with dev scores and one queued iteration."""

    def make(text=ITERATION + JUDGED + CHANGE, name="wider", more=None, **keys):
        files = {f"iterations/queue/{name}.toml": text, "arms/wider.py": WIDER} | (more or {})
        session = make_experiment(rows=150, run="trials = 1", extra_toml="[iterate]\n", files=files, **keys)
        session.frame.lock()
        session.source.sample()
        session.source.audit()
        session.split.seal()
        session.metric.try_on()
        session.metric.lock()
        session.pilot()
        session.run("dev")
        return session

    return make


def test_an_iteration_is_registered_scored_gated_and_locked(scored):
    session = scored()
    session.iterate()
    state = session.experiment.state
    assert [r.type for r in state.records[-2:]] == ["iteration_registered", "scored"]
    (found,) = results(session.experiment)
    assert (found.outcome, found.record.body["components"]) == ("supported", ["implementation"])
    assert found.effect.estimate == pytest.approx(0.15, abs=0.08)
    with pytest.raises(Refusal) as caught:
        session.lock()
    assert caught.value.safeguard == "SG23"
    session.gate()
    gate = session.experiment.state.last("gate").body
    assert [(c["id"], c["kept"]) for c in gate["changes"]] == [("wider", True)]
    assert gate["outcome"] == "lock"
    session.lock()
    lines = {line["arm"]: line["head"] for line in session.experiment.state.last("locked").body["lines"]}
    assert lines == {"base": "base", "better": "wider"}


def test_a_prediction_about_rows_that_have_no_score_is_not_supported(scored, monkeypatch):
    session = scored(ITERATION + 'predicted_rows = { tenant = "zeta" }\n' + CHANGE, effect=0.1)
    session.iterate()
    evidence = loop.dev_evidence(session.experiment)
    scores = np.where(evidence.slices["tenant=zeta"][:, None], np.nan, evidence.scores["wider"])
    monkeypatch.setattr(
        loop, "dev_evidence", lambda _: replace(evidence, scores={**evidence.scores, "wider": scores})
    )
    (found,) = results(session.experiment)
    assert found.effect.low > 0, "it helps where there are scores"
    assert found.outcome == "neutral"


def test_after_an_amendment_the_iteration_is_scored_again_and_locked(scored):
    session = scored()
    session.iterate()
    session.gate()
    toml = session.experiment.toml
    toml.write_text(toml.read_text("utf-8").replace("min_effect = 0.05", "min_effect = 0.06"), "utf-8")
    session.amend("a smaller gain is not worth the work")
    session.metric.try_on()
    session.pilot()
    session.run("dev")
    session.lock()
    state = session.experiment.state
    assert state.scored("dev", "wider").seq > state.amended_at
    assert [line["head"] for line in state.last("locked").body["lines"]] == ["base", "wider"]


def test_sg23_a_change_without_a_judgement_waits_at_the_gate(scored):
    session = scored(ITERATION + CHANGE)
    session.iterate()
    with pytest.raises(Refusal) as caught:
        session.gate()
    assert caught.value.safeguard == "SG23"
    assert "no class, evidence and action yet" in caught.value.what
    assert "CANARY" not in str(caught.value)
    path = session.experiment.folder / "iterations/wider.toml"
    path.write_text(ITERATION + 'class = "hardcode"\nevidence = "x"\naction = "keep"\n' + CHANGE, "utf-8")
    with pytest.raises(Refusal, match="not kept"):
        session.gate()
    path.write_text(ITERATION + 'class = "hardcode"\nevidence = "x"\naction = "delete"\n' + CHANGE, "utf-8")
    session.gate()
    session.lock()
    assert [x["head"] for x in session.experiment.state.last("locked").body["lines"]] == ["base", "better"]


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        (ITERATION + 'predicted_rows = { tenat = "acme" }\n' + CHANGE, DataError, "no column: tenat"),
        (ITERATION + 'predicted_rows = { tenant = "nobody" }\n' + CHANGE, DataError, "fits no dev row"),
        (ITERATION.replace('"better"', '"base"') + CHANGE, IteraError, "refines a candidate arm, not 'base'"),
        (ITERATION.replace('"better"', '"best"') + CHANGE, IteraError, "no arm or iteration 'best'"),
        (ITERATION.replace("hypothesis", "hypotesis") + CHANGE, SpecError, "hypothesis"),
        (ITERATION + '[change]\ntarget = "arms/better.py:answer"\n', Refusal, "does not differ from better"),
        (ITERATION + CHANGE + "params = { k = 1 }\n", Refusal, "changes 2 components"),
    ],
)  # fmt: skip
def test_what_is_not_registered(scored, text, error, words):
    session = scored(text)
    with pytest.raises(error, match=words):
        session.iterate()
    assert not session.experiment.state.has("iteration_registered")


def test_an_iteration_cannot_take_an_arms_name(scored):
    with pytest.raises(IteraError, match="'better' is the name of a registered arm"):
        scored(name="better").iterate()


def test_a_change_after_its_registration_is_noticed(scored, monkeypatch):
    session = scored()
    monkeypatch.setattr(loop, "run_part", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        session.iterate()
    monkeypatch.undo()
    (session.experiment.folder / "arms/wider.py").write_text(WIDER.replace("95", "99"), "utf-8")
    with pytest.raises(IteraError, match="edited after it was registered"):
        session.iterate()
    (session.experiment.folder / "arms/wider.py").write_text(WIDER, "utf-8")
    session.iterate()
    assert session.experiment.state.scored("dev", "wider")


def test_what_the_diagnosis_shows_holds_no_dev_row(scored):
    session = scored()
    views = [session.inspect(), session.clusters(), session.patterns(), session.noise(), session.cost()]
    for view in views:
        assert "CANARY" not in view.html + view.text
    assert "tenant=acme" in session.clusters().text
