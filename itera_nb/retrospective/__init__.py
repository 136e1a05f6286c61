"""Results that exist already: an honest answer without a folder, and never "ship".

The estimator, the rule, the slices and the treatment of missing scores are those of a sealed verdict. Effects
and scores are fractions; what is printed is in percentage points.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from itera_nb.retrospective.answer import answer, asked
from itera_nb.retrospective.pairing import pair
from itera_nb.retrospective.reading import Columns, load
from itera_nb.retrospective.report import ComparisonReport
from itera_nb.stats.decision import Goal

__all__ = ["ComparisonReport", "compare"]


def compare(
    baseline: Any,
    arm: Any = None,
    *,
    id: str | None = None,  # noqa: A002 - the field's word, as in [source]
    score: str | None = None,
    trial: str | None = None,
    slices: str | Sequence[str] = (),
    cluster: str | None = None,
    min_effect: str | float = "5pp",
    goal: Goal = "better",
    margin: str | float | None = None,
    max_slice_loss: str | float = "2pp",
    arm_column: str | None = None,
    baseline_name: str | None = None,
    arm_name: str | None = None,
) -> ComparisonReport:
    """Compare results that exist already: two tables, or one that holds both arms in `arm_column`.

    Args:
        baseline: DataFrame, or path of a CSV, TSV, Parquet or JSON-lines file: one line per row and trial.
        arm: The other arm's, in the same form; none when `arm_column` is given.
        id: The column that names a row; found where exactly one fits.
        score: The column of scores: 0/1, true/false, yes/no or graded 0..1; found where exactly one fits.
        trial: The column that names a re-run. Without it repeated ids are re-runs.
        slices: Columns whose values must not lose more than `max_slice_loss`; a text is split at its commas.
        cluster: The column whose rows belong together, for example a customer.
        min_effect: The smallest gain worth acting on: 0.05, "5pp", or "10%" of the baseline's score.
        goal: "better", or "no_worse" with a `margin`.
        margin: The largest loss that "no worse" allows: 0.03 or "3pp".
        max_slice_loss: The largest loss that a slice is allowed: 0.02 or "2pp".
        arm_column: The column that names the arm of each line.
        baseline_name: How the baseline is called; with `arm_column`, its value there.
        arm_name: How the arm is called; with `arm_column`, its value there.

    Raises:
        DataError: A file, column, id or score does not fit; ids and counts are named, never values.
        IteraError: An option does not fit the others.
    """
    question = asked(min_effect, goal, margin, max_slice_loss)
    parts = slices.split(",") if isinstance(slices, str) else slices
    named = tuple(dict.fromkeys(s.strip() for s in parts if s.strip()))
    wanted = Columns(id or "", score or "", trial, named, cluster, found=())
    sides, columns = load(baseline, arm, wanted, arm_column, baseline_name, arm_name)
    return answer(pair(sides, columns), columns, question)
