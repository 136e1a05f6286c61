import json
from pathlib import Path

import pytest

from itera_nb.exceptions import ArmError
from itera_nb.models.parsing import ParseError, Parser


def read(text, spec):
    return Parser(spec, Path()).output(text)


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
    assert read(text, LABELS) == want


@pytest.mark.parametrize("text", ["coffees", "fees or transfer", "", "bank fees, not fees"])
def test_labels_need_exactly_one(text):
    with pytest.raises(ParseError):
        read(text, LABELS)


def test_regex_takes_its_group():
    assert read("Answer: 42 \n", {"regex": r"Answer:\s*(.+)"}) == "42"
    assert read("x 7", {"regex": r"\d"}) == "7"
    for text in ("no", "Answer:   "):
        with pytest.raises(ParseError):
            read(text, {"regex": r"Answer:(\s*\d*)"})


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
    assert read(text, {"json": True} | ({"field": field} if field else {})) == want


@pytest.mark.parametrize("text", ["none", '{"other": 1}', '{"label": null}', "[1]", '{"label": NaN}'])
def test_json_without_the_field_is_no_output(text):
    with pytest.raises(ParseError):
        read(text, {"json": True, "field": "label"})


@pytest.mark.parametrize("text", ["[" * 3000, '{"label":' * 3000, '{"label": 1e999}', '{"label": -1e999}'])
def test_json_that_no_log_could_hold_is_no_output(text):
    with pytest.raises(ParseError):
        read(text, {"json": True})


def test_half_a_surrogate_pair_becomes_a_question_mark():
    assert read(r'{"label": "ok \ud83d", "\ude00": "\ud83d\ude00"}', {"json": True}) == {
        "label": "ok ?",
        "?": "😀",
    }


def test_plain_text_is_stripped_and_not_empty():
    assert read("  hello \n", None) == "hello"
    with pytest.raises(ParseError):
        read(" \n", None)


@pytest.mark.parametrize(
    "bad",
    [{}, {"label": ["a"]}, {"labels": ["a"], "regex": "b"}, {"regex": "("}, {"regex": "a", "field": "b"}],
)
def test_parse_is_checked_before_any_call(bad):
    with pytest.raises(ArmError, match="parse"):
        Parser(bad, Path())


# schemas ----------------------------------------------------------------------------------------------------

SCHEMA = {
    "type": "object",
    "properties": {"team": {"enum": ["fees", "transfer"]}, "sure": {"type": "number"}},
    "required": ["team"],
    "additionalProperties": False,
}


@pytest.fixture
def schema(tmp_path):
    def with_schema(value=SCHEMA, **more):
        (tmp_path / "s.json").write_text(value if isinstance(value, str) else json.dumps(value), "utf-8")
        return Parser({"schema": "s.json", **more}, tmp_path)

    return with_schema


def test_a_schema_is_asked_for_and_checked(schema):
    parser = schema()
    assert parser.schema == SCHEMA
    assert parser.output('{"team": "fees", "sure": 0.5}') == {"team": "fees", "sure": 0.5}
    assert schema(field="team").output('```json\n{"team": "transfer"}\n```') == "transfer"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"team": "CANARY"}', r"\$\.team enum"),
        ("{}", r"\$ required"),
        ('{"team": "fees", "CANARY": 1}', "additionalProperties"),
        ("fees", "no JSON value"),
    ],
)
def test_an_answer_against_the_schema_is_no_output_and_not_quoted(schema, text, said):
    with pytest.raises(ParseError, match=said) as caught:
        schema().output(text)
    assert "CANARY" not in str(caught.value)


def test_the_field_may_be_absent_where_the_schema_allows_it(schema):
    with pytest.raises(ParseError, match="lacks the field"):
        schema(field="sure").output('{"team": "fees"}')


@pytest.mark.parametrize("wrong", ["oops", '{"type": "nothing"}', "[]", "3"])
def test_a_broken_schema_is_the_arms_fault(schema, wrong):
    with pytest.raises(ArmError, match=r"s\.json"):
        schema(wrong)


def test_a_schema_is_never_downloaded(schema):
    parser = schema({"$ref": "http://127.0.0.1:9/other.json"})
    with pytest.raises(ParseError, match="refers to"):
        parser.output("{}")


# examples ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "label", "text"),
    [
        (None, "fees", "fees"),
        (None, 3, "3"),
        ({"labels": ["fees"]}, "fees", "fees"),
        ({"json": True, "field": "team"}, "fees", '{"team": "fees"}'),
        ({"json": True}, ["a"], '["a"]'),
    ],
)
def test_an_example_is_written_as_it_would_be_read(spec, label, text):
    parser = Parser(spec, Path())
    assert parser.example(label) == text
    assert parser.output(text) == (str(label) if spec is None else label)
