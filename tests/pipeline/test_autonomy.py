"""`itera run` from a registered experiment to locked arms: alone, and where it waits for a person."""

import json

import pytest
from world import in_process

import itera_nb
from itera_nb.exceptions import IteraError
from itera_nb.scaffold import new_demo

CODE = """\
def answer(row):
    words = dict(word.split("=") for word in row["text"].split()[1:])
    right = 0 <= int(words["level"]) < {top}{extra}
    return words["answer"] if right else ("no" if words["answer"] == "yes" else "yes")
"""
CODED = ' or words["level"] in {"71", "73", "75", "77", "79", "81", "83", "85", "87", "89"}'
UNIVERSAL = 'class = "universal"\nevidence = "a wider range"\naction = "keep"\n'
CONTROL = '[arms.again]\nfrom = "base"\nchange = "none"\nnegative_control = true\n'


def queue(**code):
    """Files of a queue: each iteration is called universal beforehand."""
    files = {}
    for number, (name, text) in enumerate(code.items(), start=1):
        files[f"arms/{name}.py"] = text
        files[f"iterations/queue/{number:02d}-{name}.toml"] = (
            f'name = "{name}"\nhypothesis = "{name} answers more levels."\nparent = "better"\nwhat = "levels"\n'
            f'predicted_effect = 0.1\n{UNIVERSAL}[change]\ntarget = "arms/{name}.py:answer"\n'
        )
    return files


@pytest.fixture
def queued(make_experiment):
    """A folder with a universal change and a hardcode in the queue, both called universal, and an A/A control."""
    files = queue(wider=CODE.format(top=90, extra=""), coded=CODE.format(top=70, extra=CODED))
    exp = make_experiment(
        rows=300,
        effect=0.2,
        preset="iterate",
        run="trials = 2",
        extra_toml=f"[iterate]\n{CONTROL}",
        files=files,
    )
    return exp.experiment


def test_unattended_it_reaches_the_lock_and_keeps_only_what_the_figures_support(queued):
    done = in_process("run", "--unattended", queued.folder)
    assert done.code == 0, done.err
    assert "ready. The sealed test opens once" in done.out
    state = queued.state
    changes = {c["id"]: c for c in state.last("gate").body["changes"]}
    assert changes["01-wider"]["kept"]
    assert changes["02-coded"]["class"] == "hardcode"
    assert (changes["02-coded"]["action"], changes["02-coded"]["kept"]) == ("delete", False)
    assert changes["02-coded"]["by"] == "the figures, without a person"
    heads = {line["arm"]: line["head"] for line in state.the("locked").body["lines"]}
    assert heads == {"base": "base", "better": "01-wider", "again": "again"}
    records = state.records
    assert in_process("run", "--unattended", queued.folder).code == 0
    assert queued.state.records == records

    # the control was really run again, in a name space of its own, and is nobody's parent
    attempts = [
        json.loads(x) for x in (queued.folder / "runs" / "attempts.jsonl").read_text("utf-8").splitlines()
    ]
    keys = {arm: {a["key"] for a in attempts if a["arm"] == arm} for arm in ("base", "again")}
    assert not keys["base"] & keys["again"]
    dev = state.scored("dev").body["arms"]
    assert len(keys["again"]) >= 2 * state.scored("dev").body["n"]
    assert dev["again"]["mean"] == dev["base"]["mean"]
    session = itera_nb.open(queued.folder)
    assert "again, a negative control, differs by +0.0 pp" in session.noise().text


@pytest.mark.slow
def test_attended_it_asks_for_no_word_but_one_about_the_hardcode(queued):
    """Queue files that say everything are a person's word: only the reason against the figures is missing."""
    file = queued.folder / "iterations" / "queue" / "02-coded.toml"
    file.write_text(file.read_text("utf-8").replace('evidence = "a wider range"\n', ""), "utf-8")
    done = in_process("run", "--yes", queued.folder)
    assert done.code == 3
    waiting = [line for line in done.out.splitlines() if "waiting for you" in line]
    assert len(waiting) == 1
    assert "SG23" in waiting[0]
    assert "iterations/02-coded.toml, then: itera run" in waiting[0]
    file = queued.folder / "iterations" / "02-coded.toml"
    judged = 'class = "hardcode"\nevidence = "it names levels"\naction = "delete"'
    file.write_text(file.read_text("utf-8").replace('class = "universal"\naction = "keep"', judged), "utf-8")
    done = in_process("run", queued.folder)
    assert done.code == 0, done.err
    assert queued.state.has("locked")


def test_a_control_is_no_parent(make_experiment):
    files = queue(wider=CODE.format(top=90, extra=""))
    files = {path: text.replace('parent = "better"', 'parent = "again"') for path, text in files.items()}
    exp = make_experiment(
        rows=60, preset="iterate", run="trials = 1", extra_toml=f"[iterate]\n{CONTROL}", files=files
    )
    done = in_process("run", "--unattended", exp.experiment.folder)
    assert done.code == 2
    assert "an iteration refines a candidate arm, not 'again'" in done.err
    with pytest.raises(IteraError, match="refines a candidate"):
        exp.iterate()
    assert not exp.experiment.state.all("iteration_registered")


@pytest.mark.slow
def test_the_demo_reaches_the_lock_unattended(tmp_path):
    folder = tmp_path / "made" / new_demo(tmp_path / "made", tmp_path / "cache").name
    done = in_process("run", "--unattended", folder)
    assert done.code == 0, done.err
    state = itera_nb.open(folder).experiment.state
    assert state.has("locked")
    assert [c["action"] for c in state.last("gate").body["changes"]] == ["delete"]
