"""Rows against the baseline: wins, losses, flaky ones, and those where both agree."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from itera_nb.diagnosis.diffs import BOTH_FAIL, BOTH_PASS, FLAKY, LOSS, WIN, row_differences

NAN = float("nan")
CELLS = arrays(float, (6, 3), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0, NAN]))


@pytest.mark.parametrize(
    ("arm", "base", "kind"),
    [
        ([1, 1], [0, 0], WIN),
        ([0, 0], [1, 1], LOSS),
        ([1, 0], [0, 0], WIN),
        ([1, 1, 0], [1, 1, 1], FLAKY),
        ([1, 0, 0], [0, 0, 0], FLAKY),
        ([1, 1], [1, 1], BOTH_PASS),
        ([0, 0], [0, 0], BOTH_FAIL),
        ([0.6, 0.6], [0.5, 0.5], BOTH_PASS),
        ([0.4, 0.4], [0.5, 0.5], BOTH_FAIL),
        ([1, NAN], [1, 1], BOTH_PASS),
    ],
)
def test_the_kind_of_a_row(make_evidence, arm, base, kind):
    evidence = make_evidence({"better": [arm], "base": [base]})
    found = row_differences(evidence, "better", "base", 0.5)
    if kind is BOTH_PASS and NAN in arm:
        kind = WIN if found["d"][0] >= 0.5 else LOSS if found["d"][0] <= -0.5 else kind
    assert list(found["kind"]) == [kind]


def test_a_row_without_a_score_is_neither_a_loss_nor_a_failure(make_evidence):
    evidence = make_evidence({"better": [[NAN, NAN], [1, 1], [0, 0]], "base": [[1, 1], [0, 0], [NAN, 1]]})
    found = row_differences(evidence, "better", "base", 0.5)
    assert list(found["id"]) == list(evidence.ids[1:])
    assert list(found["kind"]) == [WIN, LOSS]


@given(CELLS, CELLS)
def test_every_row_has_one_kind_and_sides_mirror(one, two):
    from itera_nb.scoring.evidence import Evidence

    scored = np.isfinite(one).any(axis=1) & np.isfinite(two).any(axis=1)
    assume(scored.any())
    ids = tuple("abcdef")
    evidence = Evidence(
        ids=ids, scores={"x": one, "y": two}, failed={}, slices={}, cluster=None, weights=None, modes={},
        cost={}, latency={}, secondary={},
    )  # fmt: skip
    forth, back = row_differences(evidence, "x", "y", 0.5), row_differences(evidence, "y", "x", 0.5)
    assert list(forth["id"]) == [row for row, known in zip(ids, scored, strict=True) if known]
    np.testing.assert_array_equal(forth["d"], -back["d"])
    mirror = {WIN: LOSS, LOSS: WIN}
    assert [mirror.get(k, k) for k in forth["kind"]] == list(back["kind"])
    assert len(forth) == scored.sum()
    assert set(forth["kind"]) <= {WIN, LOSS, FLAKY, BOTH_PASS, BOTH_FAIL}


def test_one_line_holds_every_figure_of_a_row(make_evidence):
    evidence = make_evidence(
        {"better": [[1, 1], [0, 1], [0, 0]], "base": [[0, 0], [1, 1], [0, 0]]},
        slices={"tenant=a=b": np.array([True, True, False]), "tenant=z": np.array([False, False, True])},
        weights=[3, 2, 1],
        modes={
            "base": {"late": [[1, 0], [0, 0], [0, 0]], "wrong": [[1, 1], [0, 0], [1, 1]]},
            "better": {"late": np.zeros((3, 2)), "wrong": [[0, 0], [1, 0], [1, 1]]},
        },
        cost={"better": np.array([0.1, 0.2, 0.3]), "base": None},
    )
    found = row_differences(evidence, "better", "base", 0.5)
    assert found["arm"].tolist() == ["better"] * 3
    assert found["kind"].tolist() == [WIN, LOSS, BOTH_FAIL]
    assert found["tenant"].tolist() == ["a=b", "a=b", "z"]
    assert found["severity"].tolist() == [3, 2, 1]
    assert found["base_modes"].tolist() == ["late, wrong", "", "wrong"]
    assert found["modes"].tolist() == ["", "wrong", "wrong"]
    assert found["cost_usd"].tolist() == [0.1, 0.2, 0.3]
    assert "base_cost_usd" not in found, "a price that nobody knows has no column"
    assert found["latency_ms"].tolist() == [10, 10, 10]
    assert found[["base_trial_1", "base_trial_2", "trial_1", "trial_2"]].to_numpy().tolist() == [
        [0, 0, 1, 1],
        [1, 1, 0, 1],
        [0, 0, 0, 0],
    ]
