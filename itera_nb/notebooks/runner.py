"""Phase notebooks: instantiate from the templates, restore the verdict's, execute headless in place."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from itera_nb import exceptions
from itera_nb.exceptions import IteraError, RecordError, Refusal, StoppedError
from itera_nb.experiment import Experiment
from itera_nb.protocol import PHASES
from itera_nb.scoring.budget import BudgetReachedError
from itera_nb.scoring.package import VERDICT, templates_dir
from itera_nb.scoring.progress import HEADLESS


class CellError(IteraError):
    """A cell of a phase notebook failed; its output is in the notebook."""


def instantiate(experiment: Experiment) -> list[Path]:
    """Put the phase notebooks that are missing into `notebooks/`; existing ones keep a user's own cells."""
    return [_write(experiment, phase) for phase in PHASES if not _path(experiment, phase).exists()]


def execute(experiment: Experiment, phase: str) -> Path:
    """Execute one phase notebook headless and keep its outputs in place.

    Only 5-verdict is restored from the package first: its cells are what the conclusion is made of.

    Raises:
        Refusal, IteraError: What the cell that stopped the run answered with.
        StoppedError: Another process is running this notebook.
    """
    from filelock import FileLock, Timeout

    instantiate(experiment)
    path = _path(experiment, phase)
    try:
        with FileLock(path.with_name(f".{phase}.lock"), timeout=0):
            return _execute(experiment, phase, path)
    except Timeout:
        raise StoppedError(
            f"{path.name} is being run by another process", fix="wait for it, then: itera status"
        ) from None


def _execute(experiment: Experiment, phase: str, path: Path) -> Path:
    if phase == VERDICT:
        _write(experiment, phase)
    _import_papermill()
    import papermill

    temporary = path.with_name(f".{path.name}")
    try:
        with _headless():
            papermill.execute_notebook(
                str(path),
                str(temporary),
                engine_name="itera",
                cwd=str(experiment.folder),
                progress_bar=False,
                stderr_file=sys.stderr,
                kernel_name=None,
                # The kernel warns that loopback is not encrypted; to a reader that looks like a fault.
                extra_arguments=["--IPKernelApp.log_level=50"],
            )
    except papermill.PapermillExecutionError as error:
        said = _translate(error, path)
        if not isinstance(said, CellError):
            _unmark(temporary)
        temporary.replace(path)
        raise said from None
    except IteraError:  # of our engine, which has said what it found in the notebook
        temporary.replace(path)
        raise
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    temporary.replace(path)
    return path


def _unmark(path: Path) -> None:
    """Take papermill's red headings out: a refusal is no fault of the notebook, and its cell says it."""
    import nbformat
    from papermill.execute import remove_error_markers

    notebook = nbformat.read(path, as_version=4)
    nbformat.write(remove_error_markers(notebook), path)


def _path(experiment: Experiment, phase: str) -> Path:
    return experiment.path("notebooks", f"{phase}.ipynb")


def _write(experiment: Experiment, phase: str) -> Path:
    experiment.write_bytes(f"notebooks/{phase}.ipynb", (templates_dir() / f"{phase}.ipynb").read_bytes())
    return _path(experiment, phase)


def _import_papermill() -> None:
    """Import papermill without the 1.5 s that building an unused URL grammar costs.

    jsonschema imports `rfc3987_syntax` only if it is there, for a format that notebooks do not use.
    """
    absent = "rfc3987_syntax"
    hidden = absent not in sys.modules
    if hidden:
        sys.modules[absent] = None  # type: ignore[assignment]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import papermill  # noqa: F401
    if hidden:
        del sys.modules[absent]


@contextmanager
def _headless() -> Iterator[None]:
    before = os.environ.get(HEADLESS)
    os.environ[HEADLESS] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[HEADLESS]
        else:
            os.environ[HEADLESS] = before


def _translate(error: Any, path: Path) -> IteraError:
    """The package's own exception behind a failed cell, from its name and text."""
    text = str(error.evalue)
    if error.ename == "Refusal":
        return _refusal(text)
    if hasattr(exceptions, error.ename) or error.ename == BudgetReachedError.__name__:
        what, _, fix = text.partition("\nfix      ")
        return (RecordError if error.ename == "RecordError" else IteraError)(what, fix=fix)
    where = f"{path.parent.name}/{path.name}, cell {error.exec_count}"
    return CellError(f"{where}: {error.ename}: {text}", fix=f"open {path.name} and run that cell")


def _refusal(text: str) -> Refusal:
    """A refusal from its text, which `Refusal.__str__` wrote."""
    head, _, rest = text.partition("\nwhy      ")
    safeguard, _, what = head.removeprefix("refused ").partition(": ")
    why, _, instead = rest.partition("\ninstead  ")
    instead, _, record = instead.partition("\nthis attempt is record ")
    asks = f"--accept {safeguard}=" in instead  # a reason would let it pass: the text says how
    refusal = Refusal(safeguard, what, why=why, instead=instead.replace("\n         ", "\n"), asks=asks)
    refusal.record = int(record.rstrip(".")) if record else None
    return refusal
