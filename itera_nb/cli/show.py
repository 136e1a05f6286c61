"""`itera status`, `show`, `verify`, `charts`: looking at what there is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from itera_nb.exceptions import DataError, IteraError, RecordError

FOLDER = click.argument("folder", default=".", type=click.Path(path_type=Path))


@click.command()
@FOLDER
def status(folder: Path) -> None:
    """Where this experiment stands, and the next command."""
    import itera_nb

    click.echo(itera_nb.open(folder).status().text)


@click.command()
@FOLDER
def show(folder: Path) -> None:
    """The recorded conclusion; pages that are missing are written again."""
    import itera_nb
    from itera_nb.cli import lines
    from itera_nb.notebooks.runner import VERDICT, execute
    from itera_nb.protocol import next_phase
    from itera_nb.report.files import render

    experiment = itera_nb.open(folder).experiment
    if not experiment.state.decided:
        raise IteraError("there is no verdict yet", fix="itera status says what comes next")
    page = experiment.path("conclusion.html")
    if next_phase(experiment.state) is not None or not page.is_file():
        render(experiment, execute(experiment, VERDICT))
    click.echo(lines.verdict(experiment))


@click.command()
@FOLDER
def verify(folder: Path) -> None:
    """Recompute everything and compare it with the record; exit 4 names what does not match."""
    from itera_nb.experiment import Experiment
    from itera_nb.verdict.verify import verify as check

    report = check(Experiment(folder))
    for finding in report.findings:
        click.echo(f"{'ok ' if finding.holds else 'BAD'}  {finding.what}")
    click.echo(f"level: {report.level}")
    if broken := [f for f in report.findings if not f.holds]:
        record = f" (record {broken[0].record})" if broken[0].record else ""
        raise RecordError(f"{broken[0].what}{record}", record=broken[0].record, fix="put the original back")
    click.echo(f"verified: {len(report.findings)} checks")


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path), help="A data.json.")
@click.option("--out", default="charts", show_default=True, type=click.Path(path_type=Path), help="Folder.")
def charts(data: Path, out: Path) -> None:
    """Draw arm-bar, forest-plot and cost-vs-accuracy of any data.json of the published schema."""
    from itera_nb.report.charts import write_charts

    try:
        value = json.loads(data.read_text("utf-8"))
    except OSError as error:
        raise DataError(f"{data} cannot be read: {error.strerror}", fix="--data data.json") from None
    except ValueError:
        raise DataError(f"{data} is not JSON", fix="--data data.json") from None
    out.mkdir(parents=True, exist_ok=True)
    for path in write_charts(value, out):
        click.echo(os.path.relpath(path))
