"""Which models are of one family: such models share training, tastes and mistakes."""

from __future__ import annotations

import re

_WORDS = {
    "claude": "claude",
    "gpt": "gpt chatgpt davinci",
    "gemini": "gemini gemma",
    "llama": "llama codellama",
    "mistral": "mistral mixtral ministral codestral magistral",
    "qwen": "qwen qwq",
    "cohere": "command",
} | {name: name for name in ("deepseek", "grok", "phi", "nova", "glm", "kimi", "smollm")}
_FAMILIES = {word: family for family, words in _WORDS.items() for word in words.split()}
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
