"""The test set opens once: a second verdict is refused, recorded, and told where the first one stands."""

import hashlib
import shutil

from world import open_test

from itera_nb.seal import heads


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


def test_show_writes_a_page_that_is_missing_and_records_nothing(finished):
    page, before = finished.folder / "conclusion.html", finished.records()
    as_recorded = page.read_bytes()
    page.unlink()
    shown = finished.itera("show")
    assert shown.code == 0, shown.text
    assert page.read_bytes() == as_recorded, "a page is the same whenever it is rendered"
    (finished.folder / "data.json").write_text("{}")
    page.unlink()
    assert finished.itera("show").code == 0
    assert finished.records() == before
    assert finished.itera("verify").code == 0


def test_show_in_a_clone_records_nothing(finished, tmp_path):
    """Neither a missing page nor a missing conclusion makes a second history."""
    shutil.rmtree(finished.root / "state" / "heads")
    (finished.folder / "conclusion.html").unlink()
    (finished.folder / "charts" / "arm-bar.png").unlink()
    before = finished.records()
    shown = finished.itera("show")
    assert (shown.code, "SHIP v2" in shown.out) == (0, True), shown.text
    assert finished.records() == before
    undo_conclusion(finished)
    before = finished.records()
    shown = finished.itera("show")
    assert (shown.code, "SHIP v2" in shown.out) == (0, True), shown.text
    assert finished.records() == before


def undo_conclusion(world):
    """The folder as it is when the process that decided dies before it writes the pages."""
    records = world.records()
    kept = next(n for n, r in enumerate(records, 1) if r["type"] == "verdict")
    ledger = world.folder / "ledger.jsonl"
    ledger.write_bytes(b"".join(ledger.read_bytes().splitlines(keepends=True)[:kept]))
    for name in ("conclusion.md", "conclusion.html", "data.json"):
        (world.folder / name).unlink(missing_ok=True)
    for head in (world.root / "state").glob("heads/*.json"):
        head.unlink()
    return hashlib.sha256(ledger.read_bytes().splitlines()[-1]).hexdigest()


def test_a_verdict_without_its_pages_is_finished(finished):
    head, count = undo_conclusion(finished), len(finished.records())
    with finished.entered():
        heads.remember(finished.records()[0]["body"]["genesis_id"], count, head, opened=True)
    done = finished.itera("verdict")
    assert done.code == 0, done.text
    assert "SHIP v2" in done.out
    assert {r["type"] for r in finished.records()[count:]} == {"concluded"}
    assert finished.itera("verify").code == 0
    assert finished.itera("verdict").code == 3, "now it is concluded"


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
