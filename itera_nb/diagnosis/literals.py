"""What a change adds in words: literals of code and of templates, and the rows that contain them."""

from __future__ import annotations

import ast
import contextlib
import json
import re
from array import array
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import decode_source
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itera_nb.arms.manifest import Manifest

COMMON_WORD, COMMON = 0.10, 0.25
"""Share of dev rows from which a template's plain word, or any other literal, tells no rows apart."""
LONGEST_PHRASE, SHORTEST_PART = 5, 4
"""Words of a string in code that is one literal; characters of a literal that may be a part of a word."""
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_QUOTED = re.compile(r"[\"`\u201c]([^\"`\u201c\u201d\n]{2,80})[\"`\u201d]")
_WORD = re.compile(r"\w[\w'-]*\w")
_TOKEN = re.compile(r"\w+")


def texts(manifest: Manifest) -> dict[str, str]:
    """Path -> text of each file of an arm; of one that is no text, as much as can be read."""
    return {path: decoded(path, file.read_bytes()) for path, file in manifest.files.items()}


def decoded(path: str, data: bytes) -> str:
    """A file's text: of Python in the encoding that it declares."""
    if path.endswith(".py"):
        with contextlib.suppress(SyntaxError, UnicodeDecodeError):
            return decode_source(data)
    return data.decode("utf-8-sig", "replace")


def code(manifest: Manifest) -> dict[str, str]:
    """Path -> source of an arm's Python files; a command's folder may hold others, which do not parse."""
    found = {}
    for path, text in texts(manifest).items():
        with contextlib.suppress(SyntaxError, ValueError):
            if path.endswith(".py"):
                ast.parse(text)
                found[path] = text
    return found


def added_literals(manifest: Manifest, parent: Manifest) -> list[str]:
    """Strings in an arm's code, words and quoted phrases in its texts and values, that its parent has not."""
    return sorted(_literals(manifest) - _literals(parent))


def _literals(manifest: Manifest) -> set[str]:
    sources = code(manifest)
    plain = [text for path, text in texts(manifest).items() if path not in sources]
    plain += [_as_text(value) for value in manifest.values.values()]
    strings = {c for source in sources.values() for c in _constants(source) if isinstance(c, str)}
    plain += [string for string in strings if len(_TOKEN.findall(string)) > LONGEST_PHRASE]
    return {string for string in strings if len(string) > 1}.union(*map(_in_text, plain))


def _in_text(text: str) -> set[str]:
    """Words and quoted phrases."""
    words = {word for word in _WORD.findall(text) if len(word) > 2}
    return words | {phrase.strip() for phrase in _QUOTED.findall(text) if phrase.strip()}


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _constants(source: str) -> set[Any]:
    """Strings and numbers of Python source; documentation only where the code can read it."""
    tree = ast.parse(source)
    left_out: set[str | None] = set()
    if "__doc__" not in source:
        left_out = {ast.get_docstring(n, clean=False) for n in ast.walk(tree) if isinstance(n, DOCUMENTED)}
    values = (n.value for n in ast.walk(tree) if isinstance(n, ast.Constant))
    known = (v.decode("latin-1") if isinstance(v, bytes) else v for v in values)
    return {v for v in known if v not in left_out and not isinstance(v, bool | None)}


def added_codes(manifest: Manifest, parent: Manifest) -> set[str]:
    """Numbers, and parts of strings that are no plain words, of an arm's code and not of its parent's."""
    return _codes(manifest) - _codes(parent)


def _codes(manifest: Manifest) -> set[str]:
    constants = {str(c) for source in code(manifest).values() for c in _constants(source)}
    parts = {part for constant in constants for part in _TOKEN.findall(constant)}
    return {part for part in parts if not (part.isalpha() and (part.islower() or part.istitle()))}


@dataclass(frozen=True)
class Words:
    """The words of n rows, by which rows that contain a literal are found.

    `vocabulary` gives each word in lower case its code, `codes` are those of all words, row after row, and
    `rows` says in which row each of them stands.
    """

    n: int
    vocabulary: Mapping[str, int]
    codes: NDArray[np.int32]
    rows: NDArray[np.int32]

    @cached_property
    def _all_words(self) -> str:
        return "\n".join(self.vocabulary)

    def containing(self, literals: Iterable[str]) -> NDArray[np.bool_]:
        """n-mask of the rows that contain any of the literals: its words, whole and in a row.

        One of at least four characters that is no row's word may be a part of one.
        """
        mask = np.zeros(self.n, dtype=np.bool_)
        for literal in literals:
            tokens = _TOKEN.findall(literal.lower())
            wanted = [self.vocabulary.get(word, -1) for word in tokens]
            if wanted == [-1] and len(tokens[0]) >= SHORTEST_PART and tokens[0] in self._all_words:
                parts = [code for word, code in self.vocabulary.items() if tokens[0] in word]
                mask[self.rows[np.isin(self.codes, parts)]] = True
            if not wanted or -1 in wanted:
                continue
            last = len(wanted) - 1
            at = np.flatnonzero(self.codes[: self.codes.size - last] == wanted[0])
            at = at[self.rows[at] == self.rows[at + last]]
            for offset, code in enumerate(wanted[1:], start=1):
                at = at[self.codes[at + offset] == code]
            mask[self.rows[at]] = True
        return mask

    def hidden(self, codes: Iterable[str]) -> int:
        """Characters of codes that no row can be said to contain: numbers, and what is no row's word."""
        return sum(len(c) for c in codes if c.isdigit() or c.lower() not in self.vocabulary)

    def telling(self, literals: Collection[str], conditions: Collection[str] = ()) -> list[str]:
        """The literals that tell rows apart: those rare enough, and those by which code decides."""
        found = set(conditions)
        for literal in set(literals) - found:
            limit = COMMON_WORD if literal.islower() and literal.isalpha() else COMMON
            if self.containing([literal]).mean() < limit:
                found.add(literal)
        return sorted(found)


def words_of(rows: Sequence[Mapping[str, Any]], inputs: Collection[str]) -> Words:
    """The words of each row's input columns; upper and lower case are one."""
    codes, lengths = array("i"), array("q")
    vocabulary: defaultdict[str, int] = defaultdict(lambda: len(vocabulary))
    for row in rows:
        text = "\n".join([str(row[column]) for column in inputs]).lower()
        found = _TOKEN.findall(text)
        codes.extend([vocabulary[word] for word in found])
        lengths.append(len(found))
    owners = np.repeat(np.arange(len(rows), dtype=np.int32), np.asarray(lengths, dtype=np.int64))
    return Words(len(rows), dict(vocabulary), np.asarray(codes, dtype=np.int32), owners)
