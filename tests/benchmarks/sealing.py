"""What encryption costs: sealing and opening a million rows against writing and reading the same as plain Parquet.

    python tests/benchmarks/sealing.py

CPU seconds, medians of three interleaved rounds. The commitment, which binds to the rows' text, is told apart.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyrage

from itera_nb.seal.parquet import PartWriter, commitment, read_sealed

ROWS, CHARACTERS, ROUNDS = 1_000_000, 200, 3


def table():
    rng = np.random.default_rng(20_261_121)
    letters = rng.integers(97, 123, ROWS * CHARACTERS, dtype=np.uint8)
    starts = np.arange(0, (ROWS + 1) * CHARACTERS, CHARACTERS, dtype=np.int32)
    texts = pa.StringArray.from_buffers(ROWS, pa.py_buffer(starts), pa.py_buffer(letters))
    return pa.table({"id": pa.array(np.arange(ROWS)).cast(pa.string()), "text": texts})


def seconds(action):
    start = time.process_time()
    action()
    return time.process_time() - start


def write(rows, path, recipients=None):
    with PartWriter(path, rows.schema, recipients) as writer:
        for batch in rows.to_batches(max_chunksize=16_384):
            writer.write(batch)
        writer.finish()


def main():
    rows, key = table(), pyrage.x25519.Identity.generate()
    spent = {name: [] for name in ("write", "read", "seal", "open")}
    with tempfile.TemporaryDirectory() as folder:
        plain, sealed = Path(folder, "plain.parquet"), Path(folder, "sealed.parquet")
        for _ in range(ROUNDS):
            spent["write"].append(seconds(lambda: write(rows, plain)))
            spent["seal"].append(seconds(lambda: write(rows, sealed, [str(key.to_public())])))
            spent["read"].append(seconds(lambda: pq.read_table(pa.BufferReader(plain.read_bytes()))))
            spent["open"].append(seconds(lambda: read_sealed(sealed, str(key))))
    middle = {name: statistics.median(values) for name, values in spent.items()}
    ratio = (middle["seal"] + middle["open"]) / (middle["write"] + middle["read"])
    figures = [(name, round(value, 2), "CPU s", None) for name, value in middle.items()]
    figures.append(
        ("commitment to the rows", round(seconds(lambda: commitment(rows, b"salt")), 2), "CPU s", None)
    )
    figures.append(("sealing and opening against plain Parquet", round(ratio, 3), "ratio", 1.15))
    for name, value, unit, limit in figures:
        ok = limit is None or value <= limit
        print(json.dumps({"name": name, "value": value, "unit": unit, "limit": limit, "ok": ok}), flush=True)
    sys.exit(0 if ratio <= 1.15 else 1)


if __name__ == "__main__":
    main()
