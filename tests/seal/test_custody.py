"""Keys live outside the project, private to the user, and never show themselves."""

import base64
import json
import os
import random
import shutil
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import keyring
import pyrage
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import KeyringError

from itera_nb.exceptions import IteraError, RecordError, Refusal
from itera_nb.experiment import Experiment
from itera_nb.seal import custody
from itera_nb.seal.custody import (
    IDENTITY,
    IDENTITY_FILE,
    SEED_FILE,
    SERVICE,
    create_secret,
    escrowed_secret,
    forget_secret,
    holders,
    load_secret,
    release_identity,
    seal_seed,
    state_dir,
    write_private,
)
from itera_nb.seal.parquet import read_sealed
from itera_nb.seal.recipients import FILE, Recipient
from itera_nb.source.phase import seal
from itera_nb.source.split import seed_commitment


class MemoryKeyring(KeyringBackend):
    """A backend that stores; `priority` and failure are set by the test."""

    priority = 5

    def __init__(self, fails=False):
        self.store, self.fails = {}, fails

    def get_password(self, service, username):
        return self.store.get((service, username))

    def set_password(self, service, username, password):
        if self.fails:
            raise KeyringError("locked")
        self.store[service, username] = password

    def delete_password(self, service, username):
        del self.store[service, username]


def use(monkeypatch, backend):
    monkeypatch.delenv("ITERA_CUSTODY")
    monkeypatch.setattr(keyring, "get_keyring", lambda: backend)


def test_file_custody_is_private_and_comes_back(state):
    made = create_secret("abc")
    path = state / "keys" / "abc.json"
    assert made.mode == "file"
    assert load_secret("abc") == made.secret
    assert len(made.secret.seed) == 32
    assert made.secret.recipient.startswith("age1")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(state.stat().st_mode) == stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [p.name for p in path.parent.iterdir()] == ["abc.json"]


def test_secret_never_shows_itself():
    made = create_secret("abc")
    for text in (repr(made), str(made), f"{made.secret}"):
        assert "AGE-SECRET" not in text
        assert repr(made.secret.seed)[2:12] not in text


def test_two_secrets_differ_and_a_second_one_is_refused():
    first, second = create_secret("a"), create_secret("b")
    assert first.secret != second.secret
    assert first.secret.seed != second.secret.seed
    with pytest.raises(RecordError, match="has a key already"):
        create_secret("a")
    assert load_secret("a") == first.secret


def test_absent_secret_says_what_to_do():
    with pytest.raises(RecordError, match="not here") as caught:
        load_secret("gone")
    assert "itera new" in caught.value.fix
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("id_", ["../x", "a/b", "", ".", "x\0", "a" * 129, "ä"])
def test_ids_cannot_leave_the_state_folder(id_):
    for call in (create_secret, load_secret):
        with pytest.raises(RecordError, match="not valid"):
            call(id_)


def test_key_file_open_to_others_is_refused(state):
    create_secret("abc")
    (state / "keys" / "abc.json").chmod(0o644)
    with pytest.raises(RecordError, match="other users"):
        load_secret("abc")


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"identity": "x", "seed": "AA=="}', '{"identity": 3, "seed": "%"}']
)
def test_damaged_key_is_named_not_shown(state, text):
    create_secret("abc")
    path = state / "keys" / "abc.json"
    path.write_text(text)
    with pytest.raises(RecordError, match="damaged"):
        load_secret("abc")


def test_a_real_keyring_is_used(state, monkeypatch):
    backend = MemoryKeyring()
    use(monkeypatch, backend)
    made = create_secret("abc")
    assert made.mode == "keyring"
    assert load_secret("abc") == made.secret
    assert not (state / "keys" / "abc.json").exists()
    assert json.loads(backend.store[SERVICE, "abc"])["identity"] == made.secret.identity
    with pytest.raises(RecordError, match="has a key already"):
        create_secret("abc")


@pytest.mark.parametrize("backend", [MemoryKeyring(fails=True), SimpleNamespace(priority=0.5)])
def test_a_failing_or_plain_text_keyring_is_not_used(state, monkeypatch, backend):
    use(monkeypatch, backend)
    made = create_secret("abc")
    assert made.mode == "file"
    assert load_secret("abc") == made.secret


class LockedKeyring(MemoryKeyring):
    """As a desktop's keyring in a session that cannot ask for its password."""

    def get_password(self, service, username):
        raise KeyringError("Failed to unlock the collection!")

    set_password = get_password


def test_a_locked_keyring_is_no_place_for_a_new_key_and_named_where_it_holds_one(state, monkeypatch):
    use(monkeypatch, LockedKeyring())
    assert create_secret("abc").mode == "file"
    assert forget_secret("abc")
    with pytest.raises(RecordError, match="the system keyring cannot be read"):
        load_secret("abc")


def test_exclusive_write_keeps_what_is_there(tmp_path):
    path = tmp_path / "x"
    write_private(path, b"1")
    write_private(path, b"2")
    with pytest.raises(FileExistsError):
        write_private(path, b"3", exclusive=True)
    assert path.read_bytes() == b"2"
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["x"]


