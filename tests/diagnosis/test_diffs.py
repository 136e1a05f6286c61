"""Rows against the baseline: wins, losses, flaky ones, and those where both agree."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from itera_nb.diagnosis.diffs import BOTH_FAIL, BOTH_PASS, FLAKY, LOSS, WIN, counts, row_differences

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
        ([NAN, NAN], [1, 1], LOSS),
        ([NAN, NAN], [0, 0], BOTH_FAIL),
        ([1, NAN], [1, 1], BOTH_PASS),
    ],
)
def test_the_kind_of_a_row(make_evidence, arm, base, kind):
    evidence = make_evidence({"better": [arm], "base": [base]})
    found = row_differences(evidence, "better", "base", 0.5)
    if kind is BOTH_PASS and NAN in arm:
        kind = WIN if found["d"][0] >= 0.5 else LOSS if found["d"][0] <= -0.5 else kind
    assert list(found["kind"]) == [kind]


@given(CELLS, CELLS)
def test_every_row_has_one_kind_and_sides_mirror(one, two):
    from itera_nb.scoring.evidence import Evidence

    ids = tuple("abcdef")
    evidence = Evidence(
        ids=ids, scores={"x": one, "y": two}, failed={}, slices={}, cluster=None, weights=None, modes={},
        cost={}, latency={}, secondary={},
    )  # fmt: skip
    forth, back = row_differences(evidence, "x", "y", 0.5), row_differences(evidence, "y", "x", 0.5)
    assert tuple(forth["id"]) == ids
    np.testing.assert_array_equal(forth["d"], -back["d"])
    mirror = {WIN: LOSS, LOSS: WIN}
    assert [mirror.get(k, k) for k in forth["kind"]] == list(back["kind"])
    assert sum(counts(forth).values()) == len(ids)
    assert list(counts(forth)) == [WIN, LOSS, FLAKY, BOTH_PASS, BOTH_FAIL]
