"""To whom a test set is sealed under escrow: public age and SSH keys, one a line, in `.itera/recipients`."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itera_nb.exceptions import IteraError

FILE = Path(".itera", "recipients")
SSH = ("ssh-ed25519", "ssh-rsa")
PRIVATE = ("AGE-SECRET-KEY", "PRIVATE KEY")
LONGEST_NAME = 60


@dataclass(frozen=True, slots=True)
class Recipient:
    """A public key (`age1…`, `ssh-ed25519 AAAA…` or `ssh-rsa AAAA…`) and what its line says about it."""

    key: str
    who: str = ""

    @property
    def fingerprint(self) -> str:
        """A few characters that tell keys apart: of an SSH key the ones that `ssh-keygen -l` shows first."""
        kind, _, data = self.key.partition(" ")
        if not data:
            return f"{kind[:12]}…{kind[-4:]}"
        found = base64.b64encode(hashlib.sha256(base64.b64decode(data)).digest()).decode()
        return f"SHA256:{found[:12]}"

    @property
    def name(self) -> str:
        """Who it is, for people: the line's comment and the fingerprint."""
        return f"{self.who} ({self.fingerprint})" if self.who else self.fingerprint

    @property
    def line(self) -> str:
        """The line of a recipients file."""
        return f"{self.key} {self.who}".rstrip()


def parse(text: str, name: str) -> tuple[Recipient, ...]:
    """The recipients of a file: one public key a line, then a comment; `#` lines and blank ones are skipped.

    Args:
        text: The file's content.
        name: What the file is called in error messages.

    Raises:
        IteraError: A line is no public key of a known kind, or there is none; each mistake with its line.
    """
    found: dict[str, Recipient] = {}
    wrong: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            one = _recipient(words)
        except ValueError as error:
            wrong.append(f"{name}:{number}: {error}")
        else:
            found.setdefault(one.key, one)
    if not wrong and not found:
        wrong.append(f"{name} names no recipient")
    if wrong:
        raise IteraError(
            "\n".join(wrong),
            fix="one public key a line: age1…, ssh-ed25519 AAAA… or ssh-rsa AAAA…, then a name",
        )
    return tuple(found.values())


def find(folder: Path) -> Path | None:
    """The recipients file of an experiment: its folder's own, else the nearest up to its repository."""
    folders = [folder, *folder.parents]
    root = next((i for i, path in enumerate(folders) if (path / ".git").exists()), 0)
    return next((path / FILE for path in folders[: root + 1] if (path / FILE).is_file()), None)


def read(path: Path) -> tuple[Recipient, ...]:
    """The recipients in a file.

    Raises:
        IteraError: It cannot be read, or `parse` finds a mistake.
    """
    try:
        return parse(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeDecodeError):
        pass
    raise IteraError(
        f"{path} cannot be read as text", fix="age1…, ssh-ed25519 AAAA…, or a file of such lines"
    )


def given(values: Iterable[str]) -> tuple[Recipient, ...]:
    """Recipients as `--recipient` takes them: a public key, or the path of a file of them.

    Raises:
        IteraError: One is neither.
    """
    found: dict[str, Recipient] = {}
    for value in values:
        is_key = value.startswith(("age1", "ssh-")) or any(word in value for word in PRIVATE)
        for one in parse(value, "--recipient") if is_key else read(Path(value)):
            found.setdefault(one.key, one)
    return tuple(found.values())


def public_key(text: str) -> Any:
    """What pyrage encrypts to, of an age or SSH public key.

    Raises:
        ValueError: It is neither, or damaged.
    """
    import pyrage

    try:
        if text.startswith("ssh-"):
            return pyrage.ssh.Recipient.from_str(text)
        return pyrage.x25519.Recipient.from_str(text)
    except pyrage.RecipientError as error:
        raise ValueError(str(error)) from None


def private_key(text: str) -> Any:
    """What pyrage decrypts with, of an age identity (with comments or without) or an OpenSSH private key.

    Raises:
        ValueError: It is neither, is damaged, or is protected by a passphrase; the text is not quoted.
    """
    import pyrage

    lines = [line for line in text.split() if line.startswith("AGE-SECRET-KEY-")]
    try:
        if lines:
            return pyrage.x25519.Identity.from_str(lines[0])
        return pyrage.ssh.Identity.from_buffer(text.strip().encode() + b"\n")
    except pyrage.IdentityError as error:
        locked = "decrypted" in str(error)
    raise ValueError("it is protected by a passphrase" if locked else "it is no age or OpenSSH private key")


def public_keys(texts: Sequence[str]) -> list[Any]:
    """`public_key` of each."""
    return [public_key(text) for text in texts]


def _recipient(words: Sequence[str]) -> Recipient:
    line = " ".join(words)
    if any(word in line for word in PRIVATE):
        raise ValueError("this is a private key: take it out, and give the public one")
    kind = words[0]
    if kind in SSH:
        size, wanted = 2, "its second word is the key: ssh-ed25519 AAAA… name"
    elif kind.startswith("age1"):
        size, wanted = 1, "age1… has a wrong letter or an end missing"
    else:
        raise ValueError(
            f"{kind[:20]!r} is no kind of key that can be sealed to: {', '.join(('age1…', *SSH))}"
        )
    key = " ".join(words[:size])
    try:
        public_key(key)
        if size == 2:
            base64.b64decode(words[1], validate=True)
    except (ValueError, IndexError, binascii.Error):
        raise ValueError(f"this is no public key ({wanted})") from None
    name = "".join(c for c in " ".join(words[size:]) if c.isprintable()).removeprefix("# ")
    return Recipient(key, name[:LONGEST_NAME])
