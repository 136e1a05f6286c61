"""`itera demo`: the sentiment experiment from a frame to a verdict, on real data, without a key."""

from __future__ import annotations

import re
import runpy
import shutil
import sys
import time
from datetime import date
from pathlib import Path

import click

from itera_nb.exceptions import IteraError

EXAMPLE = "sentiment"


@click.command()
@click.option("--under", default="docs/experiments", show_default=True, type=click.Path(path_type=Path))
@click.option("--cache", default=".cache/itera-demo", show_default=True, type=click.Path(path_type=Path))
def demo(under: Path, cache: Path) -> None:
    """A whole experiment: human-rated sentiment, a lexicon against two linear models, four domains."""
    import itera_nb
    from itera_nb.cli.run import run, verdict

    started = time.monotonic()
    _require_arms()
    source = _example()
    parquet = runpy.run_path(str(source / "prepare.py"))["prepare"](cache)
    folder = _fresh(under)
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("prepare.py", "__pycache__"))
    _point_at(folder / "experiment.toml", parquet)
    click.echo(f"{folder}   data: {parquet}")
    context = click.get_current_context()
    context.invoke(run, folder=folder, yes=True, accepts=())
    context.invoke(verdict, folder=folder)
    state = itera_nb.open(folder).experiment.state
    click.echo(
        f"{len(state.records)} records, {time.monotonic() - started:.0f} s.  Check it: itera verify {folder}"
    )


def _require_arms() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("sklearn", "vaderSentiment") if find_spec(name) is None]
    if missing:
        raise IteraError(f"the demo's arms need {' and '.join(missing)}", fix="pip install 'itera-nb[demo]'")


def _example() -> Path:
    """The example's folder: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package.parent / "examples" / EXAMPLE, package / "_data" / "examples" / EXAMPLE):
        if (folder / "experiment.toml").is_file():
            return folder
    raise IteraError(
        "this installation carries no example", fix="install itera-nb from its wheel or a checkout"
    )


def _fresh(under: Path) -> Path:
    """A folder that does not exist and never held an experiment: each demo is one of its own."""
    from itera_nb.seal.heads import of_folder

    name = f"{date.today():%Y-%m-%d}-{EXAMPLE}"  # noqa: DTZ011 - the user's own day
    names = (name, *(f"{name}-{i}" for i in range(2, 1000)))
    return next(f for n in names if not (f := under / n).exists() and of_folder(f) is None)


def _point_at(toml: Path, parquet: Path) -> None:
    import os

    relative = os.path.relpath(parquet.resolve(), toml.parent.resolve())
    text, found = re.subn(r"(?m)^uri\s*=.*$", f'uri      = "{relative}"', toml.read_text("utf-8"))
    if found != 1:
        print("the example's experiment.toml has no single uri line", file=sys.stderr)
    toml.write_text(text, "utf-8")
