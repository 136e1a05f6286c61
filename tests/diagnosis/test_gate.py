"""The gate: what a change added, on which rows it acts, and what may be called universal."""

import base64
import hashlib
import json
from types import SimpleNamespace

import numpy as np
import pytest

from itera_nb.arms.manifest import build
from itera_nb.diagnosis.class_judge import question
from itera_nb.diagnosis.conditions import Condition
from itera_nb.diagnosis.gate import (
    ACTIONS,
    CLASSES,
    decide,
    line_outcome,
    measure,
    saturation,
)
from itera_nb.diagnosis.literals import added_codes, added_literals, words_of
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
    assert added_literals(two, one) == ["Globex", "Mind"]


VALUES = {
    "system": {"system": "Mind Globex."},
    "params.names": {"params": {"names": ["Globex"]}},
}


@pytest.mark.parametrize("component", VALUES)
def test_what_stands_in_no_file_counts_too(tmp_path, make_spec, component):
    (tmp_path / "p.md").write_text("Answer the ticket.")
    keys = {"kind": "prompt", "model": "anthropic/x", "prompt": "p.md"}
    one = build(make_spec(), "p", ArmSpec(**keys), tmp_path)
    two = build(make_spec(), "q", ArmSpec(**keys, **VALUES[component]), tmp_path)
    assert two.changes(one) == [component]
    assert "Globex" in added_literals(two, one)


def test_a_file_that_is_no_text_is_compared_as_far_as_it_can_be_read(tmp_path, make_spec):
    """A command may name a folder with a model, a picture or a table in any encoding."""
    built = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "table.bin").write_bytes(b"\xff\xfe\x00 Globex " + name.encode())
        (tmp_path / name / "run.py").write_text("print 1  # Python 2\n")
        built.append(build(make_spec(), name, ArmSpec(kind="command", command=["python", name]), tmp_path))
    assert "Globex" not in added_literals(built[1], built[0])
    change = SimpleNamespace(
        measured=measure_nothing(), record=SimpleNamespace(body={"components": ["implementation"]})
    )
    assert "Globex b" in question(change, built[1], built[0], ["arm"])


def measure_nothing():
    """Figures of a change that does nothing."""
    return SimpleNamespace(
        conditions=[], touched=0, effect=SimpleNamespace(n=9), effect_touched=None, effect_untouched=None, unseen=None
    )  # fmt: skip


NAMED = [f"INV{n * 7919 % 100_000:05d}" for n in range(18)]
HASHED = [hashlib.sha256(name.encode()).hexdigest()[:8] for name in NAMED]


@pytest.mark.parametrize(
    "asked",
    [
        f"text.split()[0] in {' '.join(NAMED)!r}.split()",
        f"text.split()[0] in json.loads({json.dumps(NAMED)!r})",
        f"text.split()[0].encode() in {' '.join(NAMED).encode()!r}.split()",
        f"text.split()[0] in {''.join(NAMED)!r}",
        f"any(part in text for part in {[name[2:] for name in NAMED]})",
        f"text.split()[0][::-1] in {[name[::-1] for name in NAMED]}",
        f"hashlib.sha256(text.split()[0].encode()).hexdigest()[:8] in {HASHED}",
        f"int(hashlib.sha256(text.split()[0].encode()).hexdigest()[:8], 16) in {[int(h, 16) for h in HASHED]}",
        f"any(n - 0.5 < int(text[3:8]) < n + 0.5 for n in {[int(name[3:]) for name in NAMED]})",
        f"text.split()[0] in base64.b64decode({base64.b64encode(' '.join(NAMED).encode())!r}).decode()",
    ],
)
def test_memory_in_disguise_is_no_universal_mechanism(tmp_path, make_spec, make_evidence, asked):
    """Eighteen of 150 rows won by their names, which the code holds in some other form."""
    rows = [{"text": f"{name} a ticket"} for name in NAMED]
    rows += [{"text": f"OTHER{n} a ticket"} for n in range(132)]
    new, old = (
        f'def answer(row):\n    text = row["text"]\n    return "yes" if {x} else "no"\n'
        for x in (asked, False)
    )
    built = []
    for name, code in (("old", old), ("new", new)):
        (tmp_path / f"{name}.py").write_text(code, "utf-8")
        built.append(build(make_spec(), name, ArmSpec(kind="python", target=f"{name}.py:answer"), tmp_path))
    words = words_of(rows, ["text"])
    literals = words.telling(added_literals(built[1], built[0]))
    child = np.arange(150) < 18
    found = measure(
        make_evidence({"parent": np.zeros(150), "child": child.astype(float)}),
        "child",
        "parent",
        words.containing(literals),
        literals,
        hidden=words.hidden(added_codes(built[1], built[0])),
    )
    assert found.proposed in {"hardcode", "cant_tell"}


