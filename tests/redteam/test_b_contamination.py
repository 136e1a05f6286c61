"""B: test rows that stand where an arm, or a person who tunes one, can read them."""

import gzip
import json
import os
import pickle
import sqlite3
import subprocess

import pytest
from steps import step
from world import conclude, go, new_world, tickets, write_csv

from itera_nb.exceptions import Refusal
from itera_nb.seal.parquet import read_sealed


def sealed_texts(world):
    """The test rows by id, which only the test may read."""
    with world.entered() as exp:
        identity = exp.experiment.secret.identity
    rows = read_sealed(world.folder / "sealed" / "test.parquet", identity).to_pylist()
    return {row["ticket_id"]: row["text"] for row in rows}


def blocked(world, planted):
    """The lock refuses, names each file and its rows, and shows no text; `planted` is file -> ids."""
    texts = sealed_texts(world)
    with world.entered() as exp:
        with pytest.raises(Refusal) as refused:
            exp.lock()
        leaks = {file: sorted(ids) for file, ids in exp.experiment.state.leaks.items()}
        shown = f"{refused.value}\n{exp.scan().text}"
    assert refused.value.safeguard == "SG03"
    assert leaks == {file: sorted(ids) for file, ids in planted.items()}
    for file, ids in planted.items():
        assert file in shown
        assert all(row in shown for row in ids)
    assert not [text for text in texts.values() if text in shown or text[:30] in shown]
    assert not [r for r in world.records() if "CANARY" in json.dumps(r)]


@step(
    "B01",
    "three test rows verbatim in a few-shot file",
    local="D",
    escrow="D",
    how="SG03: the scan at the lock blocks, and names the file and the ids, never the text",
)
def test_b01_rows_in_a_few_shot_file(scored):
    ids = sorted(sealed_texts(scored))[:3]
    texts = sealed_texts(scored)
    (scored.folder / "arms" / "shots.md").write_text("\n\n".join(texts[row] for row in ids), "utf-8")
    blocked(scored, {"arms/shots.md": ids})


@step(
    "B02",
    "the same in upper case, wrapped, or JSON-escaped",
    local="D",
    escrow="D",
    how="letters and digits alone are compared, in one case, after unescaping",
)
def test_b02_rewritten_letters(scored):
    texts = sealed_texts(scored)
    one, two, three = sorted(texts)[:3]
    forms = {
        "arms/upper.md": texts[one].upper(),
        "arms/wrapped.md": texts[two].replace(" ", "\n  > "),
        "arms/escaped.json": json.dumps({"shot": "".join(f"\\u{ord(c):04x}" for c in texts[three])}),
    }
    for file, text in forms.items():
        (scored.folder / file).write_text(text.replace("\\\\u", "\\u"), "utf-8")
    blocked(scored, dict(zip(forms, ([one], [two], [three]), strict=True)))


