"""Notebook 7: widgets, the chip and the panel, without Lab's shell."""

import pytest
from lab_server import open_page
from panel_page import run, shoot

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_chip_form_and_panel_in_notebook_7(lab, project, panel):
    experiment = project()
    page = panel(experiment, app="notebooks", width=1500, height=900)
    page.get_by_test_id("itera-name").get_by_text(experiment.name).wait_for()
    page.run_all()
    page.notebook.get_by_text("frame locked: record 2").first.wait_for()
    assert experiment.state.has("frame_locked")
    chip = page.get_by_test_id("itera-chip")
    chip.get_by_text("phase 1 of 5 · frame locked").wait_for()
    shoot(page, "notebook7-panel")
    run(page, "run:1-source")
    page.get_by_test_id("itera-seal-state").get_by_text("sealed").wait_for()
    shoot(page, "notebook7-sealed")
    assert page.problems == []


def test_notebook_7_s_tree_opens_with_the_extension(lab, browser):
    page = open_page(lab, browser, app="tree")
    page.locator(".jp-DirListing").first.wait_for()
    assert page.evaluate("window.jupyterapp.hasPlugin('itera-nb:plugin')")
    shoot(page, "notebook7-tree")
    assert page.problems == []
    page.context.close()
