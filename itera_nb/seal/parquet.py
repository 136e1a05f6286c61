"""Parquet files sealed to age recipients, and the commitment to what is inside them.

The cipher is Parquet modular encryption (AES-GCM, 256 bit, whole file including the footer); its data key is
wrapped by age. Readers without the key then say "encrypted" and not "damaged". Nothing is decrypted to disk.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
import pyrage

from itera_nb.exceptions import IteraError, RecordError
from itera_nb.ledger import sync_folder
from itera_nb.seal.recipients import private_key, public_keys

ROW_GROUP_ROWS = 65_536
ROW_GROUP_BYTES = 32 * 2**20


@dataclass(frozen=True, slots=True)
class SealedFile:
    """A finished file: SHA-256 of its bytes (hex) and its number of rows."""

    sha256: str
    rows: int


class PartWriter:
    """Writes one Parquet file (zstd) block by block; it appears under its name only when it is complete.

    The temporary file lies in the same folder. With `recipients` it holds ciphertext from the first byte on.

    Args:
        path: Where the file will stand.
        schema: Its columns.
        recipients: Public keys (age1…, ssh-…) that can open it; None writes a plain file.
    """

    def __init__(self, path: Path, schema: pa.Schema, recipients: Sequence[str] | None = None) -> None:
        self._path, self._schema = path, schema
        properties = None if recipients is None else _encryption(recipients)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        self._temporary = Path(name)
        self._file = os.fdopen(handle, "wb")
        self._writer = pq.ParquetWriter(
            self._file, schema, compression="zstd", encryption_properties=properties
        )
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = self._waiting_bytes = self._rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Closed in this order also after an error: a writer that outlives its file complains when collected.
        with suppress(OSError, pa.ArrowException):
            self._writer.close()
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def write(self, batch: pa.RecordBatch) -> None:
        """Add a block of rows."""
        if not batch.num_rows:
            return
        self._waiting.append(batch)
        self._waiting_rows += batch.num_rows
        self._waiting_bytes += batch.nbytes
        if self._waiting_rows >= ROW_GROUP_ROWS or self._waiting_bytes >= ROW_GROUP_BYTES:
            self._flush()

    def finish(self) -> SealedFile:
        """Complete the file, fsync it and give it its name."""
        self._flush()
        self._writer.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        digest = file_sha256(self._temporary)
        self._temporary.replace(self._path)
        sync_folder(self._path.parent)
        return SealedFile(digest, self._rows)

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting, self._schema))
            self._rows += self._waiting_rows
            self._waiting, self._waiting_rows, self._waiting_bytes = [], 0, 0


def write_sealed(
    path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch], recipients: Sequence[str]
) -> SealedFile:
    """Encrypt a stream of rows into one Parquet file that any of `recipients` can open."""
    with PartWriter(path, schema, recipients) as writer:
        for batch in batches:
            writer.write(batch)
        return writer.finish()


def read_sealed(path: Path, identity: str, *, sha256: str | None = None) -> pa.Table:
    """Decrypt a sealed file into memory.

    Args:
        path: The sealed file.
        identity: A private key: an age identity (``AGE-SECRET-KEY-…``) or an OpenSSH one.
        sha256: The recorded hash of the file. The cipher alone does not notice a file that was sealed by
            somebody else with the public key, nor a changed label in the key header.

    Raises:
        RecordError: The file is missing, is not the recorded one, is damaged, or is sealed to another key.
    """
    failure: str
    try:
        data = path.read_bytes()
        if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
            failure = "is not the file that was recorded when it was sealed"
        else:
            key = private_key(identity)
            return pq.read_table(pa.BufferReader(data), decryption_properties=_decryption(key))
    except FileNotFoundError:
        failure = "is missing"
    except pyrage.DecryptError as error:
        failure = "is sealed to another key" if "No matching keys" in str(error) else "is damaged"
    except (OSError, ValueError, KeyError, TypeError):
        failure = "is damaged"
    raise RecordError(
        f"the sealed file {path.name} {failure}", fix="restore it from the commit or backup that sealed it"
    )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes (hex), read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Commitment:
    """Salted commitment to rows in file order: it binds to the plaintext without revealing it.

    HMAC-SHA256, keyed with the salt, over one JSON array of the column names and then one JSON array a row
    (values in column order, not escaped, no blanks), each followed by a line feed. Blocks of any size give
    the same result.
    """

    def __init__(self, salt: bytes, schema: pa.Schema) -> None:
        self._mac = hmac.new(salt, _line(schema.names), hashlib.sha256)

    def update(self, batch: pa.RecordBatch) -> None:
        """Add rows."""
        columns = [column.to_pylist() for column in batch.columns]
        for row in zip(*columns, strict=True):
            self._mac.update(_line(row))

    def hexdigest(self) -> str:
        """The commitment (64 hex digits)."""
        return self._mac.hexdigest()


def commitment(table: pa.Table, salt: bytes) -> str:
    """The `Commitment` to a whole table, as hex."""
    whole = Commitment(salt, table.schema)
    for batch in table.to_batches(max_chunksize=ROW_GROUP_ROWS):
        whole.update(batch)
    return whole.hexdigest()


class AgeLines:
    """Text lines encrypted one by one, for a log that can be appended to but not read during the test pass.

    Args:
        recipients: Public keys to encrypt to; may be empty for a reader.
        identity: Private key to decrypt with; may be absent for a writer.
    """

    def __init__(self, recipients: Sequence[str] = (), identity: str | None = None) -> None:
        self._recipients = public_keys(recipients)
        self._identities = [private_key(identity)] if identity else []

    def encode(self, text: str) -> str:
        """One line of base64 (no line feed) for one line of text."""
        return base64.b64encode(pyrage.encrypt(text.encode(), self._recipients)).decode("ascii")

    def decode(self, text: str) -> str:
        """The text of one encrypted line.

        Raises:
            RecordError: The line is damaged or encrypted to another key.
        """
        try:
            return str(pyrage.decrypt(base64.b64decode(text, validate=True), self._identities), "utf-8")
        except (pyrage.DecryptError, ValueError):
            pass
        raise RecordError(
            "a line of the encrypted log cannot be read",
            fix="restore the log from the backup that holds it whole",
        )


def _line(values: Iterable[Any]) -> bytes:
    text = json.dumps(list(values), ensure_ascii=False, separators=(",", ":"), default=_plain)
    return text.encode("utf-8", "surrogatepass") + b"\n"


def _plain(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _encryption(recipients: Sequence[str]) -> Any:
    pe, keys = _modular_encryption(), public_keys(recipients)
    if not keys:
        raise ValueError("a sealed file needs at least one recipient")
    config = pe.EncryptionConfiguration(
        footer_key="age",
        uniform_encryption=True,
        plaintext_footer=False,
        double_wrapping=False,
        # GCM_CTR would leave the data pages unauthenticated.
        encryption_algorithm="AES_GCM_V1",
        data_key_length_bits=256,
    )
    return _factory(pe, keys, []).file_encryption_properties(pe.KmsConnectionConfig(), config)


def _decryption(identity: Any) -> Any:
    pe = _modular_encryption()
    return _factory(pe, [], [identity]).file_decryption_properties(pe.KmsConnectionConfig())


def _factory(pe: Any, recipients: Sequence[Any], identities: Sequence[Any]) -> Any:
    class AgeKms(pe.KmsClient):  # type: ignore[misc]
        """Wraps the file's data key with age; there is no key server."""

        def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:  # noqa: ARG002
            return base64.b64encode(pyrage.encrypt(key_bytes, list(recipients)))

        def unwrap_key(self, wrapped_key: bytes, master_key_identifier: str) -> bytes:  # noqa: ARG002
            return bytes(pyrage.decrypt(base64.b64decode(wrapped_key), list(identities)))

    return pe.CryptoFactory(lambda _config: AgeKms())


def _modular_encryption() -> Any:
    try:
        import pyarrow.parquet.encryption as pe
    except ImportError:
        pe = None
    if pe is None:
        raise IteraError(
            f"this build of pyarrow ({pa.__version__}) cannot encrypt Parquet: nothing can be sealed",
            fix="install the official wheel: pip install --force-reinstall --only-binary :all: pyarrow",
        )
    return pe
