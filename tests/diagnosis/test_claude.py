"""A model that proposes iterations, on loopback: what it is told, what of its answers is used, and the money."""

import json
import shutil
from types import SimpleNamespace

import pytest
from world import go

import itera_nb
from itera_nb.diagnosis import sprint
from itera_nb.diagnosis.autonomy import diagnose
from itera_nb.exceptions import Refusal
from itera_nb.scoring.runs import part_rows
from itera_nb.testing import MessagesServer, Scripted

KEY = "test-key-of-the-proposer"
CODE = """\
def answer(row):
    words = dict(word.split("=") for word in row["text"].split()[1:])
    right = 0 <= int(words["level"]) < {top}
    return words["answer"] if right else ("no" if words["answer"] == "yes" else "yes")
"""


def proposal(name="Wider range", *, top=95, changes=None, **more):
    """What a model answers: the arm `better` with a higher upper level."""
    return {
        "name": name,
        "hypothesis": "Rows of high levels are answered too.",
        "parent": "better",
        "what": "a higher upper level",
        "changes": [{"component": "implementation", "replacement": CODE.format(top=top)}]
        if changes is None
        else changes,
        "predicted_rows": [],
        "predicted_effect": 0.1,
        "class": "universal",
        "reason": "it reads the level, whatever it is",
    } | more


NOTHING = proposal(changes=[])
TWO = proposal(
    changes=[
        {"component": "implementation", "replacement": CODE.format(top=95)},
        {"component": "params.top", "replacement": "3"},
    ]
)


@pytest.fixture(scope="module")
def server():
    """One server for all: an experiment's address is locked. Each test sets what it answers."""
    answers = []

    def answer(prompt):
        return answers[0](prompt)

    with MessagesServer(answer) as running:
        yield SimpleNamespace(running=running, answers=answers)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Where a copy of the experiment with dev scores is kept, made by the first test that needs it."""
    return tmp_path_factory.mktemp("kept") / "scored"


@pytest.fixture
def scored(make_experiment, monkeypatch, server, kept, tmp_path, state):
    """`scored(answers)`: a session with dev scores, the server, and the folder's files before any proposal."""
    monkeypatch.setenv("PROPOSER_KEY", KEY)

    def make(answers):
        server.answers[:] = [answers if callable(answers) else in_turn(answers)]
        server.running.reset()
        if kept.exists():
            exp = itera_nb.open(restored(kept, tmp_path / "copy", state))
        else:
            toml = (
                '[iterate]\nproposer = "claude"\nmodel = "anthropic/claude-haiku-5-5"\nbudget_usd = 2.0\n'
                f'iterations = 2\n[models.anthropic]\nbase_url = "{server.running.url}"\n'
                'api_key_env = "PROPOSER_KEY"\n'
            )
            exp = make_experiment(rows=100, effect=0.2, preset="iterate", run="trials = 1", extra_toml=toml)
            go(exp, until="dev")
            shutil.copytree(exp.experiment.folder, kept / "folder")
            shutil.copytree(state, kept / "state")
            (kept / "was").write_text(str(exp.experiment.folder), "utf-8")
        return SimpleNamespace(
            exp=exp,
            experiment=exp.experiment,
            server=server.running,
            folder=exp.experiment.folder,
            before=files(exp),
        )

    return make


def in_turn(answers):
    """Each answer once, the last one for ever."""
    left = iter(answers)
    last = [answers[-1]]
    return lambda prompt: next(left, last[0])


def restored(copy, folder, state):
    """An experiment from its copy, with its keys and heads."""
    shutil.copytree(copy / "folder", folder)
    shutil.copytree(copy / "state", state, dirs_exist_ok=True)
    for head in (state / "heads").glob("*.json"):
        was = (copy / "was").read_text("utf-8")
        head.write_text(head.read_text("utf-8").replace(was, str(folder)), "utf-8")
    return folder


def files(exp):
    """Path -> bytes of everything but what the record and the runs write."""
    folder = exp.experiment.folder
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.suffix != ".lock" and "runs" not in p.parts and p.name != "ledger.jsonl"
    }


