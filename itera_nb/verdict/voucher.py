"""Under escrow: proof that a verdict was made with a recipient's key, for whoever holds one.

Anyone who can push can append records to a ledger, and anyone can encrypt to public keys. The vouchers in
the records `test_opened` and `verdict` are keyed with the private key that decided; not with the seed, which
whoever made the split may have kept. As a module it is the isolated process that checks.
"""

from __future__ import annotations

import hashlib
import hmac
import sys
from collections.abc import Mapping
from typing import Any

from itera_nb.experiment import Experiment
from itera_nb.isolated import answer_as_json
from itera_nb.ledger import canonical

MODULE = "itera_nb.verdict.voucher"
VOUCHER = "voucher"


def voucher(identity: str, before: str, body: Mapping[str, Any]) -> str:
    """HMAC-SHA256 (hex) of a record's body and of what stands before it.

    Args:
        identity: A recipient's private key; comments and white space around it do not count.
        before: Hash of the `locked` record for an opening, of the `test_opened` record for its verdict.
        body: The record's body; its own voucher is left out.
    """
    said = {name: value for name, value in body.items() if name != VOUCHER}
    words = identity.split()
    key = " ".join([word for word in words if word.startswith("AGE-SECRET-KEY-")][:1] or words)
    return hmac.new(f"{MODULE} {key}".encode(), canonical([before, said]), hashlib.sha256).hexdigest()


def vouched(experiment: Experiment) -> dict[str, bool]:
    """Number of each `verdict` record -> whether it and its opening were made with the key at hand.

    Raises:
        Refusal: SG01 without a recipient's private key.
    """
    identity, hashes, own, found = experiment.secret.identity, dict[str, str](), False, dict[str, bool]()
    for record in experiment.state.records:
        before = {"test_opened": "locked", "verdict": "test_opened"}.get(record.type)
        if before is not None:
            given = str(record.body.get(VOUCHER, ""))
            same = hmac.compare_digest(given, voucher(identity, hashes.get(before, ""), record.body))
            own = same and (own or record.type == "test_opened")
            if record.type == "verdict":
                found[str(record.seq)] = own
        hashes[record.type] = record.hash
    return found


if __name__ == "__main__":
    sys.exit(answer_as_json(lambda: vouched(Experiment(sys.argv[1]))))
