"""D: rewriting, shortening, copying or restarting the record."""

import json
import shutil
import subprocess

import pytest
from steps import step
from world import ITERA, in_process, open_test

from itera_nb.exceptions import IteraError, Refusal
from itera_nb.experiment import Experiment
from itera_nb.ledger import canonical
from itera_nb.seal import custody
from itera_nb.seal.custody import IDENTITY
from itera_nb.seal.parquet import read_sealed, write_sealed
from itera_nb.verdict import bundle
from itera_nb.verdict.opening import CLAIM_COMMAND


def lines_of(world):
    return (world.folder / "ledger.jsonl").read_bytes().splitlines(keepends=True)


def verified(world, lines):
    """`itera verify` on the experiment with these lines as its ledger."""
    path = world.folder / "ledger.jsonl"
    original = path.read_bytes()
    path.write_bytes(b"".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ITERA_STATE_DIR", str(world.root / "state"))
        done = in_process("verify", world.folder)
    path.write_bytes(original)
    return done


def edited(line):
    """A record with one figure changed, in canonical form again."""
    record = json.loads(line)
    record["body"]["counts"]["test"] -= 1
    return canonical(record) + b"\n"


@step(
    "D01",
    "edit, insert, reorder, duplicate or drop a record",
    local="D",
    escrow="D",
    how="each record holds the hash of the one before: `itera verify` exits 4 and names the record",
)
def test_d01_a_record_is_not_what_it_was(finished):
    lines = lines_of(finished)
    at = next(i for i, line in enumerate(lines) if b'"type":"sealed"' in line)
    changes = {
        "edited": ([*lines[:at], edited(lines[at]), *lines[at + 1 :]], {at + 1, at + 2}),
        "inserted": ([*lines[:5], lines[2], *lines[5:]], {6}),
        "reordered": ([*lines[:5], lines[6], lines[5], *lines[7:]], {6}),
        "duplicated": ([*lines[:5], lines[4], *lines[5:]], {6}),
        "dropped": ([*lines[:5], *lines[6:]], {6}),
        "last one edited": ([*lines[:-1], lines[-1].replace(b"a", b"b", 1)], {len(lines)}),
    }
    for name, (changed, records) in changes.items():
        done = verified(finished, changed)
        assert done.code == 4, name
        assert any(f"record {n} " in done.err for n in records), f"{name}: {done.err}"
    assert verified(finished, lines).code == 0


@step(
    "D02",
    "delete the ledger and start again",
    local="D",
    escrow="P",
    how="the last head is remembered outside the folder, and a new ledger has another genesis; under escrow the old "
    "sealed file opens for the custodian alone",
)
@pytest.mark.parametrize("command", [pytest.param("run", marks=pytest.mark.slow), "verdict", "verify"])
def test_d02_a_new_ledger(ready, command):
    (ready.folder / "ledger.jsonl").unlink()
    done = ready.itera(command, *(["--yes"] if command == "run" else []))
    assert done.code == 4, done.text
    assert "it is gone: it cannot start anew" in done.text or "there is no record" in done.text
    flags = ["--data=eval.csv", "--expected=label", "--baseline=src/rules.py:v1", "--arm=src/rules.py:v2"]
    made = ready.itera("new", "fees", *flags, cwd=ready.project)
    assert made.code == 2


def git(folder, *arguments):
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True)


@pytest.mark.slow
def test_d02_and_d03_of_two_histories_one_is_opened_under_escrow(escrowed, tmp_path, monkeypatch):
    """Without the key nothing opens; the custodian's claim is a tag on the remote that one history can have."""
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "x")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "x@example.com")
    world, remote = escrowed.world, tmp_path / "remote.git"
    git(tmp_path, "init", "-q", "--bare", str(remote))
    git(world.project, "init", "-q")
    git(world.project, "add", "-A")
    git(world.project, "commit", "-qm", "locked")
    git(world.project, "push", "-q", str(remote), "HEAD:refs/heads/main")
    git(remote, "symbolic-ref", "HEAD", "refs/heads/main")
    with world.entered() as exp, pytest.raises(Refusal, match="SG01"):
        open_test(exp.experiment)
    monkeypatch.setenv(IDENTITY, escrowed.private)
    monkeypatch.setenv(CLAIM_COMMAND, f"{ITERA} anchor --claim origin")
    clones = [tmp_path / "first", tmp_path / "second"]
    for (
        clone
    ) in clones:  # the second one is what remains when ledger, state and memory of the first are deleted
        git(tmp_path, "clone", "-q", str(remote), str(clone))
    for number, clone in enumerate(clones):
        monkeypatch.setenv("ITERA_STATE_DIR", str(tmp_path / f"state-{number}"))
        experiment = Experiment(clone / world.folder.relative_to(world.project))
        bundle.fetch(experiment)
        if number == 0:
            open_test(experiment)
            assert experiment.state.has("verdict")
        else:
            with pytest.raises(IteraError, match="nothing was opened"):
                open_test(experiment)
            assert not experiment.path("sealed", "attempts.age").exists()


