"""The folder's one door: the head remembered outside it, its files, and the isolated process's answers."""

import json
import os
import shutil
import sys
import time

import pandas as pd
import pytest

import itera_nb
from itera_nb.exceptions import IteraError, RecordError, Refusal, SpecError
from itera_nb.experiment import Experiment
from itera_nb.isolated import answer_as_json

SECRET = "CANARY00042X"


@pytest.fixture
def experiment(make_experiment):
    """An experiment with three records: created, and two accepted reasons."""
    found = make_experiment().experiment
    for n in range(2):
        found.record("accepted", {"safeguard": "SG12", "why": f"reason {n}"})
    return found


def again(experiment):
    return Experiment(experiment.folder)


# the head ---------------------------------------------------------------------------------------------------


def test_the_ledger_begins_with_an_id_and_the_custody(experiment):
    first = experiment.state.records[0]
    assert first.type == "created"
    assert first.body == {
        "genesis_id": experiment.genesis,
        "version": itera_nb.__version__,
        "custody": "file",
    }
    assert len(experiment.genesis) == 32


def test_reading_begins_nothing(make_experiment):
    found = make_experiment().experiment
    assert found.state.records == ()
    assert not (found.folder / "ledger.jsonl").exists()


@pytest.mark.parametrize("kept", [1, 2])
def test_a_ledger_cut_by_whole_records_is_noticed(experiment, kept):
    path = experiment.ledger.path
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:kept]))
    with pytest.raises(RecordError, match=f"ends at record {kept}, but record 3") as caught:
        _ = again(experiment).state
    assert caught.value.record == kept
    with pytest.raises(RecordError):
        again(experiment).record("accepted", {"safeguard": "SG12", "why": "more"})


def test_the_last_record_is_not_changed_unnoticed(experiment):
    path = experiment.ledger.path
    path.write_bytes(path.read_bytes().replace(b"reason 1", b"reason 9"))
    with pytest.raises(RecordError, match="record 3 is not the one that was written") as caught:
        _ = again(experiment).state
    assert caught.value.record == 3


def test_an_old_copy_put_back_is_noticed_even_when_it_has_grown(experiment):
    old = experiment.ledger.path.read_bytes()
    experiment.record("accepted", {"safeguard": "SG12", "why": "later"})
    experiment.ledger.path.write_bytes(old)
    with pytest.raises(RecordError, match="restored from an old copy"):
        _ = again(experiment).state
    grown = Experiment(experiment.folder)
    grown.ledger.append("accepted", {"safeguard": "SG12", "why": "another history of the same length"})
    with pytest.raises(RecordError, match="record 4 is not the one"):
        _ = again(experiment).state


