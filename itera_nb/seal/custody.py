"""Who holds the key of a sealed test set: this user (keyring or private file), or others (escrow).

Local: the key stands in the system's keyring, or in a private file outside the project. Escrow: what is
sealed opens only with the private key of a recipient (`itera_nb.seal.recipients`). The split seed, and a key
that then has sealed nothing, are kept here until sealing and deleted: the seed is sealed to them as well.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from itera_nb.exceptions import IteraError, RecordError, Refusal
from itera_nb.ledger import sync_folder
from itera_nb.seal.recipients import Recipient, private_key, public_keys

Mode: TypeAlias = Literal["keyring", "file"]
SERVICE = "itera-nb"
SEED_BYTES = 32
SEED_FILE = "sealed/seed.age"
"""The split seed under escrow, encrypted to the recipients."""
IDENTITY, IDENTITY_FILE = "ITERA_IDENTITY", "ITERA_IDENTITY_FILE"
"""Environment variables that hold a recipient's private key, or the path of its file."""
GENESIS_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


@dataclass(frozen=True, slots=True)
class Secret:
    """What opens the sealed file (a private key) and what drew the split (32 random bytes); never shown."""

    identity: str = field(repr=False)
    seed: bytes = field(repr=False)

    @property
    def recipient(self) -> str:
        """The public half (``age1…``) of a local key, to which files are sealed."""
        import pyrage

        return str(pyrage.x25519.Identity.from_str(self.identity).to_public())


@dataclass(frozen=True, slots=True)
class Custody:
    """A secret and where it is kept."""

    mode: Mode
    secret: Secret


@dataclass(frozen=True, slots=True)
class Holders:
    """Who can open a sealed test set, as the ledger says.

    Attributes:
        escrow: Whether others hold the keys, and the one who ran the experiment none.
        recipients: Public keys that the rows are sealed to.
        local: Where this user's own key was put: "keyring" or "file".
    """

    escrow: bool
    recipients: tuple[Recipient, ...]
    local: str

    @property
    def names(self) -> str:
        """The recipients in words."""
        return ", ".join(r.name for r in self.recipients)

    @property
    def words(self) -> str:
        """Custody as the conclusion prints it."""
        if self.escrow:
            return f"escrow ({self.names})"
        return {"file": "local (key file)", "keyring": "local (system keyring)"}.get(self.local, self.local)


def holders(created: Mapping[str, Any], sealed: Mapping[str, Any] | None) -> Holders:
    """Who can open what, from the bodies of the `created` record and of the `sealed` one, if it is there."""
    custody = (sealed or {}).get("custody", {})
    found = tuple(Recipient(r["key"], r["who"]) for r in custody.get("recipients", ()))
    return Holders(custody.get("mode") == "escrow", found, str(created["custody"]))


def seal_seed(secret: Secret, recipients: Sequence[Recipient]) -> bytes:
    """The split seed, encrypted to the recipients."""
    import pyrage

    return bytes(pyrage.encrypt(secret.seed, public_keys([r.key for r in recipients])))


def has_identity() -> bool:
    """Whether the environment names a private key; it is neither read nor tried."""
    return bool(os.environ.get(IDENTITY) or os.environ.get(IDENTITY_FILE) or _released)


_released: list[str] = []


def release_identity() -> str:
    """The private key that the environment names, which is taken out of it: arms must not inherit it.

    Raises:
        RecordError: There is none, or its file cannot be read.
    """
    value, file = os.environ.pop(IDENTITY, ""), os.environ.pop(IDENTITY_FILE, "")
    if not value and file:
        try:
            value = Path(file).read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            raise RecordError(f"the file that {IDENTITY_FILE} names cannot be read", fix="check it") from None
    if value:
        _released[:] = [value]
    if not _released:
        raise RecordError(f"{IDENTITY} is not set", fix=f"set {IDENTITY} to a recipient's private key")
    return _released[0]


def escrowed_secret(seed_file: Path, holders: Holders) -> Secret:
    """The secret of an experiment under escrow, for who has a recipient's private key in the environment.

    Raises:
        Refusal: SG01, saying who can open it, without a key or with one that is no recipient's.
        RecordError: The sealed seed is missing or damaged.
    """
    import pyrage

    if not has_identity():
        raise not_held(holders, f"the private key is not here ({IDENTITY} is not set)")
    identity = release_identity()
    try:
        key = private_key(identity)
    except ValueError as error:
        raise not_held(holders, f"what {IDENTITY} holds cannot be used: {error}") from None
    try:
        seed = bytes(pyrage.decrypt(seed_file.read_bytes(), [key]))
    except FileNotFoundError:
        raise RecordError(f"{SEED_FILE} is missing", fix="put it back: it is committed") from None
    except pyrage.DecryptError as error:
        if "No matching keys" not in str(error):
            raise RecordError(f"{SEED_FILE} is damaged", fix="put the committed file back") from None
        raise not_held(holders, f"the private key in {IDENTITY} is not that of a recipient") from None
    return Secret(identity, seed)


def not_held(holders: Holders, what: str) -> Refusal:
    """The refusal where the private key of a recipient is needed and is not here."""
    return Refusal(
        "SG01",
        f"{what}; the test rows are sealed to {holders.names}.",
        why="under escrow only a recipient opens the test set: who tuned the arms cannot look.",
        instead="commit this folder and push it, then a recipient runs, in the commit's own clone:\n"
        f"{IDENTITY}=… itera verdict   (a private key, from a secret store)\n"
        "in CI: examples/github-actions and docs/how-to/custody.md",
    )


def state_dir() -> Path:
    """The folder of this user's keys and last-seen heads (mode 0700); ``ITERA_STATE_DIR`` overrides it."""
    given = os.environ.get("ITERA_STATE_DIR")
    if given:
        path = Path(given)
    else:
        import platformdirs

        path = platformdirs.user_state_path(SERVICE)
    return private_folder(path)


