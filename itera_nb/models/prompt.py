"""A prompt arm's text: from a template and a row to a prompt, and from an answer to an output."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itera_nb._typing import JSON, Row
from itera_nb.exceptions import ArmError

if TYPE_CHECKING:
    from jinja2 import Template

    from itera_nb.spec import ArmSpec

_PARSERS = {"labels", "regex", "json"}


class ParseError(ValueError):
    """A model's answer that is no output: what it lacked, without its text."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A compiled prompt and system text; `{{column}}` stands for a value of the row."""

    user: Template
    system: Template | None

    def render(self, row: Row) -> tuple[str, str | None]:
        """The prompt and the system text for a row.

        Raises:
            jinja2.TemplateError: The template names a column that the row does not have.
        """
        return self.user.render(**row), self.system.render(**row) if self.system else None


def compile_prompt(spec: ArmSpec, root: Path) -> Prompt:
    """Compile an arm's template and system text (itself a text, or a file whose name ends in .md).

    Raises:
        ArmError: A file is missing or is no template.
    """
    assert spec.prompt is not None
    system = spec.system
    if system is not None and system.endswith(".md"):
        system = _read(root, system)
    return Prompt(
        _compile(_read(root, spec.prompt), spec.prompt),
        None if system is None else _compile(system, "system"),
    )


def check_parse(spec: Mapping[str, Any] | None) -> None:
    """Refuse a `parse` that `parse_output` could not follow.

    Raises:
        ArmError: Unknown keys, none or several of labels, regex and json, or a bad pattern.
    """
    if spec is None:
        return
    fix = 'use parse = { labels = ["a", "b"] }, { regex = "..." } or { json = true, field = "..." }'
    if len(_PARSERS & spec.keys()) != 1 or spec.keys() - _PARSERS - ({"field"} if "json" in spec else set()):
        raise ArmError(f"parse has the keys {', '.join(sorted(spec)) or 'none'}", fix=fix)
    try:
        re.compile(str(spec.get("regex", "")))
    except re.error as error:
        raise ArmError(f"parse.regex is no regular expression: {error}", fix=fix) from None


def parse_output(text: str, spec: Mapping[str, Any] | None) -> JSON:
    """The output that a model's text holds.

    Args:
        text: The model's text.
        spec: `{labels = [...]}`: the one label that occurs as a whole word, in any case; `{regex = "..."}`:
            its first group; `{json = true, field = "..."}`: the JSON value, or one field of it; nothing: the
            text.

    Raises:
        ParseError: There is no output in it, or more than one label.
    """
    if spec is None:
        return _not_empty(text.strip())
    if "labels" in spec:
        return _label(text, [str(label) for label in spec["labels"]])
    if "regex" in spec:
        match = re.search(str(spec["regex"]), text)
        if match is None:
            raise ParseError("the pattern does not occur")
        return _not_empty((match[1] if match.re.groups else match[0] or "").strip())
    return _json_value(text, spec.get("field"))


def _read(root: Path, name: str) -> str:
    try:
        return (root / name).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = "is not UTF-8" if isinstance(error, UnicodeDecodeError) else "cannot be read"
        raise ArmError(f"prompt file {name} {reason}", fix="check the arm's `prompt` and `system`") from None


def _compile(text: str, name: str) -> Template:
    from jinja2 import StrictUndefined, TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    try:
        return ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False).from_string(text)
    except TemplateError as error:
        raise ArmError(f"{name} is no template: {error}", fix="write columns as {{column}}") from None


def _label(text: str, labels: list[str]) -> str:
    longest_first = sorted(labels, key=len, reverse=True)
    pattern = rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)"
    by_folded = {label.casefold(): label for label in labels}
    found = {m[0].casefold() for m in re.finditer(pattern, text, re.IGNORECASE)}
    if len(found) != 1:
        raise ParseError("several labels occur" if found else "no label occurs")
    return by_folded[found.pop()]


def _json_value(text: str, field: str | None) -> JSON:
    for start in (m.start() for m in re.finditer(r"[{\[]", text)):
        try:
            value, _ = json.JSONDecoder(parse_constant=_no_constant).raw_decode(text, start)
        except ValueError:
            continue
        if field is None:
            return value  # type: ignore[no-any-return]
        if not isinstance(value, dict) or value.get(field) is None:
            raise ParseError("the JSON value lacks the field")
        return value[field]  # type: ignore[no-any-return]
    raise ParseError("no JSON value occurs")


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _not_empty(text: str) -> str:
    if not text:
        raise ParseError("the answer is empty")
    return text
