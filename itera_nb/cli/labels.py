"""`itera labels`: are the rows that every arm fails hard, or are their labels wrong?"""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("folder", default=".", type=click.Path(path_type=Path))
@click.option("--sheet", is_flag=True, help="Write the worksheet; its dev rows count as read.")
@click.option(
    "--second", metavar="COLUMN", help="Compare with another source's labels, a column of the rows."
)
def labels(folder: Path, *, sheet: bool, second: str | None) -> None:
    """Audit the labels of the rows that fail: in runs/labels.csv, or against a second source.

    A spreadsheet fills the column `verdict` with: label wrong, hard, or ambiguous. Run it again to record the
    audit, when every row has one.
    """
    import itera_nb

    click.echo(itera_nb.open(folder).labels(sheet=sheet, second=second).text)