@step(
    "B03",
    "one word changed, or half a row",
    local="D",
    escrow="D",
    how="50-character fingerprints and 8-word grams survive both (rows of at least 50 letters and digits)",
)
def test_b03_changed_rows(scored):
    texts = sealed_texts(scored)
    one, two = sorted(texts)[:2]
    words = texts[one].split()
    words[2] = "CHANGED"
    (scored.folder / "arms" / "one-word.md").write_text(" ".join(words), "utf-8")
    half = texts[two].split()
    (scored.folder / "arms" / "half.md").write_text(" ".join(half[: 1 + len(half) // 2]), "utf-8")
    blocked(scored, {"arms/one-word.md": [one], "arms/half.md": [two]})


@step(
    "B04",
    "a paraphrase or translation of a test row",
    local="O",
    escrow="O",
    how="no comparison of texts finds it, and the scan's report and the README say so",
)
def test_b04_paraphrase(scored, readme):
    row, text = min(sealed_texts(scored).items())
    (scored.folder / "arms" / "shots.md").write_text(f"someone wonders regarding {text.split()[-2]}", "utf-8")
    with scored.entered() as exp:
        shown = exp.scan().text
        assert exp.experiment.state.leaks == {}
    assert row not in shown
    assert "paraphrase" in shown
    assert "araphrased" in readme


@step(
    "B05",
    "production duplicates across the splits",
    local="D",
    escrow="D",
    how="duplicates are kept on one side of the split, and the sealing reports the groups",
)
def test_b05_duplicates(tmp_path):
    world = new_world(tmp_path / "world")
    rows = list(tickets(60))
    twins = [{**row, "ticket_id": f"d{row['ticket_id']}"} for row in rows[:20]]
    near = [{**row, "ticket_id": f"n{row['ticket_id']}", "text": row["text"] + " "} for row in rows[20:25]]
    write_csv(world.project / "eval.csv", [*rows, *twins, *near])
    (world.project / "rules.py").write_text(
        "def v1(row):\n    return 'fees'\n\n\ndef v2(row):\n    return 'x'\n"
    )
    flags = "--data eval.csv --id ticket_id --expected label --slices tenant --baseline rules.py:v1 --arm rules.py:v2"
    assert world.itera("new", "twins", *flags.split(), cwd=world.project).code == 0
    with world.entered() as exp:
        go(exp, until="seal")
        shown = exp.split.seal().text
    (record,) = world.records("sealed")
    assert record["body"]["duplicates"]["groups"] >= 20
    assert "duplicate" in shown
    test = set(sealed_texts(world))
    for row in rows[:20]:
        assert (row["ticket_id"] in test) == (f"d{row['ticket_id']}" in test)


def sqlite(text):
    base = sqlite3.connect(":memory:")
    base.execute("CREATE TABLE cache (prompt TEXT)")
    base.execute("INSERT INTO cache VALUES (?)", (text,))
    base.commit()
    return base.serialize()


class Bomb:
    def __init__(self, text, marker):
        self.text, self.marker = text, marker

    def __reduce__(self):
        return (os.system, (f"touch {self.marker}",), {"text": self.text})


def output(text):
    outputs = [{"output_type": "stream", "name": "stdout", "text": [f"0  {text}\n"]}]
    cell = {"cell_type": "code", "source": [], "metadata": {}, "outputs": outputs, "execution_count": 1}
    return json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()


@step(
    "B06",
    "rows in a notebook's output, in `.ipynb_checkpoints`, a log, a SQLite cache, a gzip file, a pickle",
    local="D",
    escrow="D",
    how="every file of the project is read as bytes, archives unpacked within a budget; pickles are never loaded",
)
def test_b06_wherever_they_stand(scored, tmp_path):
    marker = tmp_path / "ran"
    forms = {
        "notebooks/notes.ipynb": output,
        "notebooks/.ipynb_checkpoints/1-source-checkpoint.ipynb": output,
        "arms/arm.log": lambda text: f"12:00 asking {text!r}".encode(),
        "cache.sqlite": sqlite,
        "old.json.gz": lambda text: gzip.compress(json.dumps([text]).encode()),
        "cache.pkl": lambda text: pickle.dumps(Bomb(text, marker)),
    }
    texts = sealed_texts(scored)
    planted = dict(zip(forms, sorted(texts), strict=False))
    for file, row in planted.items():
        path = scored.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(forms[file](texts[row]))
    blocked(scored, {file: [row] for file, row in planted.items()})
    assert not marker.exists()


@step(
    "B07",
    "rows that were committed, and deleted in the next commit",
    local="D",
    escrow="D",
    how="blobs of the git history are scanned like files",
)
def test_b07_git_remembers(scored):
    def git(*arguments):
        command = ["git", "-c", "user.name=x", "-c", "user.email=x@y", *arguments]
        subprocess.run(command, cwd=scored.project, check=True, capture_output=True)

    row, text = min(sealed_texts(scored).items())
    (scored.project / "gone.md").write_text(f"like this: {text}\n", "utf-8")
    git("add", "gone.md")
    git("commit", "-qm", "one")
    git("rm", "-q", "gone.md")
    git("commit", "-qm", "two")
    with scored.entered() as exp:
        with pytest.raises(Refusal, match="SG03"):
            exp.lock()
        ((file, ids),) = exp.experiment.state.leaks.items()
    assert list(ids) == [row]
    assert file.startswith("git object ")
    assert file.endswith("gone.md)")


@step(
    "B08",
    'an arm whose source holds `if "<row text>" in q`',
    local="D",
    escrow="D",
    how="SG03 at the lock: the arms' sources are scanned too",
)
def test_b08_a_row_in_the_arm(scored):
    row, text = min(sealed_texts(scored).items())
    helper = scored.folder / "arms" / "special.py"
    helper.write_text(f"def special(q):\n    return {text!r} in q\n", "utf-8")
    blocked(scored, {"arms/special.py": [row]})


@pytest.mark.slow
def test_what_is_planted_after_the_lock_blocks_the_claim(ready):
    row, text = min(sealed_texts(ready).items())
    (ready.folder / "notes.md").write_text(text, "utf-8")
    done = ready.itera("verdict")
    assert done.code == 3, done.text
    assert "refused SG03" in done.text
    assert row in done.text
    assert text[:30] not in done.text
    assert ready.records("test_opened") == []
    (ready.folder / "notes.md").unlink()
    with ready.entered() as exp:
        exp.accept("SG03", "it was mine alone")
        conclude(exp)
    assert "it was mine alone" in (ready.folder / "conclusion.md").read_text("utf-8")
