"""The frame's form, driven by its inputs and buttons: what it writes, what it never loses, what it refuses."""

import re
import time
import tomllib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from itera_nb.editing import with_values
from itera_nb.spec import load_spec, parse_spec
from itera_nb.widgets import frame_form, live
from itera_nb.widgets.forms import Fields, number
from itera_nb.widgets.frame_form import FrameForm

COMMENTED = """\
# head of the file
[frame]  # the frame
question   = "Does better win on these rows?"   # why we ask
hypothesis = '''It answers
more rows.'''
expected_effect = 0.10              # a guess of Monday

[arms.base]
baseline = true # today
kind = "python"
target = "a.py:f"
ref = "a.py:1"

# between the arms
[arms.better]
from = "base"
target = "b.py:f"
change = "code"     # one thing

[source]
uri = "d.csv"  # the data
id = "id"
expected = "label"
slices = [ "tenant", "tier" ]   # two

[rule]
max_slice_loss = 2e-2   # as written
min_effect = "5pp"  # five
extension = "once" # last

# tail of the file
"""
SHAPES = {
    "as it is": lambda text: text,
    "no newline at the end": lambda text: text[: text.index(" # last")],
    "Windows": lambda text: text.replace("\n", "\r\n"),
    "arms apart": lambda text: text.replace(
        "[arms.better]", "[report]\n# apart\nexamples = false\n\n[arms.better]"
    ),
    "a table in the split": lambda text: (
        text + '[[split.require]]\ncolumn = "tier"\nvalue = "a"\ncount = 1\n'
    ),
    "no table for the rule": lambda text: (
        text.replace("[rule]", "[rule]\nmargin = 0.01\n[run]\n[claim]\nseen = true\n[metric]")
        .replace("max_slice_loss", "tolerance")
        .replace('min_effect = "5pp"', "fail_below = 0.5")
        .replace('extension = "once"', 'scorer = "exact"')
    ),
}
KEYS = {
    ("frame", "question"): st.text(min_size=8, max_size=40).filter(
        lambda s: s.strip() == s and "sk-" not in s
    ),
    ("frame", "expected_effect"): st.none() | st.floats(0, 1),
    ("arms", "better", "change"): st.text(min_size=1, max_size=30).filter(lambda s: s.strip() == s),
    ("arms", "base", "ref"): st.sampled_from(["src/a.py:12", 'a "b" # c']),
    ("rule", "min_effect"): st.sampled_from([0.05, 0.1, "5pp", "10%", "7.5 pp"]),
    ("rule", "max_slice_loss"): st.none() | st.floats(0, 1),
    ("rule", "max_cost_increase"): st.none() | st.floats(0, 10),
    ("rule", "extension"): st.none() | st.sampled_from(["once", "none"]),
    ("split", "preset"): st.none() | st.sampled_from(["iterate", "confirm"]),
    ("run", "trials"): st.none() | st.integers(1, 9) | st.just("auto"),
    ("run", "budget_usd"): st.none() | st.floats(0, 1e6) | st.integers(0, 9),
}


@pytest.fixture
def form(make_experiment, monkeypatch):
    monkeypatch.setattr(frame_form, "source_rows", lambda _: 200)  # a process of its own, once a form
    session = make_experiment(rows=200, rule="min_effect = 0.05  # five points")
    return FrameForm(session.experiment, session.frame.lock)


def put(form, dotted, value):
    form.fields.inputs[tuple(dotted.split("."))].widget.value = value


def fault(form, dotted):
    return form.faults[tuple(dotted.split("."))].value


def text_of(form):
    return form._experiment.toml.read_text("utf-8")


def at(raw, key):
    for part in key:
        raw = raw.get(part, {}) if isinstance(raw, dict) else {}
    return raw if raw != {} else None


@given(st.fixed_dictionaries({}, optional=KEYS), st.sampled_from(sorted(SHAPES)))
@settings(max_examples=200, deadline=None)
def test_set_values_are_read_back_and_every_comment_and_other_line_stays(tmp_path_factory, values, shape):
    path = tmp_path_factory.getbasetemp() / "experiment.toml"
    start = SHAPES[shape](COMMENTED)
    text = with_values(start, values)
    raw, before = tomllib.loads(text), tomllib.loads(start)
    for key, value in values.items():
        assert at(raw, key) == value
        for table in (raw, before):
            at(table, key[:-1]) and at(table, key[:-1]).pop(key[-1], None)
    assert {k: v for k, v in raw.items() if v} == {k: v for k, v in before.items() if v}, (
        "nothing else is changed"
    )
    comments = sorted(re.findall(r"# [\w ]+\w", start))
    assert sorted(re.findall(r"# [\w ]+\w", text)) == comments or any("#" in str(v) for v in values.values())
    parse_spec(text, path)
    assert with_values(text, values) == text
    untouched = [line for line in start.splitlines() if not any(k[-1] in line for k in values)]
    lines = text.splitlines()
    assert [line for line in untouched if line] == [line for line in lines if line and line in untouched]


