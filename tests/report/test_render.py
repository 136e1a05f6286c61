import re
from html.parser import HTMLParser

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from itera_nb.exceptions import DataError
from itera_nb.report.render import render_html
from itera_nb.scoring import package

WIDGET = "application/vnd.jupyter.widget-view+json"
OUTCOMES = ["ship", "scope", "kill", "inconclusive"]


class Elements(HTMLParser):
    def __init__(self):
        super().__init__()
        self.attributes = []

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs


def rendered(notebook, tmp_path):
    render_html(notebook, out := tmp_path / "out" / "conclusion.html")
    assert [p.name for p in out.parent.iterdir()] == ["conclusion.html"]
    return out.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", OUTCOMES)
def test_the_page_begins_with_the_answer(executed, tmp_path, name):
    page = rendered(executed(name), tmp_path)
    body = re.sub(r"<[^>]+>", " ", page.split("<main>")[1])
    assert body.split()[0] == name.upper()
    assert f"<title>{name.upper()} " in page


@pytest.mark.parametrize("name", [*OUTCOMES, "hostile"])
def test_the_page_is_self_contained(executed, tmp_path, name):
    page = rendered(executed(name), tmp_path)
    assert not re.search(r"<script|<link|<iframe|<object|<base|@import|url\(", page)
    elements = Elements()
    elements.feed(page)
    assert {name for name, _ in elements.attributes} <= {
        "lang",
        "charset",
        "name",
        "content",
        "http-equiv",
        "class",
        "alt",
        "src",
    }
    assert all(
        value.startswith("data:image/png;base64,") for name, value in elements.attributes if name == "src"
    )
    for word in ("require.js", "requirejs", "MathJax", "jsdelivr", "unpkg", "html-manager"):
        assert word not in page
    assert page.count('src="data:image/png;base64,') == 3
    assert "default-src 'none'" in page


def test_inputs_and_tagged_cells_are_left_out(executed, tmp_path):
    page = rendered(executed("scope"), tmp_path)
    for text in ("SECRET-INPUT", "PREFLIGHT", "5 verdict: opens", "/injected", "exp.verdict"):
        assert text not in page


def test_the_style_sheet_is_there_once(executed, tmp_path):
    assert rendered(executed("scope"), tmp_path).count(".itera .banner {") == 2  # screen and paper


def test_widgets_streams_and_bare_text_are_dropped_pictures_and_errors_stay(executed, tmp_path):
    dot = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    outputs = [
        new_output("display_data", {WIDGET: {"model_id": "MODEL"}, "text/plain": "VBox(children=())"}),
        new_output("display_data", {WIDGET: {"model_id": "MODEL"}, "text/html": "<p>TWIN</p>"}),
        new_output("stream", name="stderr", text="PROGRESS"),
        new_output("display_data", {"image/png": dot, "text/plain": "<Figure>"}),
        new_output("error", ename="Refusal", evalue="<b>SG02</b>", traceback=["TRACE"]),
    ]
    path = executed("scope", [new_code_cell("x", outputs=outputs), new_markdown_cell("**after**")])
    book = nbformat.read(path, as_version=4)
    book.metadata["widgets"] = {WIDGET: {"state": {"m": {"model_name": "STATE"}}}}
    nbformat.write(book, path)
    page = rendered(path, tmp_path)
    assert "TWIN" in page
    assert "<strong>after</strong>" in page
    assert f"base64,{dot}" in page
    assert "Refusal: &lt;b&gt;SG02&lt;/b&gt;" in page
    for text in ("MODEL", "VBox", "PROGRESS", "STATE", "TRACE"):
        assert text not in page


def test_the_notebook_itself_is_not_changed(executed, tmp_path):
    path = executed("scope")
    before = path.read_bytes()
    rendered(path, tmp_path)
    assert path.read_bytes() == before


def test_a_notebook_that_shows_nothing_is_refused(tmp_path):
    nbformat.write(new_notebook(cells=[new_code_cell("1")]), tmp_path / "n.ipynb")
    with pytest.raises(DataError, match="shows no conclusion"):
        render_html(tmp_path / "n.ipynb", tmp_path / "out.html")
    assert not (tmp_path / "out.html").exists()


@pytest.mark.parametrize("content", [None, b"{", b'{"cells": 1}', b"\xff\xfe"])
def test_an_unreadable_notebook_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "n.ipynb").write_bytes(content)
    with pytest.raises(DataError, match="not a readable notebook"):
        render_html(tmp_path / "n.ipynb", tmp_path / "out.html")


def test_templates_are_found_in_a_checkout_and_in_a_wheel(tmp_path, monkeypatch):
    assert (package.templates_dir() / "nbconvert" / "itera" / "index.html.j2").is_file()
    installed = tmp_path / "site-packages" / "itera_nb"
    carried = installed / "_data" / "templates"
    carried.mkdir(parents=True)
    monkeypatch.setattr(package, "_PACKAGE", installed)
    with pytest.raises(FileNotFoundError):
        package.templates_dir()
    (carried / "conclusion.md.j2").touch()
    assert package.templates_dir() == carried