def test_a_number_and_a_pattern_are_not_memory(make_evidence):
    found = measure(
        make_evidence({"parent": np.zeros(150), "child": (np.arange(150) < 18).astype(float)}),
        "child",
        "parent",
        np.zeros(150, dtype=bool),
        [],
        hidden=10,
    )
    assert found.proposed == "universal"


def test_rows_that_contain_a_literal_as_a_token_or_value():
    rows = [
        {"text": "a Globex ticket", "tenant": "x"},
        {"text": "globexes", "tenant": "x"},
        {"text": "plain", "tenant": "globex"},
        {"text": "two words here", "tenant": "x"},
        {"text": "", "tenant": "two words"},
    ]
    words, text = words_of(rows, ["text", "tenant"]), words_of(rows, ["text"])
    assert words.containing(["Globex"]).tolist() == [True, False, True, False, False]
    assert text.containing(["Globex"]).tolist() == [True, False, False, False, False]
    assert words.containing(["two words"]).tolist() == [False, False, False, True, True]
    assert not text.containing([]).any()
    assert not text.containing(["unheard of", "?"]).any()


def test_a_phrase_does_not_go_on_in_the_next_row():
    words = words_of([{"text": "one two"}, {"text": "words three"}], ["text"])
    assert not words.containing(["two words"]).any()


def test_common_words_tell_no_rows_apart():
    rows = [
        {"text": f"the ticket {'fees' if n % 5 == 0 else ''} {'globex' if n % 20 == 0 else ''}"}
        for n in range(100)
    ]
    words = words_of(rows, ["text"])
    assert words.telling(["the", "fees", "globex"]) == ["globex"]
    assert words.telling(["the", "Fees", "globex"]) == ["Fees", "globex"]
    assert words.telling(["globex"], conditions=["ticket"]) == ["globex", "ticket"]


@pytest.fixture
def world(make_evidence):
    """Dev rows of which a quarter hold the literal, with the gain where it is said to be."""
    touched = np.arange(N) % 4 == 0

    def measured(gain, mask=touched, *, conditions=(), revealed=(), **keys):
        evidence = make_evidence({"parent": np.zeros(N), "child": np.asarray(gain, float)}, **keys)
        return measure(evidence, "child", "parent", mask, ["globex"], conditions, revealed)

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


BY_NAME = (Condition("globex", "equals", "arms/b.py", 3),)
EVERYWHERE = np.arange(N) % 2 == 0


def test_the_class_follows_the_figures(world):
    """A proposal is for a person: universal only where nothing speaks against it."""
    assert world(world.touched).proposed == "hardcode"
    assert world(EVERYWHERE).proposed == "universal"
    nothing = world(np.zeros(N))
    assert (nothing.proposed, nothing.why) == (
        "cant_tell",
        ["no gain is shown on rows that do not contain what it added"],
    )


