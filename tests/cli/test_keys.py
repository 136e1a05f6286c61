"""`itera keys`, `itera seal --recipient` and `itera anchor`: said aloud, and never a private key."""

import json
import stat
import subprocess

import pyrage
import pytest
from world import in_process

from itera_nb.cli.seal import choose_custody
from itera_nb.exceptions import IteraError
from itera_nb.seal.anchors import TRAILER
from itera_nb.seal.recipients import FILE, parse


@pytest.fixture
def public():
    return str(pyrage.x25519.Identity.generate().to_public())


def here(monkeypatch, exp):
    monkeypatch.chdir(exp.experiment.folder)
    return exp.experiment


def test_a_custodians_key_is_private_and_only_its_public_half_is_shown(tmp_path):
    path = tmp_path / "ci.key"
    done = in_process("keys", "new", path, "--name", "CI of team fees")
    assert done.code == 0
    private = path.read_text().strip()
    assert private.startswith("AGE-SECRET-KEY-1")
    assert private not in done.text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (one,) = parse(done.out.splitlines()[-1], "printed")
    assert one.key == str(pyrage.x25519.Identity.from_str(private).to_public())
    assert one.who == "CI of team fees"
    again = in_process("keys", "new", path)
    assert again.code == 2
    assert "exists already" in again.err
    assert path.read_text().strip() == private


def test_no_private_key_is_made_inside_a_repository(tmp_path):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    done = in_process("keys", "new", tmp_path / "ci.key")
    assert done.code == 2
    assert "would stand in the repository" in done.err
    assert not (tmp_path / "ci.key").exists()
    assert "no folder" in in_process("keys", "new", tmp_path / "none" / "ci.key").err


def test_keys_lists_custody_and_shows_no_secret(make_experiment, monkeypatch, state, public):
    experiment = here(monkeypatch, make_experiment())
    assert "not sealed yet; it will be: local (file)" in in_process("keys").out
    choose_custody(experiment, [public])
    assert f"it will be: escrow ({public[:12]}" in in_process("keys").out
    experiment.path(str(FILE)).unlink()
    experiment.record("accepted", {"safeguard": "SG12", "why": "begun"})
    done = in_process("keys")
    (stored,) = (state / "keys").glob("*.json")
    secret = json.loads(stored.read_text())
    assert secret["identity"] not in done.text
    assert secret["seed"] not in done.text
    assert experiment.genesis[:12] in done.out
    assert str(experiment.folder) in done.out
    assert "experiment   none" in in_process_in(state, monkeypatch, "keys").out


def in_process_in(folder, monkeypatch, *arguments):
    monkeypatch.chdir(folder)
    return in_process(*arguments)


def test_recipients_are_written_said_and_fixed_once_sealed(make_experiment, capsys, public, tmp_path):
    exp = make_experiment()
    team = tmp_path / "team"
    team.write_text(f"{public} CI\n")
    choose_custody(exp.experiment, [str(team)])
    assert exp.experiment.path(str(FILE)).read_text() == f"{public} CI\n"
    assert "escrow: the test rows will be sealed to CI (age1" in capsys.readouterr().out
    exp.frame.lock()
    exp.source.sample()
    exp.split.seal()
    choose_custody(exp.experiment, [public])  # the same one again changes nothing
    with pytest.raises(IteraError, match="are sealed already: escrow"):
        choose_custody(exp.experiment, [str(pyrage.x25519.Identity.generate().to_public())])


def test_local_custody_says_nothing_and_stays_local_once_sealed(make_experiment, capsys, public):
    exp = make_experiment()
    choose_custody(exp.experiment, [])
    assert capsys.readouterr().out == ""
    exp.frame.lock()
    exp.source.sample()
    exp.split.seal()
    with pytest.raises(IteraError, match="itera new") as caught:
        choose_custody(exp.experiment, [public])
    assert "local" in caught.value.what


def test_anchor_commits_the_folder_with_its_head(make_experiment, monkeypatch):
    experiment = here(monkeypatch, make_experiment())
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "someone")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "someone@example.org")
    assert "nothing is recorded yet" in in_process("anchor").err
    record = experiment.record("accepted", {"safeguard": "SG12", "why": "begun"})
    assert "in no git repository" in in_process("anchor").err
    subprocess.run(["git", "init", "-q"], check=True)
    done = in_process("anchor")
    assert done.code == 0, done.text
    head = f"{TRAILER}: {record.seq}:{record.hash} {experiment.genesis}"
    assert head in done.out
    said = subprocess.run(
        ["git", "log", "-1", "--format=%B"], capture_output=True, text=True, check=True
    ).stdout
    assert head in said
    assert f"{experiment.name}: accepted (record 2)" in said
    files = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.split()
    assert "ledger.jsonl" in files
    assert "ledger.jsonl.lock" not in files
    assert "git: 1 commit(s) hold a head of this ledger, up to record 2" in in_process("verify").out
