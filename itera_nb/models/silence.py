"""Vendors' own logging, which can show prompts, switched off for rows that nobody may read."""

from __future__ import annotations

import logging


def silence(*names: str) -> None:
    """Switch these loggers and all below them off, for the rest of the process.

    A logger that is merely `disabled` still lets its children through to the root's handlers.
    """
    for name in names:
        top = logging.getLogger(name)
        top.propagate = False
        top.handlers = [logging.NullHandler()]
        for existing in list(logging.Logger.manager.loggerDict):
            if existing == name or existing.startswith(f"{name}."):
                logging.getLogger(existing).disabled = True