@step(
    "D03",
    "copy the folder and run the verdict in the copy first",
    local="P",
    escrow="P",
    how="what was opened is remembered by the experiment's id: the copy's verdict is the only one",
)
def test_d03_a_copy_gives_no_second_look(ready, tmp_path):
    twin = tmp_path / "twin"
    shutil.copytree(ready.folder, twin)
    with ready.entered():
        open_test(Experiment(twin))
    second = ready.itera("verdict")
    assert second.code == 4, second.text
    assert "another copy of this folder has gone on" in second.text
    assert ready.records("test_opened") == []


CLOCK = """\
import datetime
import itera_nb.ledger

class Late(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) - datetime.timedelta(days=30)

itera_nb.ledger.datetime = Late
"""


@step(
    "D04",
    "set the clock back by 30 days",
    local="D",
    escrow="D",
    how="order is the chain, time is a claim: `itera verify` names the record at which the clock ran backward",
)
def test_d04_the_clock_runs_backward(ready, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(CLOCK, "utf-8")
    before = ready.records()
    (ready.folder / "experiment.toml").write_bytes(
        (ready.folder / "experiment.toml").read_bytes() + b"# moved\n"
    )
    refused = ready.itera("verdict", PYTHONPATH=str(tmp_path))
    assert refused.code == 3, refused.text
    after = ready.records()
    assert after[:-1] == before
    assert after[-1]["ts"] < before[-1]["ts"]
    done = ready.itera("verify")
    assert f"the clock runs backward at record {after[-1]['seq']}" in done.text


@step(
    "D05",
    "CRLF, a byte-order mark, NaN, duplicate keys, or new indentation",
    local="D",
    escrow="D",
    how="a line that is not its own canonical form (RFC 8785) is refused and named",
)
def test_d05_non_canonical(finished):
    lines = lines_of(finished)
    spaced = json.dumps(json.loads(lines[3])).encode() + b"\n"
    changes = {
        "CRLF": [line.replace(b"\n", b"\r\n") for line in lines],
        "BOM": [b"\xef\xbb\xbf" + lines[0], *lines[1:]],
        "NaN": [*lines[:3], lines[3].replace(b'"body":{', b'"body":{"nan":NaN,', 1), *lines[4:]],
        "duplicate key": [*lines[:3], lines[3].replace(b'"seq":4', b'"seq":4,"seq":4', 1), *lines[4:]],
        "spaces": [*lines[:3], spaced, *lines[4:]],
        "empty line": [*lines[:3], b"\n", *lines[3:]],
    }
    for name, changed in changes.items():
        done = verified(finished, changed)
        assert done.code == 4, name
        assert "record 1 " in done.err if name in {"CRLF", "BOM"} else "record 4 " in done.err, (
            f"{name}: {done.err}"
        )


@step(
    "D06",
    "swap the sealed file for another one, validly sealed to the same key",
    local="P",
    escrow="P",
    how="the ledger holds the file's hash and a salted commitment to its rows; both are checked, the hash before the claim",
)
def test_d06_another_sealed_file(ready):
    path = ready.folder / "sealed" / "test.parquet"
    with ready.entered() as exp:
        secret = custody.load_secret(exp.experiment.genesis)
    rows = read_sealed(path, secret.identity)
    write_sealed(path, rows.schema, rows.to_batches(), [secret.recipient])
    done = ready.itera("verdict")
    assert done.code == 3
    assert "the hash of test.parquet differs from the record" in done.text
    assert ready.records("test_opened") == []
