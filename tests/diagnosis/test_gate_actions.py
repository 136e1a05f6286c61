"""What is done with a change at the gate: kept, upgraded, lifted out or deleted; by a person or a model."""

from types import SimpleNamespace

import pytest

from itera_nb.diagnosis import sprint
from itera_nb.diagnosis.class_judge import judge_class
from itera_nb.diagnosis.judgement import Judgement, audit_gates, lift, open_changes
from itera_nb.exceptions import Refusal
from itera_nb.ledger import Record
from itera_nb.protocol import State, check
from itera_nb.report.reading import Node
from itera_nb.report.story import _iteration
from itera_nb.spec import LiftedSpec
from itera_nb.testing.messages_server import MessagesServer

ARM = """\
def answer(row):
    words = dict(word.split("=") for word in row["text"].split()[1:])
    right = {right}
    return words["answer"] if right else "no" if words["answer"] == "yes" else "yes"
"""
ITERATION = """\
name = "{name}"
parent = "{parent}"
what = "another condition"
hypothesis = "More rows are answered by {name}."
predicted_effect = 0.1

[change]
target = "arms/{name}.py:answer"
"""
LEVELS = [f"level={n}" for n in range(80, 96)]
CODE = {
    "coded": ("better", f"int(words['level']) < 80 or any(level in row['text'] for level in {LEVELS})"),
    "principle": ("coded", "int(words['level']) < 96"),
}
TOML = """
[iterate]
judge = "anthropic/claude-haiku-4-5"

[models.anthropic]
api_key_env = "GATE_API_KEY"
base_url = "{url}"
"""


def reply(prompt):
    """A judge that looks at the diff: literals are a hardcode."""
    assert "universal: a mechanism" in str(prompt.body["system"])
    return {"reason": "it names levels" if "'level=83'" in prompt else "a rule", "class": said(prompt)}


def said(prompt):
    return (
        "hardcode"
        if "+    right" in prompt and "'level=83'" in prompt.split("+    right")[1]
        else "universal"
    )


@pytest.fixture
def judge_server(monkeypatch):
    monkeypatch.setenv("GATE_API_KEY", "loopback")
    with MessagesServer(reply) as server:
        yield server


@pytest.fixture
def session(make_experiment, judge_server):
    """An open sprint of a hardcode and of the first principle that replaces it."""
    files = {}
    for name, (parent, right) in CODE.items():
        files[f"arms/{name}.py"] = ARM.format(right=right)
        files[f"iterations/queue/{name}.toml"] = ITERATION.format(name=name, parent=parent)
    toml = TOML.format(url=judge_server.url)
    session = make_experiment(rows=200, preset="iterate", run="trials = 1", extra_toml=toml, files=files)
    for step in ("frame.lock", "source.sample", "source.audit", "split.seal", "metric.try_on", "metric.lock"):
        room, name = step.split(".")
        getattr(getattr(session, room), name)()
    session.pilot()
    session.run("dev")
    session.iterate()
    return session


def write(session, name, class_, action, more=""):
    path = session.experiment.folder / f"iterations/{name}.toml"
    text = ITERATION.format(name=name, parent=CODE[name][0])
    said = f'class = "{class_}"\naction = "{action}"\nevidence = "as measured"\n'
    path.write_text(said + text + more, "utf-8")


def test_what_replaces_a_hardcode_is_measured_against_what_the_line_has(session, judge_server):
    coded, principle = open_changes(session.experiment)
    assert (principle.reference, principle.builds_on) == ("coded", {})

    calls = len(judge_server.requests)
    by_model = [judge_class(session.experiment, change) for change in (coded, principle)]
    assert by_model[0] == Judgement(
        "hardcode", "delete", "it names levels", "anthropic/claude-haiku-4-5, blind"
    )
    asked = [str(r["messages"]) for r in judge_server.requests[calls:]]
    assert len(asked) == 2
    for words in ("better", "coded", "principle", "CANARY"):
        assert words not in "".join(asked), "it does not know whose change it is, nor a row"
    assert judge_class(session.experiment, coded) == by_model[0]
    assert len(judge_server.requests) == calls + 2, "an answer is paid once"

    write(session, "coded", "hardcode", "delete")
    write(session, "principle", "universal", "keep")
    with pytest.raises(Refusal, match="builds on coded, which is not kept") as caught:
        session.gate()
    assert caught.value.safeguard == "SG23"
    assert judge_class(session.experiment, open_changes(session.experiment)[0]) is None, "a person has judged"

    write(session, "principle", "hardcode", "delete")
    write(session, "coded", "hardcode", "lift_out")
    with pytest.raises(Refusal, match=r"names no \[lifted\] table"):
        session.gate()

    write(session, "coded", "hardcode", "upgrade")
    write(session, "principle", "universal", "keep")
    principle = open_changes(session.experiment)[1]
    assert (principle.reference, principle.builds_on) == ("better", {"coded": "upgrade"})
    assert principle.measured.proposed == "universal"
    assert not principle.measured.conditions
    session.gate()
    gate = session.experiment.state.the("gate").body
    assert [(c["id"], c["kept"]) for c in gate["changes"]] == [("coded", False), ("principle", True)]
    (audited,) = audit_gates(session.experiment).items()
    assert (audited[0], audited[1].proposed) == ("better", "universal")
    session.lock()
    lines = {x["arm"]: x["head"] for x in session.experiment.state.the("locked").body["lines"]}
    assert lines["better"] == "principle"


