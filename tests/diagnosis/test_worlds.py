"""Simulated worlds: what the gate says of changes whose nature is known.

In bulk over synthetic scores, for rates; and one of each kind through a real experiment with real arms.
"""

from collections import Counter

import numpy as np
import pytest

from itera_nb.diagnosis.autonomy import diagnose
from itera_nb.diagnosis.conditions import Condition
from itera_nb.diagnosis.gate import measure
from itera_nb.diagnosis.judgement import open_changes
from itera_nb.exceptions import Refusal
from itera_nb.scoring.runs import part_rows

ROWS = 150
TOUCHED, READ = 0.10, 0.15
NOISE = 0.02
"""Share of rows that win, and that lose, whatever was changed."""
BY_NAME = (Condition("globex", "contains", "arms/x.py", 3),)
GAINS = {
    "universal": lambda touched, read: np.full(touched.size, 0.08),
    "hardcode": lambda touched, read: 0.60 * touched,
    "mixed": lambda touched, read: 0.08 + 0.52 * touched,
    "leak": lambda touched, read: 0.60 * read,
    "no effect": lambda touched, read: np.zeros(touched.size),
}


@pytest.fixture
def gate(make_evidence):
    """What the gate says of one simulated change."""

    def look(kind, seed, rows=ROWS):
        rng = np.random.default_rng([seed, list(GAINS).index(kind)])
        touched, read = rng.random(rows) < TOUCHED, rng.random(rows) < READ
        chance = rng.random(rows)
        d = (chance < GAINS[kind](touched, read) + NOISE).astype(float) - (chance > 1 - NOISE)
        parent = np.where(d == 0, rng.random(rows) < 0.6, d < 0).astype(float)
        evidence = make_evidence({"parent": parent, "child": parent + d})
        conditions = BY_NAME if kind in {"hardcode", "mixed"} else ()
        ids = np.asarray(evidence.ids)[read]
        return measure(evidence, "child", "parent", touched, ["globex"], conditions, ids.tolist())

    return look


def rates(gate, kind, times, rows=ROWS):
    """Shares of the worlds of a kind in which a class is proposed."""
    found = Counter(gate(kind, seed, rows).proposed for seed in range(times))
    return {class_: found[class_] / times for class_ in ("universal", "hardcode", "cant_tell")}


def check(found):
    print({kind: {c: f"{100 * x:.1f} %" for c, x in classes.items()} for kind, classes in found.items()})  # noqa: T201
    assert found["hardcode"]["hardcode"] >= 0.90
    assert found["hardcode"]["universal"] <= 0.02
    assert found["universal"]["hardcode"] <= 0.02
    assert found["universal"]["universal"] >= 0.55
    assert found["leak"]["hardcode"] >= 0.90
    assert found["leak"]["universal"] <= 0.02
    assert found["mixed"]["universal"] <= 0.20
    assert found["no effect"]["universal"] <= 0.05


def test_hardcodes_are_flagged_and_universal_changes_are_not(gate):
    check({kind: rates(gate, kind, 200) for kind in GAINS})


@pytest.mark.slow
def test_the_rates_in_many_worlds(gate):
    check({kind: rates(gate, kind, 4_000) for kind in GAINS})


@pytest.mark.slow
def test_fifty_rows_are_too_few_to_tell(gate):
    """What `statistics` promises there is caution: mostly unclear, and hardly ever the wrong name."""
    found = {kind: rates(gate, kind, 1_000, rows=50) for kind in GAINS}
    assert found["universal"]["cant_tell"] > 0.5
    assert found["universal"]["hardcode"] <= 0.05
    assert found["hardcode"]["universal"] <= 0.05


