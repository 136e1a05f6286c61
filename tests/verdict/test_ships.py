"""`itera verify --ships`: exit 0 only for the exact content that a verified conclusion ships."""

import json
import shutil
import subprocess

import pyrage
import pytest
from world import in_process

from itera_nb.exceptions import IteraError
from itera_nb.ledger import Ledger
from itera_nb.seal import heads
from itera_nb.verdict.ships import answers, experiments


@pytest.fixture
def repository(finished):
    """The walk-through's project as a repository: `src/rules.py` is what its conclusion ships."""
    subprocess.run(["git", "init", "-q", str(finished.project)], check=True)
    with finished.entered():
        yield finished


def ask(path):
    return in_process("verify", "--ships", path)


def rewrite(world, change):
    """The whole ledger again after a change of its records, with a memory that fits: a forger's work."""
    records = world.records()
    change(records)
    path = world.folder / "ledger.jsonl"
    path.unlink()
    ledger = Ledger(path)
    for record in records:
        ledger.append(record["type"], record["body"])
    genesis = records[0]["body"]["genesis_id"]
    (world.root / "state" / "heads" / f"{genesis}.json").unlink()
    heads.remember(genesis, len(records), ledger.records()[-1].hash, opened=True)


def test_the_shipped_content_and_nothing_else(repository):
    rules = repository.project / "src" / "rules.py"
    done = ask(rules)
    assert done.code == 0, done.text
    assert "SHIP         v2" in done.out
    assert "custody local (key file)" in done.out
    moved = repository.project / "production" / "anything.txt"
    moved.parent.mkdir()
    shutil.copy(rules, moved)
    assert ask(moved).code == 0, "the content counts, not the name"
    moved.write_bytes(rules.read_bytes() + b"\n")
    done = ask(moved)
    assert done.code == 3
    assert "no conclusion of this repository has tested the content" in done.out


def test_a_changed_record_or_file_ships_nothing(repository):
    page = repository.folder / "conclusion.md"
    page.write_text(page.read_text("utf-8") + "and more", "utf-8")
    done = ask(repository.project / "src" / "rules.py")
    assert done.code == 4
    assert "conclusion.md was changed" in done.out


def test_an_edited_ledger_ships_nothing(repository):
    path = repository.folder / "ledger.jsonl"
    path.write_bytes(
        path.read_bytes().replace(b'"why":"', b'"why":"x', 1).replace(b'"resumes":0', b'"resumes":1')
    )
    done = ask(repository.project / "src" / "rules.py")
    assert done.code == 4
    assert "its record does not verify" in done.out


@pytest.mark.parametrize(("outcome", "code"), [("scope", 10), ("kill", 20), ("inconclusive", 30)])
def test_another_outcome_is_its_own_exit_code(repository, monkeypatch, outcome, code):
    """The rule would notice; a clone without the rows does not compute it again, so the code is what counts here."""

    def change(records):
        for record in records:
            if record["type"] == "verdict":
                record["body"]["outcome"] = outcome
                record["body"]["verdict"]["records"][0]["outcome"] = outcome

    rewrite(repository, change)
    for name in ("data", "runs", "sealed", "snapshot"):
        shutil.rmtree(repository.folder / name)
    done = ask(repository.project / "src" / "rules.py")
    assert done.code == code, done.text
    assert f"does not ship: the verdict on this content is {outcome}" in done.out


def test_an_arm_that_shipped_but_did_not_win_is_not_what_is_shipped(repository):
    def change(records):
        for record in records:
            if record["type"] == "verdict":
                record["body"]["arm"] = "another"

    rewrite(repository, change)
    for name in ("data", "runs", "sealed", "snapshot"):
        shutil.rmtree(repository.folder / name)
    assert ask(repository.project / "src" / "rules.py").code == 3


def test_all_experiments_are_asked_and_the_one_that_ships_answers(repository):
    broken = repository.project / "docs" / "experiments" / "2020-01-01-older"
    shutil.copytree(repository.folder, broken)
    (broken / "data.json").write_text(json.dumps({}))
    hidden = repository.project / ".cache" / "copy"
    shutil.copytree(broken, hidden)
    rules = repository.project / "src" / "rules.py"
    with pytest.raises(ValueError, match="too many values"):
        _ = repository.folder  # there are two now
    found = answers(rules)
    assert [a.ships for a in found] == [True, False]
    assert found[1].folder == broken
    assert ask(rules).code == 0
    assert hidden not in list(experiments(repository.project))


def test_with_a_recipients_key_a_ledger_of_ones_own_ships_nothing(repository, monkeypatch):
    """Anyone can write a whole ledger: a release job that must not trust its writer holds a key."""
    monkeypatch.setenv("ITERA_IDENTITY", str(pyrage.x25519.Identity.generate()))
    done = ask(repository.project / "src" / "rules.py")
    assert done.code == 4
    assert "no recipient whose key is in ITERA_IDENTITY vouches" in done.out


def test_a_ledger_that_cannot_be_read_is_passed_over(repository):
    other = repository.project / "docs" / "experiments" / "2020-01-01-dangling"
    other.mkdir()
    (other / "experiment.toml").write_text("")
    (other / "ledger.jsonl").symlink_to("nowhere")
    assert ask(repository.project / "src" / "rules.py").code == 0


def test_files_that_are_not_there_or_in_no_repository(finished, tmp_path):
    (tmp_path / "rules.py").write_text("x")
    for path, said in (
        (tmp_path / "none.md", "there is no file"),
        (tmp_path / "rules.py", "in no git repository"),
    ):
        with pytest.raises(IteraError, match=said):
            answers(path)
        assert ask(path).code == 2