def private_folder(path: Path) -> Path:
    """Create `path` for this user only (mode 0700) if it is not there, and return it."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


def write_private(path: Path, data: bytes, *, exclusive: bool = False) -> None:
    """Write a file that only this user can read (mode 0600), whole or not at all, and fsync it.

    Raises:
        FileExistsError: `exclusive` is set and `path` is there already.
    """
    # mkstemp opens with O_EXCL and 0600; link (unlike rename) refuses to replace.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if exclusive:
            os.link(temporary, path)
        else:
            Path(temporary).replace(path)
        sync_folder(path.parent)
    finally:
        Path(temporary).unlink(missing_ok=True)


def named(folder: str, genesis_id: str) -> Path:
    """The file of one experiment in a folder of the state directory.

    Raises:
        RecordError: `genesis_id` is not one that a ledger could carry (it becomes a file name).
    """
    if not GENESIS_ID.fullmatch(genesis_id):
        raise RecordError("the experiment's id is not valid", record=0, fix="itera verify")
    return private_folder(state_dir() / folder) / f"{genesis_id}.json"


def place() -> Mode:
    """Where this computer would keep a new key."""
    return "keyring" if _keyring() else "file"


def create_secret(genesis_id: str) -> Custody:
    """Draw a new key and split seed for an experiment and store them outside its folder.

    Raises:
        RecordError: There is a secret for this experiment already.
    """
    import pyrage

    path, keyring = named("keys", genesis_id), _keyring()
    if path.exists():
        raise _exists(genesis_id)
    secret = Secret(str(pyrage.x25519.Identity.generate()), secrets.token_bytes(SEED_BYTES))
    text = _dump(secret)
    if keyring and _stored(keyring, genesis_id, text):
        return Custody("keyring", secret)
    try:
        write_private(path, text.encode(), exclusive=True)
    except FileExistsError:
        raise _exists(genesis_id) from None
    return Custody("file", secret)


def load_secret(genesis_id: str) -> Secret:
    """The secret of an experiment.

    Raises:
        RecordError: It is not on this computer, is readable by others, is damaged, or the keyring is locked.
    """
    path = named("keys", genesis_id)
    if path.exists():
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise RecordError(f"the key file {path} can be read by other users", fix=f"chmod 600 {path}")
        return _parse(path.read_text("utf-8"), str(path))
    text = _held(_keyring(), genesis_id)
    if text is None:
        raise RecordError(
            f"the key of experiment {genesis_id} is not here: the sealed rows cannot be opened",
            fix=f"run on the computer that sealed them, bring its key to {path} (mode 600), or start anew: "
            "itera new NAME",
        )
    return _parse(text, "the keyring")


def forget_secret(genesis_id: str) -> bool:
    """Delete this computer's secret of an experiment, in the file and in the keyring; whether there was one.

    Raises:
        RecordError: The keyring does not delete it, or is locked.
    """
    path, found = named("keys", genesis_id), False
    if path.exists():
        found = True
        with path.open("r+b") as file:  # what a file system does with freed blocks is its own affair
            file.write(b"\0" * path.stat().st_size)
            file.flush()
            os.fsync(file.fileno())
        path.unlink()
    keyring = _keyring()
    try:
        held = _held(keyring, genesis_id)
    except RecordError:
        if not found:
            raise
        return True  # it stood in the file because the keyring could not be used
    if keyring and held is not None:
        found = True
        keyring.delete_password(SERVICE, genesis_id)
        if _held(keyring, genesis_id) is not None:
            raise RecordError(
                "the system keyring keeps the split seed", fix=f"delete {SERVICE} {genesis_id} there"
            )
    return found


def _keyring() -> Any | None:
    """The keyring backend, if there is one that encrypts: priority below 1 means plain text or none."""
    if os.environ.get("ITERA_CUSTODY") == "file":
        return None
    import keyring

    backend = keyring.get_keyring()
    return backend if float(backend.priority) >= 1 else None


def _held(keyring: Any | None, genesis_id: str) -> str | None:
    if keyring is None:
        return None
    from keyring.errors import KeyringError

    try:
        found: str | None = keyring.get_password(SERVICE, genesis_id)
    except KeyringError:
        raise RecordError(
            f"the system keyring cannot be read, and the key of experiment {genesis_id} may be in it",
            fix="unlock it, in a session that can ask for its password, then run this again",
        ) from None
    return found


def _stored(keyring: Any, genesis_id: str, text: str) -> bool:
    from keyring.errors import KeyringError

    try:
        if keyring.get_password(SERVICE, genesis_id):
            raise _exists(genesis_id)
        keyring.set_password(SERVICE, genesis_id, text)
    except KeyringError:
        return False
    # Locked from here on it may hold the key, and a copy in a file would be forgotten without it.
    return _held(keyring, genesis_id) == text


def _exists(genesis_id: str) -> IteraError:
    return RecordError(f"experiment {genesis_id} has a key already", fix="new rows, new key: itera new NAME")


def _dump(secret: Secret) -> str:
    seed = base64.b64encode(secret.seed).decode()
    return json.dumps({"identity": secret.identity, "seed": seed})


def _parse(text: str, where: str) -> Secret:
    try:
        stored = json.loads(text)
        secret = Secret(stored["identity"], base64.b64decode(stored["seed"], validate=True))
        whole = len(secret.seed) == SEED_BYTES and secret.identity.startswith("AGE-SECRET-KEY-")
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
        whole = False
    if not whole:
        raise RecordError(
            f"the key in {where} is damaged", fix="restore it from a backup, or: itera new NAME"
        )
    return secret
