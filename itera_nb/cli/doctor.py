"""`itera doctor`: what an experiment needs before its first paid call, checked without paying."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, TypeAlias

import click

import itera_nb
from itera_nb.cli import FOLDER
from itera_nb.experiment import Experiment
from itera_nb.kernel.leaks import find, known
from itera_nb.models.checks import ModelCheck, check_models, unpriced
from itera_nb.models.credentials import DOTENV

Level: TypeAlias = Literal["ok", "note", "missing", "refused"]
EXIT = {"ok": 0, "note": 0, "missing": 2, "refused": 3}
PACKAGES = ("itera-nb", "anthropic", "openai", "aiohttp", "genai-prices")
KERNELS = ("python3", "itera")
LEAST_FREE = 10**9


@dataclass(frozen=True, slots=True)
class Line:
    """One finding: how bad it is, what was looked at, what was found, and what to do."""

    level: Level
    name: str
    found: str
    fix: str = ""


@click.command()
@FOLDER
def doctor(folder: Path) -> int:
    """Check keys, models, prices and this machine; calls nothing that costs.

    Exit codes: 0 all is well, 2 something is missing here, 3 a vendor refuses.
    """
    lines = list(_machine(folder))
    if (folder / "experiment.toml").is_file() or (folder.resolve().parent / "experiment.toml").is_file():
        lines = [*_experiment(itera_nb.open(folder).experiment), *lines]
    else:
        click.echo("no experiment here: models are checked in an experiment's folder")
    width = max(len(line.name) for line in lines)
    for line in lines:
        mark = {"ok": "ok  ", "note": "note"}.get(line.level, "BAD ")
        click.echo(f"{mark} {line.name:{width}}  {line.found}")
        if line.fix:
            click.echo(f"{'':{width + 5}}  fix  {line.fix}")
    return max(EXIT[line.level] for line in lines)


def _experiment(experiment: Experiment) -> Iterator[Line]:
    without = unpriced(experiment.spec)
    for found in check_models(experiment.spec):
        unknown = not found.trouble and found.model in without
        yield _model(found, "price unknown" if unknown else "")
        if unknown:
            fix = f'give its prices in prices.toml under ["{found.model}"], or the arm cost = "free"'
            yield Line("note", "price", f"{found.model} has none: its cost stays unknown", fix)
    yield from _secrets(experiment.folder)
    yield from _leaks(experiment.folder)
    yield _custody(experiment)


def _model(found: ModelCheck, price: str) -> Line:
    level: Level = (
        "ok" if not found.trouble else "refused" if found.trouble in {"refused", "unreachable"} else "missing"
    )
    parts = [
        f"{found.model} ({', '.join(found.used_by)})",
        f"key {found.key}",
        found.state,
        *([price] if price else []),
    ]
    if not price and found.input_usd is not None and found.output_usd is not None:
        parts.append(f"${found.input_usd:g} in, ${found.output_usd:g} out per million tokens")
    return Line(level, "model", "   ".join(parts), found.fix)


def _secrets(folder: Path) -> Iterator[Line]:
    """A file with keys where git would take it."""
    if (folder / DOTENV).is_file() and _git_takes(folder, DOTENV):
        yield Line("missing", "keys", f"{DOTENV} is not ignored by git", f"put {DOTENV} into .gitignore")


def _leaks(folder: Path) -> Iterator[Line]:
    """Keys in the outputs of notebooks that were run by hand; headless runs look for them by themselves."""
    for path in sorted(folder.glob("notebooks/*.ipynb")):
        name = f"notebooks/{path.name}"
        try:
            leaks = find(json.loads(path.read_text("utf-8")), known())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # whatever is no nbformat 4
            yield Line("note", "keys", f"{name} is no readable notebook: not looked at")
            continue
        for leak in leaks:
            where = f"{name}: {leak.place} holds the value of {leak.variable}"
            yield Line("missing", "keys", where, "clear that output, and withdraw the key")


def _git_takes(folder: Path, name: str) -> bool:
    try:
        asked = subprocess.run(  # noqa: S603 - a fixed command
            ["git", "check-ignore", "-q", name],  # noqa: S607 - the user's own git
            cwd=folder,
            capture_output=True,
            check=False,
        )
    except OSError:
        return False
    return asked.returncode == 1


def _custody(experiment: Experiment) -> Line:
    from itera_nb.seal import custody

    created = experiment.state.last("created")
    if created is None:
        return Line("ok", "custody", f"the key will be kept in: {custody.place()}")
    if experiment.custody.escrow:
        return Line("ok", "custody", f"{experiment.custody.words}: no key belongs on this computer")
    mode = created.body["custody"]
    if mode == "file":
        path = custody.named("keys", str(created.body["genesis_id"]))
        if not path.exists():
            fix = "bring it from the computer that sealed this experiment"
            return Line("missing", "custody", f"the key file {path} is not here", fix)
    return Line("ok", "custody", f"the key is kept in: {mode}")


def _machine(folder: Path) -> Iterator[Line]:
    versions = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    yield Line("ok", "packages", f"{versions}, Python {sys.version.split()[0]}")
    yield _kernels(KERNELS)
    place = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    free = shutil.disk_usage(place).free
    text = f"{free / 1e9:.1f} GB free"
    yield Line("ok", "disk", text) if free >= LEAST_FREE else Line("missing", "disk", text, "make room")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _kernels(wanted: Iterable[str]) -> Line:
    from jupyter_client.kernelspec import KernelSpecManager

    known = KernelSpecManager().find_kernel_specs()
    if missing := [name for name in wanted if name not in known]:
        fix = "pip install --force-reinstall itera-nb ipykernel"
        return Line("missing", "kernels", f"not installed: {', '.join(missing)}", fix)
    return Line("ok", "kernels", ", ".join(wanted))
