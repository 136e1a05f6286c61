"""What is said of leaks holds what was not looked at."""

from itera_nb.ledger import Record
from itera_nb.protocol import State
from itera_nb.report.leaks import scan_evidence, scan_text


def opened(scan):
    return State((Record(1, "", "test_opened", "2026-11-21T10:00:00.000+00:00", {"scan": scan}, "0" * 64),))


def test_the_audit_says_what_was_not_looked_at():
    scan = {"files": 12, "objects": 3, "left_out": 2, "blind": 7}
    said = scan_evidence(opened(scan))
    assert said.startswith(
        "12 files and 3 git objects looked at before the claim, 0 sealed rows ever found; "
    )
    for words in (
        "2 were too large or too many",
        "7 sealed rows are too short",
        "a paraphrase or a translation",
    ):
        assert words in said
        assert words in scan_text(scan | {"hits": [], "copies": []})
    assert "too" not in scan_evidence(opened(scan | {"left_out": 0, "blind": 0}))
    assert scan_evidence(opened(None)) == "nobody looked for the sealed rows before the claim"
