"""`itera screen`: any number of arms on train only, to choose at most three."""

from __future__ import annotations

import click

from itera_nb.cli.run import FOLDER


@click.command()
@FOLDER
def screen(folder: str) -> None:
    """Score every arm of [screen] and of [arms] on train, once each, in the order of the file.

    Move at most three of them to [arms], then: itera amend --why "chosen on train".
    """
    import itera_nb

    click.echo(itera_nb.open(folder).screen().text)
