"""The remembered head only ever moves forward."""

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from itera_nb.exceptions import RecordError
from itera_nb.seal.heads import Head, recall, remember


def test_unknown_experiment_has_no_head():
    assert recall("abc") is None


def test_remember_and_recall(state, tmp_path):
    remember("abc", 3, "h3", folder=tmp_path)
    assert recall("abc") == Head(3, "h3", opened=False, folder=str(tmp_path))
    assert remember("abc", 4, "h4") == recall("abc") == Head(4, "h4", opened=False, folder=str(tmp_path))
    assert stat.S_IMODE((state / "heads" / "abc.json").stat().st_mode) == 0o600


def test_a_shorter_or_forked_ledger_does_not_replace_the_memory():
    remember("abc", 5, "h5")
    remember("abc", 2, "h2")
    remember("abc", 5, "forged")
    assert recall("abc") == Head(5, "h5")


def test_opened_is_never_forgotten():
    remember("abc", 5, "h5")
    remember("abc", 5, "h5", opened=True)
    remember("abc", 6, "h6")
    remember("abc", 1, "restarted")
    assert recall("abc") == Head(6, "h6", opened=True)


def test_many_writers_at_once_leave_the_highest():
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: remember("abc", n, f"h{n}", opened=n == 17), range(40)))
    assert recall("abc") == Head(39, "h39", opened=True)


@pytest.mark.parametrize("text", ["", "[]", '{"seq": "x"}', '{"seq": 1}'])
def test_damaged_memory_is_reported_not_ignored(state, text):
    remember("abc", 1, "h")
    (state / "heads" / "abc.json").write_text(text)
    with pytest.raises(RecordError, match="damaged"):
        recall("abc")
