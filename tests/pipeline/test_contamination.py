"""Sealed rows outside the seal block the lock and the claim until they are moved or accepted; never is text shown."""

import base64
import gzip
import io
import json
import pickle
import sqlite3
import subprocess
import zipfile

import pytest
from world import conclude, go, in_process

from itera_nb.exceptions import Refusal
from itera_nb.seal.parquet import read_sealed
from itera_nb.source.parts import to_rows


def sealed_rows(exp):
    """The test rows by id, which only this test may read."""
    experiment = exp.experiment
    table = read_sealed(experiment.path("sealed", "test.parquet"), experiment.secret.identity)
    return {r["row_id"]: r["text"] for r in to_rows(table)}


@pytest.fixture
def sealed(make_experiment):
    exp = make_experiment(rows=60)
    go(exp, until="seal")
    return exp


def found(exp):
    return {file: sorted(ids) for file, ids in exp.experiment.state.leaks.items()}


def quiet(exp, *more):
    """No sealed text in the ledger, in what was printed, nor in the cache."""
    folder = exp.experiment.folder
    said = [
        *more,
        (folder / "ledger.jsonl").read_text("utf-8"),
        (folder / "runs/scan-cache.json").read_text("utf-8"),
    ]
    return not any(text in part for text in sealed_rows(exp).values() for part in said)


def notebook(text):
    cell = {
        "cell_type": "code",
        "source": [],
        "metadata": {},
        "outputs": [{"output_type": "stream", "name": "stdout", "text": [f"0  {text}\n"]}],
    }
    return json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4})


def attachment(text):
    data = base64.b64encode(f"notes\n{text}\nmore".encode()).decode()
    return json.dumps({"cells": [{"cell_type": "markdown", "attachments": {"a.txt": {"text/plain": data}}}]})


def widget(text):
    state = {"state": {"1": {"model_name": "HTMLModel", "state": {"value": json.dumps({"row": text})}}}}
    return json.dumps({"metadata": {"widgets": {"application/vnd.jupyter.widget-state+json": state}}})


def database(text):
    path = io.BytesIO()
    base = sqlite3.connect(":memory:")
    base.execute("CREATE TABLE cache (prompt TEXT)")
    base.execute("INSERT INTO cache VALUES (?)", (text,))
    base.commit()
    path.write(base.serialize())
    return path.getvalue()


def archive(text):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("rows.jsonl", json.dumps({"text": text}))
    return file.getvalue()


PLACES = {
    "few_shot.md": lambda t: f"# Examples\n\n> {t}\n",
    "arms/upper.md": lambda t: t.upper().replace(" ", "\\n"),
    "notebooks/1-source.ipynb": notebook,
    "notebooks/.ipynb_checkpoints/1-source-checkpoint.ipynb": notebook,
    "notebooks/note.ipynb": attachment,
    "notebooks/panel.ipynb": widget,
    "runs/arm.log": lambda t: f"12:00:01 INFO asking {t!r}\n",
    "cache.sqlite": database,
    "cache.pkl": lambda t: pickle.dumps({"q": t}),
    "backup.zip": archive,
    "old.json.gz": lambda t: gzip.compress(json.dumps([t]).encode()),
    "page.html": lambda t: "".join(f"&#{ord(c)};" for c in t),
    "wide.txt": lambda t: t.encode("utf-16"),
    "arms/rule.py": lambda t: f"def f(q):\n    if {t!r} in q:\n        return 'yes'\n",
}


def test_rows_are_found_wherever_they_stand(sealed):
    texts = sealed_rows(sealed)
    wanted = dict(zip(sorted(texts), PLACES.items(), strict=False))
    folder = sealed.experiment.folder
    for row, (name, written) in wanted.items():
        data = written(texts[row])
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)
    shown = sealed.scan().text
    assert found(sealed) == {name: [row] for row, (name, _) in wanted.items()}
    assert "paraphrase" in shown
    assert quiet(sealed, shown)


def test_pickles_are_not_loaded(sealed, tmp_path):
    marker = tmp_path / "ran"

    class Bomb:
        def __reduce__(self):
            return (open, (str(marker), "w"))

    (sealed.experiment.folder / "bomb.pkl").write_bytes(pickle.dumps(Bomb()))
    sealed.scan()
    assert not marker.exists()


def test_a_leak_blocks_the_lock_until_the_row_is_moved(make_experiment):
    exp = make_experiment(rows=60)
    go(exp, until="dev")
    row, text = min(sealed_rows(exp).items())
    shots = exp.experiment.folder / "arms" / "shots.txt"
    shots.write_text(f"Example: {text}", "utf-8")
    with pytest.raises(Refusal) as refused:
        exp.lock()
    assert refused.value.safeguard == "SG03"
    assert row in refused.value.what
    assert "arms/shots.txt" in refused.value.what
    assert "itera reseal" in refused.value.instead
    assert quiet(exp, str(refused.value))
    shots.unlink()
    with pytest.raises(Refusal, match="SG03"):
        exp.lock()  # somebody has had it
    shown = exp.reseal().text
    assert "1 to dev" in shown
    go(exp)
    record = exp.experiment.state.the("locked")
    assert record.body["scan"]["files"] > 5


