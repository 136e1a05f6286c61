"""Examples come from train, by id or by the experiment's own draw, and from nowhere else."""

import pytest

from itera_nb.arms.few_shot import choose
from itera_nb.exceptions import ArmError, Refusal
from itera_nb.spec import ArmSpec, SourceSpec

SOURCE = SourceSpec(uri="d.csv", id="row_id", expected="label")
TRAIN = [{"row_id": f"r{n}", "text": f"text {n // 2}", "label": f"l{n}", "tenant": "t"} for n in range(20)]


@pytest.fixture
def chosen(tmp_path):
    def chosen(few_shot, genesis="g", train=TRAIN, text=None):
        if text is not None:
            (tmp_path / few_shot).write_text(text, "utf-8")
        return choose(ArmSpec(few_shot=few_shot), tmp_path, train, SOURCE, ["text"], genesis)

    return chosen


def test_none_is_none(chosen):
    assert chosen(None) == ()


def test_a_large_train_part_is_not_compared_row_by_row(chosen):
    class Counted(str):
        __slots__ = ()
        compared = 0

        def __ne__(self, other):
            Counted.compared += 1
            return str.__ne__(self, other)

        __hash__ = str.__hash__

    chosen(3, train=[{"row_id": f"r{n}", "text": Counted(n), "label": "l"} for n in range(500)])
    assert Counted.compared < 50


def test_a_number_draws_rows_with_different_inputs_and_one_to_spare(chosen):
    shots = chosen(3)
    assert len(shots) == 4
    assert len({shot.inputs["text"] for shot in shots}) == 4
    assert all(shot.inputs.keys() == {"text"} for shot in shots)
    assert chosen(3) == shots
    assert chosen(3, train=TRAIN[::-1]) == shots, "the order of the file does not matter"
    assert chosen(3, genesis="other") != shots
    assert chosen(2) == shots[:3], "fewer examples are the first of more"


@pytest.mark.parametrize("text", ["r7\nr2\n\nr7\n", '["r7", "r2"]'])
def test_a_file_names_rows_in_its_order(chosen, text):
    assert [shot.label for shot in chosen("ids.txt", text=text)] == ["l7", "l2"]


def test_rows_that_are_not_train_are_refused_by_id(chosen):
    with pytest.raises(Refusal, match="r99, r98, r97 and 1 more") as caught:
        chosen("ids.txt", text="r7\nr99\nr98\nr97\nr96\n")
    assert caught.value.safeguard == "SG03"


def test_too_few_rows_and_empty_files_are_the_arms_fault(chosen):
    with pytest.raises(ArmError, match="needs more than 10"):
        chosen(10)
    with pytest.raises(ArmError, match="names no row"):
        chosen("ids.txt", text="\n")
    with pytest.raises(ArmError, match="cannot be read"):
        chosen("gone.txt")
