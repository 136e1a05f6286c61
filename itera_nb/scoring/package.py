"""Which code runs: a hash of the installed package's own files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import itera_nb
from itera_nb.ledger import digest


def package_hash() -> str:
    """Hash of the installed package's Python files, and of what a judge is asked with.

    The installation's own list of files names none of them in an editable install, so the files are read.
    """
    root = Path(itera_nb.__file__).parent
    code = [p for p in root.rglob("*.py") if "_data" not in p.relative_to(root).parts]
    files = sorted([*code, *(root / "metrics" / "questions").iterdir()])
    return digest({str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files})
