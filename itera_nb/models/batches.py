"""Anthropic's Message Batches, through its SDK: hand requests over, look after them, read the results."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from itera_nb.exceptions import StoppedError

from .client import NO_MESSAGE, CallError, Reply, Request, translate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .anthropic import AnthropicClient

ResultKind: TypeAlias = Literal["succeeded", "errored", "canceled", "expired"]
CREATE_TIMEOUT_S = 600.0
ASK_TIMEOUT_S = 60.0
LIST_TIMEOUT_S = 600.0
KEPT = timedelta(days=29)
_PAGE = 100


@dataclass(frozen=True, slots=True)
class BatchState:
    """A batch as the provider shows it: its id, how many requests it holds, and its age by his clock."""

    name: str
    size: int
    created_at: datetime
    ended: bool  # every request has a result
    readable: bool  # they are kept 29 days


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of one request of a batch: the message in the API's form, or the API's error."""

    custom_id: str
    kind: ResultKind  # only `succeeded` is charged
    message: Mapping[str, Any] | None = None
    error_type: str = ""
    error: str = ""  # may quote the prompt


class BatchClient:
    """Batches through a run's shared client; every method is one attempt.

    All of them raise `CallError` where it may be tried again and `StoppedError` where that is of no use. They
    know no model: a message about one names none.
    """

    def __init__(self, client: AnthropicClient) -> None:
        self._client = client
        self._batches = client.sdk_client.messages.batches

    def params(self, request: Request) -> dict[str, Any]:
        """A request as it stands in a batch; see `SdkClient.arguments`."""
        arguments = self._client.arguments(request)
        extra = arguments.pop("extra_body", {})
        return {**arguments, **extra}

    def reply(self, result: BatchResult, model: str) -> Reply:
        """The reply of a request that succeeded, its usage marked as a batch's; no latency is known."""
        try:
            message: dict[str, Any] = dict(result.message or {})
            message["usage"] = {**message["usage"], "service_tier": "batch"}
            return self._client.read(message, model, latency_ms=0.0)
        except NO_MESSAGE as error:
            raise CallError("garbled", type(error).__name__, "the result is no message") from None

    async def submit(self, requests: Sequence[Mapping[str, Any]]) -> str:
        """Create a batch of `{"custom_id": ..., "params": ...}` and return its id.

        Raises:
            CallError: With `request` or `rate_limit` it was refused; with any other trouble it may exist.
            StoppedError: Key, credit or permission.
        """
        with self._translated():
            async with asyncio.timeout(CREATE_TIMEOUT_S):
                created = await self._batches.create(requests=requests, timeout=None)  # type: ignore[arg-type]
            return str(created.id)

    async def state(self, name: str) -> BatchState:
        """A batch's state.

        Raises:
            StoppedError: This key knows no such batch.
        """
        with self._translated(name):
            async with asyncio.timeout(ASK_TIMEOUT_S):
                return _state(await self._batches.retrieve(name, timeout=None))

    async def listed(self, until: Collection[str]) -> list[BatchState]:
        """The batches whose results are kept still, the newest first, up to the first that is in `until`.

        Their age is reckoned from the newest, by the provider's clock: this machine's may be wrong.
        """
        found: list[BatchState] = []
        with self._translated():
            async with asyncio.timeout(LIST_TIMEOUT_S):
                async for batch in self._batches.list(limit=_PAGE, timeout=None):
                    if batch.id in until or (found and found[0].created_at - batch.created_at > KEPT):
                        break
                    found.append(_state(batch))
        return found

    async def results(self, name: str) -> AsyncIterator[BatchResult]:
        """The results of a batch that has ended, in any order."""
        with self._translated(name):
            decoder = await self._batches.results(name, timeout=CREATE_TIMEOUT_S)
            try:
                async for line in decoder:
                    yield _result(line.model_dump(mode="json"))
            finally:
                await decoder.close()

    @contextmanager
    def _translated(self, name: str = "") -> Iterator[None]:
        origin = self._client.origin
        try:
            yield
        except (CallError, StoppedError):
            raise
        except origin.sdk.NotFoundError:
            if name:
                what = f"this key knows no batch {name}"
                fix = f"set {origin.key_env} to the key that created it, or take it out of batches.jsonl"
            else:
                what, fix = "this API has no message batches", "say [run] batch = false"
            raise StoppedError(what, fix=fix) from None
        except NO_MESSAGE as error:
            raise CallError("garbled", type(error).__name__, "the response is no batch") from None
        except Exception as error:  # noqa: BLE001 - translated; its chain could quote a row or a key
            raise translate(error, origin, "a model of the batch") from None


def _state(batch: Any) -> BatchState:
    size = sum(batch.request_counts.model_dump().values())
    ended = batch.processing_status == "ended"
    return BatchState(batch.id, size, batch.created_at, ended, ended and batch.archived_at is None)


def _result(line: Mapping[str, Any]) -> BatchResult:
    result = line["result"]
    error = (result.get("error") or {}).get("error") or {}
    said = {"error_type": str(error.get("type", "")), "error": str(error.get("message", ""))}
    return BatchResult(line["custom_id"], result["type"], result.get("message"), **said)
