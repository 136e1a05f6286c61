import pytest

from itera_nb.exceptions import ArmError
from itera_nb.metrics import failure_modes
from itera_nb.spec import MetricSpec


def specs(**modes):
    return MetricSpec(failure_modes=modes).failure_modes


def test_every_matching_predicate_counts_and_the_catch_all_only_without():
    modes = specs(
        transfer_as_revenue={"expected": "transfer", "output": "revenue", "weight": 2.0},
        hard={"difficulty": 3},
        other={"weight": 0.5},
    )
    row = {"difficulty": 3}
    assert failure_modes.by_predicates(modes, "revenue", "transfer", row) == ("transfer_as_revenue", "hard")
    assert failure_modes.by_predicates(modes, "fees", "transfer", {"difficulty": 1}) == ("other",)
    assert failure_modes.by_predicates(modes, None, "transfer", {"difficulty": None}) == ("other",)


def test_names_without_predicates_are_left_to_the_scorer():
    modes = specs(rude=2.0, wrong_policy=3.0)
    assert failure_modes.by_predicates(modes, "x", "y", {}) == ()


def test_the_catch_all_gives_way_to_a_mode_of_the_scorer():
    modes = specs(rude={"output": "grr"}, other=1.0)
    assert failure_modes.by_predicates(modes, "x", "y", {}, scored=["rude"]) == ()
    assert failure_modes.by_predicates(modes, "x", "y", {}, scored=["never registered"]) == ("other",)


def test_unknown_columns_are_found():
    assert failure_modes.unknown_columns(specs(a={"tenat": "x", "output": "y"}), ["tenant"]) == ["tenat"]


def test_later_names_stay_apart():
    assert failure_modes.sort_names(["b", "new", "a", "b"], {"a", "b"}) == (("b", "a"), ("new",))


@pytest.mark.parametrize(
    ("value", "want"), [("a", ("a",)), (["a", "b"], ("a", "b")), (None, ()), ([], ()), ("", ())]
)
def test_read_names(value, want):
    assert failure_modes.read_names(value) == want


def test_read_names_refuses_other_things():
    for value in (3, [1], {"a": 1}):
        with pytest.raises(TypeError):
            failure_modes.read_names(value)


def test_weights_are_declared():
    assert failure_modes.read_weights({"a": 1, "b": 2.5}, "arms/f.py:mode") == {"a": 1.0, "b": 2.5}
    for bad in (None, {}, ["a"], {"a": "1"}, {"a": -1}, {"a": True}):
        with pytest.raises(ArmError, match="MODES"):
            failure_modes.read_weights(bad, "arms/f.py:mode")
