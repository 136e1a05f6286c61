"""`itera new`: flags or questions, one folder; `itera demo`: a whole experiment without a key."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import click

import itera_nb
from itera_nb.exceptions import IteraError


@click.command()
@click.argument("name")
@click.option("--data", type=click.Path(path_type=Path), help="CSV, Parquet or JSON lines, one row a line.")
@click.option("--expected", help="The label column.")
@click.option("--id", "id_", help="The column that identifies a row.")
@click.option("--input", "inputs", multiple=True, help="A column that the arms see (default: the rest).")
@click.option("--slices", multiple=True, help="A column whose values must not lose, for example tenant.")
@click.option("--cluster", help="A column whose rows belong together, for example customer_id.")
@click.option(
    "--baseline", help="Today's behaviour: prompt.md, path/file.py:function, https://… or 'exec: COMMAND'."
)
@click.option("--arm", "arms", multiple=True, help="A candidate of the same form (up to three).")
@click.option("--model", help="For prompts: anthropic/MODEL.")
@click.option("--min-effect", default="5pp", show_default=True, help="The smallest gain worth acting on.")
@click.option("--question", help="One sentence that ends in ship, scope or kill.")
@click.option("--hypothesis", help="Why the arm should win, and on which rows.")
@click.option("--ref", help="Where today's behaviour stands: src/app.py:42.")
def new(
    name: str,
    data: Path | None,
    expected: str | None,
    id_: str | None,
    inputs: tuple[str, ...],
    slices: tuple[str, ...],
    baseline: str | None,
    arms: tuple[str, ...],
    **options: Any,
) -> None:
    """Make docs/experiments/YYYY-MM-DD-NAME/ with a complete experiment.toml, the arms and six notebooks."""
    from itera_nb.scaffold import Wanted
    from itera_nb.scaffold import new as make

    wanted = Wanted(
        name=name,
        data=data or Path(_ask("--data", "Data file")),
        expected=expected or _ask("--expected", "Label column"),
        baseline=baseline or _ask("--baseline", "Baseline (prompt.md or file.py:function)"),
        arms=arms or tuple(_ask("--arm", "Candidate arm").split()),
        id=id_,
        inputs=_split(inputs),
        slices=_split(slices),
        **options,
    )
    experiment = make(wanted)
    where = os.path.relpath(experiment.folder)
    click.echo(f"{where}/\n  experiment.toml   arms/   notebooks/")
    click.echo(f"next: read experiment.toml, then\n  cd {where}\n  itera plan\n  itera run")


def _split(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part.strip() for value in values for part in value.split(",") if part.strip())


def _ask(option: str, question: str) -> str:
    if not sys.stdin.isatty():
        raise IteraError(f"{option} is missing", fix="see: itera new --help")
    return str(click.prompt(question))


@click.command()
@click.option("--under", default="docs/experiments", show_default=True, type=click.Path(path_type=Path))
@click.option("--cache", default=".cache/itera-demo", show_default=True, type=click.Path(path_type=Path))
def demo(under: Path, cache: Path) -> None:
    """A whole experiment: human-rated sentiment, a lexicon against two linear models, four domains."""
    from itera_nb.cli.run import run, verdict
    from itera_nb.scaffold import new_demo

    started = time.monotonic()
    experiment = new_demo(under, cache)
    folder = under / experiment.name
    click.echo(f"{folder}   data: {experiment.outside(experiment.spec.source.uri)}")
    context = click.get_current_context()
    context.invoke(run, folder=folder, yes=True, accepts=())
    context.invoke(verdict, folder=folder)
    state = itera_nb.open(folder).experiment.state
    click.echo(
        f"{len(state.records)} records, {time.monotonic() - started:.0f} s.  Check it: itera verify {folder}"
    )
