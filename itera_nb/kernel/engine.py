"""`--engine itera`: papermill's own engine with a ticket for the verdict, and no run that only seems whole.

papermill imports this module whenever it is imported itself, so nothing heavy stands at its top.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from papermill.engines import NBClientEngine

from itera_nb.exceptions import IteraError

INJECTED, COMPLETED = "injected-parameters", "completed"


class IteraEngine(NBClientEngine):  # type: ignore[misc]
    """Runs phase notebooks; the experiment's own 5-verdict is restored from the package first."""

    @classmethod
    def execute_notebook(cls, nb: Any, kernel_name: str, **options: Any) -> Any:
        """Check the parameters, restore the verdict notebook, then run it as papermill does.

        Raises:
            IteraError: Another parameter than `folder` is given, before anything is written; a secret stands
                in an output, which is removed; a cell ended the run without an error.
        """
        from itera_nb.kernel.parameters import check_given, check_injected

        parameters = nb.metadata.papermill.get("parameters") or {}
        check_given(parameters)
        check_injected(cell.source for cell in nb.cells if INJECTED in cell.metadata.get("tags", ()))
        folder = _folder(parameters, options.get("input_path"))
        if _is_verdict(folder, options.get("input_path")):
            kernel_name = _restore(nb)
        secrets = _secrets(folder)
        with _announced(nb, folder, options.get("input_path")):
            return super().execute_notebook(nb, kernel_name, secrets=secrets, **options)

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: Any, kernel_name: str, *, secrets: dict[str, str], **options: Any
    ) -> None:
        """Run the cells; the notebook is complete, or this raises or leaves a cell marked as failed."""
        from itera_nb.kernel.leaks import remove

        try:
            super().execute_managed_notebook(nb_man, kernel_name, **options)
        finally:
            found = remove(nb_man.nb, secrets)
        if found:
            places = "; ".join(f"{leak.place} holds the value of {leak.variable}" for leak in found)
            raise IteraError(
                f"a secret stands in the notebook: {places}", fix="do not print it; withdraw the key"
            )
        _require_whole(nb_man.nb)


def _folder(parameters: dict[str, Any], notebook: str | None) -> Path | None:
    """The experiment's folder: as the kernel will find it, else where the notebook lies."""
    from itera_nb.kernel.provisioner import folder_of

    places = [Path(parameters.get("folder", "."))]
    if isinstance(notebook, str):
        places.append(Path(notebook).parent)
    for place in places:
        with contextlib.suppress(IteraError):
            return folder_of(place.resolve())
    return None


def _is_verdict(folder: Path | None, notebook: str | None) -> bool:
    from itera_nb.scoring.package import VERDICT

    if folder is None or not isinstance(notebook, str):
        return False
    return Path(notebook).resolve() == folder / "notebooks" / f"{VERDICT}.ipynb"


def _restore(nb: Any) -> str:
    """Put the package's cells in place of the notebook's, keeping an injected folder; the kernel's name."""
    import nbformat

    from itera_nb.scoring.package import verdict_template

    template = nbformat.read(verdict_template(), as_version=4)
    injected = [cell for cell in nb.cells if INJECTED in cell.metadata.get("tags", ())]
    after = 1 + next(
        i for i, cell in enumerate(template.cells) if "parameters" in cell.metadata.get("tags", ())
    )
    nb.cells = [*template.cells[:after], *injected, *template.cells[after:]]
    for cell in nb.cells:
        cell.metadata.setdefault("tags", [])
        cell.metadata.setdefault("papermill", {})
    nb.metadata.kernelspec = template.metadata.kernelspec
    return str(template.metadata.kernelspec.name)


@contextlib.contextmanager
def _announced(nb: Any, folder: Path | None, notebook: str | None) -> Iterator[None]:
    """Tell the provisioner what is about to run; the checked folder parameter aside."""
    if folder is None or not isinstance(notebook, str):
        yield
        return
    from itera_nb.kernel.provisioner import Run, announced
    from itera_nb.scoring.package import cells_hash

    cells = [cell for cell in nb.cells if INJECTED not in cell.metadata.get("tags", ())]
    with announced(Run(folder, Path(notebook).resolve(), cells_hash({"cells": cells}))):
        yield


def _secrets(folder: Path | None) -> dict[str, str]:
    from itera_nb.kernel.leaks import known

    named: set[str] = set()
    if folder is not None:
        from itera_nb.experiment import Experiment
        from itera_nb.models.credentials import load_dotenv

        with contextlib.suppress(IteraError):  # a toml that cannot be read is the first cell's to report
            named = {m.api_key_env for m in Experiment(folder).spec.models.values() if m.api_key_env}
        load_dotenv(folder, named)
    return known(named)


def _require_whole(nb: Any) -> None:
    """Raise where a cell has ended the run and papermill would call it complete: after `sys.exit(0)`."""
    code = [(n, cell) for n, cell in enumerate(nb.cells, 1) if cell.cell_type == "code"]
    stopped = next((n for n, cell in code if cell.metadata.papermill.status != COMPLETED), None)
    if stopped is None:
        return
    errors = [o for _, cell in code for o in cell.outputs if o.output_type == "error"]
    if all(error.ename == "SystemExit" and error.evalue in {"", "0"} for error in errors):
        what = f"cell {stopped} ended the run: the cells after it did not run"
        raise IteraError(what, fix="take the exit out of that cell, then run it again")
