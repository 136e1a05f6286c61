"""`itera status`, `show`, `verify`, `charts`: looking at what there is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

import itera_nb
from itera_nb.cli import FOLDER, OUTCOME_CODES
from itera_nb.exceptions import DataError, IteraError, RecordError
from itera_nb.seal.custody import has_identity


@click.command()
@FOLDER
def status(folder: Path) -> None:
    """Where this experiment stands, and the next command."""
    click.echo(itera_nb.open(folder).status().text)


@click.command()
@FOLDER
def show(folder: Path) -> None:
    """The recorded conclusion; pages that are missing are written again."""
    from itera_nb.cli import lines
    from itera_nb.notebooks.drive import conclude
    from itera_nb.protocol import next_phase

    experiment = itera_nb.open(folder).experiment
    if not experiment.state.decided:
        raise IteraError("there is no verdict yet", fix="itera status says what comes next")
    page = experiment.path("conclusion.html")
    is_written = next_phase(experiment.state) is None
    if not page.is_file() if is_written else experiment.opened_here:
        conclude(experiment)
    click.echo(lines.verdict(experiment))


@click.command()
@FOLDER
@click.option(
    "--ships", type=click.Path(path_type=Path), metavar="PATH", help="Does a conclusion ship this file?"
)
@click.option("--against", metavar="REF", help="Check every commit since REF: no ledger may lose a record.")
def verify(folder: Path, ships: Path | None, against: str | None) -> int:
    """Recompute everything and compare it with the record; exit 4 names what does not match.

    With --ships: exit 0 only if a verified conclusion in PATH's repository ships exactly its content; 4 if
    that conclusion does not verify; 10, 20, 30 or 40 if its arm got another outcome; 3 if none tested it.
    """
    from itera_nb.experiment import Experiment
    from itera_nb.verdict import bundle
    from itera_nb.verdict.verify import verify as check

    if ships is not None:
        return _ships(ships)
    if against is not None:
        return _against(folder, against)
    experiment = Experiment(folder)
    if has_identity():
        bundle.fetch(experiment)
    report = check(experiment)
    for finding in report.findings:
        click.echo(f"{'ok ' if finding.holds else 'BAD'}  {finding.what}")
    click.echo(f"level: {report.level}")
    if broken := [f for f in report.findings if not f.holds]:
        record = f" (record {broken[0].record})" if broken[0].record else ""
        raise RecordError(f"{broken[0].what}{record}", record=broken[0].record, fix="put the original back")
    click.echo(f"verified: {len(report.findings)} checks")
    return 0


def _against(folder: Path, base: str) -> int:
    from itera_nb.seal.anchors import broken_commits

    wrong = broken_commits(folder, base)
    for line in wrong:
        click.echo(f"BAD  {line}")
    if wrong:
        raise RecordError(
            f"{len(wrong)} commit(s) since {base} lose records of a ledger",
            fix="a ledger only grows: go on from the commit that holds the longest one",
        )
    click.echo(f"ok   every commit since {base} goes on where its parents' ledgers ended")
    return 0


def _ships(path: Path) -> int:
    from itera_nb.verdict.ships import answers

    found = answers(path)
    for answer in found:
        fault = f", but its record does not verify: {answer.broken}" if answer.broken else ""
        where = os.path.relpath(answer.folder)
        click.echo(f"{answer.outcome.upper():13}{answer.arm}   {where}   custody {answer.custody}{fault}")
    if not found:
        click.echo(f"no conclusion of this repository has tested the content of {path}")
        return 3
    first = found[0]
    if first.ships:
        click.echo(f"ships: {path} is byte for byte what that conclusion ships")
        return 0
    if first.broken:
        return 4
    click.echo(f"does not ship: the verdict on this content is {first.outcome}")
    return OUTCOME_CODES[first.outcome] or 3


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path), help="A data.json.")
@click.option(
    "--out",
    default="charts",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder.",
)
def charts(data: Path, out: Path) -> None:
    """Draw arm-bar, forest-plot and cost-vs-accuracy of any data.json of the published schema."""
    from itera_nb.report.charts import pictures

    try:
        value = json.loads(data.read_text("utf-8"))
    except OSError as error:
        raise DataError(f"{data} cannot be read: {error.strerror}", fix="--data data.json") from None
    except ValueError:
        raise DataError(f"{data} is not JSON", fix="--data data.json") from None
    drawn = pictures(value)
    out.mkdir(parents=True, exist_ok=True)
    for name, picture in drawn.items():
        (out / name).write_bytes(picture)
        click.echo(os.path.relpath(out / name))
