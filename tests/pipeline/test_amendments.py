"""What was locked does not move: edits are refused by name, amended for good, and printed."""

import pytest
from world import conclude, decide, go, in_process

from itera_nb.exceptions import IteraError, Refusal


def edit(exp, old, new, file="experiment.toml"):
    """Replace text in a file of the experiment."""
    path = exp.experiment.folder / file
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def last_refused(exp):
    return exp.experiment.state.all("attempt_refused")[-1]


def test_rule_edited_after_the_frame_lock(make_experiment):
    exp = make_experiment()
    exp.frame.lock()
    edit(exp, "min_effect = 0.05", "min_effect = 0.01")
    for step in (exp.source.sample, exp.frame.lock):
        with pytest.raises(Refusal, match=r"rule\.min_effect\.value: 0\.05 -> 0\.01") as refused:
            step()
        assert refused.value.safeguard == "SG04"
        assert "itera amend --why" in refused.value.instead
        assert last_refused(exp).seq == refused.value.record
    assert not exp.experiment.state.has("sampled")


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("min_effect = 0.05", "min_effect = 0.03", "rule.min_effect.value: 0.05 -> 0.03"),
        ('scorer = "exact"', 'scorer = "exact"\nignore_case = true', "metric.ignore_case: False -> True"),
        ("trials = 2", "trials = 5", "run.trials: 2 -> 5"),
        ('slices = ["tenant"]', "slices = []", "source.slices: ['tenant'] -> []"),
        ("on these rows?", "on those rows?", "frame.question"),
        ("[metric]", "# a comment\n[metric]", "comments or layout"),
    ],
)
def test_toml_edited_after_the_metric_lock(make_experiment, old, new, named):
    exp = make_experiment()
    go(exp, until="metric")
    edit(exp, old, new)
    with pytest.raises(Refusal) as refused:
        exp.pilot()
    assert refused.value.safeguard == "SG04"
    assert named in refused.value.what
    assert not exp.experiment.state.has("pilot_passed")


@pytest.mark.parametrize("arm", ["base", "better"])
def test_arm_edited_after_the_lock(make_experiment, arm):
    exp = make_experiment()
    go(exp, until="pilot")
    edit(exp, "right = ", "right = False and ", f"arms/{arm}.py")
    with pytest.raises(Refusal) as refused:
        exp.run("dev")
    assert refused.value.safeguard == "SG04"
    assert f"manifests.{arm}.implementation" in refused.value.what


def test_arm_edited_before_the_verdict(make_experiment):
    exp = make_experiment()
    go(exp)
    edit(exp, "right = ", "right = True or ", "arms/better.py")
    with pytest.raises(Refusal, match=r"manifests\.better\.implementation") as refused:
        exp.verdict()
    assert refused.value.safeguard == "SG04"
    assert not exp.experiment.state.has("test_opened")
    assert in_process("verdict", exp.experiment.folder).code == 3


def test_rule_edited_before_the_verdict(make_experiment):
    exp = make_experiment()
    go(exp)
    edit(exp, "min_effect = 0.05", "min_effect = 0.01")
    done = in_process("verdict", exp.experiment.folder)
    assert done.code == 3
    assert "refused SG04" in done.err
    assert "0.05 -> 0.01" in done.err
    assert "opening" not in done.out
    assert not exp.experiment.state.has("test_opened")


def test_amendment_goes_on_and_is_printed(make_experiment):
    exp = make_experiment()
    go(exp, until="dev")
    edit(exp, "min_effect = 0.05", "min_effect = 0.02")
    why = "finance accepts two points since the price fell"
    done = in_process("amend", exp.experiment.folder, "--why", why)
    assert done.code == 0, done.text
    assert "dev results seen" in done.out
    assert "0.05 -> 0.02" in done.out
    assert exp.experiment.state.scored("dev") is None, "what ran before it does not count"
    go(exp)
    conclude(exp)
    text = (exp.experiment.folder / "conclusion.md").read_text("utf-8").replace("\\", "")
    assert why in text
    assert "0.05 -> 0.02" in text
    assert "Amended after results had been seen" in text


def test_amendment_before_anything_ran_says_so(make_experiment):
    exp = make_experiment()
    exp.frame.lock()
    edit(exp, "min_effect = 0.05", "min_effect = 0.02")
    assert "nothing run" in exp.amend("a typing error").text
    go(exp)


def test_nothing_to_amend(make_experiment):
    exp = make_experiment()
    exp.frame.lock()
    with pytest.raises(IteraError, match="nothing differs"):
        exp.amend("for no reason")


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('slices = ["tenant"]', "slices = []", "source.slices"),
        ("[split]", '[split]\npreset = "iterate"', "split.preset"),
        ('uri = "data.csv"', 'uri = "./data.csv"', "source.uri"),
    ],
)
def test_source_and_split_cannot_be_amended_after_sealing(make_experiment, old, new, named):
    exp = make_experiment()
    go(exp, until="seal")
    edit(exp, old, new)
    done = in_process("amend", exp.experiment.folder, "--why", "better rows")
    assert done.code == 3
    assert "refused SG04" in done.err
    assert named in done.err
    assert not exp.experiment.state.all("amended")


def test_amendment_after_the_verdict_is_refused(make_experiment):
    exp = make_experiment()
    go(exp)
    decide(exp)
    edit(exp, "min_effect = 0.05", "min_effect = 0.01")
    with pytest.raises(Refusal) as refused:
        exp.amend("the result would be nicer")
    assert refused.value.safeguard == "SG02"
    done = in_process("verify", exp.experiment.folder)
    assert done.code == 4
    assert "experiment.toml was changed" in done.err


@pytest.mark.slow
def test_the_registered_rule_decides(make_experiment):
    """The same rows and arms: half of all rows cannot be the smallest effect that a gain of 30 points reaches."""
    exp = make_experiment(rows=90, rule="min_effect = 0.01", preset="confirm")
    go(exp)
    low = decide(exp)
    exp = make_experiment("strict", rows=90, rule="min_effect = 0.5", preset="confirm")
    go(exp)
    high = decide(exp)
    assert low["outcome"] == "ship"
    assert high["outcome"] == "kill"
    record = high["verdict"]["records"][0]
    assert record["high"] < 0.5


@pytest.mark.parametrize("step", ["source.sample", "split.seal", "metric.lock", "pilot", "lock", "verdict"])
def test_steps_out_of_order_are_refused(make_experiment, step):
    exp = make_experiment()
    action = exp
    for part in step.split("."):
        action = getattr(action, part)
    with pytest.raises(Refusal) as refused:
        action()
    assert refused.value.instead
    assert exp.experiment.state.records[-1].type == "attempt_refused"


def test_accepting_what_is_no_question(make_experiment):
    exp = make_experiment()
    with pytest.raises(Refusal, match="not a question"):
        exp.accept("SG02", "please")
