"""The panel in a real JupyterLab: jobs that outlive tab and server, a user's own cells, and what is not answered."""

import json
import shutil
import urllib.error
import urllib.request
from urllib.parse import quote

import nbformat
import pytest
from lab_server import running_lab
from panel_page import accessible, button, ended, new_project, open_panel, run, shoot
from world import go

import itera_nb
from itera_nb.experiment import Experiment

pytestmark = [pytest.mark.browser, pytest.mark.slow]
SLOW_RULES = """\
import time


def v1(row):
    return row["text"].split()[-2]


def v2(row):
    time.sleep(0.15)
    return row["text"].split()[-2]
"""
PROGRESS = "document.querySelector('[data-testid=itera-job] progress')?.value ?? 0"


def status(lab, path, token=None):
    """The status and text of an answer."""
    headers = {"Authorization": f"token {token}"} if token else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(lab.url + path, headers=headers)) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def insert_own_cell(page):
    """A cell at the end of the notebook in front, not saved: the panel does that."""
    page.notebook.locator(".jp-Cell").last.click()
    page.keyboard.press("Escape")
    page.command("notebook:insert-cell-below")
    page.keyboard.press("Enter")
    page.keyboard.type("print(6 * 7)")


def test_without_the_token_or_outside_the_root_nothing_is_said(lab, project):
    experiment = project()
    inside = experiment.folder.relative_to(lab.root).as_posix()
    asked = f"/itera/experiment?path={inside}"
    assert status(lab, asked, lab.token)[0] == 200
    for path in (asked, "/itera/experiments", "/itera/openapi.json", f"/itera/jobs?path={inside}"):
        code, text = status(lab, path)
        assert code == 403
        assert experiment.name not in text
    outside = (f"../{lab.root.name}/{inside}", str(experiment.folder), "../../etc", "~", f"{inside}/../..")
    answers = {status(lab, f"/itera/experiment?path={quote(path)}", lab.token) for path in outside}
    assert {code for code, _ in answers} == {404}
    assert len({json.loads(text)["error"]["what"] for _, text in answers}) == 1


def test_a_closed_tab_and_a_killed_server_do_not_end_a_run(browser, tmp_path, monkeypatch):
    with running_lab(tmp_path / "lab") as lab:
        monkeypatch.setenv("ITERA_STATE_DIR", str(lab.state))
        experiment = new_project(lab.root / "slow", rules=SLOW_RULES)
        go(itera_nb.open(experiment.folder), until="pilot")
        page = open_panel(lab, browser, experiment)
        button(page, "run:3-run").click()
        page.locator(".jp-Dialog button.jp-mod-accept").click()
        page.get_by_test_id("itera-progress").get_by_text(" of ").wait_for()
        shoot(page, "job-running")
        page.context.close()

        page = open_panel(lab, browser, experiment)
        page.wait_for_function(f"() => {PROGRESS} > 0")
        shown = page.evaluate(PROGRESS)
        page.wait_for_function(f"n => {PROGRESS} > n", arg=shown)
        lab.process.kill()
        page.get_by_text("The Jupyter server does not answer.").wait_for()
        shoot(page, "job-no-server")
    with running_lab(tmp_path / "lab", before=lab):
        job = page.get_by_test_id("itera-job")
        page.locator("[data-testid=itera-job]:not([data-state=running])").wait_for(timeout=120_000)
        assert job.get_attribute("data-state") == "done", job.inner_text()
        page.get_by_text("The Jupyter server does not answer.").wait_for(state="detached")
        button(page, "run:4-diagnose").wait_for()
        shoot(page, "job-found-again")
        page.context.close()
    (scored,) = (r for r in experiment.state.all("scored") if r.body["rows"] == "dev")
    assert scored.body["arms"]["v2"]["statuses"] == {"ok": 120}


def test_a_user_s_own_cells_survive_a_run_by_the_panel(lab, project, panel):
    experiment = project()
    page = panel(experiment, "1-source")
    run(page, "run:0-frame")
    insert_own_cell(page)
    run(page, "run:1-source")
    mine = page.notebook.locator(".jp-CodeCell").last
    mine.get_by_text("42", exact=True).wait_for()
    assert "print(6 * 7" in mine.inner_text()
    shoot(page, "own-cell")
    saved = nbformat.read(experiment.folder / "notebooks" / "1-source.ipynb", as_version=4)
    assert saved.cells[-1].outputs[0].text == "42\n"
    assert page.problems == []


def test_a_server_that_runs_in_the_experiment_saves_and_shows_what_is_open(browser, tmp_path):
    made = new_project(tmp_path / "project").folder
    with running_lab(tmp_path / "lab") as lab:
        shutil.copytree(made, lab.root, dirs_exist_ok=True)
        shutil.copy(tmp_path / "project" / "eval.csv", lab.root)
        toml = lab.root / "experiment.toml"
        toml.write_text(toml.read_text("utf-8").replace("../eval.csv", "eval.csv"), "utf-8")
        page = open_panel(lab, browser, Experiment(lab.root))
        insert_own_cell(page)
        run(page, "run:0-frame")
        page.notebook.locator(".jp-CodeCell").last.get_by_text("42", exact=True).wait_for()
        assert page.problems == []
        page.context.close()


def test_a_safeguard_s_question_is_answered_in_the_panel(lab, project, panel):
    experiment = project()
    with experiment.toml.open("a", encoding="utf-8") as toml:
        toml.write('\n[[split.require]]\ncolumn = "tenant"\nvalue = "smb"\ncount = 1000\n')
    itera_nb.open(experiment.folder).frame.lock()
    page = panel(experiment, "1-source")
    button(page, "run:1-source").click()
    assert "SG13" in ended(page, "failed")
    reason = page.get_by_label("Your reason to go on; the conclusion prints it")
    reason.press_sequentially("smb sends few rows, dd and xx")  # letters that Lab takes in command mode
    shoot(page, "question")
    assert accessible(page, "#itera-panel") == []
    page.get_by_role("button", name="Record the reason and go on").click()
    ended(page)
    assert experiment.state.has("sealed")
    (accepted,) = experiment.state.all("accepted")
    assert accepted.body == {"safeguard": "SG13", "why": "smb sends few rows, dd and xx"}
    assert page.problems == []
