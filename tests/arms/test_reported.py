"""What an endpoint or a command may answer with."""

import datetime as dt
import json

import pytest

from itera_nb.arms.http_caller import HttpCaller
from itera_nb.arms.reported import body_of


@pytest.fixture
def read(called):
    def read(data, *, quiet=False, **spec):
        reader = HttpCaller(called.arm(**{"kind": "http", "url": "http://x"} | spec), quiet=quiet)
        data = (
            data
            if isinstance(data, bytes)
            else data.encode()
            if isinstance(data, str)
            else json.dumps(data).encode()
        )
        return reader.read(data, 3.0)

    return read


@pytest.mark.parametrize(
    ("data", "output"),
    [
        ("fees\n", "fees"),
        ('"fees"', "fees"),
        ("7", 7),
        ("false", False),
        (["a", "b"], ["a", "b"]),
        ({"team": "fees"}, {"team": "fees"}),
        ({"output": "x", "unit": "kg"}, {"output": "x", "unit": "kg"}),
        ({"output": "fees"}, "fees"),
        ({"value": 0}, 0),
        ("\ufefffees", "fees"),
        ("{not json", "{not json"),
        (r'{"output": "cut \ud83d"}', "cut ?"),
    ],
)
def test_outputs(read, data, output):
    answer = read(data)
    assert (answer.status, answer.output, answer.latency_ms) == ("ok", output, 3.0)
    assert answer.cost_usd is None


def test_a_report_says_what_it_cost_and_how_it_came_about(read):
    usage = {"model": "anthropic/claude-haiku-5-5", "input_tokens": 1000, "output_tokens": 100}
    answer = read({"output": "x", "usage": usage, "trace": {"steps": 2}, "first_token_ms": 5})
    assert (answer.usage, answer.trace, answer.first_token_ms) == ([usage], {"steps": 2}, 5)
    assert answer.cost_usd == pytest.approx(0.00015)
    assert read({"output": "x", "usage": [usage, {"model": "no/such", "input_tokens": 1}]}).cost_usd is None
    assert read({"output": "x", "usage": [usage], "cost_usd": 0.5}).cost_usd == 0.5
    assert read({"output": "x"}, cost="free").cost_usd == 0
    assert read({"output": "x", "cost_usd": 0.5}, cost="free").cost_usd == 0.5, "so that the pilot sees it"


@pytest.mark.parametrize(
    ("data", "status", "error_type"),
    [
        ("", "invalid", "None"),
        ("null", "invalid", "None"),
        ({"output": None}, "invalid", "None"),
        ("NaN", "invalid", "NaN"),
        ('{"output": Infinity}', "invalid", "NaN"),
        ('{"output": [1e999]}', "invalid", "NaN"),
        (b"\xff\xfe", "invalid", "NotUTF8"),
        ({"output": 1, "usage": 3}, "invalid", "BadReport"),
        ({"output": 1, "cost_usd": -1}, "invalid", "BadReport"),
        ({"output": 1, "cost_usd": "1"}, "invalid", "BadReport"),
        ({"error": "no answer", "cost_usd": 0.1}, "error", "Reported"),
    ],
)
def test_what_is_no_output(read, data, status, error_type):
    answer = read(data)
    assert (answer.status, answer.error_type, answer.output) == (status, error_type, None)


def test_what_a_wrong_report_says_of_its_price_still_counts(read):
    assert read({"output": 1, "usage": 3, "cost_usd": 0.05}).cost_usd == 0.05
    unknown = read({"output": 1, "cost_usd": -1}, cost="free")
    assert (unknown.status, unknown.cost_usd) == ("invalid", None)


def test_a_parse_reads_the_output_out_of_it(read):
    field = {"json": True, "field": "team"}
    assert read({"team": "fees", "p": 1}, parse=field).output == "fees"
    assert read({"output": 'so: {"team": "fees"}', "cost_usd": 1}, parse=field).cost_usd == 1
    assert read("it is fees", parse={"labels": ["fees", "x"]}).output == "fees"
    wrong = read("CANARY", parse={"labels": ["fees"]})
    assert (wrong.status, wrong.error_type) == ("invalid", "ParseError")
    assert "CANARY" in wrong.error


def test_quiet_shows_nothing_of_what_was_said(read):
    assert read({"error": "CANARY"}, quiet=True).error == ""
    assert read("CANARY", quiet=True, parse={"labels": ["fees"]}).error == ""


def test_what_is_sent_is_json_whatever_the_row_holds():
    row = {"day": dt.date(2026, 11, 1), "x": float("nan"), "y": [1, {"z": "ü"}], "bad": "\ud800", "k": 2}
    sent = json.loads(body_of({"k": 1, "q": True}, row), parse_constant=pytest.fail)
    assert sent == {"k": 2, "q": True, "day": "2026-11-01", "x": None, "y": [1, {"z": "ü"}], "bad": "?"}
