"""What a prompt arm reads out of a model's text."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from itera_nb._typing import JSON
from itera_nb.exceptions import ArmError

from .prompt import read_json

_KINDS = {"labels", "regex", "json", "schema"}
_FIX = 'parse is { labels = ["a"] }, { regex = "..." }, { json = true, field = "..." } or { schema = "FILE" }'


class ParseError(ValueError):
    """A model's answer that is no output: what it lacked, without its text."""


class NotFiniteError(ValueError):
    """NaN or infinity in a JSON text."""


class StrictDecoder(json.JSONDecoder):
    """Reads JSON as every file and API can hold it: finite numbers only, and "?" for half a surrogate pair.

    Raises:
        NotFiniteError: It holds NaN, infinity, or a number too large for a float.
    """

    def __init__(self) -> None:
        super().__init__(parse_constant=_not_finite, parse_float=_finite)

    def raw_decode(self, s: str, idx: int = 0) -> tuple[Any, int]:
        """See `json.JSONDecoder.raw_decode`."""
        value, end = super().raw_decode(s, idx)
        text = json.dumps(value, ensure_ascii=False)
        try:
            text.encode()
        except UnicodeEncodeError:
            value = json.loads(text.encode(errors="replace"))
        return value, end


class Parser:
    """Reads the output that an arm's `parse` describes.

    Args:
        spec: `{labels = [...]}`: the one label that occurs as a whole word, in any case; `{regex = "..."}`:
            its first group; `{json = true, field = "..."}`: the JSON value, or one field of it;
            `{schema = "FILE", field = "..."}`: the same, following a JSON schema; nothing: the text.
        root: Folder that the schema's path is relative to.

    Attributes:
        schema: The JSON schema that the model is asked to follow, if there is one.

    Raises:
        ArmError: Unknown keys, none or several of those above, a bad pattern or a bad schema.
    """

    def __init__(self, spec: Mapping[str, Any] | None, root: Path) -> None:
        self._spec = dict(spec or {})
        kinds = _KINDS & self._spec.keys()
        field_allowed = {"field"} if kinds & {"json", "schema"} else set()
        if spec is not None and (len(kinds) != 1 or self._spec.keys() - kinds - field_allowed):
            raise ArmError(f"parse has the keys {', '.join(sorted(self._spec)) or 'none'}", fix=_FIX)
        self.schema: dict[str, Any] | None = None
        self._check: Callable[[Any], None] | None = None
        if "schema" in self._spec:
            self.schema = read_json(root, str(self._spec["schema"]))
            self._check = _validator(self.schema, str(self._spec["schema"]))
        self._pattern = _pattern(self._spec)

    def output(self, text: str) -> JSON:
        """The output in a model's text.

        Raises:
            ParseError: There is none in it, more than one label, or it does not follow the schema.
        """
        if self._pattern is None:
            return self._value(text) if self._spec else _not_empty(text.strip())
        if "labels" in self._spec:
            return self._label(text)
        match = self._pattern.search(text)
        if match is None:
            raise ParseError("the pattern does not occur")
        return _not_empty((match[1] if self._pattern.groups else match[0] or "").strip())

    def example(self, label: Any) -> str:
        """A text that this parser reads `label` out of, as far as its kind says how one looks."""
        if name := self._spec.get("field"):
            return json.dumps({name: label}, ensure_ascii=False, default=str)
        return label if isinstance(label, str) else json.dumps(label, ensure_ascii=False, default=str)

    def _label(self, text: str) -> str:
        assert self._pattern is not None
        by_folded = {str(label).casefold(): str(label) for label in self._spec["labels"]}
        found = {m[0].casefold() for m in self._pattern.finditer(text)}
        if len(found) != 1:
            raise ParseError("several labels occur" if found else "no label occurs")
        return by_folded[found.pop()]

    def _value(self, text: str) -> JSON:
        value, name = _first_json(text), self._spec.get("field")
        if self._check is not None:
            self._check(value)
        if name is None:
            return value
        if not isinstance(value, dict) or value.get(name) is None:
            raise ParseError("the JSON value lacks the field")
        return value[name]  # type: ignore[no-any-return]


def _pattern(spec: Mapping[str, Any]) -> re.Pattern[str] | None:
    if "labels" in spec:
        longest_first = sorted(map(str, spec["labels"]), key=len, reverse=True)
        return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)", re.IGNORECASE)
    if "regex" not in spec:
        return None
    try:
        return re.compile(str(spec["regex"]))
    except re.error as error:
        raise ArmError(f"parse.regex is no regular expression: {error}", fix=_FIX) from None


def _validator(schema: Any, name: str) -> Callable[[Any], None]:
    """A function that raises `ParseError` for a value that does not follow the schema."""
    import referencing.exceptions
    from jsonschema import SchemaError, validators

    try:
        kind = validators.validator_for(schema)
        kind.check_schema(schema)
    except (SchemaError, TypeError) as error:
        said = error.message if isinstance(error, SchemaError) else "it is no object"
        raise ArmError(f"{name} is no JSON schema: {said}", fix="correct the schema") from None
    # An empty registry: a reference to another address is an error, not a download.
    checker = kind(schema, registry=referencing.Registry())

    def check(value: Any) -> None:
        try:
            error = next(iter(checker.iter_errors(value)), None)
        except referencing.exceptions.Unresolvable:
            raise ParseError(f"{name} refers to what is not in it") from None
        if error is not None:
            said = f"{error.json_path} {error.validator}"
            raise ParseError(f"the JSON value does not follow the schema: {said}")

    return check


def _first_json(text: str) -> JSON:
    for start in (m.start() for m in re.finditer(r"[{\[]", text)):
        try:
            value, _ = StrictDecoder().raw_decode(text, start)
        except ValueError:
            continue
        except RecursionError:
            raise ParseError("the JSON value is nested too deeply") from None
        return value  # type: ignore[no-any-return]
    raise ParseError("no JSON value occurs")


def _not_finite(text: str) -> NoReturn:
    raise NotFiniteError(text)


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _not_finite(text)


def _not_empty(text: str) -> str:
    if not text:
        raise ParseError("the answer is empty")
    return text
