"""A ledger record as one plain line: what the tail of the ledger says."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from itera_nb.ledger import Record
from itera_nb.report.wording import changes_text, clean, percent, shorten
from itera_nb.spec import hide_keys

WIDEST = 160
Body = Mapping[str, Any]


def record_line(record: Record) -> str:
    """What happened, in at most 160 characters; nothing that looks like a key, no control characters.

    A record whose body is not as this version writes it is called by its type.
    """
    say = _LINES.get(record.type)
    text = record.type.replace("_", " ")
    if say is not None:
        with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
            text = say(record.body)
    return shorten(hide_keys(clean(text)), WIDEST)


def _sealed(body: Body) -> str:
    parts = ", ".join(f"{part} {body['counts'][part]:,}" for part in ("train", "dev", "test"))
    return f"test set sealed: {parts} rows"


def _scored(body: Body) -> str:
    what = f"iteration {body['iteration']}" if body["iteration"] else f"{len(body['arms'])} arms"
    return f"{what} scored on {body['n']:,} {body['rows']} rows"


def _gate(body: Body) -> str:
    changes = "; ".join(f"{c['id']} {c['class']}, {c['action']}" for c in body["changes"])
    return f"gate of sprint {body['sprint']}: {changes}"


def _verdict(body: Body) -> str:
    arm = f" {body['arm']}" if body["arm"] else ""
    return f"verdict: {str(body['outcome']).upper()}{arm}"


def _contamination(body: Body) -> str:
    rows = {i for hit in body["found"] for i in (*hit["passages"], *hit["wholes"])}
    files = [*(hit["file"] for hit in body["found"]), *body["copies"]]
    return f"{len(rows):,} sealed rows found outside the seal, in {', '.join(files[:3])}"


_LINES: dict[str, Callable[[Body], str]] = {
    "created": lambda b: f"experiment begun (key: {b['custody']})",
    "frame_locked": lambda b: f"frame locked: {changes_text(b['changes'])}",
    "sampled": lambda b: f"{b['rows']:,} rows sampled",
    "audit_passed": lambda b: f"distribution audit: {str(b['status']).replace('_', ' ')}",
    "audit_accepted": lambda b: f"distribution audit accepted: {b['why']}",
    "sealed": _sealed,
    "baseline_measured": lambda b: f"baseline measured on {b['n']:,} train rows: {percent(b['value'])}",
    "metric_locked": lambda b: f"metric and rule locked, {len(b['modes'])} failure modes",
    "pilot_passed": lambda b: f"pilot passed: {len(b['arms'])} arms on one row",
    "scored": _scored,
    "labels_audited": lambda b: f"labels of {b['asked']:,} failing rows audited by {b['by']}",
    "revealed": lambda b: f"{len(b['ids'])} dev rows shown to a person",
    "screened": lambda b: f"{len(b['arms'])} arms screened on {b['n']:,} train rows",
    "proposal_refused": lambda b: f"{b['proposer']} proposed no iteration: {b['what']}",
    "iteration_registered": lambda b: f"iteration {b['id']} registered: {b['what']}",
    "gate": _gate,
    "locked": lambda b: f"arms locked: {', '.join(str(x['head']) for x in b['lines'])}",
    "test_opened": lambda _: "sealed test set opened",
    "resumed": lambda _: "the opened pass was resumed",
    "verdict": _verdict,
    "concluded": lambda b: f"conclusion written: {len(b['files'])} files",
    "extended": lambda b: f"top-up sealed: {b['count']:,} rows",
    "accepted": lambda b: f"{b['safeguard']} accepted: {b['why']}",
    "seal_touched": lambda b: f"sealed file touched: {b['file']}",
    "attempt_refused": lambda b: f"refused {b['safeguard']}: {b['what']}",
    "amended": lambda b: f"amended ({b['seen']}): {b['why']}",
    "contamination": _contamination,
    "resealed": lambda b: (
        f"resealed: {len(b['moved']):,} leaked rows to dev, {b['fresh']:,} fresh ones sealed"
    ),
    "evicted": lambda b: f"raw source {b['file']} {'sealed' if b['how'] == 'seal' else 'removed'}",
    "recovered": lambda b: f"half-written line set aside: {b['bytes']} bytes",
}
