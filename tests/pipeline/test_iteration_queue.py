"""Iterations from the queue: registered, scored, judged at the gate; what passed goes to the test."""

import pytest
from world import conclude, go, in_process

from itera_nb.exceptions import IteraError, Refusal

ITERATE = '[iterate]\nproposer = "queue"\n'
JUDGED = {
    "universal": 'class = "universal"\nevidence = "wider range of levels, no literal of a row"\naction = "keep"\n',
    "hardcode": 'class = "hardcode"\nevidence = "it names three rows"\naction = "delete"\n',
    "unjudged": "",
}


def arm(low, high, extra=""):
    """An arm that is right on levels low .. high, and wherever `extra` says."""
    return f"""\
def answer(row):
    words = dict(word.split("=") for word in row["text"].split()[1:])
    right = {low} <= int(words["level"]) < {high}{extra}
    return words["answer"] if right else ("no" if words["answer"] == "yes" else "yes")
"""


def iteration(name, judged, *, effect=0.1, parent="better"):
    return f"""\
name = "{name}"
hypothesis = "{name} answers levels that {parent} gets wrong."
parent = "{parent}"
what = "another range of levels"
predicted_effect = {effect}
{JUDGED[judged]}
[change]
target = "arms/{name}.py:answer"
"""


def queue(**named):
    """Files of a queue: id -> (arm code, iteration file)."""
    files = {}
    for number, (name, (code, text)) in enumerate(named.items(), start=1):
        files[f"arms/{name}.py"] = code
        files[f"iterations/queue/{number:02d}-{name}.toml"] = text
    return files


# A few level values that dev rows have: right there only, wrong elsewhere.
CODED = ' or "level=83" in row["text"] or "level=85" in row["text"]'


@pytest.fixture
def two(make_experiment):
    """One universal iteration (+10 points) and one hardcode."""
    return make_experiment(
        rows=150,
        effect=0.2,
        preset="iterate",
        extra_toml=ITERATE,
        files=queue(
            wider=(arm(0, 80), iteration("wider", "universal")),
            coded=(arm(0, 70, CODED), iteration("coded", "hardcode", effect=0.02)),
        ),
    )


def test_universal_goes_to_the_test_and_hardcode_does_not(two):
    go(two)
    state = two.experiment.state
    assert [r.body["id"] for r in state.all("iteration_registered")] == ["01-wider", "02-coded"]
    for name in ("01-wider", "02-coded"):
        scored = state.scored("dev", name)
        registered = next(r for r in state.all("iteration_registered") if r.body["id"] == name)
        assert registered.seq < scored.seq, "the hypothesis stands before the score"
    (gate,) = state.all("gate")
    kept = {c["id"]: c["kept"] for c in gate.body["changes"]}
    assert kept == {"01-wider": True, "02-coded": False}
    measured = {c["id"]: c["measured"] for c in gate.body["changes"]}
    assert any("level=83" in literal for literal in measured["02-coded"]["literals"])
    (locked,) = state.all("locked")
    heads = {line["arm"]: line["head"] for line in locked.body["lines"]}
    assert heads == {"base": "base", "better": "01-wider"}
    assert "arms/wider.py" in locked.body["files"]
    assert "arms/coded.py" not in locked.body["files"]
    body = conclude(two)
    assert body["verdict"]["arms"]["better"]["trials"][0] > body["verdict"]["arms"]["base"]["trials"][0]
    text = (two.experiment.folder / "conclusion.md").read_text("utf-8")
    assert "wider" in text
    assert "coded" in text
    assert in_process("verify", two.experiment.folder).code == 0


def test_outcomes_of_predictions_are_computed(two):
    go(two, until="iterate")
    shown = two.iterate().text
    assert "01-wider" in shown
    assert "02-coded" in shown
    assert any(word in shown for word in ("supported", "neutral", "falsified"))
    records = two.experiment.state.records
    two.iterate()
    assert two.experiment.state.records == records, "shown again, not run again"


def test_gate_refuses_what_nobody_judged(make_experiment):
    exp = make_experiment(
        rows=90,
        effect=0.2,
        preset="iterate",
        extra_toml=ITERATE,
        files=queue(wider=(arm(0, 80), iteration("wider", "unjudged"))),
    )
    with pytest.raises(Refusal) as refused:
        go(exp)
    assert refused.value.safeguard == "SG23"
    assert "01-wider" in refused.value.what
    assert "iterations/01-wider.toml" in refused.value.instead
    with pytest.raises(Refusal) as locking:
        exp.lock()
    assert locking.value.safeguard == "SG23"
    path = exp.experiment.folder / "iterations" / "01-wider.toml"
    text = path.read_text("utf-8")
    for wrong, words in (
        (JUDGED["universal"].replace("universal", "hardcode"), "not kept"),
        (
            JUDGED["universal"].replace('evidence = "wider range of levels, no literal of a row"\n', ""),
            "no class, evidence",
        ),
    ):
        path.write_text(text.replace("[change]", f"{wrong}\n[change]"), "utf-8")
        with pytest.raises(Refusal, match=words) as refused:
            exp.gate()
        assert refused.value.safeguard == "SG23"
    path.write_text(text.replace("[change]", f"{JUDGED['universal']}\n[change]"), "utf-8")
    exp.gate()
    exp.lock()
    assert exp.experiment.state.has("locked")


def test_fourth_iteration_waits_for_the_next_sprint(make_experiment):
    exp = make_experiment(
        rows=90,
        effect=0.2,
        preset="iterate",
        extra_toml=ITERATE,
        files=queue(
            **{
                name: (arm(0, 71 + 3 * n), iteration(name, "universal", effect=0.03))
                for n, name in enumerate(("one", "two", "three", "four"))
            }
        ),
    )
    go(exp, until="iterate")

    def registered():
        return {r.body["id"]: r.body["sprint"] for r in exp.experiment.state.all("iteration_registered")}

    assert registered() == {"01-one": 1, "02-two": 1, "03-three": 1}
    exp.iterate()
    assert len(registered()) == 3
    exp.gate()
    assert exp.experiment.state.last("gate").body["outcome"] == "next sprint"
    exp.iterate()
    assert registered()["04-four"] == 2
    exp.gate()
    exp.lock()
    (locked,) = exp.experiment.state.all("locked")
    assert {line["arm"]: line["head"] for line in locked.body["lines"]}["better"] == "04-four"


def test_an_iteration_that_changes_nothing_is_refused(make_experiment):
    exp = make_experiment(
        rows=90,
        effect=0.2,
        preset="iterate",
        extra_toml=ITERATE,
        files=queue(same=(arm(0, 70), iteration("same", "universal"))),
    )
    with pytest.raises(Refusal) as refused:
        go(exp)
    assert refused.value.safeguard == "SG09"


@pytest.mark.parametrize("until", ["gate", pytest.param("iterate", marks=pytest.mark.slow)])
def test_an_iteration_edited_after_its_score_is_not_locked(two, until):
    go(two, until=until)
    path = two.experiment.folder / "arms" / "wider.py"
    path.write_text(path.read_text("utf-8").replace("< 80", "< 99"), "utf-8")
    with pytest.raises(IteraError, match="wider"):
        go(two)
    assert not two.experiment.state.has("locked")
