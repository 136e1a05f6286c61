"""conclusion.html in a browser without a network."""

import pytest


@pytest.fixture(scope="module")
def opened(walked, browser):
    """The page, what it asked for, and what its console said."""
    asked, said = [], []
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.goto((walked.world.folder / "conclusion.html").as_uri(), wait_until="load")
    page.wait_for_timeout(300)
    yield page, asked, said
    context.close()


pytestmark = pytest.mark.browser


def test_outcome_is_in_the_first_viewport(opened):
    page, _, _ = opened
    box = page.get_by_text("SHIP").first.bounding_box()
    assert box is not None
    assert 0 <= box["y"] < box["y"] + box["height"] <= 800
    assert 0 <= box["x"] < 1280


def test_three_charts_are_loaded(opened):
    page, _, _ = opened
    sizes = page.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth, i.alt])")
    loaded = [alt for complete, width, alt in sizes if complete and width > 200]
    assert len(loaded) == len(sizes) == 3
    assert all(loaded), "every chart says what it shows"


def test_audit_is_there(opened):
    page, _, _ = opened
    text = page.evaluate("document.body.textContent")
    assert "Self-audit" in text
    assert "itera verify" in text


def test_nothing_leaves_the_page_and_nothing_fails(opened):
    page, asked, said = opened
    assert [url for url in asked if not url.startswith(("file://", "data:"))] == []
    assert [line for line in said if line.startswith("error")] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
