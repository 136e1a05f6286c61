import pytest
from jinja2 import TemplateError

from itera_nb.exceptions import ArmError
from itera_nb.models.prompt import ParseError, check_parse, compile_prompt, parse_output
from itera_nb.spec import ArmSpec


@pytest.fixture
def make(tmp_path):
    def make(text, system=None):
        (tmp_path / "p.md").write_text(text, encoding="utf-8")
        return compile_prompt(ArmSpec(prompt="p.md", system=system), tmp_path)

    return make


def test_columns_are_filled_in_literally(make):
    prompt = make("Subject: {{subject}}\n{{body}}", system="For {{subject}}")
    row = {"subject": "<b>{{body}}</b>", "body": "{% raw %} ü"}
    assert prompt.render(row) == ("Subject: <b>{{body}}</b>\n{% raw %} ü", "For <b>{{body}}</b>")


def test_system_may_be_a_file(make, tmp_path):
    (tmp_path / "system.md").write_text("be short")
    assert make("{{x}}", system="system.md").render({"x": 1}) == ("1", "be short")


def test_a_column_that_is_not_there_is_an_error(make):
    with pytest.raises(TemplateError, match="body"):
        make("{{body}}").render({"subject": 1})


def test_templates_are_sandboxed(make):
    with pytest.raises(TemplateError):
        make("{{ x.__class__.__mro__[1].__subclasses__() }}").render({"x": ""})
    with pytest.raises(TemplateError):
        make("{{ x.append(1) }}").render({"x": []})


def test_a_broken_template_or_missing_file_is_the_arms_fault(make, tmp_path):
    with pytest.raises(ArmError, match=r"p\.md is no template"):
        make("{{ x ")
    with pytest.raises(ArmError, match=r"gone\.md cannot be read"):
        compile_prompt(ArmSpec(prompt="gone.md"), tmp_path)


LABELS = {"labels": ["fees", "bank fees", "Transfer"]}


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("fees", "fees"),
        ("It is FEES.", "fees"),
        ("fees, yes: fees", "fees"),
        ("**Bank fees**", "bank fees"),
        ("transfer!", "Transfer"),
    ],
)
def test_labels(text, want):
    assert parse_output(text, LABELS) == want


@pytest.mark.parametrize("text", ["coffees", "fees or transfer", "", "bank fees, not fees"])
def test_labels_need_exactly_one(text):
    with pytest.raises(ParseError):
        parse_output(text, LABELS)


def test_regex_takes_its_group():
    assert parse_output("Answer: 42 \n", {"regex": r"Answer:\s*(.+)"}) == "42"
    assert parse_output("x 7", {"regex": r"\d"}) == "7"
    for text in ("no", "Answer:   "):
        with pytest.raises(ParseError):
            parse_output(text, {"regex": r"Answer:(\s*\d*)"})


@pytest.mark.parametrize(
    ("text", "field", "want"),
    [
        ('{"a": 1}', None, {"a": 1}),
        ('```json\n{"label": "x", "why": "{"}\n```', "label", "x"),
        ("Sure [no]: [1, 2] done", None, [1, 2]),
        ('{"label": false}', "label", False),
    ],
)
def test_json(text, field, want):
    assert parse_output(text, {"json": True} | ({"field": field} if field else {})) == want


@pytest.mark.parametrize("text", ["none", '{"other": 1}', '{"label": null}', "[1]", '{"label": NaN}'])
def test_json_without_the_field_is_no_output(text):
    with pytest.raises(ParseError):
        parse_output(text, {"json": True, "field": "label"})


def test_plain_text_is_stripped_and_not_empty():
    assert parse_output("  hello \n", None) == "hello"
    with pytest.raises(ParseError):
        parse_output(" \n", None)


@pytest.mark.parametrize(
    "bad",
    [{}, {"label": ["a"]}, {"labels": ["a"], "regex": "b"}, {"regex": "("}, {"regex": "a", "field": "b"}],
)
def test_parse_is_checked_before_any_call(bad):
    with pytest.raises(ArmError, match="parse"):
        check_parse(bad)
