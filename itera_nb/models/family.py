"""Which models are of one family: such models share training, tastes and mistakes."""

from __future__ import annotations

import re

_FAMILIES = {
    "claude": "claude",
    "gpt": "gpt",
    "chatgpt": "gpt",
    "davinci": "gpt",
    "gemini": "gemini",
    "gemma": "gemini",
    "llama": "llama",
    "codellama": "llama",
    "mistral": "mistral",
    "mixtral": "mistral",
    "ministral": "mistral",
    "codestral": "mistral",
    "magistral": "mistral",
    "qwen": "qwen",
    "qwq": "qwen",
    "deepseek": "deepseek",
    "grok": "grok",
    "command": "cohere",
    "phi": "phi",
    "nova": "nova",
    "glm": "glm",
    "kimi": "kimi",
    "smollm": "smollm",
}
_REASONING = re.compile(r"o[134](?![0-9a-z])")  # o1, o3-mini, o4 ...


def family(model: str) -> str:
    """The family of a model `vendor/name`: by a well-known word in its name, else by its vendor.

    Whoever serves a model does not change its family: `anthropic/claude-opus` and
    `bedrock/anthropic.claude-opus` are one.
    """
    vendor, _, name = model.lower().rpartition("/")
    for word in re.findall(r"[a-z]+", name):
        if word in _FAMILIES:
            return _FAMILIES[word]
    if _REASONING.match(name):
        return "gpt"
    return vendor.partition("/")[0] or name
