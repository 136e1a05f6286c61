"""The frame's form and the gate's checklist in a real JupyterLab, worked by keyboard alone."""

import json
import os
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

pytestmark = [pytest.mark.browser, pytest.mark.slow]
SHOTS = os.environ.get("ITERA_SHOTS")
WIDGET = "application/vnd.jupyter.widget-view+json"
ARM = """\
def answer(row):
    words = dict(word.split("=") for word in row["text"].split()[1:])
    right = 0 <= int(words["level"]) < {top}{more}
    return words["answer"] if right else "no" if words["answer"] == "yes" else "yes"
"""
ITERATION = """\
name = "{name}"
parent = "better"
what = "more levels <script>alert(1)</script>"
hypothesis = "Rows of high levels are answered too."
predicted_effect = 0.1

[change]
target = "arms/{name}.py:answer"
"""
LITERALS = " or ".join(f'"level={x}" in row["text"]' for x in range(83, 99))
FOCUSED = """() => {
  const e = document.activeElement;
  const label = e.id && document.querySelector(`label[for="${e.id}"]`);
  return label ? label.textContent : e.tagName === 'BUTTON' ? e.textContent : '';
}"""


def shoot(page, name):
    if SHOTS:
        page.page.screenshot(path=str(Path(SHOTS) / f"{name}.png"))


def tab_to(page, label, *, steps=80):
    """Press Tab until the element with this label, or the button of this name, has the focus."""
    for _ in range(steps):
        if page.evaluate(FOCUSED).strip() == label:
            return
        page.keyboard.press("Tab")
    pytest.fail(f"{label} cannot be reached by Tab")


def choose(page, steps):
    """Open the focused dropdown, go down and choose; closed, its arrow keys would move Lab's cell selection."""
    page.keyboard.press("Space")
    for _ in range(steps):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")


def opened(lab, lab_page, name, session, cells, **options):
    """A notebook of the experiment, every cell run, the keyboard at its first cell."""
    lab.notebook(
        f"{name}.ipynb", [f"import itera_nb\nexp = itera_nb.open({str(session.experiment.folder)!r})", *cells]
    )
    page = lab_page(f"{name}.ipynb", **options)
    page.run_all()
    return page


def accessible(page, selector):
    found = Axe().run(page.page, context=selector, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa"]})
    return [(v["id"], [n["target"] for n in v["nodes"]]) for v in found.response["violations"]]


@pytest.fixture
def sprint(lab_state, make_experiment):
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


def test_the_frame_s_form_by_keyboard(lab, lab_state, lab_page, make_experiment):
    session = make_experiment(rows=200, rule="min_effect = 0.05  # five points")
    page = opened(lab, lab_page, "frame", session, ["exp.frame.form()", "exp.next()"])
    form = page.notebook.locator(".jp-OutputArea-output").first
    form.get_by_text("power of 140 test rows").wait_for()
    shoot(page, "frame-1")
    page.keyboard.press("Escape")
    tab_to(page, "question")
    page.keyboard.press("Control+a")
    page.keyboard.type("Why?")
    page.keyboard.press("Tab")
    page.notebook.get_by_role("alert").filter(has_text="at least 8 characters").wait_for()
    shoot(page, "frame-2")
    page.keyboard.press("Shift+Tab")
    page.keyboard.type(" Does it answer more <b>rows</b>?")
    tab_to(page, "min_effect")
    page.keyboard.press("Control+a")
    page.keyboard.type("10pp")
    page.keyboard.press("Tab")
    page.notebook.get_by_text("truth +10.0 pp").wait_for()
    page.notebook.get_by_text("not saved yet: frame.question, rule.min_effect").wait_for()
    tab_to(page, "Save")
    page.keyboard.press("Enter")
    page.notebook.get_by_text("saved: frame.question, rule.min_effect").wait_for()
    text = session.experiment.toml.read_text("utf-8")
    assert 'min_effect = "10pp"  # five points' in text
    assert 'question = "Why? Does it answer more <b>rows</b>?"' in text
    assert accessible(page, ".jp-OutputArea-output") == []
    tab_to(page, "Lock")
    page.keyboard.press("Space")
    page.notebook.get_by_text("frame locked: record 2").wait_for()
    shoot(page, "frame-3")
    assert session.experiment.state.has("frame_locked")
    assert page.notebook.get_by_label("question", exact=True).is_disabled()
    assert page.problems == []


def test_the_gate_by_keyboard(lab, sprint, lab_page):
    page = opened(lab, lab_page, "gate", sprint, ["exp.gate()", "exp.next()"])
    button = page.notebook.get_by_role("button", name="Record the gate")
    button.wait_for()
    assert button.is_disabled()
    page.notebook.get_by_text("not yet: iteration coded has no class").wait_for()
    shoot(page, "gate-1")
    page.keyboard.press("Escape")
    answers = ((2, 4, "it names sixteen levels"), (1, 1, "it reads the level, whatever it is"))
    for n, (class_, action, reason) in enumerate(answers):
        tab_to(page, "Class")
        choose(page, class_)
        page.keyboard.press("Tab")
        choose(page, action)
        page.keyboard.press("Tab")
        page.keyboard.type(reason)
        page.keyboard.press("Tab")
        page.wait_for_function(
            f"document.querySelectorAll('.itera-c li[data-met=true]').length >= {4 * (n + 1)}"
        )
    shoot(page, "gate-2")
    assert accessible(page, ".jp-OutputArea-output") == []
    tab_to(page, "Record the gate")
    page.keyboard.press("Enter")
    page.notebook.get_by_text("sprint 1: lock").wait_for()
    shoot(page, "gate-3")
    (gate,) = sprint.experiment.state.all("gate")
    assert [(c["id"], c["class"], c["action"], c["kept"]) for c in gate.body["changes"]] == [
        ("coded", "hardcode", "delete", False),
        ("wider", "universal", "keep", True),
    ]
    assert page.problems == []


@pytest.mark.parametrize("theme", ["JupyterLab Dark", "JupyterLab Dark High Contrast"])
def test_forms_are_readable_in_the_dark(lab, sprint, lab_page, theme, request):
    page = opened(
        lab, lab_page, "dark", sprint, ["exp.gate()", "exp.status()", "exp.preflight('4-diagnose')"]
    )
    page.command("apputils:change-theme", {"theme": theme})
    page.wait_for_function(f"document.body.dataset.jpThemeName === {json.dumps(theme)}")
    page.notebook.get_by_role("button", name="Record the gate").wait_for()
    request.addfinalizer(lambda: page.command("apputils:change-theme", {"theme": "JupyterLab Light"}))
    shoot(page, theme.replace(" ", "-"))
    assert accessible(page, ".jp-OutputArea-output") == []
    assert page.problems == []


def test_in_notebook_7_too_and_what_is_saved(lab, lab_state, lab_page, make_experiment):
    session = make_experiment(rows=200)
    page = opened(
        lab,
        lab_page,
        "seven",
        session,
        ["exp.frame.form()", "exp.next()", "exp.frame.lock()"],
        app="notebooks",
    )
    page.notebook.get_by_text("locked by record 2").first.wait_for()
    page.notebook.get_by_text("next: 1-source.ipynb").first.wait_for()
    shoot(page, "notebook7")
    page.save()
    page.wait_for_timeout(500)
    saved = json.loads((lab.root / "seven.ipynb").read_text("utf-8"))
    bundle = saved["cells"][1]["outputs"][0]["data"]
    assert set(bundle) == {WIDGET, "text/html", "text/plain"}
    assert "not locked yet" in "".join(bundle["text/html"])
    assert page.problems == []
