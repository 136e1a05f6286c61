"""From a vendor's name to its client."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from itera_nb.exceptions import ArmError

from .anthropic import AnthropicClient
from .openai_compatible import OpenAICompatibleClient

if TYPE_CHECKING:
    from itera_nb.spec import ModelSpec

AnyClient: TypeAlias = AnthropicClient | OpenAICompatibleClient


def open_client(vendor: str, spec: ModelSpec | None, *, quiet: bool = False) -> AnyClient:
    """A vendor's client: Anthropic's, OpenAI's, or that of an OpenAI-compatible endpoint.

    Args:
        vendor: What stands before the slash of a model's name.
        spec: `[models.VENDOR]`, if there is one.
        quiet: Whether the SDK's own logging, which can show prompts, is switched off.

    Raises:
        ArmError: The vendor is unknown, or its package is not installed.
        StoppedError: There are no credentials.
    """
    if vendor == "anthropic":
        return AnthropicClient(spec, quiet=quiet)
    if vendor == "openai" or (spec is not None and spec.base_url is not None):
        return OpenAICompatibleClient(vendor, spec, quiet=quiet)
    raise ArmError(
        f"unknown vendor {vendor!r}: anthropic and openai are known",
        fix=f'for an OpenAI-compatible endpoint write [models.{vendor}] base_url = "https://..."',
    )
