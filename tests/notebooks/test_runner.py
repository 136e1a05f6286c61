"""Notebooks that are run headless."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock

from itera_nb.exceptions import ArmError, DataError, EditedError, RecordError, Refusal, StoppedError
from itera_nb.notebooks.runner import CellError, _translate, execute, instantiate
from itera_nb.scoring.budget import BudgetReachedError


def test_a_notebook_is_run_by_one_process_at_a_time(make_experiment):
    """Two would write one file, and the second would find it gone."""
    experiment = make_experiment().experiment
    instantiate(experiment)
    with (
        FileLock(experiment.path("notebooks", ".0-frame.lock")),
        pytest.raises(StoppedError, match="is being run by another process") as stopped,
    ):
        execute(experiment, "0-frame")
    assert stopped.value.fix
    assert not experiment.state.has("frame_locked")
    execute(experiment, "0-frame")
    assert experiment.state.has("frame_locked")


def test_a_refusal_stands_in_its_cell_and_nowhere_else(make_experiment):
    experiment = make_experiment().experiment
    with pytest.raises(Refusal) as refused:
        execute(experiment, "2-metric")
    written = experiment.path("notebooks", "2-metric.ipynb").read_text("utf-8")
    assert f"refused {refused.value.safeguard}" in written
    assert "encountered" not in written


def test_a_cell_s_own_fault_is_marked(make_experiment):
    experiment = make_experiment().experiment
    instantiate(experiment)
    path = experiment.path("notebooks", "0-frame.ipynb")
    path.write_text(path.read_text("utf-8").replace("exp.plan()", "1 / 0"), "utf-8")
    with pytest.raises(CellError):
        execute(experiment, "0-frame")
    assert "An Exception was encountered" in path.read_text("utf-8")


@pytest.mark.parametrize(
    "kind", [ArmError, BudgetReachedError, DataError, EditedError, RecordError, StoppedError]
)
def test_what_a_cell_says_is_said_again_with_its_remedy(kind):
    """A budget that is used up is no fault of a cell: it has a remedy of its own."""
    error = kind("it stopped", fix="go on so")
    found = _translate(failed(error), Path("notebooks/3-run.ipynb"))
    assert (found.what, found.fix, found.exit_code) == ("it stopped", "go on so", error.exit_code)


def test_a_refusal_is_said_again_whole():
    refusal = Refusal(
        "SG22", "no more.", why="it tunes.", instead="lock\nor: itera run --accept SG22=x", asks=True
    )
    refusal.record = 7
    found = _translate(failed(refusal), Path("notebooks/4-diagnose.ipynb"))
    names = ("safeguard", "what", "why", "instead", "asks", "record")
    assert [getattr(found, name) for name in names] == [getattr(refusal, name) for name in names]


def test_any_other_exception_names_the_cell():
    found = _translate(failed(ValueError("x")), Path("notebooks/3-run.ipynb"))
    assert isinstance(found, CellError)
    assert found.what == "notebooks/3-run.ipynb, cell 3: ValueError: x"


def failed(error):
    """A cell's failure as papermill reports it."""
    return SimpleNamespace(ename=type(error).__name__, evalue=str(error), exec_count=3)
