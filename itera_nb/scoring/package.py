"""What is installed: the package's own files and templates, and a hash of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from itera_nb.ledger import digest

VERDICT = "5-verdict"
_PACKAGE = Path(__file__).resolve().parent.parent


def templates_dir() -> Path:
    """The folder `templates/`.

    The checkout's own files win: a copy made when the package was installed would go stale.

    Raises:
        FileNotFoundError: The installation carries no templates.
    """
    for folder in (_PACKAGE.parent / "templates", _PACKAGE / "_data" / "templates"):
        if (folder / "conclusion.md.j2").is_file():
            return folder
    raise FileNotFoundError(f"no templates beside or inside {_PACKAGE}: the installation is incomplete")


def package_hash() -> str:
    """Hash of the installed package's Python files, its templates, and of what a judge is asked with.

    The installation's own list of files names none of them in an editable install, so the files are read.
    Outside of it: other packages, and what Python itself runs at its start (`.pth`, `sitecustomize`).
    """
    code = [p for p in _PACKAGE.rglob("*.py") if "_data" not in p.relative_to(_PACKAGE).parts]
    named = {
        str(p.relative_to(_PACKAGE)): p for p in (*code, *(_PACKAGE / "metrics" / "questions").iterdir())
    }
    templates = templates_dir()
    named |= {f"templates/{p.relative_to(templates)}": p for p in templates.rglob("*") if p.is_file()}
    return digest({name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in named.items()})


def verdict_template() -> Path:
    """The verdict notebook as the package brings it."""
    return templates_dir() / f"{VERDICT}.ipynb"


def cells_hash(notebook: Mapping[str, Any]) -> str:
    """Hash of what a notebook (nbformat 4, as JSON) would run: its code cells in order, but for empty ones.

    Markdown, outputs and white space at a cell's ends do not count: Jupyter changes them by itself.
    """
    cells = (c for c in notebook["cells"] if c["cell_type"] == "code")
    return digest([source for c in cells if (source := "".join(c["source"]).strip())])


def verdict_cells() -> str:
    """`cells_hash` of the verdict notebook as the package brings it."""
    return cells_hash(json.loads(verdict_template().read_text("utf-8")))
