import re

import pytest

from itera_nb.report.render import render_html

pytestmark = pytest.mark.browser


@pytest.fixture
def show(browser, executed, tmp_path):
    opened = []

    def open_page(name, **options):
        render_html(executed(name), out := tmp_path / f"{name}.html")
        context = browser.new_context(offline=True, viewport={"width": 1100, "height": 800}, **options)
        opened.append(context)
        page = context.new_page()
        page.wanted, page.said = [], []
        page.on("request", lambda r: page.wanted.append(r.url))
        page.on("console", lambda m: page.said.append(m.text))
        page.on("pageerror", lambda e: page.said.append(str(e)))
        page.goto(out.as_uri())
        return page

    yield open_page
    for context in opened:
        context.close()


@pytest.mark.parametrize("name", ["ship", "scope", "kill", "inconclusive"])
def test_the_answer_is_on_the_first_screen_and_nothing_is_requested(show, name):
    page = show(name)
    for selector in ("h1", ".sentence", ".figures"):
        box = page.locator(selector).bounding_box()
        assert box["y"] + box["height"] <= 800, selector
    assert page.locator(".outcome").inner_text() == name.upper()
    assert page.title().startswith(name.upper())
    assert [url for url in page.wanted if not url.startswith(("file:", "data:"))] == []
    assert page.said == []


def test_three_charts_are_drawn(show):
    page = show("scope")
    assert page.locator("img.chart").count() == 3
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 1000 && i.alt)")


def test_hostile_text_is_shown_and_never_run(show):
    page = show("hostile")
    assert page.evaluate("window.owned") is None
    assert page.title().startswith("SHIP use <script>")
    assert (
        page.evaluate("document.querySelectorAll('main script, main a, main button, main [onerror]').length")
        == 0
    )
    shown = page.locator("main").inner_text()
    for text in (
        '<script>document.title="owned"',
        "[click](http://evil.example/a)",
        "$\\frac{x}{0}$",
        "<button data-commandlinker",
    ):
        assert text in shown
    assert page.evaluate("document.documentElement.scrollWidth") <= 1100
    assert page.said == []


@pytest.mark.parametrize("name", ["ship", "scope", "kill", "inconclusive", "crowded"])
def test_it_prints_on_two_pages(show, name):
    pdf = show(name).pdf(prefer_css_page_size=True, print_background=True)
    assert len(re.findall(rb"/Type\s*/Page\b(?!s)", pdf)) == 2


def luminance(css):
    channels = [int(c) / 255 for c in re.findall(r"\d+", css)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "selector", [".itera p", ".itera .note", ".banner .outcome", "b.word", "th", ".level", "summary"]
)
def test_text_stands_out_from_the_page(show, scheme, selector):
    page = show("kill", color_scheme=scheme)
    ink = luminance(page.locator(selector).first.evaluate("e => getComputedStyle(e).color"))
    paper = luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) >= 4.5
    assert (paper < 0.1) == (scheme == "dark")


def test_a_narrow_screen_needs_no_sideways_scrolling_of_the_page(show):
    page = show("scope")
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_details_open_from_the_keyboard(show):
    page = show("scope")
    page.locator("summary").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("details[open]").count() == 1
