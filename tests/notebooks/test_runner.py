"""Notebooks that are run headless."""

import pytest
from filelock import FileLock

from itera_nb.exceptions import StoppedError
from itera_nb.notebooks.runner import execute, instantiate


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
