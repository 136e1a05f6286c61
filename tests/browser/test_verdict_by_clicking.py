"""A person reaches a verdict by clicking: from the launcher to the page, in a real JupyterLab."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from lab_server import open_page, running_lab
from panel_page import PHASES, launch, run, shoot
from world import PHASES as NOTEBOOKS
from world import RULES, tickets, write_csv

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parents[2]


@pytest.fixture
def lab_home(lab, browser):
    """A page of JupyterLab with the launcher in front."""
    page = open_page(lab, browser, height=1000, width=1500)
    page.locator(".jp-Launcher").wait_for()
    yield page
    page.context.close()


@pytest.mark.timeout(600)  # seven steps, each a process with a kernel, share the computer with other tests
def test_a_verdict_by_clicking(lab, lab_home):
    page = lab_home
    write_csv(lab.root / "eval.csv", tickets(200))
    (lab.root / "rules.py").write_text(RULES, "utf-8")
    shoot(page, "click-0-launcher")
    launch(page, "New experiment")
    form = page.locator(".jp-Itera-form")
    for label, value in {
        "Name": "fees",
        "Data file": "eval.csv",
        "Label column": "label",
        "Baseline": "rules.py:v1",
        "Candidates": "rules.py:v2",
    }.items():
        form.get_by_label(label, exact=True).fill(value)
    form.get_by_text("More").click()
    form.get_by_label("Id column").fill("ticket_id")
    form.get_by_label("Slices").fill("tenant")
    shoot(page, "click-1-form")
    page.locator(".jp-Dialog button.jp-mod-accept").click()
    page.notebook.get_by_role("heading", name="Phase 0: the frame").wait_for()
    shoot(page, "click-2-made")
    asked = {}
    for action in PHASES:
        asked[action] = run(page, action)
        shoot(page, f"click-3-{action.replace(':', '-')}")
    assert [question for question in asked.values() if question] == [
        "Does the pilot look right?",
        "This opens the sealed test set, once.",
    ]
    page.get_by_test_id("itera-outcome").wait_for()
    shoot(page, "click-4-verdict")
    assert page.problems == []


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """The python of a new environment with the built wheel in it; what it needs comes from the package index."""
    folder = tmp_path_factory.mktemp("fresh")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    wheel = next(folder.glob("*.whl"))
    subprocess.run([python, "-m", "pip", "install", "--quiet", f"{wheel}[demo]"], check=True)
    return python


@pytest.mark.slow
@pytest.mark.timeout(1500)  # most of it is the installation
def test_the_demo_by_clicking_in_a_fresh_environment_without_node(fresh, browser, tmp_path):
    with running_lab(tmp_path, python=fresh, path=str(fresh.parent)) as lab:
        page = open_page(lab, browser, height=1000, width=1500)
        demo_by_clicking(page)
        page.context.close()


def demo_by_clicking(page):
    """From the launcher's card to the page of the demo's verdict."""
    launch(page, "Demo experiment")
    page.notebook.get_by_role("heading", name="Phase 0: the frame").wait_for(timeout=120_000)
    for action in PHASES:
        run(page, action, seconds=240)
        shoot(page, f"demo-{action.replace(':', '-')}")
    page.get_by_test_id("itera-outcome").wait_for()
    body = page.frame_locator("iframe[sandbox]:visible").locator("body")
    body.get_by_text("char-lr").first.wait_for()
    shoot(page, "demo-verdict")
    assert page.problems == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_verdict_by_running_the_notebooks(project, panel):
    experiment = project()
    for phase in NOTEBOOKS:
        page = panel(experiment, phase)
        restart_and_run_all(page)
        shoot(page, f"notebook-{phase}")
        page.get_by_test_id(f"itera-phase-{phase}").and_(page.locator("[data-state=done]")).wait_for()
        page.save()
        page.context.close()
    assert experiment.state.outcome == "ship"
    records, seconds = len(experiment.state.records), {}
    for phase in NOTEBOOKS:
        page = panel(experiment, phase)
        seconds[phase] = restart_and_run_all(page)
        page.context.close()
    assert len(experiment.state.records) == records, "a finished step is shown, and not done again"
    sys.stdout.write(f"restart and run all: {seconds}\n")


def restart_and_run_all(page):
    """Restart the kernel, run every cell and wait; seconds. No cell may have failed."""
    cells = page.notebook.locator(".jp-CodeCell")
    begun = time.monotonic()
    page.evaluate("() => { window.ran = window.jupyterapp.commands.execute('notebook:restart-run-all'); }")
    page.locator(".jp-Dialog button.jp-mod-accept").click()
    page.evaluate("() => window.ran.then(() => null)")
    page.settle(seconds=240)
    last = cells.last.locator(".jp-OutputArea-output")
    last.first.wait_for()
    took = time.monotonic() - begun
    errors = page.notebook.locator(
        "[data-mime-type='application/vnd.jupyter.stderr'], [data-mime-type*=error]"
    )
    assert errors.all_inner_texts() == []
    assert page.problems == []
    return took