TEST = """\
import json
from pathlib import Path
TABLE = json.loads((Path(__file__).parent / "vendors.json").read_text())
def test_every_vendor_has_a_class():
    assert all(TABLE.values())
def helper(x):
    return x
"""


@pytest.mark.parametrize(
    ("files", "wrong"),
    [
        ({}, "no file tables/vendors.json"),
        ({"vendors.json": "{}"}, "no file tables/test_vendors.py"),
        ({"vendors.json": "", "test_vendors.py": TEST}, "or it is empty"),
        ({"vendors.json": "{}", "test_vendors.py": "def test_x(): pass\n"}, "does not name vendors.json"),
        ({"vendors.json": "{}", "test_vendors.py": "# vendors.json\n"}, "has no function test_"),
        ({"vendors.json": "{}", "test_vendors.py": "# vendors.json\ndef (:\n"}, "test_vendors.py:2"),
        ({"vendors.json": '{"globex": ""}', "test_vendors.py": TEST}, r"test_every_vendor_has_a_class fails \(AssertionError"),
        ({"vendors.json": '{"globex": "fees"}', "test_vendors.py": TEST}, None),
    ],
)  # fmt: skip
def test_a_table_is_there_and_passes_its_test(tmp_path, files, wrong):
    (tmp_path / "tables").mkdir()
    for name, text in files.items():
        (tmp_path / "tables" / name).write_text(text, "utf-8")
    experiment = SimpleNamespace(folder=tmp_path.resolve())
    wanted = LiftedSpec(table="tables/vendors.json", test="tables/test_vendors.py")
    if wrong is None:
        found = lift(experiment, wanted)
        assert (found.table, found.tests) == ("tables/vendors.json", 1)
        return
    with pytest.raises(ValueError, match=wrong):
        lift(experiment, wanted)


def test_a_table_outside_of_the_folder_is_none(tmp_path):
    experiment = SimpleNamespace(folder=(tmp_path / "a"))
    experiment.folder.mkdir()
    (tmp_path / "t.json").write_text("{}")
    with pytest.raises(ValueError, match=r"no file \.\./t\.json"):
        lift(experiment, LiftedSpec(table="../t.json", test="x.py"))


ARM_BODY = {"kind": "python", "target": "b.py:f"}


def state(*events):
    return State(
        tuple(
            Record(n, "", type_, "2026-11-22T00:00:00", body, "") for n, (type_, body) in enumerate(events, 1)
        )
    )


def gate(outcome="lock", **changes):
    judged = [{"id": i, "kept": a == "keep", "action": a} for i, a in changes.items()]
    return "gate", {"changes": judged, "lines": [{"arm": "better", "outcome": outcome, "why": "so"}]}


def iteration(name, parent):
    return "iteration_registered", {"id": name, "parent": parent, "arm": ARM_BODY}


@pytest.mark.parametrize(
    ("parent", "action", "outcome", "words"),
    [
        ("one", "delete", "next sprint", "which did not pass its gate"),
        ("one", "lift_out", "next sprint", "which did not pass its gate"),
        ("one", "upgrade", "next sprint", None),
        ("one", "keep", "lock", None),
        ("better", "delete", "next sprint", None),
        ("better", "delete", "kill", "the line of better is killed"),
    ],
)
def test_what_may_be_built_on(make_spec, parent, action, outcome, words):
    def refuse(refusal):
        raise refusal

    events = state(iteration("one", "better"), gate(outcome, one=action))
    experiment = SimpleNamespace(spec=make_spec(), state=events, refuse=refuse)
    wanted = SimpleNamespace(name="two", parent=parent)
    if words is None:
        sprint._check_line(experiment, wanted)
        return
    with pytest.raises(Refusal, match=words) as caught:
        sprint._check_line(experiment, wanted)
    assert caught.value.safeguard == "SG23"
    if outcome == "kill":
        assert "no file waits in iterations/queue" in caught.value.instead, (
            "while it waits there, itera run comes back to it"
        )


def test_sg22_a_fourth_sprint_needs_a_reason_each_time():
    dev = ("scored", {"rows": "dev", "iteration": None})
    accepted = ("accepted", {"safeguard": "SG22", "why": "the third gate was strict"})
    three = [dev, *[gate()] * 3]
    refusal = check("iteration_registered", state(*three))
    assert (refusal.safeguard, refusal.asks) == ("SG22", True)
    assert check("iteration_registered", state(*three, accepted)) is None
    assert check("iteration_registered", state(*three, accepted, gate())).safeguard == "SG22"
    assert check("iteration_registered", state(*three, accepted, accepted, gate())) is None


def test_the_conclusion_says_who_judged_and_what_the_figures_said():
    node = {
        "id": "one",
        "hypothesis": "It helps.",
        "what": "a rule",
        "dev_effect": 0.1,
        "dev_low": 0.02,
        "dev_high": 0.18,
        "predicted_effect": 0.1,
        "outcome": "falsified",
        "reach": {"rows": 18, "ran": 0, "note": ""},
        "class": "universal",
        "evidence": "levels are what the rule is about",
        "against_the_figures": True,
        "judged_by": "a person",
        "gate": "kept",
    }
    said = _iteration(Node(node)).result
    assert "falsified, in play on 0 of 18 failing rows" in said
    assert "gate: universal against the figures (levels are what the rule is about), kept." in said
    by = {"against_the_figures": False, "judged_by": "anthropic/x, blind", "reach": {"rows": 3, "ran": None}}
    said = _iteration(Node(node | by)).result
    assert "in play" not in said
    assert "universal (levels are what the rule is about) by anthropic/x, blind, kept" in said
