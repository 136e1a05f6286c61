"""The kernel's side of a ticket: it is read off an inherited pipe before any cell runs.

The `itera` kernelspec loads this module as an extension. Other kernels never do, so they hold no ticket.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import Any

from itera_nb.exceptions import Refusal
from itera_nb.experiment import Experiment
from itera_nb.verdict.tickets import SHOW, Ticket

DESCRIPTOR, INLINE = "ITERA_TICKET_FD", "ITERA_TICKET"
"""Environment variables: the pipe's descriptor; where pipes cannot be inherited, the ticket itself."""
NO_TICKET = "this kernel has no ticket for the sealed test set"
_EXPECTED = "only 5-verdict, as the package brings it and in the `itera` kernel, may ask for the one opening."
_received: dict[str, Any] = {}


def load_ipython_extension(_: Any) -> None:
    """Receive what the process that started this kernel hands over, and leave nothing to read."""
    _received.clear()
    descriptor, inline = os.environ.pop(DESCRIPTOR, None), os.environ.pop(INLINE, None)
    if descriptor is not None:
        with os.fdopen(int(descriptor), "rb") as pipe:
            inline = pipe.read().decode()
    if inline:
        _received.update(json.loads(inline))


def hold(ticket: Ticket) -> None:
    """Let this process hold a ticket."""
    _received.clear()
    _received.update(asdict(ticket))


def require_nonce(experiment: Experiment) -> str:
    """The nonce of the ticket that this kernel holds for an experiment.

    Raises:
        Refusal: SG01: it holds none; the attempt is recorded.
    """
    if _received.get("experiment") != experiment.genesis:
        reason = _received.get("reason", "its ticket is another experiment's") if _received else ""
        what = f"{NO_TICKET}{reason and ': '}{reason}."
        experiment.refuse(Refusal("SG01", what, why=_EXPECTED, instead=f"run {SHOW}"))
    return str(_received["nonce"])
