"""The gate as a form, driven as a person drives it: choose, write, press; the record is the headless one."""

import shutil

import pytest

import itera_nb
from itera_nb.diagnosis.judgement import Judgement, objection, open_changes
from itera_nb.exceptions import Refusal
from itera_nb.spec import load_iteration
from itera_nb.widgets import live
from itera_nb.widgets.gate_checklist import GateChecklist

WIDGET = "application/vnd.jupyter.widget-view+json"
ARM = """\
def answer(row):
    words = dict(word.split("=") for word in row["text"].split()[1:])
    right = 0 <= int(words["level"]) < {top}{more}
    return words["answer"] if right else "no" if words["answer"] == "yes" else "yes"
"""
ITERATION = """\
# an idea of Monday
name = "{name}"
parent = "better"   # the registered arm
what = "more levels"
hypothesis = "Rows of <b>high</b> levels are answered too."
predicted_effect = 0.1

[change]  # one
target = "arms/{name}.py:answer"
"""
LITERALS = " or ".join(f'"level={x}" in row["text"]' for x in range(83, 99))
UNTOUCHED = ("# an idea of Monday", "# the registered arm", "[change]  # one")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Where the first test leaves its experiment and its state for the others."""
    return tmp_path_factory.mktemp("sprint")


@pytest.fixture
def sprint(kept, make_experiment, state, tmp_path):
    """A session whose open sprint has a hardcode and a universal change, neither judged."""
    if not (kept / "state").exists():
        session = open_sprint(make_experiment)
        (kept / "folder").write_text(str(session.experiment.folder), "utf-8")
        shutil.copytree(session.experiment.folder, kept / "experiment")
        shutil.copytree(state, kept / "state")
        return session
    folder = tmp_path / "2026-11-21-fees"
    shutil.copytree(kept / "experiment", folder)
    shutil.copytree(kept / "state", state, dirs_exist_ok=True)
    for head in (state / "heads").glob("*.json"):  # they name the folder
        was = (kept / "folder").read_text("utf-8")
        head.write_text(head.read_text("utf-8").replace(was, str(folder)), "utf-8")
    return itera_nb.open(folder)


def open_sprint(make_experiment):
    files = {}
    for name, top, more in (("coded", 80, f" or {LITERALS}"), ("wider", 95, "")):
        files[f"arms/{name}.py"] = ARM.format(top=top, more=more)
        files[f"iterations/queue/{name}.toml"] = ITERATION.format(name=name)
    session = make_experiment(rows=150, run="trials = 1", extra_toml="[iterate]\n", files=files)
    steps = (session.frame.lock, session.source.sample, session.source.audit, session.split.seal)
    for step in (
        *steps,
        session.metric.try_on,
        session.metric.lock,
        session.pilot,
        session.run,
        session.iterate,
    ):
        step()
    return session


@pytest.fixture
def person(monkeypatch):
    """Somebody sits in front of the notebook."""
    monkeypatch.setattr(live, "attended", lambda: True)


def form_of(session):
    experiment = session.experiment
    return GateChecklist(experiment, open_changes(experiment))


def judge(form, change, class_, action, reason):
    part = next(part for part in form.changes if part.change.id == change)
    part.class_.value, part.action.value, part.reason.value = class_, action, reason
    return part


def text_of(session, name):
    return (session.experiment.folder / "iterations" / f"{name}.toml").read_text("utf-8")


def test_a_person_judges_and_records_what_headless_would(sprint):
    form = form_of(sprint)
    assert [part.class_.value for part in form.changes] == ["", ""], "nothing is chosen for a person"
    assert form.record.disabled
    before = text_of(sprint, "coded")
    judge(form, "coded", "hardcode", "delete", "sixteen levels by name")
    wider = judge(form, "wider", "universal", "keep", "")
    assert form.record.disabled
    assert "wider has no class" in form.record.tooltip
    wider.reason.value = "it reads the level"
    assert not form.record.disabled
    assert text_of(sprint, "coded") == before, "nothing is written before the button"
    form.record.click()
    (gate,) = sprint.experiment.state.all("gate")
    assert {c["id"]: (c["class"], c["action"], c["kept"]) for c in gate.body["changes"]} == {
        "coded": ("hardcode", "delete", False),
        "wider": ("universal", "keep", True),
    }
    for name in ("coded", "wider"):
        assert all(line in text_of(sprint, name) for line in UNTOUCHED)
        assert load_iteration(sprint.experiment.path("iterations", f"{name}.toml")).class_
    assert form.record.disabled
    assert all(part.class_.disabled for part in form.changes)
    assert "sprint 1" in form.message.value
    assert sprint.gate().text == sprint.gate().text
    assert len(sprint.experiment.state.all("gate")) == 1, "shown again, not recorded again"
    sprint.lock()
    heads = {line["arm"]: line["head"] for line in sprint.experiment.state.the("locked").body["lines"]}
    assert heads["better"] == "wider"


def test_criteria_tick_themselves(sprint):
    form = form_of(sprint)
    part = form.changes[0]

    def ticked():
        return part.list.value.count('data-met="true"')

    assert ticked() == 0
    part.class_.value = "hardcode"
    assert ticked() == 1
    part.action.value = "keep"
    assert ticked() == 1
    part.action.value = "delete"
    assert ticked() == 2
    part.reason.value = "it names levels"
    assert ticked() == 4
    assert "does not go to the test" in part.list.value


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (("", "", ""), "no class, evidence and action yet"),
        (("universal", "keep", " \n"), "no class, evidence and action yet"),
        (("hardcode", "keep", "it is fine"), "upgraded, lifted out or deleted, not kept"),
        (("cant_tell", "keep", "it is fine"), "upgraded, lifted out or deleted, not kept"),
    ],
)
def test_what_is_not_allowed_is_said_in_the_refusals_own_words(sprint, answers, words):
    form = form_of(sprint)
    judge(form, "wider", "universal", "keep", "it reads the level")
    part = judge(form, "coded", *answers)
    assert form.record.disabled
    assert words in form.record.tooltip
    refusal = objection(part.change, part.judgement)
    assert (refusal.safeguard, refusal.what) == ("SG23", form.record.tooltip)
    part.save()
    judge(form, "wider", "universal", "keep", "it reads the level").save()
    with pytest.raises(Refusal) as headless:
        sprint.gate()
    assert headless.value.what == refusal.what


def test_a_reason_is_wanted_where_the_figures_object(sprint):
    change = next(c for c in open_changes(sprint.experiment) if c.id == "coded")
    assert change.measured.verdict == "hardcode suspected"
    assert "figures say: hardcode suspected" in form_of(sprint).changes[0].list.value
    assert objection(change, Judgement("universal", "keep", "levels are what the rule is about")) is None
    assert objection(change, Judgement("universal", "keep", None)).safeguard == "SG23"


def test_an_edit_in_the_file_meanwhile_is_not_lost(sprint):
    form = form_of(sprint)
    judge(form, "coded", "hardcode", "delete", "it names levels")
    judge(form, "wider", "universal", "keep", "it reads the level")
    path = sprint.experiment.path("iterations", "coded.toml")
    path.write_text('class = "cant_tell"\n# mine\n' + path.read_text("utf-8"), "utf-8")
    form.record.click()
    assert "edited meanwhile" in form.message.value
    assert not sprint.experiment.state.has("gate")
    coded = form.changes[0]
    assert coded.judgement == Judgement("cant_tell", "delete", "it names levels"), (
        "the file's class, the form's rest"
    )
    form.record.click()
    gate = sprint.experiment.state.the("gate")
    assert gate.body["changes"][0]["class"] == "cant_tell"
    assert "# mine" in text_of(sprint, "coded")


def test_what_a_person_writes_may_hold_anything_but_a_key(sprint):
    form = form_of(sprint)
    reason = '<script>alert(1)</script> "quoted"\nsecond line \\ # no comment'
    judge(form, "coded", "hardcode", "delete", reason)
    judge(form, "wider", "universal", "keep", "ghp_abcdefghijklmnopqrstuv")
    form.record.click()
    assert "looks like a key" in form.message.value
    assert "ghp_" not in text_of(sprint, "wider")
    judge(form, "wider", "universal", "keep", "it reads the level")
    form.record.click()
    assert sprint.experiment.state.the("gate").body["changes"][0]["evidence"] == reason
    assert "<script>" not in form.message.value
    assert "<b>high" not in form.changes[0].widget.children[0].value


@pytest.mark.usefixtures("person")
def test_a_form_where_a_person_is_and_its_html_twin(sprint, monkeypatch):
    records = len(sprint.experiment.state.records)
    view = sprint.gate()
    data, _ = view._repr_mimebundle_()
    assert set(data) == {WIDGET, "text/html", "text/plain"}
    assert data["text/html"] == view.html
    for words in ("coded", "hardcode suspected", "not said yet", "not recorded yet"):
        assert words in view.html
        assert words in view.text
    assert "CANARY" not in view.html
    assert len(sprint.experiment.state.records) == records, "looking is not an attempt"
    monkeypatch.undo()
    assert set(view._repr_mimebundle_()) == {"text/html", "text/plain"}


def test_headless_there_is_no_form(sprint):
    with pytest.raises(Refusal, match="no class, evidence and action yet"):
        sprint.gate()
