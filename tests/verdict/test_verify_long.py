"""Verifying stays quick when the record is long."""

import hashlib
import time

from itera_nb.experiment import Experiment
from itera_nb.ledger import canonical
from itera_nb.verdict.verify import verify

RECORDS, SECONDS = 10_000, 2.0


def test_ten_thousand_records_are_verified_in_two_seconds(finished):
    path = finished.folder / "ledger.jsonl"
    lines = path.read_bytes().splitlines()
    while len(lines) < RECORDS:
        record = {
            "seq": len(lines) + 1,
            "prev": hashlib.sha256(lines[-1]).hexdigest(),
            "type": "accepted",
            "ts": "2026-11-22T08:46:50.000+00:00",
            "body": {"safeguard": "SG12", "why": "x" * 300},
        }
        lines.append(canonical(record))
    path.write_bytes(b"\n".join(lines) + b"\n")
    with finished.entered():
        began = time.process_time()
        report = verify(Experiment(finished.folder))
        spent = time.process_time() - began
    assert report.level == "record and rows"
    assert all(finding.holds for finding in report.findings)
    assert spent < SECONDS