def new_files(s):
    now = files(s.exp)
    assert {name: now.get(name) for name in s.before} == s.before, "a file that was there has changed"
    return sorted(now.keys() - s.before.keys())


def ids(s):
    return [r.body["id"] for r in s.experiment.state.all("iteration_registered")]


def refused(s):
    return [(r.body["final"], r.body["what"]) for r in s.experiment.state.all("proposal_refused")]


def safeguards(s):
    return [r.body["safeguard"] for r in s.experiment.state.all("attempt_refused")]


def test_a_good_proposal_is_registered_scored_gated_and_paid_once(scored):
    s = scored([proposal(), NOTHING])
    diagnose(s.experiment, unattended=True)
    state = s.experiment.state
    assert ids(s) == ["01-wider-range"]
    body = state.the("iteration_registered").body
    assert body["proposer"] == "claude"
    assert body["cost_usd"] > 0
    assert len(body["request"]) == 64
    assert body["components"] == ["implementation"]
    assert state.scored("dev", "01-wider-range").seq > state.the("iteration_registered").seq
    assert state.last("gate").body["changes"][0]["id"] == "01-wider-range"
    assert new_files(s) == ["arms/better_01_wider_range.py", "iterations/01-wider-range.toml"]
    assert refused(s) == [(True, "it has nothing more to propose")]
    assert len(s.server.requests) == 2
    diagnose(s.experiment, unattended=True)
    assert len(s.server.requests) == 2, "a proposer at its end is not asked again"

    sent = json.dumps(s.server.requests)
    train = [row["text"].split()[0] for row in part_rows(s.experiment, "train")]
    known = {row["text"].split()[0] for row in part_rows(s.experiment, "train")}
    others = {f"CANARY{n:05d}X" for n in range(100)} - known
    assert all(canary in sent for canary in train), "train rows are shown, so the search can find a canary"
    assert not [canary for canary in others if canary in sent], "no dev row and no test row"
    assert "tenant=" in sent, "dev effects by slice are"
    second = s.server.requests[1]["messages"][0]["content"]
    assert "01-wider-range (of better)" in second
    everything = b"".join(p.read_bytes() for p in s.folder.rglob("*") if p.is_file())
    assert KEY.encode() not in everything
    assert all(h.get("authorization", h.get("x-api-key", "")).endswith(KEY) for h in s.server.headers)


def test_two_changes_at_once_are_refused_and_told_back_once(scored):
    s = scored([TWO, proposal(), NOTHING])
    s.exp.iterate()
    assert ids(s) == ["01-wider-range"]
    assert safeguards(s) == ["SG21"]
    assert refused(s)[0] == (False, "the proposal changes 2 components.")
    told = s.server.requests[1]["messages"][0]["content"]
    assert "Your last answer was refused" in told
    assert "changes 2 components" in told
    assert "was refused" not in s.server.requests[2]["messages"][0]["content"]


def test_what_is_no_proposal_twice_stops_with_words_and_the_next_run_goes_on(scored):
    s = scored(["I would rather write a poem.", TWO, proposal()])
    with pytest.raises(Refusal, match="2 components") as stopped:
        diagnose(s.experiment)
    assert "itera run" in stopped.value.instead
    assert [final for final, _ in refused(s)] == [False, True]
    assert refused(s)[0][1].startswith("the answer is no proposal (invalid")
    assert "is no proposal" in s.server.requests[1]["messages"][0]["content"]
    assert all(r.body["cost_usd"] > 0 for r in s.experiment.state.all("proposal_refused"))
    diagnose(s.experiment)
    assert ids(s) == []
    assert len(s.server.requests) == 2
    assert new_files(s) == []
    s.exp.lock()