def test_state_dir_without_override_is_the_users(monkeypatch, tmp_path):
    monkeypatch.delenv("ITERA_STATE_DIR")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_dir().name == "itera-nb"
    assert state_dir().is_relative_to(tmp_path)


# forgetting -------------------------------------------------------------------------------------------------


def test_a_forgotten_secret_is_nowhere(state):
    made = create_secret("abc")
    path = state / "keys" / "abc.json"
    twin = path.with_name("twin")
    os.link(path, twin)
    assert forget_secret("abc")
    assert not path.exists()
    assert set(twin.read_bytes()) == {0}, "the bytes were overwritten before the name was taken away"
    twin.unlink()
    assert not forget_secret("abc")
    with pytest.raises(RecordError, match="not here"):
        load_secret("abc")
    assert made.secret.seed


@pytest.mark.parametrize("keeps", [False, True])
def test_a_keyring_forgets_or_says_that_it_does_not(monkeypatch, keeps):
    backend = MemoryKeyring()
    use(monkeypatch, backend)
    create_secret("abc")
    if keeps:
        monkeypatch.setattr(backend, "delete_password", lambda *_: None)
        with pytest.raises(RecordError, match="keeps the split seed"):
            forget_secret("abc")
    else:
        assert forget_secret("abc")
        assert backend.store == {}


# the recipient's key ----------------------------------------------------------------------------------------


@pytest.fixture
def custodian(monkeypatch):
    """A custodian's identity, and nobody's key released before or after."""
    monkeypatch.setattr(custody, "_released", [])
    for name in (IDENTITY, IDENTITY_FILE):
        monkeypatch.delenv(name, raising=False)
    identity = pyrage.x25519.Identity.generate()
    return SimpleNamespace(private=str(identity), recipient=Recipient(str(identity.to_public()), "CI"))


def test_the_released_key_leaves_the_environment(custodian, monkeypatch, tmp_path):
    with pytest.raises(RecordError, match="is not set"):
        release_identity()
    monkeypatch.setenv(IDENTITY, custodian.private)
    assert release_identity() == custodian.private
    assert IDENTITY not in os.environ
    assert release_identity() == custodian.private, "the process that took it still has it"
    (tmp_path / "key").write_text("another")
    monkeypatch.setenv(IDENTITY_FILE, str(tmp_path / "key"))
    assert release_identity() == "another"
    monkeypatch.setenv(IDENTITY_FILE, str(tmp_path / "none"))
    with pytest.raises(RecordError, match="cannot be read"):
        release_identity()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "ITERA_IDENTITY is not set"),
        (str(pyrage.x25519.Identity.generate()), "not that of a recipient"),
        ("AGE-SECRET-KEY-1NONSENSE", "cannot be used"),
    ],
    ids=["none", "another one", "nonsense"],
)
def test_without_a_recipients_key_the_refusal_says_who_can_open(
    custodian, monkeypatch, tmp_path, value, said
):
    made = create_secret("abc").secret
    path = tmp_path / "seed.age"
    path.write_bytes(seal_seed(made, [custodian.recipient]))
    who = holders(
        {"custody": "file"},
        {"custody": {"mode": "escrow", "recipients": [{"key": custodian.recipient.key, "who": "CI"}]}},
    )
    if value:
        monkeypatch.setenv(IDENTITY, value)
    with pytest.raises(Refusal, match=said) as caught:
        escrowed_secret(path, who)
    assert caught.value.safeguard == "SG01"
    assert custodian.recipient.name in str(caught.value)
    assert value is None or value not in str(caught.value)
    monkeypatch.setenv(IDENTITY, custodian.private)
    assert escrowed_secret(path, who).seed == made.seed
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RecordError, match="damaged"):
        escrowed_secret(path, who)
    path.unlink()
    with pytest.raises(RecordError, match="missing"):
        escrowed_secret(path, who)


# sealing under escrow ---------------------------------------------------------------------------------------


def hits(folder, *secrets):
    """Files below a folder that hold any of these bytes, plain, in hex or in base64."""
    forms = {
        f
        for s in secrets
        for f in (s, s.hex().encode(), base64.b64encode(s), base64.b64encode(s).rstrip(b"="))
    }
    return [p.name for p in folder.rglob("*") if p.is_file() and any(f in p.read_bytes() for f in forms)]


@pytest.fixture
def sealed(make_experiment, custodian, state):
    """An experiment sealed to the custodian, and the secret that it had before."""
    exp = make_experiment(files={str(FILE): custodian.recipient.line})
    exp.frame.lock()
    exp.source.sample()
    exp.source.audit()
    before = load_secret(exp.experiment.genesis)
    assert hits(state, before.seed)
    exp.split.seal()
    return SimpleNamespace(experiment=exp.experiment, session=exp, before=before)


