"""The sealed rows' fingerprints as a file, encrypted to a key of its own, which may be used before the claim.

That key opens no row. Under escrow there is none: only those who open the test set can look for its rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyrage

from itera_nb.exceptions import RecordError
from itera_nb.seal.custody import named, write_private
from itera_nb.seal.fingerprints import Index
from itera_nb.seal.recipients import private_key, public_keys


def encrypt(index: Index, recipients: Sequence[str], genesis_id: str, *, own_key: bool) -> bytes:
    """The index, encrypted to those who open the rows and, with `own_key`, to a key of this user for it."""
    keys = public_keys(recipients)
    if own_key:
        path = named("scan", genesis_id)
        if not path.exists():
            write_private(path, str(pyrage.x25519.Identity.generate()).encode())
        keys.append(pyrage.x25519.Identity.from_str(path.read_text("ascii")).to_public())
    return bytes(pyrage.encrypt(index.to_bytes(), keys))


def own_key(genesis_id: str) -> str | None:
    """This user's key of the index, if it is here."""
    path = named("scan", genesis_id)
    return path.read_text("ascii") if path.exists() else None


def decrypt(path: Path, identity: str) -> Index:
    """The index in an encrypted file.

    Raises:
        RecordError: The file is missing, damaged, or encrypted to other keys.
    """
    try:
        return Index.from_bytes(pyrage.decrypt(path.read_bytes(), [private_key(identity)]))
    except (OSError, ValueError, KeyError, pyrage.DecryptError):
        pass
    raise RecordError(
        f"{path.name} is missing, damaged or encrypted to another key", fix="put the original back"
    )
