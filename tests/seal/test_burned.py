"""Opened rows are remembered for this user, under a key, within bounds."""

import os

import numpy as np

from itera_nb.seal import burned


def rows(*values):
    return np.array(values, np.uint64)


def test_rows_of_other_experiments_are_met():
    burned.remember("one", "fees", rows(1, 2, 3))
    burned.remember("two", "tone", rows(3, 4))
    assert burned.met("three", rows(3, 4, 5)) == {"fees": 1, "tone": 2}
    assert burned.met("one", rows(1, 2, 3)) == {"tone": 1}
    assert burned.met("three", rows(9)) == {}


def test_a_second_batch_is_added_to_the_first():
    burned.remember("one", "fees", rows(1, 2))
    burned.remember("one", "fees", rows(2, 3))
    assert burned.met("two", rows(1, 2, 3)) == {"fees": 3}


def test_the_key_is_drawn_once_and_private(state):
    assert burned.key() == burned.key()
    assert len(burned.key()) == burned.KEY_BYTES
    if os.name == "posix":
        assert {p.stat().st_mode & 0o077 for p in (state / "burned").iterdir()} == {0}


def test_the_oldest_are_dropped(monkeypatch, state):
    monkeypatch.setattr(burned, "MAX_BYTES", 200)
    for n in range(6):
        burned.remember(f"e{n}", f"n{n}", rows(*range(10 * n, 10 * n + 8)))
        os.utime(state / "burned" / f"e{n}.rows", (n, n))
    known = burned.met("other", np.arange(100, dtype=np.uint64))
    assert "n5" in known
    assert "n0" not in known