def test_after_sealing_nothing_here_opens_or_recomputes_the_split(sealed, custodian, state, monkeypatch):
    experiment, before = sealed.experiment, sealed.before
    assert hits(state, before.seed, before.identity.encode()) == []
    assert hits(experiment.folder, before.seed, before.identity.encode()) == []
    assert list((state / "keys").iterdir()) == []
    with pytest.raises(Refusal, match="SG01"):
        _ = experiment.secret
    with pytest.raises(RecordError, match="another key"):
        read_sealed(experiment.path("sealed", "test.parquet"), before.identity)
    body = experiment.state.the("sealed").body
    assert body["custody"] == {
        "mode": "escrow",
        "recipients": [{"key": custodian.recipient.key, "who": "CI"}],
    }
    assert experiment.custody.words == f"escrow ({custodian.recipient.name})"
    monkeypatch.setenv(IDENTITY, custodian.private)
    secret = experiment.secret
    assert seed_commitment(secret.seed) == body["seed_commitment"]
    rows = read_sealed(
        experiment.path("sealed", "test.parquet"), secret.identity, sha256=body["sealed"]["sha256"]
    )
    assert rows.num_rows == body["counts"]["test"]


def test_a_refusal_for_want_of_the_key_is_not_recorded(sealed):
    """It would fork from the ledger of the custodian's clone."""
    before = sealed.experiment.ledger.path.read_bytes()
    with pytest.raises(Refusal):
        _ = sealed.experiment.secret
    assert sealed.experiment.ledger.path.read_bytes() == before


def test_git_takes_what_is_sealed_and_no_rows(sealed):
    folder = sealed.experiment.folder
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    subprocess.run(["git", "-C", str(folder), "add", "-A"], check=True)
    listed = subprocess.run(
        ["git", "-C", str(folder), "ls-files"], capture_output=True, text=True, check=True
    )
    taken = set(listed.stdout.split())
    assert {"sealed/test.parquet", SEED_FILE, "ledger.jsonl", "frame.md", str(FILE)} <= taken
    assert not any(name.startswith(("data/", "runs/", "snapshot/")) for name in taken)


def test_a_kill_between_record_and_forgetting_is_made_good(sealed, state):
    genesis = sealed.experiment.genesis
    write_private(custody.named("keys", genesis), custody._dump(sealed.before).encode())
    seal(sealed.experiment)
    assert hits(state, sealed.before.seed) == []


def test_sealing_to_a_wrong_file_seals_nothing(make_experiment, custodian):
    exp = make_experiment(files={str(FILE): "bob\n"})
    exp.frame.lock()
    exp.source.sample()
    with pytest.raises(IteraError, match="recipients:1"):
        exp.split.seal()
    assert not exp.experiment.state.has("sealed")
    assert not exp.experiment.path("sealed", "test.parquet").exists()
    exp.experiment.path(str(FILE)).write_text(custodian.recipient.line)
    exp.split.seal()
    assert exp.experiment.custody.escrow


def test_local_custody_is_in_the_record_too(make_experiment):
    exp = make_experiment()
    exp.frame.lock()
    exp.source.sample()
    exp.split.seal()
    assert exp.experiment.state.the("sealed").body["custody"] == {"mode": "local", "recipients": []}
    assert exp.experiment.custody.words == "local (key file)"
    assert exp.experiment.secret.recipient in exp.experiment.state.the("sealed").body["sealed"]["recipients"]


# copies -----------------------------------------------------------------------------------------------------


def test_of_two_copies_that_write_at_once_one_goes_on(make_experiment, tmp_path):
    experiment = make_experiment().experiment
    experiment.record("accepted", {"safeguard": "SG12", "why": "begun"})
    copies = [tmp_path / f"copy-{n}" for n in range(4)]
    for copy in copies:
        shutil.copytree(experiment.folder, copy)

    def write(folder):
        try:
            return Experiment(folder).record("accepted", {"safeguard": "SG12", "why": folder.name}).seq
        except RecordError:
            return None

    with ThreadPoolExecutor(4) as pool:
        seqs = list(pool.map(write, random.Random(1).sample(copies, 4)))
    assert sorted(seqs, key=str) == [3, None, None, None]


def test_a_copy_that_went_on_does_not_free_the_original_for_a_fresh_start(make_experiment, tmp_path):
    experiment = make_experiment().experiment
    experiment.record("accepted", {"safeguard": "SG12", "why": "begun"})
    copy = tmp_path / "copy"
    shutil.copytree(experiment.folder, copy)
    Experiment(copy).record("accepted", {"safeguard": "SG12", "why": "in the copy"})
    experiment.ledger.path.unlink()
    with pytest.raises(RecordError, match="cannot start anew"):
        Experiment(experiment.folder).record("accepted", {"safeguard": "SG12", "why": "again"})


def test_a_deleted_ledger_that_git_knows_is_not_begun_anew_on_a_fresh_machine(make_experiment, state):
    experiment = make_experiment().experiment
    experiment.record("accepted", {"safeguard": "SG12", "why": "begun"})
    run = ["git", "-C", str(experiment.folder), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "-q", str(experiment.folder)], check=True)
    subprocess.run([*run, "add", "-A"], check=True)
    subprocess.run([*run, "commit", "-q", "-m", "begun"], check=True)
    shutil.rmtree(state)
    experiment.ledger.path.unlink()
    with pytest.raises(RecordError, match="ledger of 2 records, and it is gone"):
        Experiment(experiment.folder).record("accepted", {"safeguard": "SG12", "why": "again"})
