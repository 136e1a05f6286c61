"""Chat completions: OpenAI's own API, and every endpoint that speaks it (gateways, local servers)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from itera_nb.exceptions import ArmError

from .client import DEFAULT_MAX_TOKENS, LIMITS, Origin, Reply, Request
from .credentials import find_key
from .sdk import SdkClient

if TYPE_CHECKING:
    import openai

    from itera_nb.spec import ModelSpec

# Anthropic's words for why an answer ended, which the rest of the package knows.
_STOP_WORDS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "content_filter": "refusal",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
}


class OpenAICompatibleClient(SdkClient["openai.AsyncOpenAI"]):
    """The client for all calls of a run to one endpoint."""

    own_host = "api.openai.com"

    def __init__(self, vendor: str, spec: ModelSpec | None = None, *, quiet: bool = False) -> None:
        try:
            import openai
        except ImportError:
            raise ArmError(
                f"models of {vendor!r} are called through the package openai, which is not installed",
                fix='pip install "itera-nb[openai]"',
            ) from None
        found = find_key(vendor, spec)
        base_url = spec.base_url if spec else None
        elsewhere = {"base_url": base_url} if base_url else {}

        def make(http: Any) -> openai.AsyncOpenAI:
            return openai.AsyncOpenAI(api_key=found.key, max_retries=0, http_client=http, **elsewhere)  # type: ignore[arg-type]

        origin = Origin(vendor, found.variable, openai, openai.OpenAIError)
        super().__init__(origin, make, openai.DefaultAioHttpClient, quiet=quiet)
        # OpenAI's newer models refuse `max_tokens`; most other servers know nothing else.
        self._limit = "max_tokens" if base_url else "max_completion_tokens"

    def _resource(self, client: openai.AsyncOpenAI) -> Any:
        return client.chat.completions

    async def _has(self, client: Any, model: str, *, own: bool) -> bool | None:
        if own:
            return await super()._has(client, model, own=own)
        listed = (await client.models.list(timeout=None)).data  # most other servers cannot look one model up
        return True if any(found.id == model for found in listed) else None

    def _in_own_words(self, request: Request) -> dict[str, Any]:
        renamed = {"effort": "reasoning_effort", "max_tokens": self._limit}
        words = {renamed.get(name, name): value for name, value in request.params.items()}
        if not any(name in request.params for name in LIMITS):
            words[self._limit] = DEFAULT_MAX_TOKENS
        if request.schema is not None:
            schema = {"name": "answer", "strict": True, "schema": request.schema}
            words["response_format"] = {"type": "json_schema", "json_schema": schema}
        system = [] if request.system is None else [{"role": "system", "content": request.system}]
        return words | {"messages": [*system, *request.messages]}

    def read(self, body: Any, model: str, *, latency_ms: float) -> Reply:
        """See `SdkClient.read`."""
        choice = body["choices"][0]
        message = choice["message"]
        calls = [_tool_call(call["function"]) for call in message.get("tool_calls") or ()]
        reason = choice["finish_reason"] or ""
        stop = "refusal" if message.get("refusal") else _STOP_WORDS.get(reason, reason)
        usage = {name: value for name, value in (body.get("usage") or {}).items() if value is not None}
        if body.get("service_tier") is not None:
            usage["service_tier"] = body["service_tier"]
        usage["model"] = f"{self.origin.vendor}/{model}"
        return Reply(message.get("content") or "", stop, usage, latency_ms, tuple(calls))


def _tool_call(function: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return {"name": function["name"], "input": json.loads(function["arguments"])}
    except json.JSONDecodeError:  # the model's mistake, not the transport's
        return {"name": function["name"], "input": function["arguments"]}
