"""The inspector of an experiment: its train and dev rows as tables, and their static twin."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from itera_nb.diagnosis.diffs import DIFFERENCES, KINDS, mode_bits
from itera_nb.diagnosis.reveal import reveal
from itera_nb.exceptions import ArmError
from itera_nb.experiment import Experiment
from itera_nb.report.tables import message, table
from itera_nb.report.view import View
from itera_nb.report.wording import shorten
from itera_nb.scoring.evidence import Evidence, Floats
from itera_nb.scoring.registered import part_results, registered_modes
from itera_nb.scoring.runs import arm_inputs, evidence_of, part_rows
from itera_nb.stats.paired import row_means

from .live import live
from .rows import ArmColumns, RowTable, Texts, labels_of, text

if TYPE_CHECKING:
    import pandas as pd

SHOWN, WIDTH = 20, 300
"""Rows of each arm, and characters of a text, in the static twin."""


def inspect(experiment: Experiment, part: str) -> View:
    """Train and dev rows of the baseline beside each other arm, `part` first.

    Raises:
        Refusal: SG01 for any other part: only train and dev can be looked at. SG10, before dev is scored.
    """
    part_rows(experiment, part)
    tables = {name: rows_of(experiment, name) for name in _parts(experiment, part)}

    def widget() -> Any:
        from .row_diff import Inspector

        return Inspector(tables, lambda ids, why: reveal(experiment, ids, why))

    return live(twin(tables), widget)


def revealed(experiment: Experiment, ids: Sequence[str], why: str) -> View:
    """Record that these dev rows are read, and why; then show their text.

    Raises:
        IteraError: See `diagnosis.reveal.reveal`.
    """
    record = reveal(experiment, ids, why)
    column, wanted = experiment.spec.source.id, set(ids)
    rows = [row for row in part_rows(experiment, "dev") if str(row[column]) in wanted]
    shown = [column, *_readable(experiment, rows)]
    said = f"{len(record.body['ids']):,} rows read: record {record.seq}" if record else "all were read before"
    every = experiment.state.the("sealed").body["counts"]["dev"]
    notes = [f"{said}; {len(experiment.state.revealed):,} of {every:,} dev rows have been read (SG29)"]
    cells = [[shorten(text(row[name]), WIDTH) for name in shown] for row in rows]
    return table(shown, cells, title="dev rows, read", notes=notes)


def failures(experiment: Experiment, arm: str | None, n: int) -> View:
    """Up to `n` train rows that an arm fails, with everything that may be read of them; for all arms in turn.

    Raises:
        ArmError: There is no such arm.
    """
    if not experiment.state.scored("train"):
        return message('train is not scored yet: exp.run("train", trials=1)')
    rows, fails = rows_of(experiment, "train"), experiment.spec.metric.fail_below
    if arm is not None and arm not in rows.arms:
        raise ArmError(f"no arm {arm!r} is scored on train", fix=f"one of: {', '.join(rows.arms)}")
    views = []
    for name in [arm] if arm else rows.arms:
        failed = np.flatnonzero(row_means(rows.arms[name].score) < fails)
        views.append(_failed(rows, name, failed[: max(n, 0)], len(failed)))
    return _one_view(views)


def _failed(rows: RowTable, arm: str, at: np.ndarray, total: int) -> View:
    columns = (*rows.texts.values(), rows.arms[arm].output[0])
    cells = [
        [
            str(rows.ids[i]),
            *(shorten(text(values[i]), WIDTH) for values in columns),
            ", ".join(rows.shown_modes(arm, i)),
        ]
        for i in at
    ]
    notes = [f"{total:,} of {len(rows):,} train rows; they are free to read"]
    headers = ["id", *rows.texts, f"output of {arm}", "failure modes"]
    return table(headers, cells, title=f"train rows that {arm} fails", notes=notes)


def _parts(experiment: Experiment, first: str) -> list[str]:
    """Dev, and train where every arm was scored on it; `first` first."""
    scored = [part for part in ("dev", "train") if part == "dev" or experiment.state.scored(part)]
    return sorted(scored, key=lambda part: part != first)


def rows_of(experiment: Experiment, part: str) -> RowTable:
    """Train or dev rows with every arm that is scored on them; dev text is hidden until it is revealed."""
    spec = experiment.spec
    results, modes = part_results(experiment, part), registered_modes(experiment)
    evidence = evidence_of(experiment, results, part, modes)
    by_id = {str(row[spec.source.id]): row for row in part_rows(experiment, part)}
    rows = [by_id[name] for name in evidence.ids]
    return RowTable(
        ids=evidence.ids,
        arms={
            str(a): _arm(evidence, str(a), some, list(modes))
            for a, some in results.groupby("arm", sort=False)
        },
        baseline=spec.baseline,
        texts={name: [row[name] for row in rows] for name in _readable(experiment, rows)},
        slices={column: labels_of(_column(rows, column)) for column in spec.source.slices},
        severity=_severity(rows, spec.source.severity),
        modes=tuple(modes),
        fail_below=spec.metric.fail_below,
        pairwise=evidence.pairwise,
        hidden=_hidden(experiment, evidence.ids) if part == "dev" else None,
    )


def _hidden(experiment: Experiment, ids: Sequence[str]) -> np.ndarray:
    seen = experiment.state.revealed
    return np.array([row not in seen for row in ids], dtype=np.bool_)


def _readable(experiment: Experiment, rows: Sequence[dict[str, Any]]) -> list[str]:
    """Columns with the text of a row: what arms see, what is expected, then the rest."""
    source = experiment.spec.source
    elsewhere = {source.id, source.severity, "fold", *source.slices}
    first = [*arm_inputs(experiment), *([source.expected] if source.expected else [])]
    every = list(rows[0]) if rows else []
    return [c for c in dict.fromkeys([*first, *every]) if c in every and c not in elsewhere]


def _column(rows: Sequence[dict[str, Any]], name: str) -> pd.Series[Any]:
    import pandas as pd

    return pd.Series([row[name] for row in rows], dtype=object)


def _severity(rows: Sequence[dict[str, Any]], column: str | None) -> Floats | None:
    import pandas as pd

    if column is None:
        return None
    return pd.to_numeric(_column(rows, column), errors="coerce").to_numpy(dtype=np.float64)


class _Json(list[Any]):
    """Outputs as they are stored, decoded when one is looked at."""

    def __getitem__(self, at: Any) -> Any:
        value = super().__getitem__(at)
        return json.loads(value) if isinstance(value, str) else None


def _arm(evidence: Evidence, arm: str, results: pd.DataFrame, modes: Sequence[str]) -> ArmColumns:
    ids = list(evidence.ids)
    trials = [part.set_index("id").reindex(ids) for _, part in results.groupby("trial")]
    notes: dict[str, tuple[Texts, ...]] = {}
    for column, title in {"error": "error", "reason": "the judge's reason", "unscored": "no score"}.items():
        if column in results and results[column].astype(bool).any():
            notes[title] = tuple(trial[column].fillna("").tolist() for trial in trials)
    return ArmColumns(
        score=evidence.scores[arm],
        output=tuple(_Json(trial["output"].tolist()) for trial in trials),
        notes=notes,
        modes=mode_bits(evidence, arm) if modes else None,
        cost=evidence.cost[arm],
        latency=evidence.latency[arm],
    )


def twin(tables: dict[str, RowTable]) -> View:
    """What a saved or printed notebook keeps: counts, and the first differences, with text that is open."""
    views = []
    for part, rows in tables.items():
        views.append(_counts(part, rows))
        views += [view for arm in rows.candidates if (view := _differences(part, rows, arm))]
    return _one_view(views)


def _one_view(views: Sequence[View]) -> View:
    return View(html="".join(v.html for v in views), text="\n\n".join(v.text for v in views))


def _counts(part: str, rows: RowTable) -> View:
    counts = {arm: np.bincount(rows.kinds(arm), minlength=len(KINDS)) for arm in rows.candidates}
    kinds = [k for k in range(len(KINDS)) if any(found[k] for found in counts.values())]
    cells = [[arm, *(int(found[k]) for k in kinds)] for arm, found in counts.items()]
    note = "train rows are open"
    if rows.hidden is not None:
        read = len(rows) - rows.unread
        note = f"{read:,} of {len(rows):,} dev rows have been read; the others are counted, not shown (SG29)"
    headers = [f"{part}: arm against {rows.baseline}", *(KINDS[k] for k in kinds)]
    return table(headers, cells, title=f"{part} rows, {len(rows):,}", notes=[note])


def _differences(part: str, rows: RowTable, arm: str) -> View | None:
    every = np.flatnonzero(np.isin(rows.kinds(arm), [KINDS.index(kind) for kind in DIFFERENCES]))
    if not every.size:
        return None
    sides, shown = {"base": rows.baseline, "arm": arm}, every[:SHOWN]
    scores = zip(*(rows.values(arm, side, shown) for side in sides), strict=True)
    cells = [
        [
            str(rows.ids[i]),
            KINDS[rows.kinds(arm)[i]],
            *(f"{score:.2f}" for score in pair),
            *(_shown(rows, name, i) for name in sides.values()),
        ]
        for i, pair in zip(shown, scores, strict=True)
    ]
    headers = ["id", "", *sides.values(), *(f"output of {name}" for name in sides.values())]
    more = len(every) - len(cells)
    notes = [f"{more:,} more; open the notebook to look at them"] if more else []
    return table(headers, cells, title=f"{part}: where {arm} differs from {rows.baseline}", notes=notes)


def _shown(rows: RowTable, arm: str, row: Any) -> str:
    return "(not read)" if rows.is_hidden(row) else shorten(text(rows.arms[arm].output[0][row]), WIDTH)
