"""The remembered head only ever moves forward."""

import stat
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from itera_nb.exceptions import RecordError
from itera_nb.seal.heads import Head, held, of_folder, recall, remember


def test_unknown_experiment_has_no_head():
    assert recall("abc") is None


def test_remember_and_recall(state, tmp_path):
    remember("abc", 3, "h3", folder=tmp_path)
    assert recall("abc") == Head(3, "h3", opened=False, folders=(str(tmp_path),))
    assert remember("abc", 4, "h4") == recall("abc") == Head(4, "h4", opened=False, folders=(str(tmp_path),))
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


def test_every_folder_of_an_experiment_is_remembered(tmp_path):
    """A copy that goes on must not make the original's folder free for a fresh start."""
    here, copy = tmp_path / "here", tmp_path / "copy"
    remember("abc", 3, "h3", folder=here)
    remember("abc", 4, "h4", folder=copy)
    remember("abc", 5, "h5", folder=here)
    assert recall("abc").folders == (str(here), str(copy))
    assert of_folder(here) == of_folder(copy) == recall("abc")
    assert of_folder(tmp_path) is None


def test_held_is_reentrant_and_keeps_others_out():
    order = []

    def other():
        remember("abc", 2, "theirs")
        order.append("theirs")

    with ThreadPoolExecutor(1) as pool:
        with held("abc"):
            waiting = pool.submit(other)
            time.sleep(0.2)
            remember("abc", 1, "ours")
            order.append("ours")
        waiting.result()
    assert order == ["ours", "theirs"]
    assert recall("abc").seq == 2


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
