"""Response bodies of the Messages API and of chat completions, from one scripted answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from .script import Scripted

Vendor: TypeAlias = Literal["anthropic", "openai"]

_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_FINISH = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
    "tool_use": "tool_calls",
}
_CREATED = 1_700_000_000
_CREATED_AT = "2023-11-14T22:13:20Z"


def usage_of(body: Mapping[str, Any], scripted: Scripted, service_tier: str = "standard") -> dict[str, Any]:
    """Usage in Anthropic's fields: four characters a token, nothing cached, then what is scripted."""
    return {
        "input_tokens": input_tokens(body),
        "output_tokens": len(text_of(scripted)) // 4 + 1,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "service_tier": service_tier,
        **scripted.usage,
    }


def input_tokens(body: Mapping[str, Any]) -> int:
    """Tokens of a request's system text and messages, four characters each."""
    return (len(json.dumps(body["messages"])) + len(json.dumps(body.get("system", "")))) // 4


def text_of(scripted: Scripted) -> str:
    """The answer's text; an object as JSON."""
    return scripted.text if isinstance(scripted.text, str) else json.dumps(dict(scripted.text))


def stop_reason_of(scripted: Scripted) -> str:
    """Why the model stopped, in Anthropic's words."""
    return "tool_use" if scripted.tool_calls and scripted.stop_reason == "end_turn" else scripted.stop_reason


def message(
    number: int, body: Mapping[str, Any], scripted: Scripted, service_tier: str = "standard"
) -> dict[str, Any]:
    """A body of `POST /v1/messages`."""
    text = text_of(scripted)
    content: list[dict[str, Any]] = (
        [{"type": "text", "text": text}] if text or not scripted.tool_calls else []
    )
    for place, call in enumerate(scripted.tool_calls):
        tool = {"id": f"toolu_{number:08d}_{place}", "name": call["name"], "input": call["input"]}
        content.append({"type": "tool_use", **tool})
    return {
        "id": f"msg_{number:08d}",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": content,
        "stop_reason": stop_reason_of(scripted),
        "stop_sequence": None,
        "usage": usage_of(body, scripted, service_tier),
    }


def completion(number: int, body: Mapping[str, Any], scripted: Scripted) -> dict[str, Any]:
    """A body of `POST /v1/chat/completions`."""
    refused = scripted.stop_reason == "refusal"
    text = text_of(scripted)
    reply: dict[str, Any] = {
        "role": "assistant",
        "content": None if refused or (scripted.tool_calls and not text) else text,
        "refusal": text if refused else None,
    }
    if scripted.tool_calls:
        reply["tool_calls"] = [
            {
                "id": f"call_{number:08d}_{place}",
                "type": "function",
                "function": {"name": call["name"], "arguments": json.dumps(call["input"])},
            }
            for place, call in enumerate(scripted.tool_calls)
        ]
    finish = _FINISH.get(stop_reason_of(scripted), "stop")
    return {
        "id": f"chatcmpl-{number:08d}",
        "object": "chat.completion",
        "created": _CREATED,
        "model": body["model"],
        "choices": [{"index": 0, "message": reply, "finish_reason": finish, "logprobs": None}],
        "usage": _openai_usage(usage_of(body, scripted)),
        "service_tier": "default",
    }


def _openai_usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    cached = usage["cache_read_input_tokens"]
    prompt = usage["input_tokens"] + cached + usage["cache_creation_input_tokens"]
    thinking = usage.get("output_tokens_details", {}).get("thinking_tokens", 0)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": usage["output_tokens"],
        "total_tokens": prompt + usage["output_tokens"],
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": thinking},
    }


def error(status: int, said: str, vendor: Vendor = "anthropic") -> dict[str, Any]:
    """An error's body in the vendor's form."""
    kind = _ERRORS.get(status, "api_error")
    if vendor == "openai":
        return {"error": {"message": said, "type": kind, "param": None, "code": None}}
    return {"type": "error", "error": {"type": kind, "message": said}, "request_id": None}


def model(name: str) -> dict[str, Any]:
    """A model's entry, with the fields of both vendors."""
    return {
        "id": name,
        "type": "model",
        "display_name": name,
        "created_at": _CREATED_AT,
        "object": "model",
        "created": _CREATED,
        "owned_by": "loopback",
    }


def model_list(names: Sequence[str]) -> dict[str, Any]:
    """A page of models, with the fields of both vendors."""
    ends = {"first_id": names[0] if names else None, "last_id": names[-1] if names else None}
    return {"object": "list", "data": [model(name) for name in names], "has_more": False, **ends}