@pytest.mark.parametrize(
    "changes",
    [
        {"changes": [{"component": "implementation", "replacement": f"x = {'-' * 200_000}1"}]},
        {"changes": [{"component": "implementation", "replacement": "import os\nos._exit(3)\n" + CODE}]},
        {"changes": [{"component": "implementation", "replacement": CODE.format(top="1 / 0") + "1 / 0\n"}]},
        {"changes": [{"component": "../../experiment.toml", "replacement": "x"}]},
        {"parent": "../base", "predicted_effect": 1e300},
    ],
)
def test_what_could_never_be_scored_is_told_back_and_leaves_no_file(scored, changes):
    s = scored([proposal(**changes), NOTHING])
    diagnose(s.experiment, unattended=True)
    assert ids(s) == []
    assert [final for final, _ in refused(s)] == [False, True]
    assert new_files(s) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"changes": [{"component": "implementation", "replacement": CODE.format(top=95) + "# \ud800"}]},
        {"hypothesis": "Rows \ud800 of high levels are answered too."},
    ],
)
def test_half_a_character_is_a_question_mark_as_in_any_output(scored, changes):
    s = scored([proposal(**changes), NOTHING])
    diagnose(s.experiment, unattended=True)
    assert ids(s) == ["01-wider-range"]
    assert refused(s) == [(True, "it has nothing more to propose")]
    assert sum("?" in (s.experiment.folder / path).read_text("utf-8") for path in new_files(s)) == 1


def test_a_proposal_that_quotes_dev_text_is_refused_and_ends_the_proposals(scored):
    s = scored(lambda prompt: answers[0])
    dev = part_rows(s.experiment, "dev")[0]["text"]
    code = CODE.format(top=95) + f'\nKNOWN = "{dev}"\n'
    answers = [proposal(changes=[{"component": "implementation", "replacement": code}])]
    with pytest.raises(Refusal) as stopped:
        s.exp.iterate()
    assert stopped.value.safeguard == "SG29"
    assert "1 dev row" in stopped.value.what
    assert safeguards(s) == ["SG29"]
    assert [final for final, _ in refused(s)] == [True]
    assert new_files(s) == []
    assert dev.split()[0] not in s.experiment.ledger.path.read_text("utf-8")
    s.exp.iterate()
    assert len(s.server.requests) == 1


def test_the_budget_stops_before_the_call_that_could_cross_it(scored):
    dear = Scripted(json.dumps(proposal()), usage={"output_tokens": 3_990_000})
    s = scored([dear])
    s.exp.iterate()
    assert ids(s) == ["01-wider-range"]
    assert 1.9 < s.experiment.state.the("iteration_registered").body["cost_usd"] < 2.0
    assert len(s.server.requests) == 1
    ((final, words),) = refused(s)
    assert final
    assert "could cross the budget" in words
    s.exp.iterate()
    assert len(refused(s)) == 1


def test_an_interrupted_run_pays_no_recorded_answer_again_and_asks_no_more_than_registered(
    scored, monkeypatch
):
    s = scored([proposal(), proposal("Other range", top=90), NOTHING])
    register = sprint.register

    def interrupted(*args):
        monkeypatch.setattr(sprint, "register", register)
        raise KeyboardInterrupt

    monkeypatch.setattr(sprint, "register", interrupted)
    with pytest.raises(KeyboardInterrupt):
        s.exp.iterate()
    assert ids(s) == []
    assert len(s.server.requests) == 1
    s.exp.iterate()
    assert ids(s) == ["01-wider-range", "02-other-range"]
    assert len(s.server.requests) == 2, "the first answer was read back, and iterations = 2"
    assert "iterations/01-wider-range.toml" in new_files(s)


def test_attended_an_unsupported_universal_waits_for_a_person(scored):
    known = sorted(f"{level}" for level in range(70, 100))
    code = CODE.format(top=70).replace(
        "    return words", f'    right = right or words["level"] in {set(known)!r}\n    return words'
    )
    s = scored([proposal(changes=[{"component": "implementation", "replacement": code}]), NOTHING])
    with pytest.raises(Refusal) as stopped:
        diagnose(s.experiment)
    assert stopped.value.safeguard == "SG23"
    assert "iterations/01-wider-range.toml" in stopped.value.instead
    diagnose(s.experiment, unattended=True)
    (change,) = s.experiment.state.last("gate").body["changes"]
    assert change["class"] in {"hardcode", "cant_tell"}
    assert (change["action"], change["kept"]) == ("delete", False)
    s.exp.lock()
    heads = {line["arm"]: line["head"] for line in s.experiment.state.the("locked").body["lines"]}
    assert heads == {"base": "base", "better": "better"}
