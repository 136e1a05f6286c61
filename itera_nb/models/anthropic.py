"""Anthropic's Messages API, through its SDK."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .client import DEFAULT_MAX_TOKENS, Origin, Reply, Request
from .credentials import find_key
from .sdk import SdkClient

if TYPE_CHECKING:
    import anthropic

    from itera_nb.spec import ModelSpec

VENDOR = "anthropic"


class AnthropicClient(SdkClient["anthropic.AsyncAnthropic"]):
    """The client for all calls of a run to Anthropic."""

    own_host = "api.anthropic.com"

    def __init__(self, spec: ModelSpec | None = None, *, quiet: bool = False) -> None:
        import anthropic

        found = find_key(VENDOR, spec)

        def make(http: Any) -> anthropic.AsyncAnthropic:
            return anthropic.AsyncAnthropic(
                api_key=found.key,
                base_url=spec.base_url if spec else None,
                max_retries=0,
                http_client=http,
                open_telemetry=False,  # spans cost time, and could show what nobody may read
            )

        origin = Origin(VENDOR, found.variable, anthropic, anthropic.AnthropicError)
        super().__init__(origin, make, anthropic.DefaultAioHttpClient, quiet=quiet)

    def _resource(self, client: anthropic.AsyncAnthropic) -> Any:
        return client.messages

    def _in_own_words(self, request: Request) -> dict[str, Any]:
        words = {"max_tokens": DEFAULT_MAX_TOKENS, **request.params, "messages": request.messages}
        config = {"effort": words.pop("effort")} if "effort" in words else {}
        config |= words.pop("output_config", {})
        if request.schema is not None:
            config["format"] = {"type": "json_schema", "schema": request.schema}
        if config:
            words["output_config"] = config
        if request.system is not None:
            words["system"] = request.system
        return words

    def read(self, body: Any, model: str, *, latency_ms: float) -> Reply:
        """See `SdkClient.read`."""
        text: list[str] = []
        calls: list[Mapping[str, Any]] = []
        for block in body["content"]:
            if block["type"] == "text":
                text.append(block["text"])
            elif block["type"] == "tool_use":
                calls.append({"name": block["name"], "input": block["input"]})
        usage = {name: value for name, value in body["usage"].items() if value is not None}
        usage["model"] = f"{VENDOR}/{model}"
        return Reply("".join(text), body["stop_reason"] or "", usage, latency_ms, tuple(calls))
