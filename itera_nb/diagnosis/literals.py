"""What a change adds in words: literals of code and of templates, and the rows that contain them."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itera_nb.arms.manifest import Manifest

COMMON_WORD, COMMON = 0.10, 0.25
"""Share of dev rows from which a template's plain word, or any other literal, tells no rows apart."""
SAMPLE = 2_000
BATCH = 200
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_QUOTED = re.compile(r"[\"`\u201c]([^\"`\u201c\u201d\n]{2,80})[\"`\u201d]")
_WORD = re.compile(r"\w[\w'-]*\w")
_LETTER = r"[\pL\pN_]"


def added_literals(manifest: Manifest, parent: Manifest) -> list[str]:
    """Strings in an arm's code, and words and quoted phrases in its template, that its parent does not have."""
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


def texts_of(rows: Sequence[Mapping[str, Any]], inputs: Collection[str]) -> list[str]:
    """Each row's input columns as one text; half of a surrogate pair becomes "?"."""
    joined = ("\n".join([str(row[column]) for column in inputs]) for row in rows)
    return [text.encode("utf-8", "replace").decode() for text in joined]


def telling(texts: Sequence[str], literals: Collection[str], conditions: Collection[str] = ()) -> list[str]:
    """The literals that tell rows apart: those rare enough, and those by which code decides.

    How common a literal is, is estimated on at most `SAMPLE` rows, evenly spaced.
    """
    sample = list(texts[:: max(1, len(texts) // SAMPLE)])
    wanted = set(conditions)
    for literal in set(literals) - wanted:
        common = COMMON_WORD if literal.islower() and literal.isalpha() else COMMON
        if touched_rows(sample, [literal]).mean() < common:
            wanted.add(literal)
    return sorted(wanted)


def touched_rows(texts: Sequence[str], literals: Collection[str]) -> NDArray[np.bool_]:
    """n-mask of the texts that contain any of the literals as whole words, upper or lower case."""
    import pyarrow as pa
    import pyarrow.compute as pc

    mask = np.zeros(len(texts), dtype=np.bool_)
    column = pa.array(texts, pa.large_string())
    wanted = sorted({_pattern(literal) for literal in literals if literal.strip()})
    for start in range(0, len(wanted), BATCH):  # RE2 bounds the size of one expression
        pattern = f"(?i)(?:{'|'.join(wanted[start : start + BATCH])})"
        mask |= pc.match_substring_regex(column, pattern).to_numpy(zero_copy_only=False)
    return mask


def _pattern(literal: str) -> str:
    """A literal as RE2 reads it; where it begins or ends in a letter, no letter or digit may go on."""
    text = literal.strip().encode("utf-8", "replace").decode()
    before = f"(?:^|[^{_LETTER[1:-1]}])" if text[0].isalnum() else ""
    after = f"(?:$|[^{_LETTER[1:-1]}])" if text[-1].isalnum() else ""
    escaped = "".join(c if c.isalnum() or c.isspace() else rf"\x{{{ord(c):x}}}" for c in text)
    return f"{before}{escaped}{after}"