ARM = """\
def answer(row):
    words = dict(word.split("=") for word in row["text"].split()[1:])
    right = {right}
    if right:
        return words["answer"]
    return "no" if words["answer"] == "yes" else "yes"
"""
ITERATION = """\
name = "{name}"
parent = "better"
what = "another condition"
hypothesis = "More rows are answered by {name}."
predicted_effect = 0.1

[change]
target = "arms/{name}.py:answer"
"""
LEVELS = [f"level={n}" for n in range(82, 98)]
SAME = "0 <= int(words['level']) < 80"
READ_HERE = "the codes of rows that a person has read"
SPRINTS = (
    {
        "wider": "0 <= int(words['level']) < 94",
        "coded": f"{SAME} or any(level in row['text'] for level in {LEVELS})",
        "leak": f"{SAME} or row['text'].split()[0] in {READ_HERE!r}.split()",
    },
    {
        "mixed": f"0 <= int(words['level']) < 90 or any(x in row['text'] for x in {LEVELS[8:]})",
        "same": f"{SAME} and len(row['text']) > 3",
    },
)


def queue(session, number, codes):
    folder = session.experiment.folder
    (folder / "iterations/queue").mkdir(parents=True, exist_ok=True)
    for name, right in SPRINTS[number].items():
        (folder / f"arms/{name}.py").write_text(ARM.format(right=right.replace(READ_HERE, codes)), "utf-8")
        (folder / f"iterations/queue/{name}.toml").write_text(ITERATION.format(name=name), "utf-8")


def judge(session, actions):
    """Judge the open sprint as the figures propose."""
    for change in open_changes(session.experiment):
        path = session.experiment.folder / f"iterations/{change.id}.toml"
        said = f'class = "{change.measured.proposed}"\naction = "{actions[change.id]}"\nevidence = "as measured"\n'
        path.write_text(said + path.read_text("utf-8"), "utf-8")
    session.gate()
    return session.experiment.state.all("gate")[-1].body


def test_each_world_through_the_whole_loop(make_experiment):
    """150 dev rows, two sprints, real arms; the leak names rows that a person has read."""
    session = make_experiment(rows=300, preset="iterate", run="trials = 1", extra_toml="[iterate]\n")
    for step in ("frame.lock", "source.sample", "source.audit", "split.seal", "metric.try_on", "metric.lock"):
        room, name = step.split(".")
        getattr(getattr(session, room), name)()
    session.pilot()
    session.run("dev")
    wrong = [r for r in part_rows(session.experiment, "dev") if int(r["text"].split("level=")[1][:2]) >= 80][
        :12
    ]
    session.reveal([row["row_id"] for row in wrong], "to see what fails")
    codes = " ".join(row["text"].split()[0] for row in wrong)

    queue(session, 0, codes)
    shown = session.iterate().text
    assert "rows that the parent fails on" in shown
    changes = {c.id: c.measured for c in open_changes(session.experiment)}
    assert {name: x.proposed for name, x in changes.items()} == {
        "coded": "hardcode",
        "leak": "hardcode",
        "wider": "universal",
    }
    assert any("'level=83'" in condition for condition in changes["coded"].conditions)
    assert "the gain stands on the rows that contain what it added" in changes["coded"].why
    assert "the gain stands on the rows that were read" in changes["leak"].why
    assert changes["leak"].unseen.estimate == 0.0
    gate = judge(session, {"wider": "keep", "coded": "delete", "leak": "upgrade"})
    assert {c["id"]: (c["kept"], c["by"]) for c in gate["changes"]} == {
        "coded": (False, "a person"),
        "leak": (False, "a person"),
        "wider": (True, "a person"),
    }

    queue(session, 1, codes)
    session.iterate()
    changes = {c.id: c.measured.proposed for c in open_changes(session.experiment)}
    assert changes["mixed"] in {"hardcode", "cant_tell"}
    assert changes["same"] == "cant_tell"
    gate = judge(session, dict.fromkeys(changes, "delete"))
    assert gate["lines"] == [{"arm": "better", "outcome": "kill", "why": "3 of 5 changes were hardcodes"}]
    assert gate["outcome"] == "kill"

    again = ITERATION.format(name="wider").replace('"wider"', '"again"')
    (session.experiment.folder / "iterations/queue/again.toml").write_text(again, "utf-8")
    with pytest.raises(Refusal, match="the line of better is killed") as caught:
        session.iterate()
    assert caught.value.safeguard == "SG23"
    diagnose(
        session.experiment
    )  # what waits in the queue of a killed line does not stand in the way of the lock
    session.lock()
    lines = {x["arm"]: x["head"] for x in session.experiment.state.the("locked").body["lines"]}
    assert lines["better"] == "wider"
