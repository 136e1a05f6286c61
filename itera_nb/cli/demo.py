"""`itera demo`: the sentiment experiment from a frame to a verdict, on real data, without a key."""

from __future__ import annotations

import time
from pathlib import Path

import click


@click.command()
@click.option("--under", default="docs/experiments", show_default=True, type=click.Path(path_type=Path))
@click.option("--cache", default=".cache/itera-demo", show_default=True, type=click.Path(path_type=Path))
def demo(under: Path, cache: Path) -> None:
    """A whole experiment: human-rated sentiment, a lexicon against two linear models, four domains."""
    import itera_nb
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
