"""The jupyter_server extension: the panel's REST handlers under `/itera/`, and the jobs that run phases."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "itera_nb.server"}]


def _load_jupyter_server_extension(app: ServerApp) -> None:
    from .routes import add_handlers

    add_handlers(app.web_app, app.root_dir)
