"""The gate: what a change added, on which rows it acts, and what may be called universal."""

import numpy as np
import pytest

from itera_nb.arms.manifest import build
from itera_nb.diagnosis.gate import ACTIONS, CLASSES, added_literals, decide, measure, touched_rows
from itera_nb.spec import ArmSpec

N = 120
PARENT = (
    '"""Doc."""\ndef answer(row):\n    """How."""\n    return "yes" if "refund" in row["text"] else "no"\n'
)


@pytest.fixture
def literals(tmp_path, make_spec):
    """The literals that a change adds to PARENT."""
    (tmp_path / "arms").mkdir()

    def of(code, file="arms/b.py"):
        built = []
        for name, text in (("arms/a.py", PARENT), (file, code)):
            (tmp_path / name).write_text(text, "utf-8")
            built.append(build(make_spec(), name, ArmSpec(kind="python", target=f"{name}:answer"), tmp_path))
        return added_literals(built[1], built[0])

    return of


def test_the_strings_that_a_change_adds(literals):
    added = PARENT.replace('"refund" in', '"chargeback now" in row["text"] or "refund" in')
    assert literals(added) == ["chargeback now"]


def test_documentation_and_what_the_parent_has_are_not_added(literals):
    assert literals(PARENT.replace("How.", "In another way.").replace("Doc.", "Docs.")) == []
    assert literals(PARENT.replace('"no"', '"yes"')) == []


def test_words_of_a_prompt(tmp_path, make_spec):
    (tmp_path / "p.md").write_text("Answer the ticket.")
    (tmp_path / "q.md").write_text("Answer the ticket. Mind Globex.")
    keys = {"kind": "prompt", "model": "anthropic/x"}
    one, two = (build(make_spec(), n, ArmSpec(prompt=f"{n}.md", **keys), tmp_path) for n in ("p", "q"))
    assert added_literals(two, one) == ["Globex.", "Mind"]


def test_rows_that_contain_a_literal_as_a_token_or_value():
    rows = [
        {"text": "a Globex ticket", "tenant": "x"},
        {"text": "globexes", "tenant": "x"},
        {"text": "plain", "tenant": "globex"},
        {"text": "two words here", "tenant": "x"},
        {"text": "", "tenant": "two words"},
    ]
    assert touched_rows(rows, ["text", "tenant"], ["Globex"]).tolist() == [True, False, True, False, False]
    assert touched_rows(rows, ["text"], ["Globex"]).tolist() == [True, False, False, False, False]
    assert touched_rows(rows, ["text", "tenant"], ["two words"]).tolist() == [False, False, False, True, True]
    assert not touched_rows(rows, ["text"], []).any()


@pytest.fixture
def world(make_evidence):
    """Dev rows of which a quarter hold the literal, with the gain where it is said to be."""
    touched = np.arange(N) % 4 == 0

    def measured(gain, mask=touched, **keys):
        evidence = make_evidence({"parent": np.zeros(N), "child": np.asarray(gain, float)}, **keys)
        return measure(evidence, "child", "parent", mask, ["globex"])

    measured.touched = touched
    return measured


def test_a_pure_hardcode_is_suspected(world):
    found = world(world.touched)
    assert found.verdict == "hardcode suspected"
    assert (found.effect_touched, found.effect_untouched) == (1.0, 0.0)
    assert found.touched == N // 4
    assert "30 of 120 dev rows contain one" in found.sentence
    assert "'globex'" in found.sentence


def test_a_universal_mechanism_survives(world):
    found = world(np.arange(N) % 2 == 0)
    assert found.verdict == "survives"
    assert found.effect_untouched > 0


@pytest.mark.parametrize("seed", range(8))
def test_constructed_worlds_are_told_apart(world, seed):
    rng = np.random.default_rng(seed)
    everywhere = rng.random(N) < 0.5
    only_there = world.touched & (rng.random(N) < 0.8)
    assert world(everywhere).verdict == "survives"
    assert world(only_there).verdict == "hardcode suspected"


def test_few_touched_rows_are_not_testable(world):
    assert world(np.ones(N), np.arange(N) < 4).verdict == "not testable"
    assert world(np.ones(N), np.zeros(N, bool)).verdict == "not testable"
    assert world(np.ones(N), np.ones(N, bool)).verdict == "not testable"


def test_the_share_of_the_cluster_that_gains_most(world):
    cluster = np.arange(N) // 10
    assert world(cluster == 3, cluster=cluster).top_cluster_share == 1.0
    assert world(np.ones(N)).top_cluster_share is None


@pytest.fixture
def verdicts(world):
    return {"hardcode suspected": world(world.touched), "survives": world(np.arange(N) % 2 == 0)}


@pytest.mark.parametrize("class_", CLASSES)
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("reason", ["a reason", "", "  ", None])
@pytest.mark.parametrize("verdict", ["hardcode suspected", "survives"])
def test_only_a_universal_mechanism_is_kept(verdicts, class_, action, reason, verdict):
    contradiction = class_ != "universal" and action == "keep"
    unexplained = class_ == "universal" and verdict == "hardcode suspected" and not (reason or "").strip()
    if contradiction or unexplained:
        with pytest.raises(ValueError, match="not kept" if contradiction else "written reason"):
            decide(class_, action, verdicts[verdict], reason)
    else:
        assert decide(class_, action, verdicts[verdict], reason) is (
            class_ == "universal" and action == "keep"
        )


@pytest.mark.parametrize(("class_", "action"), [("good", "keep"), ("universal", "ship")])
def test_other_words_are_not_classes_or_actions(verdicts, class_, action):
    with pytest.raises(ValueError, match="one of"):
        decide(class_, action, verdicts["survives"], "why")
