"""Rows of both sides in one order: the evidence that a verdict looks at, and what has no partner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from itera_nb.exceptions import DataError
from itera_nb.retrospective.reading import FIRST_IDS, Cell, Columns, Side, listed, present_ids, score_of
from itera_nb.scoring.evidence import Evidence
from itera_nb.source.slices import slice_id
from itera_nb.stats.paired import Codes, Floats

BASELINE, ARM = "baseline", "arm"
MOST_SLICES = 20
MOST_CELLS = 20_000_000


@dataclass(frozen=True, slots=True)
class Unpaired:
    """Rows that only one side has: how many, and the first few ids of each side."""

    baseline_only: int
    baseline_ids: tuple[str, ...]
    arm_only: int
    arm_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Paired:
    """Evidence of `BASELINE` and `ARM` on the rows of either side, of which the first `n` are on both."""

    names: tuple[str, str]
    evidence: Evidence
    n: int
    unpaired: Unpaired


def pair(sides: tuple[Side, Side], columns: Columns) -> Paired:
    """Pair the rows of both sides by id, in the order of their ids.

    Raises:
        DataError: Ids, scores, trials, slices or clusters do not fit together; with ids and counts.
    """
    ids = [present_ids(side.table[columns.id], columns.id, side.where) for side in sides]
    one, two = (set(x) for x in ids)
    shared, only_one, only_two = sorted(one & two), sorted(one - two), sorted(two - one)
    if not shared:
        raise DataError(
            f"no id in column {columns.id!r} stands on both sides",
            fix=f"{sides[0].where} has {listed(only_one)}; {sides[1].where} has {listed(only_two)}",
        )
    rows = [*shared, *only_one, *only_two]
    place = {row: i for i, row in enumerate(rows)}
    scores = {
        arm: _matrix(side, own, columns, place)
        for arm, side, own in zip((BASELINE, ARM), sides, ids, strict=True)
    }
    named = zip(scores.items(), sides, strict=True)
    evidence = Evidence(
        ids=tuple(rows),
        scores=scores,
        failed={},
        slices=_masks(sides, ids, columns, rows, len(shared)),
        cluster=None if columns.cluster is None else _codes(_labels(sides, ids, columns.cluster), rows),
        weights=None,
        modes={},
        cost={},
        latency={},
        secondary={},
        unordered=frozenset(arm for (arm, own), side in named if not _aligned(side, own, columns.trial)),
    )
    apart = Unpaired(len(only_one), tuple(only_one[:FIRST_IDS]), len(only_two), tuple(only_two[:FIRST_IDS]))
    return Paired((sides[0].name, sides[1].name), evidence, len(shared), apart)


def _matrix(side: Side, ids: list[str], columns: Columns, place: Mapping[str, int]) -> Floats:
    scores = _scores(side, ids, columns.score)
    row = np.fromiter((place[x] for x in ids), np.intp, len(ids))
    order = np.lexsort((_trial_rank(side, ids, columns.trial), row))
    row, scores = row[order], scores[order]
    trial = np.arange(row.size) - np.searchsorted(row, row)
    trials = int(trial.max()) + 1
    if trials * len(place) > MOST_CELLS:
        raise DataError(f"{side.where}: one id stands on {trials:,} lines", fix="--id, the column of rows")
    matrix = np.full((len(place), trials), np.nan)
    matrix[row, trial] = scores
    return matrix


def _scores(side: Side, ids: list[str], column: str) -> Floats:
    cells = side.table[column]
    known = {text: score_of(text) for text in set(cells)}
    wrong = [row for row, text in zip(ids, cells, strict=True) if known[text] is None]
    if wrong:
        what = f"column {column!r} has {len(wrong)} of {len(cells)} values that are no scores between 0 and 1"
        raise DataError(
            f"{side.where}: {what} (first ids: {listed(wrong)})",
            fix="scores are 0/1, true/false, yes/no or graded 0..1; divide percentages by 100",
        )
    scores = np.array([known[text] for text in cells], dtype=np.float64)
    if np.isnan(scores).all():
        raise DataError(f"{side.where}: column {column!r} is empty", fix="--score COLUMN")
    return scores


def _trial_rank(side: Side, ids: list[str], column: str | None) -> NDArray[np.intp]:
    if column is None:
        return np.arange(len(ids))
    labels = side.table[column]
    twice = [row for (row, _), n in Counter(zip(ids, labels, strict=True)).items() if n > 1]
    if twice:
        what = f"{len(twice)} rows have one value of {column!r} more than once ({listed(twice)})"
        raise DataError(f"{side.where}: {what}", fix="one line per row and trial")
    ranks = {label: i for i, label in enumerate(sorted(set(labels), key=lambda x: x or ""))}
    return np.fromiter((ranks[x] for x in labels), np.intp, len(labels))


def _aligned(side: Side, scores: Floats, column: str | None) -> bool:
    """Whether a column of the scores is one trial of all rows."""
    return column is not None and len(set(side.table[column])) == scores.shape[1]


def _labels(sides: tuple[Side, Side], ids: list[list[str]], column: str) -> dict[str, Cell]:
    """Row -> value of a slice or cluster column, which has to be the same wherever the row stands."""
    labels: dict[str, Cell] = {}
    differing: dict[str, None] = {}
    for side, own in zip(sides, ids, strict=True):
        if column not in side.table:
            continue
        for row, value in zip(own, side.table[column], strict=True):
            if labels.setdefault(row, value) != value:
                differing[row] = None
    if differing:
        what = f"{len(differing)} rows have more than one {column!r} ({listed(list(differing))})"
        raise DataError(what, fix=f"a row has one {column}: the same on all its lines, on both sides")
    return labels


def _masks(
    sides: tuple[Side, Side], ids: list[list[str]], columns: Columns, rows: Sequence[str], paired: int
) -> dict[str, NDArray[np.bool_]]:
    """Slice id -> mask of all rows, the largest slice of the first `paired` first within a column."""
    values: dict[str, list[str]] = {}
    for column in columns.slices:
        labels = _labels(sides, ids, column)
        values[column] = [slice_id(column, labels.get(row)) for row in rows]
    sizes = {column: Counter(names[:paired]) for column, names in values.items()}
    if sum(map(len, sizes.values())) > MOST_SLICES:
        found = ", ".join(f"{column} {len(size)}" for column, size in sizes.items())
        raise DataError(
            f"at most {MOST_SLICES} slices can be judged; values: {found}",
            fix="a coarser column; rows that belong together are a --cluster",
        )
    return {
        name: np.array([value == name for value in values[column]])
        for column, size in sizes.items()
        for name, _ in sorted(size.items(), key=lambda item: (-item[1], item[0]))
    }


def _codes(labels: Mapping[str, Cell], rows: Sequence[str]) -> Codes:
    """Integer cluster codes; a row without a label is a cluster of its own."""
    keys = [labels.get(row) or (row,) for row in rows]
    place = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    return np.fromiter((place[key] for key in keys), np.intp, len(keys))
