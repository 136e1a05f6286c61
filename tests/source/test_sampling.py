"""Caps and sample size: what is kept, what is dropped, what is asked."""

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from itera_nb.source.keys import derived_key, keyed_order
from itera_nb.source.sampling import draw_sample
from itera_nb.spec import SourceSpec


def draw(entities, *, seed=b"s", ids=None, novelty=False, cap_by="v", **source):
    ids = ids or [f"r{i}" for i in range(len(entities))]
    keys = pa.table({"id": pa.chunked_array([ids]), "v": pa.chunked_array([pa.array(entities, pa.string())])})
    order = keyed_order(derived_key(seed, "sample"), keys["id"])
    sample = draw_sample(keys, order, SourceSpec(uri="a", id="id", cap_by=cap_by, **source), novelty=novelty)
    return {i for i, kept in zip(ids, sample.mask, strict=True) if kept}, sample.report


def counts_of(kept, ids, entities):
    return np.unique([e for i, e in zip(ids, entities, strict=True) if i in kept], return_counts=True)[1]


entity_lists = st.lists(st.sampled_from([*"abcdefgh", None]), min_size=1, max_size=120)


@settings(max_examples=150, deadline=None)
@given(entity_lists, st.integers(1, 6), st.one_of(st.none(), st.integers(1, 80)), st.floats(0.05, 1))
def test_caps_hold_and_every_row_is_accounted_for(entities, cap, size, share):
    kept, report = draw(entities, cap=cap, sample=size, max_entity_share=share)
    assert report.rows == len(kept)
    assert report.source_rows == report.rows + report.over_cap + report.over_share + report.not_drawn
    assert size is None or report.rows <= size
    named = [e for i, e in enumerate(entities) if f"r{i}" in kept and e]
    largest = max((named.count(e) for e in set(named)), default=0)
    assert largest <= cap
    asked = any("too few others" in a.sentence for a in report.asks)
    assert asked or largest <= share * len(kept) + 1e-6
    assert kept


@settings(max_examples=60, deadline=None)
@given(entity_lists, st.permutations(range(120)), st.integers(1, 60))
def test_input_order_does_not_matter(entities, shuffle, size):
    ids = [f"r{i}" for i in range(len(entities))]
    order = [i for i in shuffle if i < len(ids)]
    first, _ = draw(entities, cap=2, sample=size)
    second, _ = draw([entities[i] for i in order], ids=[ids[i] for i in order], cap=2, sample=size)
    assert first == second


def test_seed_decides():
    entities = [str(i % 100) for i in range(1000)]
    assert draw(entities)[0] == draw(entities)[0]
    assert draw(entities, seed=b"a")[0] != draw(entities, seed=b"b")[0]


def test_without_cap_by_nothing_is_capped():
    kept, report = draw(["x"] * 50, cap_by=None, sample=20)
    assert (len(kept), report.not_drawn, report.over_cap, report.asks) == (20, 30, 0, ())


def test_dominant_entity_is_bounded_at_a_third():
    kept, report = draw(["big"] * 90 + [f"e{i}" for i in range(20)], cap=1000)
    assert (report.rows, report.over_cap, report.over_share) == (30, 0, 80)
    assert report.largest_before == 90 / 110
    assert report.largest_after == 1 / 3
    assert sum(int(i[1:]) < 90 for i in kept) == 10


def test_asks_above_ten_per_cent_and_for_a_cap_of_one():
    few = [f"e{i}" for i in range(97)]
    assert draw([*few, "x", "x", "x"])[1].asks == ()
    (asked,) = draw([*few, *["x"] * 20])[1].asks
    assert asked.safeguard == "SG12"
    assert "drops 17 rows (15% of the source)" in asked.sentence
    (asked,) = draw(few, cap=1)[1].asks
    assert "is novelty the question?" in asked.sentence
    assert draw(few, cap=1, novelty=True)[1].asks == ()


def test_rows_without_entity_are_never_capped():
    kept, report = draw([None] * 30 + ["a"] * 6)
    assert (len(kept), report.without_entity, report.entities, report.over_cap) == (33, 30, 1, 3)
