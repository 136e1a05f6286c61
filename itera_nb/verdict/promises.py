"""Every file whose hash stands in the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from itera_nb.ledger import Record
from itera_nb.protocol import State
from itera_nb.seal.custody import SEED_FILE
from itera_nb.source.contamination import index_file

ROWS = ("data/", "runs/", "sealed/", "snapshot/")
"""Folders whose files hold or quote rows: git does not take them, but for `sealed/` under escrow."""
PLACES = {
    "train": "data/train.parquet",
    "dev": "data/dev.parquet",
    "test": "sealed/test.parquet",
    "seed": SEED_FILE,
    "scan": index_file(1),
}


@dataclass(frozen=True, slots=True)
class Promise:
    """A file of the experiment's folder, its recorded SHA-256 (hex), and the record that vouches for it."""

    file: str
    sha256: str
    record: Record


def batch_suffix(number: int) -> str:
    """What ends the names of a sealed batch's files: nothing for the first, "-2" for the top-up."""
    return "" if number == 1 else f"-{number}"


def promises(state: State) -> Iterator[Promise]:
    """Every promised file, by its latest record."""
    latest: dict[str, Promise] = {}
    for record in state.records:
        for file, sha256 in _hashes(record).items():
            latest[file] = Promise(file, sha256, record)
    yield from latest.values()


def _hashes(record: Record) -> dict[str, str]:
    body = record.body
    if record.type in {"scored", "baseline_measured", "judge_checked", "labels_audited"}:
        return {body["file"]: body["sha256"]}
    if record.type in {"sealed", "resealed"}:
        return {PLACES[part]: sha256 for part, sha256 in body["files"].items()}
    if record.type == "locked":
        return {f"snapshot/{file}": sha256 for file, sha256 in body["files"].items()}
    if record.type == "extended":
        return {"sealed/test-2.parquet": body["sealed"]["sha256"], index_file(2): body["scan"]}
    if record.type == "verdict":
        return {body[part]["file"]: body[part]["sha256"] for part in ("results", "rows")}
    return dict(body.get("files", {})) if record.type in {"concluded", "evicted"} else {}
