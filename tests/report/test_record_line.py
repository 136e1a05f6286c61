"""A record in one plain line, whatever its body holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itera_nb.ledger import Record
from itera_nb.protocol import NEEDS
from itera_nb.report.record_line import record_line

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
KEYS = [
    "changes",
    "rows",
    "counts",
    "arms",
    "n",
    "value",
    "why",
    "what",
    "ids",
    "lines",
    "files",
    "outcome",
    "arm",
]


def record(kind, body):
    return Record(1, "0" * 64, kind, "2026-11-21T10:00:00.000+00:00", body, "f" * 64)


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        ("sampled", {"rows": 19410}, "19,410 rows sampled"),
        ("scored", {"iteration": None, "arms": {"a": 1, "b": 2}, "n": 9705, "rows": "dev"}, "2 arms scored on 9,705 dev rows"),
        ("verdict", {"outcome": "ship", "arm": "v2"}, "verdict: SHIP v2"),
        ("verdict", {"outcome": "kill", "arm": None}, "verdict: KILL"),
        ("accepted", {"safeguard": "SG12", "why": "policy"}, "SG12 accepted: policy"),
        ("sealed", {"counts": "not counts"}, "sealed"),
        ("seal_touched", {}, "seal touched"),
        ("of another version", {}, "of another version"),
    ],
)  # fmt: skip
def test_what_happened(kind, body, said):
    assert record_line(record(kind, body)) == said


def test_a_key_and_control_characters_are_not_shown():
    said = record_line(
        record("accepted", {"safeguard": "SG12", "why": "\x1b[31m sk-abcdefghijklmnop1234 \u202e x"})
    )
    assert "sk-" not in said
    assert said == "SG12 accepted: [31m [key] x"


@given(st.sampled_from(sorted(NEEDS)), st.dictionaries(st.sampled_from(KEYS), ANYTHING))
def test_any_body_gives_one_short_line(kind, body):
    said = record_line(record(kind, body))
    assert len(said) <= 160
    assert said.isprintable()


def test_a_key_that_invisible_characters_split_is_hidden_too():
    key = "sk-ant-api03-" + "a" * 40
    assert "[key]" in record_line(record("accepted", {"safeguard": "SG12", "why": key}))
    split = key[:20] + "\u200b" + key[20:]
    assert "[key]" in record_line(record("accepted", {"safeguard": "SG12", "why": split}))
    assert key[:16] not in record_line(
        record("accepted", {"safeguard": "SG12", "why": key[:3] + "\u200b" + key[3:]})
    )
