"""What a change adds in words: literals of code and of templates, and the rows that contain them."""

from __future__ import annotations

import ast
import re
from array import array
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itera_nb.arms.manifest import Manifest

COMMON_WORD, COMMON = 0.10, 0.25
"""Share of dev rows from which a template's plain word, or any other literal, tells no rows apart."""
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_QUOTED = re.compile(r"[\"`\u201c]([^\"`\u201c\u201d\n]{2,80})[\"`\u201d]")
_WORD = re.compile(r"\w[\w'-]*\w")
_TOKEN = re.compile(r"\w+")


def added_literals(manifest: Manifest, parent: Manifest) -> list[str]:
    """Strings in an arm's code, and words and quoted phrases in its texts, that its parent does not have."""
    return sorted(_literals(manifest) - _literals(parent))


def _literals(manifest: Manifest) -> set[str]:
    found: set[str] = set()
    for path, file in manifest.files.items():
        text = file.read_text("utf-8")
        if not path.endswith(".py"):
            found |= {word for word in _WORD.findall(text) if len(word) > 2}
            found |= {phrase.strip() for phrase in _QUOTED.findall(text) if phrase.strip()}
            continue
        tree = ast.parse(text)
        documentation = {
            ast.get_docstring(n, clean=False) for n in ast.walk(tree) if isinstance(n, DOCUMENTED)
        }
        constants = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)}
        found |= {str(c) for c in constants if isinstance(c, str) and c not in documentation and len(c) > 1}
    return found


@dataclass(frozen=True)
class Words:
    """The words of n rows, in order, by which rows that contain a literal are found.

    Attributes:
        n: Rows.
        vocabulary: Word in lower case -> its code.
        codes: Codes of all words, row after row.
        rows: The row that each word stands in.
    """

    n: int
    vocabulary: Mapping[str, int]
    codes: NDArray[np.int32]
    rows: NDArray[np.int32]

    def containing(self, literals: Iterable[str]) -> NDArray[np.bool_]:
        """n-mask of the rows that contain any of the literals: its words, whole and in a row."""
        mask = np.zeros(self.n, dtype=np.bool_)
        for literal in literals:
            wanted = [self.vocabulary.get(word, -1) for word in _TOKEN.findall(literal.lower())]
            if not wanted or -1 in wanted:
                continue
            last = len(wanted) - 1
            at = np.flatnonzero(self.codes[: self.codes.size - last] == wanted[0])
            at = at[self.rows[at] == self.rows[at + last]]
            for offset, code in enumerate(wanted[1:], start=1):
                at = at[self.codes[at + offset] == code]
            mask[self.rows[at]] = True
        return mask

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
