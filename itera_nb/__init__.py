"""itera-nb: should we ship this prompt, model or retriever, and can we defend it?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "Output",
    "Refusal",
    "Score",
    "__version__",
    "compare",
    "load_ipython_extension",
    "new",
    "open",
    "track",
]

if TYPE_CHECKING:
    from itera_nb.arms.output import Output
    from itera_nb.arms.track import track
    from itera_nb.exceptions import Refusal
    from itera_nb.kernel.guard import load_ipython_extension
    from itera_nb.metrics.score import Score
    from itera_nb.retrospective import compare
    from itera_nb.scaffold import new
    from itera_nb.session import open  # noqa: A004

_HOMES = {
    "Output": "itera_nb.arms.output",
    "Refusal": "itera_nb.exceptions",
    "Score": "itera_nb.metrics.score",
    "compare": "itera_nb.retrospective",
    "load_ipython_extension": "itera_nb.kernel.guard",
    "new": "itera_nb.scaffold",
    "open": "itera_nb.session",
    "track": "itera_nb.arms.track",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that `import itera_nb` stays instant."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
