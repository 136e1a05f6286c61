"""Keys live outside the project, private to the user, and never show themselves."""

import json
import stat
from types import SimpleNamespace

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import KeyringError

from itera_nb.exceptions import RecordError
from itera_nb.seal.custody import SERVICE, create_secret, load_secret, state_dir, write_private


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
    assert "itera reseal" in caught.value.fix
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
