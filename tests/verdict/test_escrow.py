"""The pass under escrow: claim published first, key not inherited, a clone's files restored, the top-up."""

import csv
import io
import json
import shutil
import sys
import tarfile
from types import SimpleNamespace

import pyrage
import pytest
from world import decide, go, open_test

from itera_nb.exceptions import IteraError, RecordError, Refusal
from itera_nb.experiment import Experiment
from itera_nb.kernel.provisioner import Run, ticket_for
from itera_nb.scoring.package import verdict_cells, verdict_template
from itera_nb.seal.custody import IDENTITY
from itera_nb.seal.recipients import FILE
from itera_nb.verdict import bundle
from itera_nb.verdict.opening import CLAIM_COMMAND, open_and_decide
from itera_nb.verdict.verify import verify

SPY = """\
import os
import pathlib

pathlib.Path({loot!r}).write_text(repr(dict(os.environ)))


def answer(row):
    words = dict(word.split("=") for word in row["text"].split()[1:])
    right = {low} <= int(words["level"]) < {high}
    return words["answer"] if right else ("no" if words["answer"] == "yes" else "yes")
"""


@pytest.fixture
def locked(make_experiment, tmp_path, monkeypatch):
    """An experiment locked under escrow, and its custodian's private key; the outcome will be inconclusive."""
    monkeypatch.delenv(IDENTITY, raising=False)
    identity = pyrage.x25519.Identity.generate()
    loot = tmp_path / "loot.txt"
    exp = make_experiment(
        rows=40,
        arms={"better": SPY.format(loot=str(loot), low=10, high=64)},
        run="trials = 1\nbudget_usd = 1.0",
        files={str(FILE): f"{identity.to_public()} CI"},
    )
    go(exp)
    return SimpleNamespace(
        session=exp, experiment=exp.experiment, private=str(identity), public=identity.to_public(), loot=loot
    )


def clone(locked, tmp_path, state, monkeypatch):
    """What a custodian's computer has: the committed files, and no memory of it."""
    folder = tmp_path / "clone" / locked.experiment.name
    shutil.copytree(locked.experiment.folder, folder)
    for name in ("data", "runs", "snapshot", "notebooks"):
        shutil.rmtree(folder / name, ignore_errors=True)
    monkeypatch.setenv("ITERA_STATE_DIR", str(tmp_path / "their-state"))
    monkeypatch.setenv(IDENTITY, locked.private)
    return Experiment(folder)


def fresh_rows(path, count):
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, ["row_id", "text", "tenant", "label"])
        table.writeheader()
        for n in range(count):
            label, level = ("yes", "no")[n % 2], (n * 37) % 100
            text = f"NEW{n:05d}X level={level:02d} answer={label}"
            row = {"row_id": f"n{n:05d}", "text": text, "tenant": ("acme", "zeta")[n % 2], "label": label}
            table.writerow(row)


def test_a_clone_opens_once_and_tops_up_with_the_recipients_key_alone(locked, tmp_path, state, monkeypatch):
    mine = locked.experiment
    before = mine.ledger.path.read_bytes()
    with pytest.raises(Refusal, match="SG01"):
        open_test(mine)
    with pytest.raises(Refusal, match="SG01"):
        bundle.fetch(mine)
    assert mine.ledger.path.read_bytes() == before, "a refusal for want of the key claims and records nothing"

    theirs = clone(locked, tmp_path, state, monkeypatch)
    assert theirs.folder != mine.folder
    bundle.fetch(theirs)
    assert (theirs.folder / "data" / "train.parquet").is_file()
    published, publish = tmp_path / "published", tmp_path / "publish.py"
    publish.write_text(
        "import pathlib\nlast = pathlib.Path('ledger.jsonl').read_text().splitlines()[-1]\n"
        f"with open({str(published)!r}, 'a') as file:\n    file.write(last + '\\n')\n"
    )
    monkeypatch.setenv(CLAIM_COMMAND, f"{sys.executable} {publish}")
    open_test(theirs)
    claimed = [json.loads(line)["type"] for line in published.read_text().splitlines()]
    assert claimed == ["test_opened", "verdict"], (
        "before the rows are opened, and before anyone sees the outcome"
    )
    seen = locked.loot.read_text()
    assert "ITERA_STATE_DIR" in seen
    assert locked.private not in seen, "an arm inherited the private key"
    assert theirs.state.outcome == "inconclusive"

    fresh_rows(tmp_path / "new.csv", 60)
    import itera_nb

    itera_nb.open(theirs.folder).extend(tmp_path / "new.csv")
    extended = theirs.state.the("extended").body["sealed"]
    assert extended["recipients"] == [str(locked.public)]
    shutil.rmtree(theirs.folder / "runs")
    bundle.fetch(theirs)
    assert (theirs.folder / "runs" / "test.parquet").is_file(), (
        "the first batch's scores come from the bundle"
    )
    assert decide(itera_nb.open(theirs.folder))["verdict"]["records"][0]["n"] > 12
    report = verify(theirs)
    assert [f.what for f in report.findings if not f.holds] == []
    assert report.level == "record and rows"
    assert sum(f.what == "the verdict was made with the recipient's key" for f in report.findings) == 2
    monkeypatch.delenv(IDENTITY)
    assert "the private key that did" in verify(theirs).level


