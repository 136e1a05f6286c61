"""Who holds the key of a sealed test set: the system's keyring, or a private file outside the project."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import secrets
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from itera_nb.exceptions import IteraError, RecordError

Mode: TypeAlias = Literal["keyring", "file"]
SERVICE = "itera-nb"
SEED_BYTES = 32
GENESIS_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


@dataclass(frozen=True, slots=True)
class Secret:
    """What opens the sealed file (an age identity) and what drew the split (32 random bytes); never shown."""

    identity: str = field(repr=False)
    seed: bytes = field(repr=False)

    @property
    def recipient(self) -> str:
        """The public half (``age1…``), to which files are sealed."""
        import pyrage

        return str(pyrage.x25519.Identity.from_str(self.identity).to_public())


@dataclass(frozen=True, slots=True)
class Custody:
    """A secret and where it is kept."""

    mode: Mode
    secret: Secret


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
    if path.exists() or (keyring and keyring.get_password(SERVICE, genesis_id)):
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
        RecordError: It is not on this computer, is readable by others, or is damaged.
    """
    path = named("keys", genesis_id)
    if path.exists():
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise RecordError(f"the key file {path} can be read by other users", fix=f"chmod 600 {path}")
        return _parse(path.read_text("utf-8"), str(path))
    keyring = _keyring()
    text = keyring.get_password(SERVICE, genesis_id) if keyring else None
    if text is None:
        raise RecordError(
            f"the key of experiment {genesis_id} is not here: the sealed rows cannot be opened",
            fix=f"run on the computer that sealed them, bring its key to {path} (mode 600), or: itera reseal",
        )
    return _parse(text, "the keyring")


def _keyring() -> Any | None:
    """The keyring backend, if there is one that encrypts: priority below 1 means plain text or none."""
    if os.environ.get("ITERA_CUSTODY") == "file":
        return None
    import keyring

    backend = keyring.get_keyring()
    return backend if float(backend.priority) >= 1 else None


def _stored(keyring: Any, genesis_id: str, text: str) -> bool:
    from keyring.errors import KeyringError

    try:
        keyring.set_password(SERVICE, genesis_id, text)
        return bool(keyring.get_password(SERVICE, genesis_id) == text)
    except KeyringError:
        return False


def _exists(genesis_id: str) -> IteraError:
    return RecordError(
        f"experiment {genesis_id} has a key already", fix="itera reseal starts a new epoch with a new key"
    )


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
        raise RecordError(f"the key in {where} is damaged", fix="restore it from a backup, or: itera reseal")
    return secret