def test_of_two_copies_only_one_goes_on(experiment, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(experiment.folder, copy)
    Experiment(copy).record("accepted", {"safeguard": "SG12", "why": "in the copy"})
    with pytest.raises(RecordError, match="another copy of this folder has gone on"):
        again(experiment).record("accepted", {"safeguard": "SG12", "why": "in the original"})
    assert len(again(experiment).ledger.records()) == 3


def test_a_copy_that_nobody_went_on_with_is_readable(experiment, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(experiment.folder, copy)
    assert Experiment(copy).state.head == experiment.state.head


def test_a_copy_elsewhere_is_read_without_a_remembered_head(experiment, monkeypatch, tmp_path):
    monkeypatch.setenv("ITERA_STATE_DIR", str(tmp_path / "another computer"))
    assert len(again(experiment).state.records) == 3
    with pytest.raises(RecordError, match="is not here"):
        _ = again(experiment).secret


def test_a_deleted_ledger_cannot_start_anew_in_its_folder(make_experiment):
    """Starting over quietly would be another split of the same rows, with what was seen forgotten."""
    session = make_experiment()
    session.frame.lock()
    old = Experiment(session.experiment.folder)
    count = len(old.state.records)
    old.ledger.path.unlink()
    new = Experiment(old.folder)
    assert not new.state.has("frame_locked")
    with pytest.raises(RecordError, match=f"{count} records") as broken:
        new.record("accepted", {"safeguard": "SG12", "why": "anew"})
    assert broken.value.record == count
    assert not new.ledger.path.exists() or not new.ledger.path.read_bytes()


def test_a_torn_first_record_is_begun_again(make_experiment):
    found = make_experiment().experiment
    (found.folder / "ledger.jsonl").write_bytes(b'{"body":{"custo')
    assert found.genesis
    assert [r.type for r in found.state.records] == ["created"]


def test_a_torn_tail_is_recovered_and_the_head_goes_with_it(experiment):
    with experiment.ledger.path.open("ab") as file:
        file.write(b'{"body":{"safeg')
    found = again(experiment)
    assert len(found.state.records) == 3
    found.record("accepted", {"safeguard": "SG12", "why": "after"})
    assert [r.type for r in again(experiment).state.records][3:] == ["recovered", "accepted"]


# refusals ---------------------------------------------------------------------------------------------------


def test_a_refused_attempt_is_recorded_and_its_number_told(experiment):
    with pytest.raises(Refusal) as caught:
        experiment.record("sealed", {})
    last = experiment.state.records[-1]
    assert (last.type, last.body["safeguard"]) == ("attempt_refused", "SG07")
    assert last.body["what"] == caught.value.what
    assert str(caught.value).endswith(f"this attempt is record {last.seq}.")
    assert not experiment.state.has("sealed")


def test_requiring_records_only_refusals(experiment):
    experiment.require("frame_locked")
    assert len(experiment.state.records) == 3
    with pytest.raises(Refusal):
        experiment.require("verdict")
    assert len(experiment.state.records) == 4


def test_a_question_is_refused_until_it_is_answered(make_experiment):
    found = make_experiment().experiment
    with pytest.raises(Refusal) as caught:
        found.ask("SG13", "the test set lacks rows.", "why.")
    assert caught.value.asks
    assert '--accept SG13="' in caught.value.instead
    found.record("accepted", {"safeguard": "SG13", "why": "they come later"})
    found.ask("SG13", "the test set lacks rows.", "why.")


# files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parts", [("..", "x"), ("a", "..", "..", "x"), ("/etc/passwd",), ("..",), ("link", "x")]
)
def test_no_path_leaves_the_folder(experiment, tmp_path, parts):
    (experiment.folder / "link").symlink_to(tmp_path)
    with pytest.raises(IteraError, match="leaves the experiment folder"):
        experiment.path(*parts)
    with pytest.raises(IteraError):
        experiment.write_text("/".join(parts), "x")


def test_what_the_file_names_may_lie_outside(experiment):
    assert experiment.outside("../x.csv") == experiment.folder.parent / "x.csv"


def test_a_file_is_written_whole_or_not_at_all(experiment, monkeypatch):
    experiment.write_text("frame.md", "first")

    def refuse(_):
        raise OSError(28, "No space left on device")

    before = sorted(p.name for p in experiment.folder.iterdir())
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        experiment.write_text("frame.md", "second")
    monkeypatch.undo()
    assert (experiment.folder / "frame.md").read_text() == "first"
    assert sorted(p.name for p in experiment.folder.iterdir()) == before


def test_hashes_and_nan(experiment):
    import hashlib

    assert experiment.write_bytes("deep/er/x", b"abc") == hashlib.sha256(b"abc").hexdigest()
    experiment.write_json("data.json", {"ä": 1})
    assert json.loads((experiment.folder / "data.json").read_text("utf-8")) == {"ä": 1}
    with pytest.raises(ValueError, match="not JSON compliant"):
        experiment.write_json("data.json", {"x": float("nan")})


def test_a_table_is_read_only_if_it_is_the_recorded_one(experiment):
    table = pd.DataFrame({"id": ["a", "b"], "score": [0.5, None]})
    sha256 = experiment.write_frame("runs/x.parquet", table)
    pd.testing.assert_frame_equal(experiment.read_frame("runs/x.parquet", sha256=sha256), table)
    experiment.write_frame("runs/x.parquet", table.assign(score=1.0))
    with pytest.raises(RecordError, match="not the file that was recorded"):
        experiment.read_frame("runs/x.parquet", sha256=sha256)
    (experiment.folder / "runs/x.parquet").unlink()
    with pytest.raises(RecordError, match="is missing"):
        experiment.read_frame("runs/x.parquet", sha256=sha256)


def test_the_spec_is_read_again_when_the_file_changes(experiment):
    first = experiment.spec
    assert experiment.spec is first
    text = experiment.toml.read_text("utf-8")
    experiment.toml.write_text(text.replace("min_effect = 0.05", "min_effect = 0.10"), "utf-8")
    assert experiment.spec.rule.min_effect.value == 0.10
    experiment.toml.write_text(text.replace("[rule]", "[rulle]"), "utf-8")
    with pytest.raises(SpecError, match="rulle"):
        _ = experiment.spec


def test_a_folder_without_an_experiment(tmp_path):
    with pytest.raises(IteraError, match=r"no experiment\.toml") as caught:
        Experiment(tmp_path)
    assert "itera new" in caught.value.fix


def test_opening_from_the_notebooks_folder(make_experiment):
    folder = make_experiment().experiment.folder
    (folder / "notebooks").mkdir()
    assert itera_nb.open(folder / "notebooks").experiment.folder == folder


# the isolated process ---------------------------------------------------------------------------------------


@pytest.fixture
def module(experiment, monkeypatch):
    """Run a module of this test in an isolated process: -I ignores paths, so it is installed as code."""

    def run(body, progress=None):
        code = f"from itera_nb.isolated import *\nfrom itera_nb.exceptions import *\n{body}"
        real = sys.executable
        script = experiment.folder / "python"
        (experiment.folder / "module.py").write_text(code, "utf-8")
        script.write_text(f'#!/bin/sh\nexec {real} -I {experiment.folder / "module.py"} "$4"\n')
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))
        try:
            return experiment.isolated("module", progress=progress)
        finally:
            monkeypatch.setattr(sys, "executable", real)

    return run


