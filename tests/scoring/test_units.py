from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itera_nb.arms.runtime import RunnableArm
from itera_nb.exceptions import DataError
from itera_nb.scoring.units import RowGroup, Units
from itera_nb.spec import ArmSpec


def arm(name, kind="python"):
    return RunnableArm(name, ArmSpec(kind=kind), Path(), "1", ("x",))


def planned(sizes, trials, fit=(), namespace="", arms=None):
    numbers = iter(range(sum(sizes)))
    groups = [RowGroup([{"id": (n := next(numbers)), "x": n % 2} for _ in range(s)], fit) for s in sizes]
    arms = arms or [arm(name) for name in trials]
    return Units(
        arms, groups, id_column="id", trials=trials, seed=lambda trial: 10 * trial, namespace=namespace
    )


@given(
    st.lists(st.integers(0, 4), max_size=4),
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 3), min_size=1),
    st.data(),
)
def test_units_stand_row_by_row_then_trial_by_trial(sizes, trials, data):
    units = planned(sizes, trials)
    wanted, row = [], 0
    for group, size in enumerate(sizes):
        for _ in range(size):
            wanted += [
                (name, row, trial, group)
                for trial in range(max(trials.values()))
                for name in trials
                if trial < trials[name]
            ]
            row += 1
    assert [(u.arm.name, u.row_id, u.trial, u.group) for u in units] == wanted
    assert len(units) == len(wanted) == len({u.key for u in units})
    assert [u.key for u in units] == list(units.iter_keys())
    assert all(u.row == {"x": u.row_id % 2} and u.seed == 10 * u.trial for u in units)
    with pytest.raises(IndexError):
        units[len(units)]
    done = {key for key in units.iter_keys() if data.draw(st.booleans())}
    pending = units.unfinished(done)
    assert sorted(i for indices in pending.values() for i in indices) == [
        i for i, key in enumerate(units.iter_keys()) if key not in done
    ]
    assert all(units[i].arm.name == name for name, indices in pending.items() for i in indices)


def test_only_what_learns_depends_on_the_rows_it_is_fitted_on():
    for kind, same in (("python", False), ("prompt", True), ("http", True)):
        keys = [planned([1], {"a": 1}, fit, arms=[arm("a", kind)])[0].key for fit in ((), ({"x": 1},))]
        assert (keys[0] == keys[1]) is same


def test_an_id_that_repeats_is_refused():
    rows = [{"id": 1, "x": 1}, {"id": 1, "x": 2}, {"id": 1, "x": 3}]
    with pytest.raises(DataError, match="2 rows repeat an id"):
        Units([arm("a")], [RowGroup(rows)], id_column="id", trials=1, seed=lambda trial: 0)
