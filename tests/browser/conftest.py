"""A real JupyterLab on loopback, once a session, and pages in it.

`lab` is the server; `lab_page()` opens a notebook in it, in a workspace of its own, in Lab or in Notebook 7:

    def test_something(lab, lab_page):
        lab.notebook("mine/a.ipynb", ["import itera_nb", "itera_nb.open('mine').status()"])
        page = lab_page("mine/a.ipynb")              # or lab_page(path, app="notebooks") for Notebook 7
        page.run_all()                               # every cell, until the kernel is idle
        page.notebook.locator(".jp-OutputArea")...   # the notebook that is in front
        assert page.problems == []                   # console errors and uncaught exceptions

Kernels keep keys and ledger heads in `lab.state`: a test that prepares an experiment in its own process and goes
on in a kernel sets `ITERA_STATE_DIR` to it (the fixture `lab_state` does).
"""

import shutil

import pytest
from lab_server import open_notebook, running_lab
from panel_page import new_project, open_panel


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """JupyterLab on loopback with its own settings, token, root and state; ended with the session."""
    with running_lab(tmp_path_factory.mktemp("lab")) as found:
        yield found


@pytest.fixture
def lab_state(lab, monkeypatch):
    """This test's own process shares keys and ledger heads with the server's kernels."""
    monkeypatch.setenv("ITERA_STATE_DIR", str(lab.state))
    return lab.state


@pytest.fixture
def lab_page(lab, browser):
    """`lab_page(path, app="lab", width=1280, height=860, **context)`: a notebook in a fresh page, ready to run."""
    contexts = []

    def open_page(path, **options):
        page = open_notebook(lab, browser, path, **options)
        contexts.append(page.context)
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def project(lab, lab_state, request):
    """`project(**more)`: a new experiment in a folder of its own below Lab's root, which goes with the test."""
    made = []

    def make(**more):
        made.append(lab.root / f"{request.node.name.partition('[')[0]}-{len(made)}")
        return new_project(made[-1], **more)

    yield make
    for folder in made:
        shutil.rmtree(folder)


@pytest.fixture
def panel(lab, browser):
    """`panel(experiment, phase="0-frame", app="lab")`: a page with one of its notebooks and the panel beside it."""
    contexts = []

    def open_it(experiment, phase="0-frame", **options):
        page = open_panel(lab, browser, experiment, phase, **options)
        contexts.append(page.context)
        return page

    yield open_it
    for context in contexts:
        context.close()
