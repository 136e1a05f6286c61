"""Any number of arms on train, to choose three: shown in their order, never by score."""

import pytest
from world import decide, go, in_process

from itera_nb.exceptions import IteraError, Refusal, SpecError
from itera_nb.report.data_json import build
from itera_nb.scoring.runs import part_rows

CODE = """\
def answer(row):
    words = dict(word.split("=") for word in row["text"].split()[1:])
    right = 0 <= int(words["level"]) < {top}
    return words["answer"] if right else ("no" if words["answer"] == "yes" else "yes")
"""
TOPS = {"low": 20, "high": 90, "middle": 60, "none": 0}
SCREEN = "".join(
    f'[screen.{name}]\nfrom = "base"\ntarget = "arms/{name}.py:answer"\nchange = "another range"\n'
    for name in TOPS
)
FILES = {f"arms/{name}.py": CODE.format(top=top) for name, top in TOPS.items()}


@pytest.fixture
def exp(make_experiment):
    return make_experiment(rows=60, preset="confirm", run="trials = 1", extra_toml=SCREEN, files=FILES)


def test_arms_are_screened_on_train_alone_in_their_order(exp):
    go(exp, until="baseline")
    with pytest.raises(Refusal) as refused:
        exp.screen()
    assert refused.value.safeguard == "SG04", "no candidate's output exists before the metric is locked"
    exp.metric.lock()
    done = in_process("screen", exp.experiment.folder)
    assert done.code == 0, done.err
    names = [
        line.split()[0]
        for line in done.out.splitlines()
        if line.split()[:1] and line.split()[0] in {*TOPS, "base", "better"}
    ]
    assert names == ["base", "better", *TOPS], "as registered, not by score"
    assert "best" not in done.out
    state = exp.experiment.state
    body = state.the("screened").body
    assert body["arms"].keys() == set(names)
    assert body["n"] == len(part_rows(exp.experiment, "train"))
    assert state.scored("dev") is None
    ids = {row["row_id"] for row in part_rows(exp.experiment, "train")}
    log = (exp.experiment.folder / "runs" / "attempts.jsonl").read_text("utf-8").splitlines()
    assert log
    assert all(any(id_ in line for id_ in ids) for line in log), "no dev row was run"
    seq = state.the("screened").seq
    exp.screen()
    assert exp.experiment.state.the("screened").seq == seq, "read back"


def test_chosen_arms_are_amended_and_the_page_says_from_how_many(exp):
    go(exp, until="metric")
    exp.screen()
    toml = exp.experiment.toml
    toml.write_text(toml.read_text("utf-8").replace("[screen.high]", "[arms.high]"), "utf-8")
    with pytest.raises(Refusal) as refused:
        exp.pilot()
    assert refused.value.safeguard == "SG04"
    exp.amend("chosen on train")
    exp.metric.try_on()
    go(exp)
    decide(exp)
    assert build(exp.experiment)["itera"]["screened"] == 6


def test_a_fourth_candidate_is_sent_to_the_screen(make_experiment):
    more = "".join(
        f'[arms.a{n}]\nfrom = "base"\nchange = "x"\ntarget = "arms/base.py:answer"\n' for n in range(3)
    )
    with pytest.raises(SpecError, match=r"SG08.*itera screen"):
        make_experiment(extra_toml=more).plan()


def test_nothing_to_screen_says_what_to_write(make_experiment):
    exp = make_experiment(rows=60, run="trials = 1")
    go(exp, until="metric")
    with pytest.raises(IteraError, match="nothing to screen"):
        exp.screen()
