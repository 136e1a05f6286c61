"""Proposals of any proposer: what is checked before one is registered, and what it may write."""

import json
from dataclasses import dataclass, field

import pytest
from world import go

from itera_nb.diagnosis import proposals
from itera_nb.diagnosis.proposals import brief, parent_of, replace
from itera_nb.diagnosis.proposer import Answer, Proposal, ProposalError, Replacement
from itera_nb.exceptions import Refusal, StoppedError
from itera_nb.scoring.runs import part_rows
from itera_nb.spec import ArmSpec

CODE = """\
def answer(row):
    words = dict(word.split("=") for word in row["text"].split()[1:])
    right = 0 <= int(words["level"]) < {top}
    return words["answer"] if right else ("no" if words["answer"] == "yes" else "yes")
"""


def proposal(name="wider", *, code=None, component="implementation", **more):
    said = {
        "name": name,
        "hypothesis": "Rows of high levels are answered too.",
        "parent": "better",
        "what": "a higher upper level",
        "changes": (Replacement(component, CODE.format(top=95) if code is None else code),),
        "predicted_effect": 0.1,
        "predicted_rows": {},
        "class_": "universal",
        "reason": "it reads the level",
    }
    return Proposal(**said | more)


@dataclass
class Scripted:
    """A proposer that answers from a list, the last one for ever."""

    answers: list
    name: str = "scripted"
    briefings: list = field(default_factory=list)

    def propose(self, briefing):
        self.briefings.append(briefing)
        answer = self.answers[min(len(self.briefings), len(self.answers)) - 1]
        return answer if isinstance(answer, Answer) else Answer(answer)


BAD = {
    "no answer": (Answer(None, "the answer is no proposal"), "no proposal"),
    "parent": (proposal(parent="base"), "its parent is none of: better"),
    "outside": (proposal(component="../../x.py", code="x = 1"), "no such component"),
    "absolute": (proposal(component="/tmp/x.py", code="x = 1"), "no such component"),
    "syntax": (proposal(code="def answer(:"), "invalid syntax"),
    "symbol": (proposal(code="def other(row): return 1"), "does not define 'answer'"),
    "same": (proposal(code=CODE.format(top=70)), "does not differ"),
    "rows": (proposal(predicted_rows={"tenant": "none"}), "fits no dev row"),
    "effect": (proposal(predicted_effect=7.0), "less than or equal to 1"),
}


def test_every_proposal_is_checked_and_leaves_only_files_of_its_own(make_experiment, monkeypatch):
    exp = make_experiment(rows=100, effect=0.2, preset="iterate", run="trials = 1", extra_toml="[iterate]\n")
    go(exp, until="dev")
    folder, state = exp.experiment.folder, lambda: exp.experiment.state

    def files():
        paths = (p for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock")
        kept = (p for p in paths if "runs" not in p.parts and p.name != "ledger.jsonl")
        return {str(p.relative_to(folder)): p.read_bytes() for p in kept}

    before = files()
    for kind, (bad, words) in BAD.items():
        asked = Scripted([bad])
        with pytest.raises((StoppedError, Refusal)) as stopped:
            exp.iterate(asked)
        assert words in stopped.value.what, kind
        assert [b.told != "" for b in asked.briefings] == [False, True], "told back once"
        assert words in asked.briefings[1].told
        assert files() == before, f"{kind}: what is refused leaves no file"
    dev, train = (part_rows(exp.experiment, part)[0]["text"] for part in ("dev", "train"))
    for quoting in (proposal(code=CODE.format(top=95) + f"\nKNOWN = {dev!r}\n"), proposal(hypothesis=dev)):
        asked = Scripted([quoting])
        with pytest.raises(Refusal, match="text of 1 dev row") as stopped:
            exp.iterate(asked)
        assert stopped.value.safeguard == "SG29"
        assert len(asked.briefings) == 1, "not told back"
    assert dev.split()[0] not in exp.experiment.ledger.path.read_text("utf-8")
    assert not state().all("iteration_registered")

    asked = Scripted([proposal(hypothesis=f"Rows such as '{train}' are answered too."), None])
    exp.iterate(asked)
    body = state().the("iteration_registered").body
    assert (body["id"], body["proposer"], body["components"]) == ("01-wider", "scripted", ["implementation"])
    assert sorted(files().keys() - before.keys()) == ["arms/better_01_wider.py", "iterations/01-wider.toml"]
    assert {name: files()[name] for name in before} == before
    assert [t.id for t in asked.briefings[1].history] == ["01-wider"]
    assert asked.briefings[1].history[0].outcome in {"supported", "neutral", "falsified"}

    said = json.dumps([str(asked.briefings[1])])
    assert train.split()[0] in said
    known = {row["text"].split()[0] for row in part_rows(exp.experiment, "train")}
    assert not [
        f"CANARY{n:05d}X" for n in range(100) if f"CANARY{n:05d}X" in said and f"CANARY{n:05d}X" not in known
    ]
    assert brief(exp.experiment).columns["tenant"] == ("acme", "zeta")

    rows, shown = part_rows(exp.experiment, "train"), brief(exp.experiment).train
    long = [{**r, "text": "x" * 70_000} if r["text"] == shown[0]["text"] else r for r in rows]
    monkeypatch.setattr(proposals, "part_rows", lambda *_: long)
    assert brief(exp.experiment).train == shown[1:], "a row that is too long hides no other"


@pytest.fixture
def experiment(make_experiment):
    return make_experiment(files={"arms/p.md": "Answer {{text}}", "arms/s.md": "Be brief."}).experiment


def test_a_prompt_is_its_files_its_system_text_and_its_parameters(experiment):
    arm = ArmSpec(
        kind="prompt", prompt="arms/p.md", system="arms/s.md", model="a/b", params={"max_tokens": 9}
    )
    known = parent_of(experiment.folder, "p", arm).components
    assert known == {"template": "Answer {{text}}", "system": "Be brief.", "params.max_tokens": "9"}
    change, file = replace(experiment, "01-kind", arm, Replacement("template", "Kindly: {{text}}"))
    assert change == {"prompt": "arms/p_01_kind.md"}
    assert file.read_text("utf-8") == "Kindly: {{text}}"
    assert (experiment.folder / "arms/p.md").read_text("utf-8") == "Answer {{text}}"
    assert replace(experiment, "01-kind", arm, Replacement("params.max_tokens", "20")) == (
        {"params": {"max_tokens": 20}},
        None,
    )
    with pytest.raises(ProposalError, match="not JSON"):
        replace(experiment, "01-kind", arm, Replacement("params.max_tokens", "twenty"))
    with pytest.raises(ProposalError, match="there is a file"):
        replace(experiment, "01-kind", arm, Replacement("template", "Other {{text}}"))
    inline = arm.model_copy(update={"system": "Be kind."})
    assert parent_of(experiment.folder, "p", inline).components["system"] == "Be kind."
    assert replace(experiment, "02-x", inline, Replacement("system", "Be brave.")) == (
        {"system": "Be brave."},
        None,
    )


def test_code_is_shown_as_python_reads_it(experiment):
    code = "# -*- coding: latin-1 -*-\ndef answer(row):\n    return 'geb\u00fchr'\n"
    (experiment.folder / "arms/old.py").write_text(code, "latin-1")
    arm = ArmSpec(kind="python", target="arms/old.py:answer")
    assert parent_of(experiment.folder, "old", arm).components == {"implementation": code}


def test_what_a_service_does_is_no_component(experiment):
    assert parent_of(experiment.folder, "h", ArmSpec(kind="http", url="http://x.example")).components == {}
