"""What a call cost: per request, from the price list of the installed `genai-prices`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any


def prices_version() -> str:
    """Version of the price list, to be kept beside results."""
    return f"genai-prices {version('genai-prices')}"


def price(usage: Mapping[str, Any], *, model: str | None = None, at: datetime | None = None) -> float | None:
    """USD of one call; `None` where the model or its usage fields are unknown, never 0.

    Prices depend on a request's own size, so that summed usage gives a wrong result.

    Args:
        usage: The vendor's usage fields (Anthropic's, or OpenAI's chat or responses); `model` in it names the
            model as `vendor/name`.
        model: The model where `usage` does not name it.
        at: When the request was made (prices change); now by default.
    """
    vendor, _, name = str(usage.get("model") or model or "").partition("/")
    if not name:
        return None
    from genai_prices import calc_price
    from genai_prices.data_snapshot import get_snapshot

    counted = {key: value for key, value in usage.items() if value is not None and key != "model"}
    try:
        extracted = get_snapshot().extract_usage(
            {"model": name, "usage": counted}, provider_id=vendor, api_flavor=_flavor(vendor, counted)
        )
        result = calc_price(
            extracted.usage,
            name,
            provider_id=vendor,
            genai_request_timestamp=at or datetime.now(UTC),
            price_context=_context(counted),
        )
    except (LookupError, ValueError, TypeError):
        return None
    return float(result.total_price)


def largest_price(model: str, prompt_bytes: int, max_tokens: int) -> float:
    """USD that a call can cost at most: a token is at least a byte; 0 where the price is unknown."""
    return price({"input_tokens": prompt_bytes, "output_tokens": max_tokens}, model=model) or 0.0


def _flavor(vendor: str, usage: Mapping[str, Any]) -> str:
    if vendor == "anthropic":
        return "default"
    return "chat" if "prompt_tokens" in usage else "responses"


def _context(usage: Mapping[str, Any]) -> dict[str, str] | None:
    """What the price list does not read out of usage by itself."""
    context = {}
    if usage.get("service_tier") == "batch":
        context["processing"] = "batch"
    if usage.get("speed") == "fast":
        context["speed"] = "fast"
    return context or None
