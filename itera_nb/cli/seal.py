"""`itera seal`, `scan`, `reseal`, `evict`: sealed rows, and where else they stand; `itera anchor`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

import itera_nb
from itera_nb.cli import FOLDER
from itera_nb.exceptions import IteraError

if TYPE_CHECKING:
    from itera_nb.experiment import Experiment

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
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--folder", default=".", type=click.Path(path_type=Path), help="The experiment's folder.")
def scan(paths: tuple[Path, ...], folder: Path) -> int:
    """Look for sealed rows in the project, its git history, and PATHS: files and ids, never text.

    Exit code 0: nothing found; 3: rows that must be moved or accepted before the lock.
    """
    exp = itera_nb.open(folder)
    click.echo(exp.scan(*paths).text)
    return 3 if exp.experiment.state.leaks else 0


@click.command()
@FOLDER
@click.option(
    "--ids", default="", help="Ids of sealed rows that somebody saw, beside those a scan found: ID,ID"
)
@click.option("--why", default="", help="What happened, which the conclusion prints; needed with --ids.")
def reseal(folder: Path, *, ids: str, why: str) -> None:
    """Move leaked rows from test to dev, and seal fresh rows that nobody was shown."""
    named = [part.strip() for part in ids.split(",") if part.strip()]
    click.echo(itera_nb.open(folder).reseal(named, why).text)


@click.command()
@FOLDER
@click.option("--remove", is_flag=True, help="Delete the raw source instead of sealing it; asks first.")
@click.option("--restore", is_flag=True, help="Put a sealed source back, after the verdict.")
@click.option("--yes", is_flag=True, help="Delete without asking.")
def evict(folder: Path, *, remove: bool, restore: bool, yes: bool) -> None:
    """Seal the raw source beside the test rows and remove the plain file, so that nobody can subtract."""
    exp = itera_nb.open(folder)
    if remove and not restore and not yes:
        question = f"Delete {exp.experiment.spec.source.uri} for good? (without --remove it is sealed)"
        if not (sys.stdin.isatty() and click.confirm(question)):
            raise IteraError(
                "the raw source stays: deleting it wants a yes", fix="itera evict   (or --remove --yes)"
            )
    click.echo(exp.evict("restore" if restore else "remove" if remove else "seal").text)


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