def test_a_change_without_literals_is_measured_on_all_rows(world):
    found = world(EVERYWHERE, np.zeros(N, bool))
    assert (found.verdict, found.proposed) == ("not testable", "universal")


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_few_rows_that_hold_all_of_the_gain_are_a_hardcode(world, rows):
    few = np.arange(N) < rows
    found = world(few, few)
    assert (found.verdict, found.proposed) == ("not testable", "hardcode")
    assert world(EVERYWHERE, few).proposed == "universal"


def test_a_gain_on_rows_that_were_read(world):
    read = np.arange(N) % 5 == 0
    ids = [f"r{n:04d}" for n in np.flatnonzero(read)]
    leak = world(read, np.zeros(N, bool), revealed=ids)
    assert leak.proposed == "hardcode"
    assert leak.why == ["the gain stands on the rows that were read"]
    assert (leak.unseen.n, leak.unseen.estimate) == (96, 0.0)
    assert "on the 96 rows that nobody read" in leak.sentence
    assert world(EVERYWHERE, revealed=ids).proposed == "universal"


def test_reading_what_fails_does_not_make_a_mechanism_a_hardcode(make_evidence):
    # Two of five rows fail; half of those are won, read or not. Only failing rows were read.
    rows = np.arange(N)
    fails = rows % 5 < 2
    won = np.where(fails, (rows // 5) % 2, 1.0)
    ids = [f"r{n:04d}" for n in rows[fails & (rows < 2 * N // 3)]]
    evidence = make_evidence({"parent": np.where(fails, 0.0, 1.0), "child": won})
    found = measure(evidence, "child", "parent", np.zeros(N, bool), [], (), ids)
    assert found.proposed == "universal"
    assert found.unseen.n == N - len(ids)


def test_a_mechanism_and_a_hardcode_in_one(world):
    both = EVERYWHERE | world.touched
    assert world(both, conditions=BY_NAME).proposed == "cant_tell"
    found = world(EVERYWHERE, conditions=BY_NAME)
    assert found.conditions == ["arms/b.py:3 equals 'globex'"]
    assert "conditions on literals: arms/b.py:3 equals 'globex'" in found.sentence


def test_a_gain_that_one_cluster_carries(world):
    """Without a declared cluster the slices are looked at."""
    vendor = np.arange(N) // 12
    one = np.where(vendor == 2, 1.0, np.arange(N) % 12 == 0)
    no_words = np.zeros(N, bool)
    for keys in ({"cluster": vendor}, {"slices": {f"vendor={v}": vendor == v for v in range(10)}}):
        found = world(one, no_words, **keys)
        assert found.proposed == "cant_tell"
        assert found.without_top < found.effect.estimate / 2
        assert found.top_cluster_share > 0.5


def test_what_is_left_to_explain(make_evidence):
    scores = np.repeat([1.0, 0.0], [150, 50])
    evidence = make_evidence({"base": np.zeros(200), "arm": scores})
    wanted = {"fail_below": 0.5, "smallest": 0.05}
    left = saturation(evidence, "arm", **wanted)
    assert (left.n, left.failing, left.explainable, left.saturated) == (200, 50, 50, False)
    hard = [f"r{n:04d}" for n in range(150, 192)]
    left = saturation(evidence, "arm", excused=hard, **wanted)
    assert (left.failing, left.explainable, left.saturated) == (50, 8, True)


@pytest.mark.parametrize(
    ("actions", "new", "sprint", "outcome"),
    [
        (["keep"], 1, 1, "next sprint"),
        (["delete"], 1, 1, "lock"),
        (["upgrade"], 1, 1, "next sprint"),
        (["keep", "delete"], 2, 1, "next sprint"),
        (["delete", "lift_out", "keep"], 3, 1, "kill"),
        (["keep", "keep", "delete", "delete"], 2, 2, "lock"),
        (["keep", "delete", "delete"], 2, 2, "kill"),
        (["keep", "keep", "keep"], 1, 3, "lock"),
    ],
)
def test_what_follows_for_a_line(actions, new, sprint, outcome):
    assert line_outcome("better", actions, sprint, None, new=new).outcome == outcome


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
