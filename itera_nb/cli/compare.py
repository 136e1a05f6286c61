"""`itera compare`: results that exist already, without a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from itera_nb.exceptions import IteraError

RETROSPECTIVE = 40
"""The exit code of every answer: never that of a ship, whatever the results say."""


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--id", "id_", metavar="COLUMN", help="Names a row; found where exactly one column fits.")
@click.option("--score", metavar="COLUMN", help="0/1, true/false, yes/no or graded 0..1; found likewise.")
@click.option("--trial", metavar="COLUMN", help="Names a re-run. Without it repeated ids are re-runs.")
@click.option("--slices", multiple=True, metavar="COLUMNS", help="Columns whose values must not lose: a,b.")
@click.option("--cluster", metavar="COLUMN", help="Rows that belong together, for example a customer's.")
@click.option("--min-effect", default="5pp", show_default=True, help="5pp, 0.05, or 10% of the baseline.")
@click.option("--goal", default="better", show_default=True, type=click.Choice(["better", "no_worse"]))
@click.option("--margin", help="The largest loss that no_worse allows: 3pp.")
@click.option("--max-slice-loss", default="2pp", show_default=True, help="The largest loss of a slice.")
@click.option("--arm-column", metavar="COLUMN", help="One file holds both arms: the column that names them.")
@click.option("--baseline", help="The baseline's name; with --arm-column, its value there.")
@click.option("--arm", help="The arm's name; with --arm-column, its value there.")
@click.option("--chart", type=click.Path(path_type=Path), help="Write a forest plot: forest.png.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def compare(
    files: tuple[Path, ...],
    id_: str | None,
    score: str | None,
    slices: tuple[str, ...],
    baseline: str | None,
    arm: str | None,
    chart: Path | None,
    *,
    as_json: bool,
    **options: Any,
) -> int:
    """Compare two files of results that exist already: baseline first, then the arm.

    The outcome is retrospective: better, worse, no worse or inconclusive, never ship. Exit code 40.
    """
    from itera_nb.retrospective import compare as compare_results

    if len(files) > 2:
        raise IteraError(f"{len(files)} files are given", fix="two files, or one and --arm-column")
    if chart is not None and (chart.suffix.lower() != ".png" or not chart.absolute().parent.is_dir()):
        raise IteraError(f"--chart {chart} is no .png in a folder that exists", fix="--chart forest.png")
    report = compare_results(
        *files,
        id=id_,
        score=score,
        slices=",".join(slices),
        baseline_name=baseline,
        arm_name=arm,
        **options,
    )
    if chart is not None:
        from itera_nb.report.charts import png

        chart.write_bytes(png(report.forest_plot()))
    click.echo(json.dumps(report.to_json(), indent=2) if as_json else report.view.text)
    return RETROSPECTIVE
