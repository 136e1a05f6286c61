"""What a file says: its bytes, and what is behind compression, escapes, encodings. Nothing is unpickled."""

from __future__ import annotations

import base64
import bz2
import html
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import unquote_to_bytes

MAX_BYTES = 64 * 2**20
"""Unpacked bytes looked at in one file."""
LEVELS = 3
ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|([^u]))")
PLAIN = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f"}
ENTITY = re.compile(rb"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
PERCENT = re.compile(rb"%[0-9A-Fa-f]{2}")
BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4}(?:\\n|\r?\n)?){8,}[A-Za-z0-9+/]{0,4}={0,2}")
PACKED: dict[bytes, Callable[[], Any]] = {
    b"\x1f\x8b": lambda: zlib.decompressobj(31),
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ": lzma.LZMADecompressor,
}
DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, RuntimeError)


def readings(data: bytes) -> Iterator[bytes]:
    """A file's bytes and every other reading of them, at most three levels deep and `MAX_BYTES` in all."""
    waiting, budget, seen = [(data, 0)], max(MAX_BYTES, 4 * len(data)), {data}
    while waiting:
        found, level = waiting.pop()
        yield found
        if level == LEVELS:
            continue
        for other in _behind(found, budget):
            if other and other not in seen and len(other) <= budget:
                budget -= len(other)
                seen.add(other)
                waiting.append((other, level + 1))


def _behind(data: bytes, limit: int) -> Iterator[bytes]:
    packed = next((begin for mark, begin in PACKED.items() if data.startswith(mark)), None)
    if packed:
        yield b"".join(_streams(data, packed, limit))
    elif data.startswith(b"PK\x03\x04"):
        yield from _members(data, limit)
    elif data.startswith(b"PAR1") and data.endswith(b"PAR1"):
        yield from _columns(data, limit)
    elif data.startswith((b"\xff\xfe", b"\xfe\xff")):
        yield data.decode("utf-16", "replace").encode()
    else:
        yield from _plainer(data)


def _plainer(data: bytes) -> Iterator[bytes]:
    """The text without JSON, HTML and URL escapes, in another encoding, and what stands in it as base64."""
    plain = ESCAPE.sub(_unescaped, data) if b"\\" in data else data
    if ENTITY.search(plain):
        plain = html.unescape(plain.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
    if b"\0" not in plain and PERCENT.search(plain):
        plain = unquote_to_bytes(plain)
    if plain != data:
        yield plain
    if not data.isascii() and b"\0" not in data:
        try:
            data.decode()
        except UnicodeDecodeError:
            yield data.decode("cp1252", "replace").encode()
    yield b"\n".join(_decoded(data))


def _decoded(data: bytes) -> Iterator[bytes]:
    for run in BASE64.finditer(data):
        text = b"".join(run.group().replace(b"\\n", b"").split()).rstrip(b"=")
        # The beginning of the next line may look like more of it: one character alone encodes nothing.
        text = text[: len(text) - (len(text) % 4 == 1)]
        yield base64.b64decode(text + b"=" * (-len(text) % 4))


def _unescaped(match: re.Match[bytes]) -> bytes:
    code, sign = match.groups()
    if code is not None:
        return chr(int(code, 16)).encode("utf-8", "replace")
    return PLAIN.get(sign, sign)


def _streams(data: bytes, begin: Callable[[], Any], limit: int) -> Iterator[bytes]:
    """What was packed at a time, one after the other: logs are appended to, and some tools pack in blocks."""
    with suppress(*DAMAGED):
        while data and limit > 0:
            unpack = begin()
            yield (found := unpack.decompress(data, limit))
            limit -= len(found)
            data = unpack.unused_data


def _members(data: bytes, limit: int) -> Iterator[bytes]:
    """The files in a zip; one that is damaged or needs a password hides none of the others."""
    with suppress(*DAMAGED):
        archive = zipfile.ZipFile(io.BytesIO(data))
        for member in archive.infolist():
            with suppress(*DAMAGED), archive.open(member) as file:
                yield (found := file.read(limit))
                limit -= len(found)


def _columns(data: bytes, limit: int) -> Iterator[bytes]:
    """The text columns of a plain Parquet file, block by block; an encrypted one has nothing to read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with suppress(pa.ArrowException, OSError, ValueError):
        for batch in pq.ParquetFile(pa.BufferReader(data)).iter_batches(batch_size=1024):
            limit -= batch.nbytes
            if limit <= 0:
                return
            texts = [
                str(value)
                for column in batch.columns
                if not pa.types.is_primitive(column.type)
                for value in column.to_pylist()
                if value
            ]
            yield "\n".join(texts).encode("utf-8", "surrogatepass")