def test_accepting_covers_what_was_found_and_no_more(make_experiment):
    exp = make_experiment(rows=60)
    go(exp, until="dev")
    (first, one), (_, other) = sorted(sealed_rows(exp).items())[:2]
    shots = exp.experiment.folder / "notes.txt"
    shots.write_text(one, "utf-8")
    exp.scan()
    exp.accept("SG03", "a colleague's notes; no arm reads them")
    exp.lock()
    shots.write_text(f"{one}\n{other}", "utf-8")
    with pytest.raises(Refusal, match="SG03"):
        conclude(exp)
    assert not exp.experiment.state.has("test_opened")
    exp.reseal()
    go(exp)
    conclude(exp)
    page = (exp.experiment.folder / "conclusion.md").read_text("utf-8")
    assert "Leaked rows were taken out of the test set" in page
    assert first


def git(folder, *arguments):
    user = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run(["git", "-C", str(folder), *user, *arguments], check=True, capture_output=True)


def test_rows_that_git_remembers_are_found(sealed):
    folder = sealed.experiment.folder
    row, text = min(sealed_rows(sealed).items())
    git(folder, "init", "-q")
    (folder / "gone.md").write_text(f"like this: {text}\n", "utf-8")
    git(folder, "add", "-f", "gone.md", "data.csv")
    git(folder, "commit", "-qm", "one")
    (folder / "gone.md").unlink()
    git(folder, "commit", "-qam", "two")
    sealed.scan()
    ((file, ids),) = found(sealed).items()
    assert ids == [row]
    assert file.startswith("git object ")
    assert file.endswith("(gone.md)")
    (record,) = sealed.experiment.state.all("contamination")
    assert [f.rpartition(" ")[2] for f in record.body["copies"]] == ["(data.csv)"]


def test_the_raw_source_within_reach_is_said_and_can_be_taken_away(sealed):
    exp, source = sealed, sealed.experiment.folder / "data.csv"
    plain = source.read_bytes()
    assert exp.experiment.state.the("sealed").body["exposed"] == "data.csv"
    assert "itera scan names them" in exp.evict().text
    with pytest.raises(Refusal, match="SG01"):
        exp.evict("restore")
    assert not source.exists()
    assert plain not in (exp.experiment.folder / "sealed" / "source.age").read_bytes()
    assert "taken away" in exp.source.preview().text
    source.write_bytes(plain)
    assert "copy     data.csv" in exp.scan().text
    source.unlink()
    go(exp)
    conclude(exp)
    page = (exp.experiment.folder / "conclusion.md").read_text("utf-8")
    assert "raw source" not in page
    assert "A copy of most sealed rows was readable while arms were tuned: data.csv" in page
    exp.evict("restore")
    assert source.read_bytes() == plain


def test_the_raw_source_is_deleted_only_after_a_yes(sealed):
    folder = sealed.experiment.folder
    refused = in_process("evict", "--remove", str(folder))
    assert refused.code == 2
    assert "the raw source stays" in refused.text
    assert (folder / "data.csv").exists()
    done = in_process("evict", "--remove", "--yes", str(folder))
    assert done.code == 0, done.text
    assert "draw no fresh ones" in done.text
    assert not (folder / "data.csv").exists()


def test_the_waiver_is_printed_where_the_raw_source_stays(make_experiment):
    exp = make_experiment(rows=60)
    go(exp)
    conclude(exp)
    page = (exp.experiment.folder / "conclusion.md").read_text("utf-8")
    assert "The raw source data.csv was readable while arms were tuned" in page


def test_rows_that_a_verdict_opened_are_known_to_the_next_experiment(make_experiment):
    first = make_experiment("first", rows=60)
    go(first)
    conclude(first)
    second = make_experiment("second", rows=60)
    go(second, until="seal")
    burned = second.experiment.state.the("sealed").body["burned"]
    both = len(sealed_rows(first).keys() & sealed_rows(second).keys())
    assert burned == {"first": both}
    assert both > 10
    assert first.experiment.state.the("sealed").body["burned"] == {}


def test_under_escrow_only_the_custodian_looks(make_experiment, monkeypatch):
    import pyrage

    from itera_nb.seal.index_file import decrypt
    from itera_nb.source.contamination import look

    custodian = pyrage.x25519.Identity.generate()
    exp = make_experiment(rows=60, files={".itera/recipients": f"{custodian.to_public()} CI\n"})
    go(exp, until="dev")
    path = exp.experiment.path("sealed", "scan.age")
    row = decrypt(path, str(custodian)).ids[0]
    with (exp.experiment.folder / "data.csv").open("r", encoding="utf-8") as file:
        text = next(line for line in file if line.startswith(row)).split(",")[1]
    (exp.experiment.folder / "notes.md").write_text(text, "utf-8")
    with pytest.raises(Refusal, match="custodian"):
        exp.scan()
    exp.lock()
    assert exp.experiment.state.the("locked").body["scan"] is None
    monkeypatch.setenv("ITERA_IDENTITY", str(custodian))
    look(exp.experiment, "verdict")
    assert found(exp) == {"notes.md": [row]}
    with pytest.raises(Refusal, match="SG03"):
        exp.experiment.require("test_opened")
