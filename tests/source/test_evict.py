"""The raw source out of reach, and back: nothing is removed by a word that is none, nor lost by a crash."""

import pytest
from world import go

from itera_nb.exceptions import IteraError
from itera_nb.protocol import State
from itera_nb.source.evict import restore


def test_a_word_that_is_none_removes_nothing(make_experiment):
    exp = make_experiment(rows=60)
    go(exp, until="seal")
    with pytest.raises(IteraError, match="'seel' is no way"):
        exp.evict("seel")
    assert (exp.experiment.folder / "data.csv").is_file()


def test_a_restore_that_was_killed_is_begun_again(make_experiment, monkeypatch):
    exp = make_experiment(rows=60)
    go(exp, until="seal")
    source = exp.experiment.folder / "data.csv"
    before = source.read_bytes()
    exp.evict()
    assert not source.exists()
    monkeypatch.setattr(State, "decided", True)
    source.with_name(".data.csv.partial").write_bytes(before[:100])
    restore(exp.experiment)
    assert source.read_bytes() == before
