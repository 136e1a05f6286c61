"""`exp.inspect()` in a real JupyterLab and Notebook 7: read, reveal, save, reload."""

import json
import shutil
import time

import nbformat
import pytest

import itera_nb
from itera_nb.scoring.runs import part_rows

pytestmark = [pytest.mark.browser, pytest.mark.slow]
HOSTILE = """\
def answer(row):
    words = row["text"].split()
    return words[0] + '<img src=x onerror="window.owned=1"><script>window.owned=2</script> \\x1b[31m' + words[-1]
"""
CELLS = ["import itera_nb\nexp = itera_nb.open('exp')", "exp.inspect()", "1 + 1"]
READY = ".itera-rd-title"


@pytest.fixture
def experiment(lab, lab_state, make_experiment):
    """An experiment with scores on train and dev below the server's root, and a notebook beside it."""
    session = make_experiment(arms={"better": HOSTILE}, run="trials = 1")
    session.frame.lock()
    session.source.sample()
    session.source.audit()
    session.split.seal()
    session.metric.try_on()
    session.metric.lock()
    session.pilot()
    session.run("train")
    session.run("dev")
    shutil.copytree(session.experiment.folder, lab.root / "exp")
    lab.notebook("inspect.ipynb", CELLS)
    yield itera_nb.open(lab.root / "exp")
    shutil.rmtree(lab.root / "exp")


def canaries(session, part):
    return {f"CANARY{row['row_id'][1:]}X" for row in part_rows(session.experiment, part)}


def test_a_person_reads_and_reveals_rows_in_lab_and_in_notebook(lab, lab_page, experiment):
    dev = canaries(experiment, "dev")
    page = lab_page("inspect.ipynb")
    page.run_all()
    page.notebook.locator(READY).wait_for()
    assert not any(word in page.content() for word in dev)
    assert page.locator(".jp-OutputArea table.itera-t").count() == 0, "the twin is for saved notebooks"

    page.notebook.locator(".itera-rd-grid").focus()
    for key in (
        "j",
        "x",
        "d",
        "d",
        "k",
        "a",
    ):  # in the notebook's command mode these cut, delete and add cells
        page.keyboard.press(key)
    assert page.locator(".jp-CodeCell").count() == len(CELLS)
    page.wait_for_function(
        "document.querySelector('.itera-rd-title h4').textContent ==="
        " document.querySelector('.itera-rd [aria-selected=true] .itera-rd-pin').textContent"
    )
    row = page.notebook.locator(".itera-rd-title h4").inner_text()
    page.keyboard.press("r")
    page.keyboard.type("what does it answer?")
    page.keyboard.press("Enter")
    page.notebook.locator(".itera-rd-sides .itera-rd-body").first.wait_for()
    record = experiment.experiment.state.last("revealed")
    assert record.body == {"ids": [row], "why": "what does it answer?"}
    read = f"CANARY{row[1:]}X"
    assert [word for word in dev if word in page.content()] == [read]
    assert '<img src=x onerror="window.owned=1">' in page.notebook.locator(".itera-rd-sides").inner_text()
    assert "\u241b[31m" in page.notebook.locator(".itera-rd-sides").inner_text()

    page.notebook.get_by_role("button", name="train").click()
    page.wait_for_function("document.querySelector('.itera-rd-row ins')")
    page.notebook.get_by_label("Search ids and text").fill("CANARY")
    page.wait_for_timeout(500)
    selected = page.notebook.locator(".itera-rd-title h4").inner_text()
    saved = _saved(lab, page)
    state = json.dumps(saved.metadata["widgets"])
    assert "itera_nb.widgets.row_diff.Inspector" in state
    assert selected in state
    assert "CANARY" not in state
    assert not any(word in json.dumps(saved) for word in dev - {read})
    assert page.evaluate("window.owned") is None
    assert page.problems == []

    page.reload()
    page.notebook.locator(READY).wait_for()
    assert page.notebook.get_by_role("button", name="train").get_attribute("aria-pressed") == "true"
    page.context.close()

    other = lab_page("inspect.ipynb", app="notebooks")
    other.run_all()
    other.notebook.locator(READY).wait_for()
    other.notebook.locator(".itera-rd-grid").focus()
    other.keyboard.press("n")
    other.keyboard.press("x")
    other.wait_for_function("document.querySelector('.itera-rd-box').value !== '1'")
    assert other.locator(".jp-CodeCell").count() == len(CELLS)
    assert other.evaluate("window.owned") is None
    assert other.problems == []


def _saved(lab, page):
    page.save()
    for _ in range(100):
        saved = nbformat.read(lab.root / "inspect.ipynb", as_version=4)
        if "widgets" in saved.metadata:
            return saved
        time.sleep(0.1)
    raise AssertionError("the widgets' state was not saved")
