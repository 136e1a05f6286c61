"""Scoring the registered arms in a real experiment."""

import pytest

from itera_nb.exceptions import ArmError, RecordError, Refusal
from itera_nb.scoring.registered import planned_trials
from itera_nb.scoring.runs import part_rows, trial_seed


@pytest.fixture
def sealed(make_experiment):
    def make(**keys):
        session = make_experiment(**keys)
        session.frame.lock()
        session.source.sample()
        session.source.audit()
        session.split.seal()
        return session

    return make


def test_a_baseline_that_fails_everywhere_stops_at_once(sealed):
    session = sealed(base="def answer(row):\n    raise ValueError('broken')\n")
    with pytest.raises(ArmError, match="'base' fails on every train row"):
        session.metric.try_on()
    assert not session.experiment.state.has("baseline_measured")


def test_a_scorer_that_scores_nothing_stops_at_once(sealed):
    scorer = "def score(output, expected, row):\n    raise KeyError('gone')\n"
    session = sealed(metric='scorer = "arms/scorer.py:score"', files={"arms/scorer.py": scorer})
    with pytest.raises(ArmError, match="gives no train row a score") as caught:
        session.metric.try_on()
    assert "CANARY" not in str(caught.value)
    assert not session.experiment.state.has("baseline_measured")


def test_sg01_only_train_and_dev_can_be_read(sealed):
    session = sealed()
    for part in ("test", "sealed", "../x"):
        with pytest.raises(Refusal) as caught:
            part_rows(session.experiment, part)
        assert caught.value.safeguard == "SG01"
    with pytest.raises(Refusal):
        session.run("test")


@pytest.mark.parametrize("part", ["train", "dev"])
def test_rows_are_those_that_the_split_wrote(sealed, part):
    """Arms learn from train in the verdict too: other rows there would be another arm than the locked one."""
    session = sealed()
    path = session.experiment.path("data", f"{part}.parquet")
    rows = session.experiment.read_frame(f"data/{part}.parquet")
    assert len(part_rows(session.experiment, part)) == len(rows)
    session.experiment.write_frame(f"data/{part}.parquet", rows.assign(label="yes"))
    with pytest.raises(RecordError, match=f"data/{part}.parquet is not the file that was recorded"):
        part_rows(session.experiment, part)
    path.unlink()
    with pytest.raises(RecordError, match="is missing"):
        part_rows(session.experiment, part)


def test_an_arm_that_never_varied_is_run_once_under_auto(sealed):
    session = sealed(run='trials = "auto"')
    session.metric.try_on()
    session.metric.lock()
    session.pilot()
    session.run("train")
    assert planned_trials(session.experiment, "dev") == {"base": 1, "better": 1}
    session.run("dev")
    assert {len(x["trials"]) for x in session.experiment.state.scored("dev").body["arms"].values()} == {1}


def test_a_finished_score_is_not_run_again(sealed):
    session = sealed(run="trials = 1")
    session.metric.try_on()
    session.metric.lock()
    session.pilot()
    session.run("dev")
    before = session.experiment.state.head
    attempts = session.experiment.path("runs", "attempts.jsonl").read_bytes()
    session.run("dev")
    session.metric.try_on()
    session.pilot()
    assert session.experiment.state.head == before
    assert session.experiment.path("runs", "attempts.jsonl").read_bytes() == attempts


def test_sg10_a_pilot_that_finds_something_stops_the_run(sealed):
    session = sealed(arms={"better": "def answer(row):\n    return 'TODO'\n"})
    session.metric.try_on()
    session.metric.lock()
    with pytest.raises(Refusal, match="better: the output is empty or a placeholder") as caught:
        session.pilot()
    assert caught.value.safeguard == "SG10"
    with pytest.raises(Refusal):
        session.run("dev")


def test_seeds_belong_to_the_experiment_and_the_trial():
    assert trial_seed("a" * 32, 0) == trial_seed("a" * 32, 0)
    assert len({trial_seed(g * 32, t) for g in "ab" for t in range(3)}) == 6
