"""The Message Batches API: requests are answered when a batch is created and shown when it has ended."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from . import payloads
from .script import Prompt, Script

_LIFE = timedelta(hours=24)


@dataclass(slots=True)
class _Batch:
    name: str
    results: list[dict[str, Any]]
    created: datetime
    ends_at: float
    canceled: datetime | None = None


class Batches:
    """All batches of a server, of which each takes so many seconds; an unknown name is a `KeyError`."""

    def __init__(self, script: Script, seconds: float = 0.0) -> None:
        self._script = script
        self._seconds = seconds
        self._batches: dict[str, _Batch] = {}

    @property
    def created(self) -> int:
        """Batches that were created."""
        return len(self._batches)

    def create(
        self, requests: Sequence[Mapping[str, Any]], headers: Mapping[str, str], base: str
    ) -> dict[str, Any]:
        """Answer all requests and keep the results, shuffled."""
        if max(Counter(r["custom_id"] for r in requests).values(), default=0) > 1:
            raise ValueError("custom_id must be unique within a batch")
        name = f"msgbatch_{len(self._batches) + 1:06d}"
        results = [
            {"custom_id": r["custom_id"], "result": self._result(n, r["params"], headers)}
            for n, r in enumerate(requests)
        ]
        random.Random(len(self._batches)).shuffle(results)  # noqa: S311 - an order, not a secret
        batch = _Batch(name, results, datetime.now(UTC), time.monotonic() + self._seconds)
        self._batches[name] = batch
        return self._shown(batch, base)

    def retrieve(self, name: str, base: str) -> dict[str, Any]:
        """A batch's state."""
        return self._shown(self._batches[name], base)

    def page(self, query: Mapping[str, str], base: str) -> dict[str, Any]:
        """Batches, the newest first, in pages (`limit`, `after_id`)."""
        names = list(reversed(self._batches))
        begin = names.index(query["after_id"]) + 1 if query.get("after_id") in names else 0
        some = names[begin : begin + int(query.get("limit", 20))]
        data = [self._shown(self._batches[name], base) for name in some]
        ends = {"first_id": some[0] if some else None, "last_id": some[-1] if some else None}
        return {"data": data, "has_more": begin + len(some) < len(names), **ends}

    def cancel(self, name: str, base: str) -> dict[str, Any]:
        """Cancel what has not ended: nothing of such a batch is charged."""
        batch = self._batches[name]
        if not self._ended(batch):
            batch.canceled = datetime.now(UTC)
            batch.ends_at = time.monotonic()
            for line in batch.results:
                line["result"] = {"type": "canceled"}
        return self._shown(batch, base)

    def results(self, name: str) -> str:
        """JSON lines, not in the order of the requests."""
        batch = self._batches[name]
        if not self._ended(batch):
            raise KeyError(name)
        return "".join(json.dumps(line) + "\n" for line in batch.results)

    def _result(self, number: int, body: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
        scripted = self._script.draw(Prompt(body, headers))
        if scripted.fault in {"expired", "canceled"}:
            return {"type": scripted.fault}
        if scripted.fault or scripted.status >= 400:
            status = 500 if scripted.fault else scripted.status
            return {"type": "errored", "error": payloads.error(status, scripted.message)}
        return {"type": "succeeded", "message": payloads.message(number, body, scripted, "batch")}

    def _ended(self, batch: _Batch) -> bool:
        return time.monotonic() >= batch.ends_at

    def _shown(self, batch: _Batch, base: str) -> dict[str, Any]:
        ended = self._ended(batch)
        kinds = Counter(line["result"]["type"] for line in batch.results)
        counts = {kind: kinds[kind] * ended for kind in ("succeeded", "errored", "canceled", "expired")}
        now = datetime.now(UTC)
        return {
            "id": batch.name,
            "type": "message_batch",
            "processing_status": "ended" if ended else "in_progress",
            "request_counts": {"processing": len(batch.results) * (not ended), **counts},
            "created_at": batch.created.isoformat(),
            "expires_at": (batch.created + _LIFE).isoformat(),
            "ended_at": now.isoformat() if ended else None,
            "archived_at": None,
            "cancel_initiated_at": batch.canceled.isoformat() if batch.canceled else None,
            "results_url": f"{base}/v1/messages/batches/{batch.name}/results" if ended else None,
        }
