"""Where the templates lie: beside the package in a checkout, inside it in a wheel."""

from __future__ import annotations

from pathlib import Path

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
