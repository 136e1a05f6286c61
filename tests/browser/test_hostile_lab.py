"""Text that wants to be HTML, a command or right-to-left is only text: in panel, notebook and the rendered page."""

import pytest
from panel_page import run, shoot
from world import go, tickets

import itera_nb
from itera_nb.notebooks.drive import open_test

pytestmark = [pytest.mark.browser, pytest.mark.slow]
MARKUP = (
    '<script>window.owned=1</script><img src=x onerror="window.owned=2">'
    '<button data-commandlinker-command="itera:demo" data-commandlinker-args="{}">run</button>'
    "<iframe srcdoc='<script>parent.owned=3</script>'></iframe><style>body{display:none}</style>"
)
HEBREW = "שלום עולם"
HOSTILE = f"{MARKUP} {HEBREW} </textarea></iframe> {{{{7*7}}}} $x^2$ `code` **bold**"
HUGE = 60_000


def rows():
    """Tickets whose texts and tenants are hostile, some of them huge."""
    for n, row in enumerate(tickets(200)):
        more = " W" + "o" * HUGE if n % 10 == 0 else ""
        yield {**row, "text": f"{HOSTILE}{more} {row['text']}", "tenant": f"{row['tenant']} {MARKUP[:32]}"}


def owned(page):
    """What a script of a row set, in any frame; and elements that would run one of Lab's commands."""
    frames = [frame.evaluate("window.owned ?? null") for frame in page.frames if not frame.is_detached()]
    return [*filter(None, frames), *page.locator("[data-commandlinker-command^=itera]").all_inner_texts()]


def test_hostile_text_is_shown_literally(lab, project, panel):
    experiment = project(rows=rows(), question=HOSTILE, hypothesis=HOSTILE)
    exp = itera_nb.open(experiment.folder)
    go(exp, until="metric")
    exp.accept("SG12", HOSTILE)
    page = panel(experiment, "1-source")
    question = page.locator(".jp-Itera-head")
    question.get_by_text("window.owned=1").wait_for()
    assert HEBREW in question.inner_text()
    assert MARKUP[:80] in page.get_by_test_id("itera-ledger").inner_text()  # its lines are short
    run(page, "pilot")
    pilot = page.frame_locator("[data-testid=itera-result] iframe")
    assert MARKUP in pilot.locator("body").inner_text()
    shoot(page, "hostile-panel")

    page.notebook.locator(".jp-Cell").last.click()
    page.keyboard.press("Enter")
    page.keyboard.press("Control+End")
    page.keyboard.type("\nexp.frame.form()")
    page.run_all()
    head = page.notebook.locator(".jp-OutputArea-output", has_text="train rows")
    assert MARKUP in head.inner_text()
    form = page.notebook.locator(".jp-OutputArea-output", has_text="as registered")
    assert MARKUP in form.inner_text()
    shoot(page, "hostile-notebook")
    assert owned(page) == []
    assert page.problems == []

    go_on(exp)
    html = open_test(exp.experiment, lambda _: None)
    page.command("docmanager:open", {"path": html.relative_to(lab.root).as_posix()})
    page.get_by_role("button", name="Trust HTML").click()
    body = page.frame_locator(".jp-MainAreaWidget:not(.lm-mod-hidden) .jp-HTMLViewer iframe").locator("body")
    assert MARKUP in body.inner_text()
    assert HEBREW in body.inner_text()
    shoot(page, "hostile-page")
    assert owned(page) == []
    page.goto(html.as_uri())
    assert MARKUP in page.locator("body").inner_text()
    assert owned(page) == []


def go_on(exp):
    """The rest up to the lock."""
    for step in (lambda: exp.run("train", trials=1), lambda: exp.run("dev"), exp.iterate, exp.gate, exp.lock):
        step()
