from IPython.core.formatters import DisplayFormatter

from itera_nb.report.conclusion import section
from itera_nb.report.view import View, style_tag


def test_a_view_displays_html_and_text_and_nothing_else(load):
    view = section(load("scope"), "verdict")
    bundle = view._repr_mimebundle_(include=None, exclude=None)
    assert set(bundle) == {"text/html", "text/plain"}
    assert bundle["text/html"].startswith("<style>")
    assert bundle["text/plain"] == str(view)


def test_a_notebook_shows_the_terminal_form_as_plain_text(load):
    view = section(load("scope"), "slices")
    formats, _ = DisplayFormatter().format(view)
    assert formats["text/plain"] == view.text
    assert formats["text/html"] == view.html


def test_a_repr_never_spills_the_content():
    assert repr(View("<p>" + "x" * 1000, "first\nsecond")) == "View('first')"


def test_sections_with_a_chart_hand_out_the_figure(load):
    data = load("scope")
    assert section(data, "forest").figure.axes
    assert section(data, "slices").figure is None


def test_the_style_loads_nothing_and_knows_dark_and_paper():
    css = style_tag()
    assert "url(" not in css
    assert "@import" not in css
    for part in ("prefers-color-scheme: dark", "@media print", "--jp-", '[data-jp-theme-light="false"]'):
        assert part in css
