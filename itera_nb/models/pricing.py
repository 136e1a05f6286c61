"""What a call cost: per request, by the experiment's own prices or those of the installed `genai-prices`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from itera_nb.spec import ModelSpec, PriceSpec

_MILLION = 1_000_000
_TIERS = ("service_tier", "speed")
_STANDARD = {None, "standard", "standard_only", "default", "auto"}


def prices_version() -> str:
    """Version of the price list, to be kept beside results."""
    return f"genai-prices {version('genai-prices')}"


def price(
    usage: Mapping[str, Any],
    *,
    model: str | None = None,
    at: datetime | None = None,
    models: Mapping[str, ModelSpec] | None = None,
) -> float | None:
    """USD of one call; `None` where the model or its usage fields are unknown, never 0.

    Prices depend on a request's own size, so that summed usage gives a wrong result, and on when it was made:
    `at`, or now. Usage is the vendor's (Anthropic's, or OpenAI's chat or responses); `model` counts where it
    names none. The experiment's own prices, in `models`, replace the list's.
    """
    vendor, _, name = str(usage.get("model") or model or "").partition("/")
    if not name:
        return None
    counted = {key: value for key, value in usage.items() if value is not None and key != "model"}
    own = models[vendor].prices.get(name) if models and vendor in models else None
    if own is not None:
        return _own_price(counted, own)
    minute = (at or datetime.now(UTC)).replace(second=0, microsecond=0)  # no price begins within a minute
    try:
        return _listed_price(vendor, name, json.dumps(counted, sort_keys=True), minute)
    except (TypeError, ValueError):  # usage that is no JSON
        return None


def largest_price(
    model: str,
    prompt_bytes: int,
    max_tokens: int,
    *,
    params: Mapping[str, Any] | None = None,
    models: Mapping[str, ModelSpec] | None = None,
) -> float:
    """USD that a call can cost at most: a token is at least a byte; 0 where the price is unknown.

    Of `params`, a dearer `speed` or `service_tier` counts.
    """
    tiers = {name: params[name] for name in _TIERS if params and name in params}
    usage = {"input_tokens": prompt_bytes, "output_tokens": max_tokens} | tiers
    return price(usage, model=model, models=models) or 0.0


def _own_price(usage: Mapping[str, Any], own: PriceSpec) -> float | None:
    """USD by `prices.toml`; `None` where the call used what it gives no price for."""
    batch = usage.get("service_tier") == "batch"
    if not batch and any(usage.get(tier) not in _STANDARD for tier in _TIERS):
        return None
    counts = _counts(usage)
    if counts is None or min(counts.values()) < 0 or (batch and own.batch is None):
        return None
    total = 0.0
    for kind, tokens in counts.items():
        per_million = getattr(own, kind)
        if tokens and per_million is None:
            return None
        total += tokens * (per_million or 0.0) / _MILLION
    return total * own.batch if batch and own.batch is not None else total


def _counts(usage: Mapping[str, Any]) -> dict[str, int] | None:
    """Tokens by kind of price, from Anthropic's fields (input without cache) or OpenAI's (with)."""
    try:
        if "input_tokens" in usage and "input_tokens_details" not in usage:
            written = int(usage.get("cache_creation_input_tokens", 0))
            long = int((usage.get("cache_creation") or {}).get("ephemeral_1h_input_tokens", 0))
            return {
                "input": int(usage["input_tokens"]),
                "output": int(usage["output_tokens"]),
                "cache_read": int(usage.get("cache_read_input_tokens", 0)),
                "cache_write": written - long,
                "cache_write_1h": long,
            }
        asked, answered = ("input", "output") if "input_tokens" in usage else ("prompt", "completion")
        details = usage.get(f"{asked}_tokens_details") or {}
        read, written = int(details.get("cached_tokens") or 0), int(details.get("cache_write_tokens") or 0)
        return {
            "input": int(usage[f"{asked}_tokens"]) - read - written,
            "output": int(usage[f"{answered}_tokens"]),
            "cache_read": read,
            "cache_write": written,
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


@lru_cache(maxsize=4096)
def _listed_price(vendor: str, name: str, usage: str, at: datetime) -> float | None:
    """USD by the price list; remembered: rows of one length cost the same, and a price takes 0.1 ms."""
    from genai_prices import calc_price
    from genai_prices.data_snapshot import get_snapshot

    counted = json.loads(usage)
    try:
        extracted = get_snapshot().extract_usage(
            {"model": name, "usage": counted}, provider_id=vendor, api_flavor=_flavor(vendor, counted)
        )
        result = calc_price(
            extracted.usage,
            name,
            provider_id=vendor,
            genai_request_timestamp=at,
            price_context=_context(vendor, counted),
        )
    except (LookupError, ValueError, TypeError):
        return None
    return float(result.total_price)


def _flavor(vendor: str, usage: Mapping[str, Any]) -> str:
    """The name under which the price list knows usage of this shape at this vendor, or a `LookupError`."""
    from genai_prices.data_snapshot import get_snapshot

    wanted: tuple[str, ...]
    if "prompt_tokens" in usage:
        wanted = ("chat", "default")
    elif "input_tokens_details" in usage or vendor == "openai":
        wanted = ("responses",)
    else:
        wanted = ("anthropic", "default")
    provider = get_snapshot().find_provider(None, vendor, None)
    known = {extractor.api_flavor for extractor in provider.extractors or ()}
    found = next((flavor for flavor in wanted if flavor in known), None)
    if found is None:
        raise LookupError(vendor)
    return found


def _context(vendor: str, usage: Mapping[str, Any]) -> dict[str, str] | None:
    """What the price list does not read out of usage by itself."""
    context = {}
    tier = usage.get("service_tier")
    if tier == "batch":
        context["processing"] = "batch"
    elif tier is not None and vendor != "anthropic":  # its tiers but batch have the standard's list price
        context["service_tier"] = str(tier)
    if usage.get("speed") == "fast":
        context["speed"] = "fast"
    return context or None
