"""The frame's lock: arms that differ in one thing, what may not move afterwards, and amendments."""

import pytest

from itera_nb.arms.lock import arm_changes, differences, locked_values, manifests
from itera_nb.exceptions import IteraError, Refusal

ANOTHER = "def answer(row):\n    return 'yes'\n"


def edit(session, old, new):
    toml = session.experiment.toml
    text = toml.read_text("utf-8")
    assert text.count(old) == 1
    toml.write_text(text.replace(old, new), "utf-8")


def refused(act, safeguard):
    with pytest.raises(Refusal) as caught:
        act()
    assert caught.value.safeguard == safeguard
    return caught.value


def test_the_lock_holds_what_each_arm_changes(make_experiment):
    session = make_experiment(arms={"better": ANOTHER, "other": ANOTHER.replace("yes", "no")})
    session.frame.lock()
    record = session.experiment.state.last("frame_locked")
    assert record.body["changes"] == {"better": ["implementation"], "other": ["implementation"]}
    assert set(record.body["values"]) == {"frame", "arms", "rule", "claim", "manifests"}
    session.frame.lock()
    assert session.experiment.state.records[-1] == record, "a finished step is shown again"


def test_sg09_arms_that_do_not_differ(make_experiment):
    session = make_experiment(base=ANOTHER, arms={"better": "# the same\n" + ANOTHER})
    refusal = refused(session.frame.lock, "SG09")
    assert "'better' does not differ from 'base'" in refusal.what
    assert "negative_control" in refusal.instead
    assert not session.experiment.state.has("frame_locked")


def test_sg09_a_negative_control_is_expected_to_be_the_same(make_experiment):
    control = '[arms.again]\nfrom = "base"\nnegative_control = true\nchange = "none"\n'
    session = make_experiment(extra_toml=control)
    session.frame.lock()
    assert session.experiment.state.last("frame_locked").body["changes"]["again"] == []


def test_sg08_two_changes_are_asked_about(make_experiment):
    session = make_experiment()
    edit(session, 'change = "another implementation"', 'change = "two"\nparams = { k = 1 }')
    refusal = refused(session.frame.lock, "SG08")
    assert refusal.asks
    assert "implementation, params.k" in refusal.what
    session.accept("SG08", "they only work together")
    session.frame.lock()
    assert session.experiment.state.has("frame_locked")


def test_sg08_a_declared_bundle_is_not_asked_about(make_experiment):
    session = make_experiment()
    edit(session, 'change = "another implementation"', 'change = "two"\nparams = { k = 1 }\nbundle = "why"')
    session.frame.lock()
    (change,) = arm_changes(session.experiment.spec, manifests(session.experiment))
    assert (change.several, change.spec.bundle) == (False, "why")


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("min_effect = 0.05", "min_effect = 0.01", "rule.min_effect.value: 0.05 -> 0.01"),
        ("on these rows?", "on other rows?", "frame.question"),
        ('ref = "arms/base.py:1"', 'ref = "arms/base.py:2"', "arms.base.ref"),
    ],
)
def test_sg04_what_is_locked_does_not_move(make_experiment, old, new, what):
    session = make_experiment()
    session.frame.lock()
    edit(session, old, new)
    assert what in refused(session.frame.lock, "SG04").what
    assert what in refused(session.source.sample, "SG04").what
    assert not session.experiment.state.has("sampled")
    edit(session, new, old)
    session.frame.lock()


def test_sg04_an_arms_file_does_not_move(make_experiment):
    session = make_experiment()
    session.frame.lock()
    path = session.experiment.folder / "arms/better.py"
    path.write_text(path.read_text("utf-8") + "# a comment\n", "utf-8")
    refusal = refused(session.frame.lock, "SG04")
    assert "manifests.better.implementation (file content)" in refusal.what
    assert "def answer" not in str(refusal)


def test_what_is_not_locked_yet_may_move(make_experiment):
    session = make_experiment()
    session.frame.lock()
    edit(session, "trials = 2", "trials = 3")
    edit(session, 'scorer = "exact"', 'scorer = "exact"\nignore_case = true')
    session.frame.lock()


def test_the_metrics_lock_holds_the_file_as_bytes(make_experiment):
    session = make_experiment()
    for step in (
        session.frame.lock,
        session.source.sample,
        session.split.seal,
        session.metric.try_on,
        session.metric.lock,
    ):
        step()
    state = session.experiment.state
    assert set(locked_values(state)) >= {"frame", "rule", "source", "split", "metric", "run", "code"}
    session.experiment.toml.write_text(session.experiment.toml.read_text("utf-8") + "# later\n", "utf-8")
    assert differences(session.experiment, state) == [
        "experiment.toml: comments or layout (no value differs)"
    ]
    refused(session.pilot, "SG04")


# amendments -------------------------------------------------------------------------------------------------


def test_an_amendment_says_what_changed_and_what_had_been_seen(make_experiment):
    session = make_experiment()
    session.frame.lock()
    edit(session, "min_effect = 0.05", "min_effect = 0.04")
    session.amend("the stakeholders asked for less")
    record = session.experiment.state.last("amended")
    assert record.body["changed"] == ["rule.min_effect.value: 0.05 -> 0.04"]
    assert record.body["why"] == "the stakeholders asked for less"
    assert record.body["seen"] == "nothing run"
    session.frame.lock()
    assert locked_values(session.experiment.state)["rule"]["min_effect"]["value"] == 0.04


def test_there_must_be_something_to_amend(make_experiment):
    session = make_experiment()
    refused(lambda: session.amend("too early"), "SG07")
    session.frame.lock()
    with pytest.raises(IteraError, match="nothing differs"):
        session.amend("for the record")


def test_source_and_split_cannot_be_amended(make_experiment):
    session = make_experiment()
    session.frame.lock()
    session.source.sample()
    edit(session, 'slices = ["tenant"]', "slices = []")
    assert "source.slices" in refused(lambda: session.amend("simpler"), "SG04").what


def test_an_amendment_does_not_smuggle_in_a_second_change(make_experiment):
    session = make_experiment()
    session.frame.lock()
    edit(session, 'change = "another implementation"', 'change = "two"\nparams = { k = 1 }')
    refused(lambda: session.amend("both"), "SG08")
    assert not session.experiment.state.has("amended")
