"""Tickets for the verdict: who may ask the isolated process to open the test set, and only once each.

A ticket is minted by the process that starts the verdict notebook's kernel (`itera_nb.kernel.provisioner`)
and handed to it over a pipe. What it was minted for stands in the state directory, under the hash of its
nonce; whoever removes that file has used the ticket. Kernel, server and user are one account: a ticket keeps
other notebooks and accidents out, not the account's owner.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NoReturn

from itera_nb.exceptions import Refusal
from itera_nb.experiment import Experiment
from itera_nb.scoring.package import VERDICT
from itera_nb.seal.custody import named, write_private

VALID_S = 24 * 3600.0
SHOW = "in a terminal, then run this cell again, which shows the recorded result:   itera verdict"


@dataclass(frozen=True, slots=True)
class Ticket:
    """Leave to ask for one opening.

    Attributes:
        experiment: The experiment's genesis id.
        notebook: The verdict notebook's path.
        cells: Hash of its code cells (`itera_nb.scoring.package.cells_hash`).
        kernel: Id of the kernel it was minted for.
        expires: Seconds since 1970 after which it is void.
        nonce: 32 hex digits that only its holder knows.
    """

    experiment: str
    notebook: str
    cells: str
    kernel: str
    expires: float
    nonce: str = field(repr=False)

    @property
    def digest(self) -> str:
        """SHA-256 of the nonce: the ticket's name in the state directory and in the ledger."""
        return digest_of(self.nonce)


def digest_of(nonce: str) -> str:
    """SHA-256 (hex) of a nonce."""
    return hashlib.sha256(nonce.encode()).hexdigest()


def mint(experiment: str, *, notebook: Path, cells: str, kernel: str) -> Ticket:
    """A new ticket, remembered in the state directory without its nonce; void ones are removed there."""
    ticket = Ticket(experiment, str(notebook), cells, kernel, time.time() + VALID_S, secrets.token_hex(16))
    path = named("tickets", ticket.digest)
    for old in path.parent.glob("*.json"):
        with contextlib.suppress(FileNotFoundError):  # another process cleans up too
            if old.stat().st_mtime < time.time() - VALID_S:
                old.unlink()
    known = {name: value for name, value in asdict(ticket).items() if name != "nonce"}
    write_private(path, json.dumps(known).encode(), exclusive=True)
    return ticket


def require_valid(experiment: Experiment, nonce: str) -> None:
    """Refuse unless there is an unused ticket with this nonce for this experiment and its locked notebook.

    Raises:
        Refusal: SG01.
    """
    try:
        known = json.loads(named("tickets", digest_of(nonce)).read_bytes())
        locked = experiment.state.last("locked")
        valid = (
            locked is not None
            and known["experiment"] == experiment.genesis
            and known["cells"] == locked.body["templates"][VERDICT]
            and known["expires"] > time.time()
        )
    except (OSError, ValueError, KeyError):
        valid = False
    if not valid:
        _refuse(experiment)


def use(experiment: Experiment, nonce: str) -> str:
    """Use a ticket up; its digest.

    Raises:
        Refusal: SG01, unless it is valid and was not used before.
    """
    require_valid(experiment, nonce)
    try:
        named("tickets", digest_of(nonce)).unlink()
    except FileNotFoundError:
        _refuse(experiment)
    return digest_of(nonce)


def _refuse(experiment: Experiment) -> NoReturn:
    experiment.refuse(
        Refusal(
            "SG01",
            "this ticket for the sealed test set is not valid: used, older than a day, or made up.",
            why="only a fresh kernel of 5-verdict, as it was locked, may ask for the one opening.",
            instead=f"restart the kernel, or {SHOW}",
        )
    )
