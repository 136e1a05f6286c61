"""Panel, dialogs, launcher and notebook views: clean for axe in every theme, and worked by keyboard alone."""

import pytest
from lab_server import open_page
from panel_page import accessible, button, ended, run, shoot
from world import go

import itera_nb

pytestmark = [pytest.mark.browser, pytest.mark.slow]
THEMES = ("JupyterLab Light", "JupyterLab Dark", "JupyterLab Dark High Contrast")
PANEL = "#itera-panel"
FOCUS = """() => {
  const e = document.activeElement;
  const style = getComputedStyle(e);
  const seen = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0 || style.boxShadow !== 'none'
    || style.borderTopColor !== getComputedStyle(e.parentElement).borderTopColor;
  return {id: e.dataset.testid ?? e.getAttribute('aria-label') ?? e.textContent, inside: !!e.closest('#itera-panel'), seen};
}"""


def wear(page, theme):
    """Change the theme and wait for it."""
    page.command("apputils:change-theme", {"theme": theme})
    page.wait_for_function("theme => document.body.dataset.jpThemeName === theme", arg=theme)
    page.wait_for_timeout(500)  # the style sheet comes after the name


@pytest.fixture
def light_again(lab, browser):
    """The theme is the server's setting: the next test starts in light."""
    yield
    page = open_page(lab, browser)
    wear(page, THEMES[0])
    page.context.close()


def test_every_view_of_the_panel_is_clean_in_every_theme(lab, project, panel, light_again):
    experiment = project()
    go(itera_nb.open(experiment.folder), until="metric")
    page = panel(experiment)
    run(page, "pilot")
    page.locator(f"{PANEL} .jp-Itera-refusal summary").first.click()
    found = {}
    for theme in THEMES:
        wear(page, theme)
        found[theme, "panel"] = accessible(page, PANEL)
        shoot(page, f"access-panel-{theme.rpartition(' ')[2]}")
        button(page, "run:3-run").click()
        page.locator(".jp-Dialog").wait_for()
        found[theme, "confirm"] = accessible(page, ".jp-Dialog-content")
        page.keyboard.press("Escape")
        page.get_by_test_id("itera-enlarge").click()
        page.locator(".jp-Dialog iframe").wait_for()
        found[theme, "enlarged"] = accessible(page, ".jp-Dialog-content")
        page.keyboard.press("Escape")
        page.get_by_test_id("itera-chip").wait_for()
        found[theme, "chip"] = accessible(page, ".jp-Itera-chip")
    page.get_by_test_id("itera-all").click()
    page.get_by_test_id("itera-list").wait_for()
    for theme in THEMES:
        wear(page, theme)
        found[theme, "list"] = accessible(page, PANEL)
    assert {view: faults for view, faults in found.items() if faults} == {}
    assert page.problems == []


def test_launcher_and_form_are_clean_in_every_theme(lab, browser, light_again):
    page = open_page(lab, browser, width=1500, height=1000)
    page.locator(".jp-Launcher").wait_for()
    found = {}
    for theme in THEMES:
        wear(page, theme)
        cards = page.locator(".jp-LauncherCard", has_text="experiment")
        cards.first.evaluate("card => card.closest('.jp-Launcher-section').id = 'itera-cards'")
        found[theme, "launcher"] = accessible(page, "#itera-cards")
        shoot(page, f"access-launcher-{theme.rpartition(' ')[2]}")
        cards.first.click()
        page.locator(".jp-Dialog summary").click()
        page.locator(".jp-Dialog button.jp-mod-accept").click()
        page.get_by_text("Not filled in: Name, Data file").wait_for()
        found[theme, "form"] = accessible(page, ".jp-Dialog-content")
        shoot(page, f"access-form-{theme.rpartition(' ')[2]}")
        page.keyboard.press("Escape")
        page.locator(".jp-Dialog").wait_for(state="detached")
    assert {view: faults for view, faults in found.items() if faults} == {}
    assert page.problems == []
    page.context.close()


def test_the_panel_by_keyboard_alone(lab, project, panel):
    experiment = project()
    page = panel(experiment)
    page.locator("#itera-panel .jp-Itera-content").focus()
    stops = walk(page, "itera-action-run:0-frame")
    assert all(stop["seen"] for stop in stops), stops
    page.keyboard.press("Enter")
    ended(page)
    go(itera_nb.open(experiment.folder), until="metric")
    run(page, "pilot")
    page.get_by_test_id("itera-all").focus()
    stops = walk(page, "itera-action-run:3-run")
    assert all(stop["seen"] for stop in stops), stops
    page.keyboard.press("Space")
    page.locator(".jp-Dialog-content").wait_for()
    assert page.evaluate("document.activeElement.closest('.jp-Dialog') !== null")
    page.keyboard.press("Escape")
    page.locator(".jp-Dialog").wait_for(state="detached")
    assert page.evaluate(FOCUS)["id"] == "itera-action-run:3-run", "the focus comes back to the button"
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    ended(page)
    assert experiment.state.scored("dev") is not None
    assert page.problems == []


def walk(page, test_id, *, steps=40):
    """Press Tab until this element has the focus; every stop on the way."""
    stops = []
    for _ in range(steps):
        page.keyboard.press("Tab")
        stops.append(page.evaluate(FOCUS))
        assert stops[-1]["inside"], f"the focus left the panel: {stops}"
        if stops[-1]["id"] == test_id:
            return stops
    pytest.fail(f"{test_id} cannot be reached by Tab: {stops}")
