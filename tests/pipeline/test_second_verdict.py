"""The test set opens once: a second verdict is refused, recorded, and told where the first one stands."""

import shutil

from world import open_test


def test_second_verdict_is_refused_and_show_works(finished):
    first = finished.records("verdict")[0]
    opened = finished.records("test_opened")[0]
    before = finished.files()
    again = finished.itera("verdict")
    assert again.code == 3
    assert "refused SG02" in again.text
    assert opened["ts"][:16].replace("T", " ") in again.text
    assert f"SHIP v2 (record {first['seq']})" in again.text
    assert "itera show" in again.text
    assert "Traceback" not in again.text
    (attempt,) = finished.records("attempt_refused")
    assert attempt["body"]["safeguard"] == "SG02"
    assert f"this attempt is record {attempt['seq']}" in again.text
    assert finished.records("verdict", "test_opened") == [opened, first]
    after = finished.files()
    changed = {f for f in before if before[f] != after.get(f)}
    assert changed == {"ledger.jsonl"}

    shown = finished.itera("show")
    assert shown.code == 0
    assert "SHIP v2" in shown.out
    assert finished.itera("verify").code == 0, "a refused attempt does not break the record"


def test_show_before_the_verdict_says_what_comes_next(ready):
    shown = ready.itera("show")
    assert shown.code == 2
    assert "no verdict yet" in shown.text


def test_show_writes_a_page_that_is_missing(finished):
    (finished.folder / "conclusion.html").unlink()
    shown = finished.itera("show")
    assert shown.code == 0, shown.text
    assert "SHIP" in (finished.folder / "conclusion.html").read_text("utf-8")


def test_a_copy_of_the_folder_gives_no_second_look(ready, tmp_path):
    """The remembered head knows that the test set was opened, wherever the folder went."""
    twin = tmp_path / "twin"
    shutil.copytree(ready.folder, twin)
    with ready.entered() as exp:
        open_test(exp.experiment)
    refused = ready.itera("verdict", cwd=twin)
    assert refused.code == 4
    assert "another copy of this folder has gone on" in refused.text
    assert "Traceback" not in refused.text