def test_a_top_up_that_ends_before_its_record_is_finished(make_experiment, tmp_path, monkeypatch):
    """Its files are written and its verdict is not: the first batch's scores must still be what was recorded."""
    exp = make_experiment(rows=40, effect=0.04, discordance=0.24, run="trials = 1")
    go(exp)
    assert decide(exp)["outcome"] == "inconclusive"
    fresh_rows(tmp_path / "new.csv", 60)
    exp.extend(tmp_path / "new.csv")

    def killed(self, event, body):
        if event == "verdict":
            raise KeyboardInterrupt
        return record(self, event, body)

    record = Experiment.record
    monkeypatch.setattr(Experiment, "record", killed)
    ticket = ticket_for(Run(exp.experiment.folder, verdict_template(), verdict_cells()), kernel="test")
    with pytest.raises(KeyboardInterrupt):
        open_and_decide(Experiment(exp.experiment.folder), ticket.nonce)
    monkeypatch.setattr(Experiment, "record", record)
    assert exp.experiment.state.pass_open
    decided = decide(exp)["verdict"]["records"][0]
    assert decided["n"] > 12
    assert decided["noise"]["rerun_share"] is None, "one trial measures no re-run noise"
    assert [f.what for f in verify(exp.experiment).findings if not f.holds] == []


def test_an_opening_written_by_hand_is_not_resumed(locked, tmp_path, state, monkeypatch):
    """It would pass by the scan, whose figures the record claims, and by the price."""
    locked.experiment.record("test_opened", {"ticket": "0" * 64, "batch": 1, "scan": {}})
    theirs = clone(locked, tmp_path, state, monkeypatch)
    bundle.fetch(theirs)
    with pytest.raises(RecordError, match="was not opened with this recipient's key"):
        open_test(theirs)
    assert not theirs.state.has("resumed")


def test_a_verdict_written_by_hand_is_known_to_a_recipient(locked, tmp_path, state, monkeypatch):
    """Who can push can append records; the chain, the hashes and the bundle cannot tell."""
    mine = locked.experiment
    theirs = clone(locked, tmp_path, state, monkeypatch)
    bundle.fetch(theirs)
    open_test(theirs)
    opened, decided = theirs.state.the("test_opened").body, theirs.state.the("verdict").body
    monkeypatch.setenv("ITERA_STATE_DIR", str(state))
    mine.record("test_opened", opened)
    mine.record("verdict", decided)  # whatever it says: even a true one is of another opening
    (fault,) = [f for f in verify(mine).findings if not f.holds and "recipient" in f.what]
    assert (fault.what, fault.record) == ("the verdict was not made with the recipient's key", 13)


def test_a_clone_believes_no_bundle_and_opens_nothing_unclaimed(locked, tmp_path, state, monkeypatch):
    """Anyone can encrypt to the recipients: only the ledger's own files with its hashes are taken."""
    theirs = clone(locked, tmp_path, state, monkeypatch)
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name in ("data/train.parquet", "arms/base.py", "../outside", "/tmp/outside", "data/other"):
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"evil"))
        link = tarfile.TarInfo("data/dev.parquet")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    path = theirs.path(bundle.FILE)
    honest = path.read_bytes()
    path.write_bytes(pyrage.encrypt(plain.getvalue(), [locked.public]))
    before = sorted(p for p in tmp_path.rglob("*") if p.is_file())
    bundle.fetch(theirs)
    after = sorted(p for p in tmp_path.rglob("*") if p.is_file() and "their-state" not in str(p))
    assert set(after) <= set(before)
    for damaged in (b"", b"x" * 100, path.read_bytes()[:-7]):
        path.write_bytes(damaged)
        with pytest.raises(RecordError, match="damaged"):
            bundle.fetch(theirs)

    path.write_bytes(honest)
    bundle.fetch(theirs)
    monkeypatch.setenv(CLAIM_COMMAND, f"{sys.executable} -c \"raise SystemExit('the tag is taken')\"")
    locked.loot.unlink()
    for _ in range(2):  # the second time it is a resume, which has to be claimed too
        with pytest.raises(IteraError, match="the tag is taken") as caught:
            open_test(theirs)
        assert "nothing was opened" in str(caught.value)
    assert not locked.loot.exists(), "an arm ran"
    assert not (theirs.folder / "sealed" / "attempts.age").exists()
