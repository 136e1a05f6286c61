"""Looking for 100,000 sealed rows in 50 MB of 1,000 files with 400 planted leaks: CPU seconds, and what is found.

    python tests/benchmarks/scan.py

Text is synthetic (Zipf's law over 20,000 words). Leaks: 100 rows each verbatim, with one word changed, by half, and in
upper case with escaped line breaks. The index is built before the clock of the scan starts.
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from itera_nb.seal.fingerprints import Index, IndexBuilder
from itera_nb.seal.scan import Scanner

ROWS, WORDS, VOCABULARY = 100_000, 55, 20_000
FILES, FILE_BYTES, LEAKS = 1_000, 50_000, 100
KINDS = {
    "verbatim": " ".join,
    "one word changed": lambda words: " ".join([*words[:27], "otherwise", *words[28:]]),
    "half a row": lambda words: " ".join(words[: WORDS // 2]),
    "upper case, escaped breaks": lambda words: "\\n".join(" ".join(words).upper().split(" ")),
}


def text(rng, vocabulary, words):
    weights = 1 / np.arange(1, len(vocabulary) + 1)
    return [vocabulary[i] for i in rng.choice(len(vocabulary), words, p=weights / weights.sum())]


def world(rng):
    letters = [chr(97 + c) for c in range(26)]
    vocabulary = ["".join(rng.choice(letters, rng.integers(2, 11))) for _ in range(VOCABULARY)]
    words = text(rng, vocabulary, ROWS * WORDS)
    rows = [words[n * WORDS : (n + 1) * WORDS] for n in range(ROWS)]
    other = " ".join(text(rng, vocabulary, FILES * FILE_BYTES // 5)).encode()
    return rows, [other[n * FILE_BYTES : (n + 1) * FILE_BYTES] for n in range(FILES)]


def planted(rng, rows, files):
    """The files with leaks in them, and kind -> rows of it."""
    chosen = rng.choice(ROWS, LEAKS * len(KINDS), replace=False).tolist()
    kinds = {kind: chosen[n * LEAKS : (n + 1) * LEAKS] for n, kind in enumerate(KINDS)}
    for kind, written in KINDS.items():
        for row in kinds[kind]:
            at = int(rng.integers(FILES))
            files[at] = (
                files[at][: FILE_BYTES // 2]
                + b"\n"
                + written(rows[row]).encode()
                + b"\n"
                + files[at][FILE_BYTES // 2 :]
            )
    return kinds


def tell(name, value, unit, limit=None, *, least=False):
    ok = limit is None or (value >= limit if least else value <= limit)
    print(
        json.dumps({"name": name, "value": value, "unit": unit, "limit": limit, "ok": bool(ok)}), flush=True
    )
    return ok


def main():
    rng = np.random.default_rng(20_261_121)
    rows, files = world(rng)
    kinds = planted(rng, rows, files)
    start = time.process_time()
    builder = IndexBuilder()
    builder.add([str(n) for n in range(ROWS)], ([" ".join(row)] for row in rows))
    data = builder.build().to_bytes()
    built = time.process_time() - start
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"file{n:04}.txt") for n in range(FILES)]
        for path, content in zip(paths, files, strict=True):
            path.write_bytes(content)
        index = Index.from_bytes(data)
        start = time.process_time()
        found = Scanner(index, cache=Path(folder, "cache.json")).scan(paths)
        spent = time.process_time() - start
        start = time.process_time()
        Scanner(index, cache=Path(folder, "cache.json")).scan(paths)
        again = time.process_time() - start
    ids = {int(id_) for hit in found.hits for id_ in hit.ids}
    results = [
        tell("index of 100,000 rows", round(built, 2), "CPU s"),
        tell("index size", round(len(data) / 1e6, 1), "MB"),
        tell("scan of 50 MB in 1,000 files", round(spent, 2), "CPU s", 25),
        tell("scan of the same again, from its memory", round(again, 2), "CPU s"),
        tell("peak memory", round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024), "MiB"),
        *(
            tell(f"found: {kind}", len(ids & set(held)), "of 100", 99, least=True)
            for kind, held in kinds.items()
        ),
        tell(
            "rows found that were not planted",
            len(ids - {r for held in kinds.values() for r in held}),
            "rows",
            5,
        ),
    ]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
