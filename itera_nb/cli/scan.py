"""`itera scan`, `itera reseal`, `itera evict`: sealed rows that stand where an arm can read them."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from itera_nb.cli.run import FOLDER
from itera_nb.exceptions import IteraError


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--folder", default=".", type=click.Path(path_type=Path), help="The experiment's folder.")
def scan(paths: tuple[Path, ...], folder: Path) -> int:
    """Look for sealed rows in the project, its git history, and PATHS: files and ids, never text.

    Exit code 0: nothing found; 3: rows that must be moved or accepted before the lock.
    """
    import itera_nb

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
    import itera_nb

    named = [part.strip() for part in ids.split(",") if part.strip()]
    click.echo(itera_nb.open(folder).reseal(named, why).text)


@click.command()
@FOLDER
@click.option("--remove", is_flag=True, help="Delete the raw source instead of sealing it; asks first.")
@click.option("--restore", is_flag=True, help="Put a sealed source back, after the verdict.")
@click.option("--yes", is_flag=True, help="Delete without asking.")
def evict(folder: Path, *, remove: bool, restore: bool, yes: bool) -> None:
    """Seal the raw source beside the test rows and remove the plain file, so that nobody can subtract."""
    import itera_nb

    exp = itera_nb.open(folder)
    if remove and not restore and not yes:
        question = f"Delete {exp.experiment.spec.source.uri} for good? (without --remove it is sealed)"
        if not (sys.stdin.isatty() and click.confirm(question)):
            raise IteraError(
                "the raw source stays: deleting it wants a yes", fix="itera evict   (or --remove --yes)"
            )
    click.echo(exp.evict("restore" if restore else "remove" if remove else "seal").text)
