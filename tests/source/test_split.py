"""Splits: a partition that keeps units whole, holds its fractions, and follows from the seed alone."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itera_nb.exceptions import DataError
from itera_nb.source.slices import slice_id
from itera_nb.source.split import DEV, FEW_ROWS, TEST, TRAIN, allocate, seed_commitment, split_rows
from itera_nb.spec import FRACTIONS, Requirement, SplitSpec

FRACTION_SETS = [*list(FRACTIONS.values())[:2], (0.34, 0.33, 0.33), (0.0, 0.4, 0.6), (0.25, 0.25, 0.5)]


def spec(fractions=(0.3, 0.5, 0.2), **more):
    train, dev, test = fractions
    return SplitSpec(train=train, dev=dev, test=test, **more)


def split(strata, units=None, split_spec=None, seed=b"seed", ids=None, columns=("s",)):
    ids = ids or [f"r{i}" for i in range(len(strata))]
    units = np.arange(len(ids)) if units is None else np.asarray(units, np.int64)
    keys = pa.table({"id": pa.chunked_array([ids]), "s": pa.chunked_array([pa.array(strata, pa.string())])})
    return split_rows(keys, units, split_spec or spec(), seed, id_column="id", strata=columns)


@st.composite
def single_stratum_units(draw):
    """Units that lie inside one stratum each: [(stratum, size)], at least a hundred rows."""
    return draw(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(1, 9)), min_size=60, max_size=150))


@settings(max_examples=100, deadline=None)
@given(single_stratum_units(), st.sampled_from(FRACTION_SETS), st.binary(min_size=1, max_size=8))
def test_partition_units_and_fractions(units, fractions, seed):
    strata = [s for s, n in units for _ in range(n)]
    codes = np.repeat(np.arange(len(units)), [n for _, n in units])
    parts = split(strata, codes, spec(fractions), seed).parts
    assert len(parts) == len(strata)
    assert set(parts.tolist()) <= {TRAIN, DEV, TEST}
    assert all(len(set(parts[codes == u])) == 1 for u in range(len(units)))
    for stratum in set(strata):
        inside = np.array(strata) == stratum
        largest = max(n for s, n in units if s == stratum)
        for part, fraction in enumerate(fractions):
            # One row of rounding, and less than one unit.
            assert abs((parts[inside] == part).sum() - fraction * inside.sum()) < largest + 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.sampled_from(FRACTION_SETS))
def test_allocation_is_within_one_row_in_each_stratum_and_even_in_total(sizes, fractions):
    counts = np.array(allocate(sizes, fractions))
    assert (counts.sum(axis=1) == sizes).all()
    assert (counts >= 0).all()
    assert (np.abs(counts - np.outer(sizes, fractions)) < 1).all()
    assert (np.abs(counts.sum(axis=0) - np.array(fractions) * sum(sizes)) < 2).all()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 40)), min_size=60, max_size=120),
    st.permutations(range(120)),
)
def test_input_order_does_not_matter(rows, shuffle):
    order = [i for i in shuffle if i < len(rows)]
    strata, units, ids = [s for s, _ in rows], [u for _, u in rows], [f"r{i}" for i in range(len(rows))]

    def parts(at):
        codes = np.unique([units[i] for i in at], return_inverse=True)[1]
        try:
            done = split([strata[i] for i in at], codes, ids=[ids[i] for i in at])
        except DataError:
            return None
        return {ids[i]: int(part) for i, part in zip(at, done.parts, strict=True)}

    assert parts(range(len(rows))) == parts(order)


def test_seed_decides_and_parts_look_random():
    strata = ["a", "b"] * 200
    one, same, other = (split(strata, seed=s).parts for s in (b"1", b"1", b"2"))
    assert (one == same).all()
    agree = (one == other).mean()
    assert 0.25 < agree < 0.5  # chance agreement of 30/50/20 is 0.38


def test_chance_of_a_part_does_not_depend_on_unit_size():
    # 40 large and 160 small units: over many seeds each kind reaches the test set equally often.
    sizes = [5] * 40 + [1] * 160
    codes = np.repeat(np.arange(200), sizes)
    shares = []
    for seed in range(60):
        parts = split(["a"] * len(codes), codes, seed=bytes([seed])).parts
        of_unit = parts[np.unique(codes, return_index=True)[1]] == TEST
        shares.append((of_unit[:40].mean(), of_unit[40:].mean()))
    large, small = np.mean(shares, axis=0)
    assert abs(large - small) < 0.06


def test_units_that_span_strata_still_balance_classes():
    rng = np.random.default_rng(1)
    classes = rng.choice(list("abcd"), p=[0.6, 0.2, 0.15, 0.05], size=2000)
    codes = np.repeat(np.arange(500), 4)
    parts = split(classes.tolist(), codes, spec((0.1, 0.2, 0.7))).parts
    for name in "abcd":
        share = (parts[classes == name] == TEST).mean()
        assert abs(share - 0.7) < 0.02


def test_strata_of_one_row_are_dealt_by_the_seed_and_hold_the_totals():
    strata = [f"s{i}" for i in range(200)]
    one, other = split(strata, seed=b"1").parts, split(strata, seed=b"2").parts
    assert [(one == p).sum() for p in range(3)] == [60, 100, 40]
    assert (one != other).any()


def test_missing_strata_values_are_one_stratum():
    parts = split([None] * 50 + ["a"] * 50).parts
    assert [(parts[:50] == p).sum() for p in range(3)] == [15, 25, 10]


def require(count, value="hard"):
    return [Requirement(column="s", value=value, count=count)]


def test_required_rows_are_moved_and_reported():
    strata = ["hard"] * 9 + ["easy"] * 191
    (loose,) = split(strata, split_spec=spec(require=require(1))).requirements
    assert (loose.met, loose.train + loose.dev + loose.test) == (True, 9)
    (tight,) = split(strata, split_spec=spec(require=require(3)), columns=()).requirements
    assert tight.met
    assert (tight.train, tight.dev, tight.test) == (3, 3, 3)


def test_where_required_rows_are_too_few_the_test_comes_first():
    (result,) = split(
        ["hard"] * 4 + ["easy"] * 96, split_spec=spec(require=require(4)), columns=()
    ).requirements
    assert not result.met
    assert (result.train, result.dev, result.test) == (0, 0, 4)


def test_moving_keeps_units_whole():
    strata = ["hard", "easy"] * 6 + ["easy"] * 88
    codes = np.array([i // 2 for i in range(12)] + list(range(6, 94)))
    done = split(strata, codes, spec(require=require(2)), columns=())
    assert all(len(set(done.parts[codes == u])) == 1 for u in range(6))
    assert done.requirements[0].met


def test_unused_parts_need_no_rows():
    done = split(["hard"] * 5 + ["easy"] * 95, split_spec=spec((0.0, 0.5, 0.5), require=require(2)))
    assert done.requirements[0].met
    assert not (done.parts == TRAIN).any()


@settings(max_examples=40, deadline=None)
@given(st.integers(20, FEW_ROWS - 1), st.integers(2, 6), st.integers(1, 3))
def test_few_rows_get_stratified_folds_with_whole_units(rows, folds, size):
    codes = np.arange(rows) // size
    done = split([str(c % 2) for c in codes], codes, spec(folds=folds))
    assert done.folds is not None
    inside = done.parts == DEV
    assert (done.folds[~inside] == -1).all()
    found = set(done.folds[inside].tolist())
    assert found == set(range(len(found)))
    assert 2 <= len(found) <= folds
    assert size > 1 or len(found) == min(folds, inside.sum())
    assert all(len(set(done.folds[codes == u])) == 1 for u in set(codes))


def test_enough_rows_get_no_folds():
    assert split(["a"] * FEW_ROWS).folds is None
    assert split(["a"] * (FEW_ROWS - 1)).folds is not None


def test_an_empty_part_is_refused():
    with pytest.raises(DataError, match=r"leave .* empty"):
        split(["a"] * 100, np.zeros(100))
    with pytest.raises(DataError, match="2 rows"):
        split(["a", "b"])


def test_seed_commitment_is_sha256():
    assert seed_commitment(b"abc").startswith("ba7816bf8f01cfea")


def test_slice_ids():
    assert slice_id("domain", "tweets") == "domain=tweets"
    assert [slice_id("x", v) for v in (True, 3, None, "")] == ["x=true", "x=3", "x=", "x="]
