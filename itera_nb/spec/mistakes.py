"""What is wrong with a toml file, said with its line; and keys of vendors, which are never shown."""

from __future__ import annotations

import contextlib
import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from itera_nb.exceptions import Mistake, SpecError

Key: TypeAlias = tuple[str | int, ...]
"""A key of the file and the tables it stands in, from the outside in."""
Fault: TypeAlias = tuple[Key, str]
_KEY = re.compile(r"\b(?:sk-|sk_live_|gsk_|xai-|AIza|AKIA|ghp_|hf_)[A-Za-z0-9_-]{16,}")


def looks_like_a_key(line: str) -> bool:
    """Whether a line holds what a vendor's key looks like; such a line is never shown."""
    return _KEY.search(line) is not None


def hide_keys(text: str) -> str:
    """The text with whatever looks like a vendor's key taken out."""
    return _KEY.sub("[key]", text)


def read_toml(path: Path) -> str:
    """The text of a toml file, without a byte order mark.

    Raises:
        SpecError: If it is not there, or is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise SpecError(path, [Mistake(0, "file", f"not found in {path.parent}")]) from None
    except UnicodeDecodeError as error:
        raise SpecError(path, [Mistake(0, "file", f"is not UTF-8 (byte {error.start})")]) from None


def parse_toml(text: str, path: Path) -> dict[str, Any]:
    """The tables of a toml text.

    Raises:
        SpecError: It is no toml, or a line looks like a vendor's key.
    """
    message = "looks like a key: keep it in the environment or .env, and withdraw this one"
    lines = enumerate(text.split("\n"), 1)
    if found := [Mistake(number, "secret", message) for number, line in lines if looks_like_a_key(line)]:
        raise SpecError(path, found)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        match = re.search(r"at line (\d+)", str(error))
        line = int(match[1]) if match else text.count("\n") + 1
        raise SpecError(path, [Mistake(line, "toml", str(error))]) from None


# where a mistake stands -------------------------------------------------------------------------------------


def error_at(path: Path, text: str, faults: Iterable[Fault]) -> SpecError:
    """The error that says every fault, each at its line of `text`."""
    prefixes = list(_prefixes(text))
    return SpecError(
        path, [Mistake(_line(prefixes, at), ".".join(map(str, at)) or "file", said) for at, said in faults]
    )


def _prefixes(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """What the first lines of a file say, where they parse: neither tomllib nor tomlkit keeps positions."""
    lines = text.replace("\r\n", "\n").split("\n")  # a TOML line: not what splitlines() takes for one
    for number in range(1, len(lines) + 1):
        with contextlib.suppress(tomllib.TOMLDecodeError):
            yield number, tomllib.loads("\n".join(lines[:number]))


def _line(prefixes: Sequence[tuple[int, dict[str, Any]]], at: Key) -> int:
    """The 1-based line of a key, or of the nearest table above it that exists."""
    for depth in range(len(at), 0, -1):
        for number, parsed in prefixes:
            if _holds(parsed, at[:depth]):
                return number
    return 1


def _holds(parsed: Any, path: Sequence[Any]) -> bool:
    for key in path:
        if (isinstance(parsed, dict) and key in parsed) or (
            isinstance(parsed, list) and isinstance(key, int) and key < len(parsed)
        ):
            parsed = parsed[key]
        else:
            return False
    return True


# what pydantic found, in our words --------------------------------------------------------------------------


def explained(error: ValidationError, raw: Mapping[str, Any], model: type[BaseModel]) -> Iterator[Fault]:
    """What pydantic found in `raw`, in our words and with keys that the file has."""
    for detail in error.errors():
        loc: Key = ()
        for part in detail["loc"]:
            # Union members and function wrappers stand in pydantic's `loc` though the file has no such key.
            if _holds(raw, (*loc, part)):
                loc = (*loc, part)
        last = detail["loc"][-1:]
        missing = detail["type"] in {"missing", "extra_forbidden"} and loc[-1:] != last
        yield (*loc, *last) if missing else loc, _words(detail, model)


def _words(detail: ErrorDetails, model: type[BaseModel]) -> str:
    if detail["type"] == "extra_forbidden":
        known = _known_keys(model, detail["loc"][:-1])
        every = f"; known keys: {', '.join(sorted(known))}"
        return f"unknown key{nearest(detail['loc'][-1], known) or every}"
    if detail["type"] == "missing":
        return "this key is required"
    message = detail["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    got = detail["input"]
    shown = f" (got {got!r})" if isinstance(got, str | int | float | bool) else ""
    return f"{message}{shown}"


def nearest(name: object, known: Iterable[str]) -> str:
    """The known name that was probably meant, as the end of a message; or nothing."""
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f'; did you mean "{near[0]}"?' if near else ""


def _known_keys(model: type[BaseModel], loc: Key) -> list[str]:
    current: Any = model
    named = False  # the next part is a name that the user chose (an arm's), not a key
    for part in loc:
        fields = getattr(current, "model_fields", None)
        if named:
            named = False
        elif fields and part in fields:
            current = fields[part].annotation
            named = getattr(current, "__origin__", None) is dict
            inner = [a for a in (current, *getattr(current, "__args__", ())) if hasattr(a, "model_fields")]
            current = inner[0] if inner else current
    fields = getattr(current, "model_fields", {})
    return [field.alias or name for name, field in fields.items()]
