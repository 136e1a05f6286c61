"""What a person answers: `itera rate`, dev outputs blind; `itera labels`, the labels of failing rows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

import itera_nb
from itera_nb.cli import FOLDER

if TYPE_CHECKING:
    from itera_nb.experiment import Experiment
    from itera_nb.verdict.dev_check import Worksheet

QUIT = "q"


@click.command()
@FOLDER
@click.option("--sheet", "only_sheet", is_flag=True, help="Write or read the worksheet; ask nothing.")
def rate(folder: Path, *, only_sheet: bool) -> None:
    """Rate dev outputs blind, where [judge] second = "human": one at a time, order shuffled, arm unknown.

    Every answer is kept at once in runs/ratings.csv, which a spreadsheet can fill as well. The rows that are
    shown count as read. The check is recorded when every output has a rating.
    """
    from itera_nb.arms.lock import require_unchanged
    from itera_nb.verdict.dev_check import worksheet

    exp = itera_nb.open(folder)
    if not exp.experiment.state.has("judge_checked"):
        require_unchanged(exp.experiment)
        sheet = worksheet(exp.experiment)
        if sheet.open and not only_sheet and sys.stdin.isatty():
            _ask(exp.experiment, sheet)
    click.echo(exp.judge.check().text)


def _ask(experiment: Experiment, sheet: Worksheet) -> None:
    from itera_nb.report.tables import clean
    from itera_nb.scoring.ratings import wanted
    from itera_nb.verdict.dev_check import save

    judge = experiment.spec.judge
    assert judge is not None
    click.echo(f"rate each by {judge.rubric}: {wanted(sheet.items, judge.scale)}; {QUIT} stops here")
    total, left = len(sheet.items), sheet.open
    for number, item in enumerate(left, start=total - len(left) + 1):
        click.echo(f"\n--- {number} of {total} " + "-" * 40)
        for heading, text in item.shown.items():
            click.echo(f"[{clean(heading)}]\n{clean(text)}\n")
        said = _answer(judge.scale, pairwise=item.pairwise)
        if said == QUIT:
            return
        sheet.said[item.code] = said
        save(experiment, sheet)


def _answer(scale: int, *, pairwise: bool) -> str:
    from itera_nb.scoring.ratings import value_of

    hint = "A, B or tie" if pairwise else f"0-{scale}"
    while True:
        said: str = click.prompt(f"rating ({hint}, ? or {QUIT})", prompt_suffix=": ").strip()
        if said == QUIT or value_of(said, scale, pairwise=pairwise) is not None:
            return said


@click.command()
@FOLDER
@click.option("--sheet", is_flag=True, help="Write the worksheet; its dev rows count as read.")
@click.option(
    "--second", metavar="COLUMN", help="Compare with another source's labels, a column of the rows."
)
def labels(folder: Path, *, sheet: bool, second: str | None) -> None:
    """Audit the labels of the rows that fail: in runs/labels.csv, or against a second source.

    A spreadsheet fills the column `verdict` with: label wrong, hard, or ambiguous. Run it again to record the
    audit, when every row has one.
    """
    click.echo(itera_nb.open(folder).labels(sheet=sheet, second=second).text)