@given(
    st.sampled_from(sorted(KEYS)),
    st.sampled_from(["0.05", "5pp", "auto", "3", "", "x", "nan", "1e999", '"', "# a"]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_save_then_a_load_gives_the_form_s_spec_or_nothing(form, key, typed):
    given_ = form.fields.inputs[key].widget
    if hasattr(given_, "options"):
        given_.value = given_.options[-1][1]
    else:
        given_.value = typed
    before, changed = text_of(form), form.fields.changed()
    if form.save.disabled:
        form.save.click()  # what a disabled button would do
        assert text_of(form) == before or not any(x.value for x in form.faults.values())
        form.fields.reload(before)
        for k, value in changed.items():
            form.fields.inputs[k].show(at(tomllib.loads(before), k))
            assert value != form.fields.inputs[k].value()
        form.refresh()
        return
    meant = parse_spec(with_values(before, changed), form._experiment.toml)
    form.save.click()
    assert load_spec(form._experiment.toml) == meant
    assert "# five points" in text_of(form)
    assert not form.fields.changed()


def test_only_what_was_touched_is_written(form):
    before = text_of(form)
    assert form.save.disabled
    form.write()
    assert text_of(form) == before
    put(form, "frame.question", "Does it answer more rows of Monday?")
    assert not form.save.disabled
    assert form.lock.disabled
    assert "not saved yet: frame.question" in form.message.value
    form.save.click()
    assert text_of(form) == before.replace(
        "Should better replace base on these rows?", "Does it answer more rows of Monday?"
    )


@pytest.mark.parametrize(
    ("key", "typed", "words"),
    [
        ("frame.question", "", "this key is required"),
        ("frame.question", "Why?", "at least 8 characters"),
        ("frame.expected_effect", "10%", "valid number"),
        ("rule.min_effect", "5", "expected a fraction between 0 and 1"),
        ("rule.min_effect", "<b>", "(got &#x27;&lt;b&gt;&#x27;)"),
        ("rule.margin", "2", "less than or equal to 1"),
        ("run.trials", "0", "greater than or equal to 1"),
        ("run.budget_usd", "-1", "greater than or equal to 0"),
    ],
)
def test_a_fault_stands_beside_its_field_in_the_spec_s_own_words(form, key, typed, words):
    before = text_of(form)
    put(form, key, typed)
    assert words in fault(form, key)
    assert [k for k, shown in form.faults.items() if shown.value] == [tuple(key.split("."))]
    assert form.save.disabled
    assert form.lock.disabled
    assert form.power.value == ""
    assert text_of(form) == before


def test_a_fault_between_fields_is_said_below(form):
    put(form, "rule.goal", "no_worse")
    assert "needs `margin`" in form.message.value
    put(form, "rule.margin", "0.03")
    assert "needs `min_saving`" in form.message.value
    put(form, "rule.min_saving", "0.5")
    assert not form.save.disabled
    form.save.click()
    assert form._experiment.spec.rule.margin == 0.03


def test_power_follows_the_fields_quickly(form):
    def ships():
        return [int(x) for x in re.findall(r"</td><td>(\d+)</td>", form.power.value)]

    assert "power of 140 test rows" in form.power.value
    many = ships()
    put(form, "split.preset", "iterate")
    assert "power of 40 test rows" in form.power.value
    assert ships() != many
    times = []
    for n in range(5):
        start = time.perf_counter()
        put(form, "rule.min_effect", f"0.{n + 4:02d}")
        times.append(time.perf_counter() - start)
    assert sorted(times)[2] < 0.3, "median of five, seconds"


def test_power_is_of_the_source_that_the_edited_file_names(form, monkeypatch):
    assert "power of 140 test rows" in form.power.value
    monkeypatch.setattr(frame_form, "source_rows", lambda _: 1000)
    form._experiment.toml.write_text(text_of(form).replace("data.csv", "more.csv"), "utf-8")
    form.look()
    assert "power of 700 test rows" in form.power.value


def test_somebody_s_edit_in_the_file_is_taken_over_not_lost(form):
    put(form, "rule.min_effect", "0.07")
    put(form, "run.trials", "4")
    path = form._experiment.toml
    path.write_text(
        text_of(form)
        .replace("trials = 2", "trials = 5")
        .replace("[frame]", "# theirs\n[frame]\nnovelty = true"),
        "utf-8",
    )
    edited = text_of(form)
    form.save.click()
    assert text_of(form) == edited, "nothing is written over it"
    assert "edited meanwhile (run.trials)" in form.message.value
    assert form.fields.inputs[("run", "trials")].widget.value == "5"
    assert form.fields.inputs[("rule", "min_effect")].widget.value == "0.07", "what was typed elsewhere stays"
    form.save.click()
    assert text_of(form) == edited.replace(
        "min_effect = 0.05  # five points", "min_effect = 0.07  # five points"
    )


def test_an_arm_that_was_added_meanwhile_gets_its_field(form):
    arm = '[arms.third]\nfrom = "base"\ntarget = "arms/better.py:answer"\nchange = "a third"\n\n[source]'
    form._experiment.toml.write_text(text_of(form).replace("[source]", arm), "utf-8")
    form.look()
    assert "edited meanwhile" in form.message.value
    assert form.fields.inputs[("arms", "third", "change")].widget.value == "a third"


@pytest.mark.parametrize("broken", ["[frame\n", '[frame]\nqestion = "Should it replace base?"\n'])
def test_a_file_broken_meanwhile_is_said_and_left_alone(form, broken):
    put(form, "rule.min_effect", "0.07")
    form._experiment.toml.write_text(broken, "utf-8")
    form.save.click()
    assert "edited meanwhile; nothing was written" in form.message.value
    assert "experiment.toml:" in form.message.value
    assert text_of(form) == broken
    assert form.fields.inputs[("rule", "min_effect")].widget.value == "0.07"


def test_it_locks_what_is_saved_and_is_read_only_then(form):
    form.lock.click()
    state = form._experiment.state
    locked = state.the("frame_locked")
    assert f"record {locked.seq}" in form.message.value
    assert form.save.disabled
    assert form.lock.disabled
    assert all(given.widget.disabled for given in form.fields.inputs.values())
    before = text_of(form)
    put(form, "rule.min_effect", "0.5")
    form.write()
    assert "the frame is locked" in form.message.value
    assert text_of(form) == before


def test_an_unsaved_form_does_not_lock(form):
    put(form, "rule.min_effect", "0.07")
    form.close()
    assert not form._experiment.state.has("frame_locked")


def test_an_edit_that_the_form_has_not_shown_is_not_locked(form):
    form._experiment.toml.write_text(text_of(form).replace("trials = 2", "trials = 5"), "utf-8")
    form.lock.click()
    assert not form._experiment.state.has("frame_locked")
    assert "edited meanwhile (run.trials)" in form.message.value
    form.lock.click()
    assert form._experiment.state.has("frame_locked")


@pytest.mark.parametrize("press", ["save", "lock"])
def test_what_stops_a_button_is_said(form, press):
    put(form, "rule.min_effect", "0.05")
    (form._experiment.folder / "ledger.jsonl").write_text("edited\n", "utf-8")
    getattr(form, press).click()
    assert 'role="alert"' in form.message.value
    assert "ledger" in form.message.value or "record" in form.message.value


def test_a_file_that_is_gone_is_said(form):
    form._experiment.toml.unlink()
    form.lock.click()
    assert "not found" in form.message.value


def test_a_refused_lock_is_said_in_its_own_words(make_experiment):
    session = make_experiment()
    arms = session.experiment.folder / "arms"
    (arms / "better.py").write_bytes((arms / "base.py").read_bytes())
    form = FrameForm(session.experiment, session.frame.lock)
    form.lock.click()
    assert "refused SG09" in form.message.value
    assert not form.lock.disabled


def test_a_frame_that_another_cell_locked_becomes_read_only(make_experiment):
    session = make_experiment()
    form = FrameForm(session.experiment, session.frame.lock)
    put(form, "rule.min_effect", "0.07")
    session.frame.lock()
    form.save.click()
    assert "refused SG04: the frame is locked" in form.message.value
    assert "min_effect = 0.05" in text_of(form)
    assert form.save.disabled


def test_before_the_lock_a_widget_after_it_the_record(make_experiment, monkeypatch):
    monkeypatch.setattr(live, "attended", lambda: True)
    session = make_experiment()
    data, _ = session.frame.form()._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert "not locked yet" in data["text/html"]
    session.frame.lock()
    shown = session.frame.form()
    assert set(shown._repr_mimebundle_()) == {"text/html", "text/plain"}
    assert "locked by record 2" in shown.text


def test_labels_are_the_names_in_the_file(form):
    for key, given_ in form.fields.inputs.items():
        assert given_.widget.description == key[-1]
        assert given_.widget.tooltip == ".".join(key)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("3", 3),
        (" 0.05 ", 0.05),
        ("5pp", "5pp"),
        ("auto", "auto"),
        ("", None),
        ("inf", "inf"),
        ("nan", "nan"),
    ],
)
def test_what_a_typed_number_means(typed, meant):
    assert number(typed) == meant
    assert type(number(typed)) is type(meant)


def test_a_value_nobody_touched_stays_as_it_is(tmp_path):
    from itera_nb.widgets.forms import Input

    class Text:
        value = ""
        disabled = False

    fields = Fields(
        {("run", "trials"): Input(Text(), number), ("run", "x"): Input(Text(), number)},
        '[run]\ntrials = "3"\n',
    )
    assert fields.changed() == {}
    fields.inputs[("run", "trials")].widget.value = "4"
    assert fields.changed() == {("run", "trials"): 4}
