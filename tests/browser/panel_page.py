"""The itera panel as a person works it: by its buttons and dialogs, looked at now and then."""

import os
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from lab_server import open_notebook
from world import RULES, tickets, write_csv

from itera_nb.scaffold import Wanted, new

SHOTS = os.environ.get("ITERA_SHOTS")
WCAG = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]
CONFIRMED = ("run:3-run", "verdict")
PHASES = ("run:0-frame", "run:1-source", "run:2-metric", "pilot", "run:3-run", "run:4-diagnose", "verdict")


def new_project(root, *, rules=RULES, rows=None, name="fees", **more):
    """An experiment as `itera new` makes it, and its data and code, in a new folder."""
    root.mkdir()
    write_csv(root / "eval.csv", tickets(200) if rows is None else rows)
    (root / "rules.py").write_text(rules, "utf-8")
    columns = {"id": "ticket_id", "expected": "label", "slices": ("tenant",), "inputs": ("text",)}
    arms = {"baseline": "rules.py:v1", "arms": ("rules.py:v2",)}
    return new(Wanted(name, Path("eval.csv"), **arms, **columns, **more, under=root, base=root))


def open_panel(lab, browser, experiment, phase="0-frame", *, width=1500, height=1000, **options):
    """A page with one of an experiment's notebooks and the panel beside it; close its `context` afterwards."""
    path = experiment.folder.relative_to(lab.root) / "notebooks" / f"{phase}.ipynb"
    page = open_notebook(lab, browser, path.as_posix(), width=width, height=height, **options)
    page.command("itera:show-panel")
    page.get_by_test_id("itera-phases").wait_for()
    return page


def shoot(page, name):
    """A screenshot, if someone wants to look: set ITERA_SHOTS to a folder."""
    if SHOTS:
        page.screenshot(path=str(Path(SHOTS) / f"{name}.png"))


def accessible(page, selector):
    """What axe finds in the elements of a selector: rule and elements; empty if it is clean."""
    found = Axe().run(getattr(page, "page", page), context=selector, options={"runOnly": WCAG})
    return [
        (v["id"], [(n["target"], n["html"][:200]) for n in v["nodes"]]) for v in found.response["violations"]
    ]


def launch(page, card):
    """Click a card of the launcher."""
    page.locator(".jp-LauncherCard", has_text=card).click()


def button(page, action):
    """An action's button in the panel, once it may be used."""
    found = page.get_by_test_id(f"itera-action-{action}")
    found.and_(page.locator("[aria-disabled=false]")).wait_for()
    return found


def run(page, action, *, seconds=60):
    """Click an action, confirm what it asks and wait until the panel shows its end; returns the question, or None."""
    asked = None
    with page.expect_response(lambda r: r.request.method == "POST" and "/itera/jobs" in r.url) as answer:
        button(page, action).click()
        dialog = page.locator(".jp-Dialog-content")
        if action in CONFIRMED:
            asked = dialog.locator(".jp-Dialog-body").inner_text()
            shoot(page, f"dialog-{action.replace(':', '-')}")
            dialog.locator("button.jp-mod-accept").click()
    assert answer.value.status == 201, answer.value.text()
    ended(page, seconds=seconds)
    return asked


def ended(page, state="done", *, seconds=60):
    """Wait until the panel's job has ended, in this state; what it says."""
    job = page.get_by_test_id("itera-job")
    job.and_(page.locator("[data-state=running]")).wait_for()
    page.locator("[data-testid=itera-job]:not([data-state=running])").wait_for(timeout=1000 * seconds)
    assert job.get_attribute("data-state") == state, job.inner_text()
    return job.inner_text()
