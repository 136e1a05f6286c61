"""A sealed file opens with its key, whole, and with nothing else."""

import sys

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pyrage
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itera_nb.exceptions import IteraError, RecordError
from itera_nb.seal.parquet import (
    AgeLines,
    Commitment,
    PartWriter,
    commitment,
    file_sha256,
    read_sealed,
    write_sealed,
)

CANARY = "canary-7f3a-ünïque"
ROWS = pa.table(
    {
        "ticket_id": [f"id-{i}" for i in range(500)],
        "secret_text": [f"{CANARY} {i}" for i in range(500)],
        "tags": [["a", "b"][: i % 3] for i in range(500)],
        "weight": [None if i % 7 == 0 else i / 3 for i in range(500)],
    }
)


def identity():
    return str(pyrage.x25519.Identity.generate())


def recipient(key):
    return str(pyrage.x25519.Identity.from_str(key).to_public())


@pytest.fixture
def sealed(tmp_path):
    key = identity()
    path = tmp_path / "sealed" / "test.parquet"
    path.parent.mkdir()
    return path, key, write_sealed(path, ROWS.schema, ROWS.to_batches(max_chunksize=64), [recipient(key)])


def test_opens_in_memory_with_its_key(sealed):
    path, key, written = sealed
    assert read_sealed(path, key, sha256=written.sha256).equals(ROWS)
    assert written.rows == 500
    assert written.sha256 == file_sha256(path)
    assert [p.name for p in path.parent.iterdir()] == ["test.parquet"]


@pytest.mark.parametrize(
    "read",
    [
        pd.read_parquet,
        pq.read_table,
        pq.ParquetFile,
        pl.read_parquet,
        lambda p: pl.scan_parquet(p).collect(),
        lambda p: duckdb.sql(f"from '{p}'").fetchall(),
    ],
    ids=["pandas", "pyarrow", "ParquetFile", "polars", "polars-lazy", "duckdb"],
)
def test_every_plain_reader_says_encrypted(sealed, read):
    with pytest.raises(Exception, match=r"(?i)encrypted"):
        read(str(sealed[0]))


def test_bytes_show_neither_rows_nor_columns(sealed):
    data = sealed[0].read_bytes()
    for word in (CANARY, "ticket_id", "secret_text", "id-1"):
        assert word.encode() not in data


def test_wrong_key_is_refused(sealed):
    with pytest.raises(RecordError, match="sealed to another key"):
        read_sealed(sealed[0], identity())


def test_each_of_two_recipients_opens_alone(tmp_path):
    keys = [identity(), identity()]
    path = tmp_path / "t.parquet"
    write_sealed(path, ROWS.schema, ROWS.to_batches(), [recipient(k) for k in keys])
    assert all(read_sealed(path, key).equals(ROWS) for key in keys)


def test_without_recipients_nothing_is_written(tmp_path):
    with pytest.raises(ValueError, match="recipient"):
        write_sealed(tmp_path / "t.parquet", ROWS.schema, ROWS.to_batches(), [])
    assert not list(tmp_path.glob("*.parquet*"))


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1), bit=st.integers(0, 7))
def test_any_flipped_bit_fails(tmp_path_factory, place, bit):
    folder = tmp_path_factory.mktemp("flip")
    key = identity()
    path = folder / "t.parquet"
    written = write_sealed(path, ROWS.schema, ROWS.to_batches(), [recipient(key)])
    damaged = bytearray(path.read_bytes())
    damaged[int(place * (len(damaged) - 1))] ^= 1 << bit
    path.write_bytes(damaged)
    with pytest.raises(RecordError, match="not the file that was recorded"):
        read_sealed(path, key, sha256=written.sha256)


def test_flipped_byte_in_the_rows_fails_by_the_cipher_alone(sealed):
    path, key, _ = sealed
    data = path.read_bytes()
    for at in range(100, len(data) // 2, 997):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(RecordError):
            read_sealed(path, key)


def test_truncated_missing_and_swapped_files_fail(sealed, tmp_path):
    path, key, written = sealed
    other = tmp_path / "other.parquet"
    write_sealed(other, ROWS.schema, ROWS.slice(0, 10).to_batches(), [recipient(key)])
    assert read_sealed(other, key).num_rows == 10
    with pytest.raises(RecordError, match="not the file"):
        read_sealed(other, key, sha256=written.sha256)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RecordError, match="damaged"):
        read_sealed(path, key)
    with pytest.raises(RecordError, match="missing"):
        read_sealed(tmp_path / "none.parquet", key)


def test_an_interrupted_seal_leaves_nothing_and_never_a_plain_byte(tmp_path):
    folder = tmp_path / "sealed"
    folder.mkdir()
    seen = []

    def rows():
        for batch in ROWS.to_batches(max_chunksize=100):
            seen.extend(CANARY.encode() in p.read_bytes() for p in folder.iterdir())
            yield batch
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_sealed(folder / "t.parquet", ROWS.schema, rows(), [recipient(identity())])
    assert seen
    assert not any(seen)
    assert not list(folder.iterdir())


def test_plain_parts_are_plain_and_complete(tmp_path):
    path = tmp_path / "train.parquet"
    with PartWriter(path, ROWS.schema) as writer:
        for batch in ROWS.to_batches(max_chunksize=3):
            writer.write(batch)
        assert not path.exists()
        assert writer.finish().rows == 500
    assert pq.read_table(path).equals(ROWS)
    assert pq.ParquetFile(path).metadata.num_row_groups == 1


def test_pyarrow_without_encryption_is_explained(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet.encryption", None)
    with pytest.raises(IteraError, match="cannot encrypt"):
        write_sealed(tmp_path / "t.parquet", ROWS.schema, ROWS.to_batches(), [recipient(identity())])


@given(st.integers(1, 600))
@settings(max_examples=20, deadline=None)
def test_commitment_does_not_depend_on_blocks(size):
    mac = Commitment(b"salt", ROWS.schema)
    for batch in ROWS.to_batches(max_chunksize=size):
        mac.update(batch)
    assert mac.hexdigest() == commitment(ROWS, b"salt")


def test_commitment_binds_to_salt_values_columns_and_order():
    base = commitment(ROWS, b"salt")
    changed = ROWS.set_column(3, "weight", pa.array([1.0, *ROWS["weight"].to_pylist()[1:]]))
    variants = [
        commitment(ROWS, b"pepper"),
        commitment(changed, b"salt"),
        commitment(ROWS.rename_columns(["id", *ROWS.column_names[1:]]), b"salt"),
        commitment(ROWS.take(list(range(499, -1, -1))), b"salt"),
        commitment(ROWS.slice(0, 499), b"salt"),
    ]
    assert len({base, *variants}) == 6


def test_commitment_survives_the_seal(sealed):
    path, key, _ = sealed
    assert commitment(read_sealed(path, key), b"s") == commitment(ROWS, b"s")


@given(st.text())
@settings(max_examples=50, deadline=None)
def test_age_lines_round_trip_as_one_line(text):
    key = identity()
    line = AgeLines([recipient(key)]).encode(text)
    assert "\n" not in line
    assert line.isascii()
    assert AgeLines(identity=key).decode(line) == text


def test_age_lines_refuse_other_keys_and_damage():
    key = identity()
    line = AgeLines([recipient(key)]).encode(CANARY)
    assert CANARY not in line
    for reader, text in (
        (AgeLines(identity=identity()), line),
        (AgeLines(identity=key), line[:-8]),
        (AgeLines(), line),
    ):
        with pytest.raises(RecordError, match="cannot be read"):
            reader.decode(text)
