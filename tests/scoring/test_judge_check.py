"""What a second opinion is asked, and how its labels find their way back: pure functions on tables."""

import re

import numpy as np
import pandas as pd
import pytest

from itera_nb.metrics.judge import Case
from itera_nb.scoring.judge_check import (
    Asked,
    choose,
    labels,
    opinions,
    rated,
    rating_items,
    replaced,
    with_labels,
)
from itera_nb.scoring.ratings import to_csv
from itera_nb.spec import load_spec

N = 90
IDS = [f"r{i:02d}" for i in range(N)]


@pytest.fixture
def spec_of(tmp_path):
    def make(scorer="judge", arms=("one", "two"), rows=30):
        lines = [f'[arms.{arm}]\nfrom = "base"\ntarget = "b.py:f"\nchange = "code"' for arm in arms]
        path = tmp_path / "spec.toml"
        path.write_text(
            f"""[frame]
question = "Does one of them win?"
hypothesis = "It answers more rows."
[arms.base]
baseline = true
kind = "python"
target = "a.py:f"
ref = "a.py:1"
{chr(10).join(lines)}
[source]
uri = "d.csv"
id = "id"
inputs = ["text"]
expected = "label"
[metric]
scorer = "{scorer}"
[judge]
rubric = "r.md"
model = "anthropic/m"
second = "human"
rows = {rows}
""",
            "utf-8",
        )
        return load_spec(path)

    return make


ROWS = [{"id": i, "text": f"text of {i}", "label": "fees", "tenant": "secret"} for i in IDS]


def table(scores, *, trials=2, status=None):
    """A results table from arm -> n scores; trial 1 holds other scores, which nobody looks at."""
    return pd.DataFrame(
        {"id": i, "arm": arm, "trial": t, "status": (status or {}).get((i, arm), "ok"), "score": y if t == 0 else 0.5}
        for arm, values in scores.items()
        for i, y in zip(IDS, values, strict=True)
        for t in range(trials)
    )  # fmt: skip


def outputs(arms):
    return {(i, arm): f"{arm[0]} says {n % 7}" for n, i in enumerate(IDS) for arm in arms}


BASE = np.zeros(N)
ONE = (np.arange(N) % 9 == 0).astype(float)  # 10 rows
TWO = np.where(np.arange(N) % 9 == 1, 1.0, 0.0)  # 10 others


def test_every_arm_of_a_row_is_asked_and_discordant_rows_come_first(spec_of):
    spec = spec_of()
    results = table({"base": BASE, "one": ONE, "two": TWO})
    asked = choose(
        results, outputs(("base", "one", "two")), ROWS, spec, inputs=("text",), genesis="g", part="dev"
    )
    rows = list(dict.fromkeys(a.row_id for a in asked))
    assert len(rows) == 30
    assert {IDS[i] for i in np.flatnonzero(ONE + TWO)} <= set(rows)
    assert rows != sorted(rows)
    assert [a.arm for a in asked[:3]] == ["base", "one", "two"]
    weights = {a.row_id: a.weight for a in asked}
    assert sum(weights.values()) == pytest.approx(N)
    assert asked[0].case == Case({"text": f"text of {asked[0].row_id}"}, asked[0].case.output, None, "fees")
    again = choose(
        results, outputs(("base", "one", "two")), ROWS, spec, inputs=("text",), genesis="g", part="dev"
    )
    assert again == asked
    other = choose(
        results, outputs(("base", "one", "two")), ROWS, spec, inputs=("text",), genesis="g", part="test"
    )
    assert [a.row_id for a in other] != [a.row_id for a in asked]


def test_outputs_that_the_judge_never_saw_are_not_asked_about(spec_of):
    scores = {"base": BASE, "one": np.where(np.arange(N) == 9, np.nan, ONE)}
    status = {(IDS[0], "base"): "error", (IDS[18], "one"): "refusal"}
    results = table(scores, status=status)
    asked = choose(
        results,
        outputs(("base", "one")),
        ROWS,
        spec_of(arms=("one",), rows=90),
        inputs=("text",),
        genesis="g",
        part="dev",
    )
    assert {IDS[0], IDS[9], IDS[18]}.isdisjoint({a.row_id for a in asked})
    assert len(asked) == 2 * (N - 3)


@pytest.mark.parametrize("scorer", ["judge", "preference"])
def test_labels_come_back_to_their_arm_and_row(spec_of, make_evidence, scorer):
    spec = spec_of(scorer, arms=("one",))
    results = table({"base": BASE, "one": ONE})
    asked = choose(results, outputs(("base", "one")), ROWS, spec, inputs=("text",), genesis="g", part="dev")
    assert {a.arm for a in asked} == ({"one"} if scorer == "preference" else {"base", "one"})
    truth = {"base": BASE, "one": np.where(np.arange(N) % 18 == 0, 1.0, 0.0)}  # half of the wins
    second = [truth[a.arm][IDS.index(a.row_id)] for a in asked]
    second[0] = float("nan")
    found = with_labels(results, labels(asked, second))
    assert found["second"].notna().sum() == len(asked) - 1
    assert (found.loc[found["second"].notna(), "trial"] == 0).all()
    opinion = opinions(found, spec)["one"]
    assert opinion.direction.rows in {9, 10}
    assert opinion.direction.agreeing in {4, 5}
    assert 0.9 < opinion.raw < 1, "weighted to all rows, of which 5 in 90 differ"
    evidence = make_evidence({"base": np.c_[BASE, BASE], "one": np.c_[ONE, ONE]})
    evidence = type(evidence)(
        **{f: getattr(evidence, f) for f in evidence.__dataclass_fields__} | {"ids": tuple(IDS)}
    )
    changed = replaced(evidence, found).scores["one"]
    touched = {a.row_id for a, label in zip(asked, second, strict=True) if a.arm == "one" and label == label}
    for i, row in enumerate(IDS):
        expected = truth["one"][i] if row in touched else ONE[i]
        assert (changed[i] == expected).all()


def test_a_persons_sides_are_shuffled_and_turned_back():
    asked = [Asked(i, "one", Case({"text": i}, f"arm {i}", f"base {i}"), 1.0) for i in IDS]
    items = rating_items(asked, "g")
    assert len({item.code for item in items}) == N
    assert 20 < sum(item.outputs[0].startswith("arm") for item in items) < 70
    said = {item.code: "A" if item.outputs[0].startswith("arm") else "B" for item in items}
    assert rated(asked, said, "g", 10) == [1.0] * N
    said = {code: {"A": "B", "B": "A"}[choice] for code, choice in said.items()}
    assert rated(asked, said, "g", 10) == [-1.0] * N
    assert np.isnan(rated(asked, {}, "g", 10)).all()


def test_equal_outputs_of_a_row_are_one_question_and_no_arm_is_named():
    asked = [
        Asked(i, arm, Case({"text": i}, "same" if n % 2 else f"{n} {arm == 'quokka'}"), 1.0)
        for n, i in enumerate(IDS)
        for arm in ("wombat", "quokka")
    ]
    items = rating_items(asked, "g")
    assert len(items) == N // 2 * 3
    sheet = to_csv(items)
    assert not re.search("wombat|quokka", sheet)
    values = rated(asked, {item.code: "7" for item in items}, "g", 10)
    assert values == [0.7] * (2 * N)
    order = [item.inputs["text"] for item in items]
    assert order != sorted(order)
    assert rating_items(asked, "another seed") != items