def raising(text):
    return f"def work():\n    {text}\nraise SystemExit(answer_as_json(work))\n"


def test_a_value_comes_back(module):
    assert module(raising('return {"rows": [1, 2.5, None, "ä"]}')) == {"rows": [1, 2.5, None, "ä"]}


def test_a_long_answer_and_long_progress_do_not_wait_for_each_other(module):
    lines = []
    body = "import sys\nfor n in range(20_000):\n    print(n, file=sys.stderr)\n"
    assert len(module(body + raising('return "x" * 1_000_000'), progress=lines.append)) == 1_000_000
    assert len(lines) == 20_000


def test_an_error_in_progress_ends_the_process_too(module):
    def broken(line):
        raise OSError(line)

    body = "import sys\nfor n in range(20_000):\n    print(n, file=sys.stderr)\n"
    with pytest.raises(OSError, match="0"):
        module(body + raising("return 1"), progress=broken)
    bytes_ = "import sys\nsys.stderr.buffer.write(b'\\xff\\n')\n"
    assert module(bytes_ + raising("return 1")) == 1


def test_progress_is_passed_on_line_by_line(module):
    lines = []
    body = 'import sys\nprint("1 of 2", file=sys.stderr)\nprint("2 of 2", file=sys.stderr)\n'
    module(body + raising("return 1"), progress=lines.append)
    assert lines == ["1 of 2", "2 of 2"]


def test_a_refusal_comes_back_whole(module):
    with pytest.raises(Refusal) as caught:
        module(raising('e = Refusal("SG02", "w.", why="y.", instead="i", asks=True); e.record = 7; raise e'))
    refusal = caught.value
    assert (refusal.safeguard, refusal.what, refusal.why, refusal.instead) == ("SG02", "w.", "y.", "i")
    assert (refusal.asks, refusal.record) == (True, 7)


def test_errors_come_back_with_their_kind(module):
    with pytest.raises(RecordError, match="not what was") as caught:
        module(raising('raise RecordError("not what was", record=3, fix="put back")'))
    assert (caught.value.record, caught.value.fix) == (3, "put back")
    with pytest.raises(IteraError, match="no column") as caught:
        module(raising('raise DataError("no column", fix="add it")'))
    assert caught.value.fix == "add it"


@pytest.mark.parametrize(
    "how",
    [
        f'raise ValueError("{SECRET}")',
        f'raise SystemExit("{SECRET}")',
        f'import sys; sys.exit("{SECRET}")',
        f'{{}}["{SECRET}"]',
        f'raise type("{SECRET}", (Exception,), {{}})("{SECRET}")'.replace(f'type("{SECRET}"', 'type("Odd"'),
        f'raise ExceptionGroup("{SECRET}", [ValueError("{SECRET}")])',
        f'return float("nan") if "{SECRET}" else 0',
        f'return {{"{SECRET}"}}',
    ],
)
def test_a_crash_does_not_tell_what_a_row_said(module, how):
    lines = []
    with pytest.raises(IteraError) as caught:
        module(raising(how), progress=lines.append)
    assert SECRET not in str(caught.value)
    assert SECRET not in "".join(lines)


def test_a_crash_names_its_type_and_place(capsys):
    def work():
        raise KeyError(SECRET)

    assert answer_as_json(work) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert "unexpected KeyError at test_experiment.py:" in error["what"]
    assert SECRET not in error["what"]


def test_a_process_that_dies_without_an_answer(module):
    with pytest.raises(IteraError, match="ended without an answer") as caught:
        module('import os, sys\nprint("Fatal: out of luck", file=sys.stderr, flush=True)\nos._exit(9)\n')
    assert "out of luck" in str(caught.value)


def test_real_processes_are_isolated_and_answer(make_experiment):
    session = make_experiment(rows=55)
    started = time.monotonic()
    told = session.experiment.isolated("itera_nb.source", "preview")
    assert told["rows"] == 55
    assert "CANARY" not in json.dumps(told)
    with pytest.raises(Refusal) as caught:
        session.experiment.isolated("itera_nb.verdict")
    assert caught.value.safeguard == "SG01"
    assert caught.value.record == len(session.experiment.state.records)
    assert time.monotonic() - started < 60
