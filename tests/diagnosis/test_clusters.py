"""Groups of wins and losses: by declared columns and by text, formed without a look at the scores or at dev's words."""

import sys

import numpy as np
import pytest

from itera_nb.diagnosis.clusters import UNKNOWN, by_column, by_text, text_groups, with_holm
from itera_nb.exceptions import IteraError

N = 200
HALF = np.arange(N) < N // 2
TRAIN = ["refund my broken kettle please"] * 9 + ["reset the router password again"] * 9


@pytest.fixture
def evidence(make_evidence):
    """`better` wins every row of acme and loses a tenth of zeta's."""
    base = np.where(HALF, 0, 1)
    better = np.where(HALF | (np.arange(N) % 10 > 0), 1, 0)
    return make_evidence(
        {"base": base, "better": better},
        slices={"tenant=acme": HALF, "tenant=zeta": ~HALF},
        cluster=np.arange(N) // 4,
        weights=np.arange(N) + 1.0,
        modes={"base": {"wrong": HALF}, "better": {"wrong": better == 0}},
    )


def named(found):
    return {(c.by, c.name): c for c in found}


def test_every_declared_column_gives_its_groups(evidence):
    found = named(by_column(evidence, "better", "base", 0.5, {"kind": ["a", "b", "b", "b"] * 50}))
    acme, zeta = found["slice", "tenant=acme"], found["slice", "tenant=zeta"]
    assert (acme.n, acme.wins, acme.losses, acme.effect.estimate) == (100, 100, 0, 1.0)
    assert (zeta.n, zeta.wins, zeta.losses, zeta.effect.estimate) == (100, 0, 10, -0.1)
    assert acme.effect.low > 0 > zeta.effect.estimate > zeta.effect.low
    assert {found["column", f"kind={x}"].n for x in "ab"} == {50, 150}
    deciles = [c for (by, _), c in found.items() if by == "severity"]
    assert [c.n for c in deciles] == [20] * 10
    mode = found["failure mode", "wrong"]
    assert (mode.n, mode.wins, mode.losses) == (110, 100, 10)
    assert mode.effect.estimate == pytest.approx(-0.45)
    assert not [c for c in found.values() if c.by == "cluster"], "a cluster of four rows is too small to show"


def test_a_cluster_is_shown_from_five_rows_on(evidence, make_evidence):
    big = make_evidence(
        {a: y[:, 0] for a, y in evidence.scores.items()}, slices={}, cluster=np.arange(N) // 50
    )
    found = by_column(big, "better", "base", 0.5, {})
    assert [(c.name, c.n) for c in found] == [(f"cluster {i}", 50) for i in range(4)]
    assert found[0].effect.clusters == 50, "within one entity its rows are what varies"


def test_a_column_of_too_many_values_keeps_its_largest_ones(make_evidence):
    values = np.repeat(np.arange(300), np.where(np.arange(300) < 250, 5, 8))
    evidence = make_evidence({"base": np.zeros(len(values)), "better": np.ones(len(values))}, slices={})
    found = by_column(evidence, "better", "base", 0.5, {"value": values.tolist()})
    assert len(found) == 200
    assert [c.n for c in found[:51]] == [8] * 50 + [5]


def test_rows_without_a_score_are_in_no_group(evidence, make_evidence):
    scores = {a: y[:, 0].copy() for a, y in evidence.scores.items()}
    scores["better"][:10] = np.nan
    some = make_evidence(scores, slices={"tenant=acme": HALF})
    found = named(by_column(some, "better", "base", 0.5, {"at": np.arange(N) // 10}))
    assert found["slice", "tenant=acme"].n == 90
    assert ("column", "at=0") not in found


def test_one_group_among_many_is_shown_only_where_it_would_be_with_all(make_evidence):
    rng = np.random.default_rng(1)
    evidence = make_evidence({"base": rng.random(4_000) < 0.5, "better": rng.random(4_000) < 0.5}, slices={})
    none = with_holm(by_column(evidence, "better", "base", 0.5, {"at": np.arange(4_000) // 40}))
    alone = [c for c in none if c.effect.low > 0 or c.effect.high < 0]
    assert alone, "of 100 groups some leave out 0 by chance"
    assert not any(c.shown for c in none)
    scores = {a: y[:, 0].copy() for a, y in evidence.scores.items()}
    scores["base"][:40], scores["better"][:40] = 0, 1
    planted = with_holm(
        by_column(make_evidence(scores, slices={}), "better", "base", 0.5, {"at": np.arange(4_000) // 40})
    )
    assert [c.name for c in planted if c.shown] == ["at=0"]


def test_text_groups_are_named_by_train_and_dev_is_only_assigned():
    pytest.importorskip("sklearn")
    dev = ["the kettle is broken", "password of the router", "zebra quagga", "router SECRETWORD SECRETWORD"]
    found = text_groups(TRAIN, dev, seed=1)
    kettle, router, unknown, mixed = found.codes
    assert {"kettle", "broken", "refund"} < set(found.terms[kettle])
    assert {"router", "password", "reset"} < set(found.terms[router])
    assert mixed == router
    assert found.terms[unknown] == ()
    assert not {"secretword", "zebra", "quagga"} & {t for terms in found.terms for t in terms}


def test_what_dev_says_moves_no_group_and_the_seed_decides():
    pytest.importorskip("sklearn")
    one = text_groups(TRAIN, ["kettle"], seed=4)
    two = text_groups(TRAIN, ["kettle", *["quagga quagga"] * 500], seed=4)
    assert one.terms == two.terms
    assert one.codes[0] == two.codes[0]


def test_groups_by_text_have_effects(make_evidence):
    pytest.importorskip("sklearn")
    groups = text_groups(TRAIN, ["broken kettle"] * 60 + ["router password"] * 60 + ["zebra"] * 6, seed=1)
    base = np.zeros(126)
    evidence = make_evidence({"base": base, "better": np.arange(126) < 60}, slices={})
    found = {c.name: c for c in by_text(evidence, "better", "base", 0.5, groups)}
    kettle = next(c for name, c in found.items() if "kettle" in name)
    assert (kettle.n, kettle.wins, kettle.effect.estimate) == (60, 60, 1.0)
    assert found[UNKNOWN].n == 6


@pytest.mark.parametrize("train", [[], ["one two", "three four"], ["", ""]])
def test_train_without_common_words_says_so(train):
    pytest.importorskip("sklearn")
    with pytest.raises(IteraError, match="train texts share no words"):
        text_groups(train, ["one"], seed=1)


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(IteraError, match=r"itera-nb\[diagnose\]"):
        text_groups(TRAIN, ["kettle"], seed=1)
