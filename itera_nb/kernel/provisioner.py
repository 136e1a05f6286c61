"""Starts the `itera` kernel, in JupyterLab's server or in papermill, and hands it a ticket for the verdict.

What decides is what the notebook would run, never its name: its code cells are those of the package's verdict
notebook, which is the one that was locked. Every start, a restart too, mints a new ticket.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jupyter_client.provisioning import LocalProvisioner

from itera_nb.exceptions import IteraError
from itera_nb.kernel.ticket import DESCRIPTOR, INLINE

SESSION = "JPY_SESSION_NAME"


@dataclass(frozen=True, slots=True)
class Run:
    """A notebook about to run: its experiment's folder, its path and the hash of its code cells."""

    folder: Path
    notebook: Path
    cells: str


_of_engine: ContextVar[Run | None] = ContextVar("run", default=None)


@contextlib.contextmanager
def announced(run: Run) -> Iterator[None]:
    """Kernels started inside get their ticket for this notebook, of which papermill tells them nothing."""
    token = _of_engine.set(run)
    try:
        yield
    finally:
        _of_engine.reset(token)


class SealProvisioner(LocalProvisioner):  # type: ignore[misc]
    """A local kernel that inherits a ticket, or the reason why there is none."""

    _pipe: int | None = None

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Put the read end of a pipe that holds the ticket into what the kernel inherits."""
        session = (kwargs.get("env") or {}).get(SESSION)
        # The server names the notebook for each kernel; a value of its own environment is anyone's.
        mine = session if session != os.environ.get(SESSION) else None
        prepared: dict[str, Any] = await super().pre_launch(**kwargs)
        message = json.dumps(self._message(mine))
        if os.name != "posix":  # no descriptor can be named to a child there
            prepared["env"][INLINE] = message
            return prepared
        self._close()
        self._pipe, write = os.pipe()
        os.write(write, message.encode())  # a few hundred bytes: a pipe takes them without a reader
        os.close(write)
        prepared["env"][DESCRIPTOR] = str(self._pipe)
        prepared["pass_fds"] = (*prepared.get("pass_fds", ()), self._pipe)
        return prepared

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """Start it, and keep no end of the pipe."""
        try:
            return await super().launch_kernel(cmd, **kwargs)
        finally:
            self._close()

    def _close(self) -> None:
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None

    def _message(self, session: str | None) -> dict[str, Any]:
        try:
            run = _of_engine.get() or (read_run(Path(session)) if session else None)
            return asdict(ticket_for(run, kernel=str(self.kernel_id)))
        except IteraError as error:
            return {"reason": error.what}
        except (OSError, ValueError, KeyError, TypeError) as error:
            return {"reason": f"the notebook cannot be read ({type(error).__name__})"}


def read_run(notebook: Path) -> Run:
    """What a notebook in an experiment's folder, or in a folder of it, would run."""
    from itera_nb.scoring.package import cells_hash

    cells = cells_hash(json.loads(notebook.read_text("utf-8")))
    return Run(folder_of(notebook.resolve().parent), notebook, cells)


def folder_of(folder: Path) -> Path:
    """The experiment's folder: this one, or the one above.

    Raises:
        IteraError: Neither is one.
    """
    for place in (folder, folder.parent):
        if (place / "experiment.toml").is_file():
            return place
    raise IteraError("the notebook lies in no experiment's folder")


def ticket_for(run: Run | None, *, kernel: str) -> Any:
    """Mint the ticket for the kernel of the verdict notebook.

    Raises:
        IteraError: Why it gets none.
    """
    from itera_nb.ledger import Ledger
    from itera_nb.protocol import State
    from itera_nb.scoring.package import VERDICT, verdict_cells
    from itera_nb.verdict.tickets import mint

    if run is None:
        raise IteraError("who started it did not say which notebook it is for")
    state = State(Ledger(run.folder / "ledger.jsonl").records())
    locked = state.last("locked")
    expected = locked.body["templates"][VERDICT] if locked else verdict_cells()
    if run.cells != expected:
        raise IteraError(f"the cells of {run.notebook.name} are not those of the package's verdict notebook")
    if not state.records:
        raise IteraError("the experiment had no ledger yet when this kernel started")
    genesis = str(state.records[0].body["genesis_id"])
    return mint(genesis, notebook=run.notebook, cells=run.cells, kernel=kernel)
