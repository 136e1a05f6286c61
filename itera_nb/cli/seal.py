"""`itera seal`: phases 0 and 1, with custody chosen; `itera anchor`: the record's head in a commit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from itera_nb.exceptions import IteraError

if TYPE_CHECKING:
    from itera_nb.experiment import Experiment

FOLDER = click.argument("folder", default=".", type=click.Path(path_type=Path))
RECIPIENT = click.option(
    "--recipient",
    "recipients",
    multiple=True,
    metavar="KEY|FILE",
    help="Escrow: seal to this age1… or ssh-… public key, or to those in a file; you keep no key.",
)


@click.command()
@FOLDER
@RECIPIENT
def seal(folder: Path, recipients: tuple[str, ...]) -> None:
    """Lock the frame, sample, split and seal (phases 0 and 1); with --recipient under escrow."""
    import itera_nb
    from itera_nb.cli import lines
    from itera_nb.notebooks.drive import run_phase

    experiment = itera_nb.open(folder).experiment
    choose_custody(experiment, recipients)
    for phase, line in (("0-frame", lines.frame), ("1-source", lines.source)):
        run_phase(experiment, phase)
        click.echo(line(experiment))


def choose_custody(experiment: Experiment, values: Sequence[str]) -> None:
    """Write the recipients of `--recipient` where sealing finds them, and say who will hold the key.

    Raises:
        IteraError: One is no public key, or the rows are sealed already, to others.
    """
    from itera_nb.seal.recipients import FILE, find, given, read

    chosen = given(values)
    if experiment.state.has("sealed"):
        if {r.key for r in chosen} - {r.key for r in experiment.custody.recipients}:
            raise IteraError(
                f"the rows are sealed already: {experiment.custody.words}",
                fix="new rows, other holders: itera new NAME",
            )
        return
    if chosen:
        experiment.write_text(FILE.as_posix(), "".join(f"{r.line}\n" for r in chosen))
    path = find(experiment.folder)
    if path is not None:
        names = ", ".join(r.name for r in read(path))
        click.echo(f"escrow: the test rows will be sealed to {names}, named in {path}; no key stays here")


@click.command()
@FOLDER
@click.option("-m", "--message", help="The commit's first line.")
@click.option("--claim", metavar="REMOTE", help="Push it with a tag that no other history can get (CI).")
def anchor(folder: Path, message: str | None, claim: str | None) -> None:
    """Commit this experiment's folder, and nothing else, with its record's head as a trailer.

    Git then holds a head that deleting the folder or its ledger does not change; push it, and others hold it.
    `itera verify` compares with every such head.
    """
    from itera_nb.experiment import Experiment
    from itera_nb.seal import anchors

    experiment = Experiment(folder)
    records = experiment.state.records
    if not records:
        raise IteraError("nothing is recorded yet", fix="itera run")
    if claim is not None:
        click.echo(f"claimed on {claim}: {anchors.claim(experiment.folder, records, claim)}")
        return
    last = records[-1]
    made = anchors.commit(
        experiment.folder,
        records,
        message or f"{experiment.name}: {last.type.replace('_', ' ')} (record {last.seq})",
    )
    click.echo(f"commit {made[:10]}   {anchors.trailer(records)}")
    click.echo("push it: a head that others hold cannot be taken back")
