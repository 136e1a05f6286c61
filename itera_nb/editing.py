"""Setting keys of a toml file that a person wrote: comments, order and every other line stay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tomlkit
from tomlkit.items import Table
from tomlkit.toml_document import TOMLDocument


def with_values(text: str, values: Mapping[tuple[str, ...], object]) -> str:
    """A toml text with these keys set (None: removed); every comment and every other line stays.

    A new key stands behind the last one of its table; of a removed one the comment stays where it was.
    """
    document = tomlkit.parse(text)
    for (*above, key), value in values.items():
        table: Any = document
        for part in above:
            if part not in table:
                if value is None:
                    break
                table[part] = tomlkit.table()
            table = table[part]
        else:
            known = table.get(key)
            if value is None and known is not None:
                _remove(table, key)
            elif value is not None and known is None:
                table[key] = value
                _behind_the_last(table, key)
            elif value is not None and not _same(known.unwrap(), value):
                table[key] = value
    return tomlkit.dumps(document)


def _same(known: object, value: object) -> bool:
    return type(known) is type(value) and known == value


def _body(table: Any) -> list[Any]:
    """The lines of a table as tomlkit keeps them; an inline table or one in several places has none."""
    if isinstance(table, TOMLDocument):
        return table.body
    return table.value.body if isinstance(table, Table) else []


def _place(body: list[Any], key: str) -> int | None:
    return next((i for i, (name, _) in enumerate(body) if name is not None and name.key == key), None)


def _remove(table: Any, key: str) -> None:
    body, comment = _body(table), table[key].trivia.comment
    place = _place(body, key)
    if comment and place is not None:
        body[place] = (None, tomlkit.comment(comment.removeprefix("#").strip()))
    else:
        table.remove(key)


def _behind_the_last(table: Any, key: str) -> None:
    """Move a new key before the empty lines and comments that end its table."""
    body = _body(table)
    place = _place(body, key)
    if place is None:
        return
    line = body.pop(place)
    while place > 0 and body[place - 1][0] is None:
        place -= 1
    body.insert(place, line)
