"""Arms whose results exist already: each answer is looked up in a file, by row id and trial."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itera_nb._typing import JSON, Row
from itera_nb.exceptions import DataError

from .caller import Answer, Caller

if TYPE_CHECKING:
    from itera_nb.spec import ArmSpec

    from .runtime import RunnableArm

_WORDS = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}


class RecordedCaller(Caller):
    """A `recorded` arm: one line of its file for each row and trial.

    Trials are counted in the order of the values of the `trial` column; without one there is one trial. Where
    the arm has a `score` column, the answer's output is that score. A line that is not there is an error of
    the arm: the row stays in the denominator.

    Raises:
        DataError: The file cannot be read, lacks a column, or has two lines for one row and trial.
    """

    def __init__(self, arm: RunnableArm) -> None:
        assert arm.file is not None
        (self._id,) = arm.inputs
        self._answers = _read(arm.file, self._id, arm.spec)

    async def call(self, row: Row, trial: int, *, timeout_s: float) -> Answer:  # noqa: ARG002 - it waits for nothing
        """What the file says."""
        return self._answers.get((str(row[self._id]), trial)) or Answer("error", error_type="NotRecorded")


def _read(path: Path, id_column: str, spec: ArmSpec) -> dict[tuple[str, int], Answer]:
    import pyarrow as pa

    from itera_nb.source.parts import to_rows
    from itera_nb.source.relation import DuckDBRelation, require_columns

    value = spec.score or spec.output
    named = [c for c in (value, spec.trial, spec.cost_usd, spec.latency_ms) if c]
    text = [spec.trial] if spec.trial else []
    relation = DuckDBRelation(path, id_column, text=text)
    require_columns(relation.columns, [id_column, *named], path.name)
    ids = relation.keys([]).column(id_column)
    lines = to_rows(pa.Table.from_batches(list(relation.rows(ids, named))))
    order = _trial_order([line[spec.trial] for line in lines]) if spec.trial else {}
    answers: dict[tuple[str, int], Answer] = {}
    for line in lines:
        key = (str(line[id_column]), order[line[spec.trial]] if spec.trial else 0)
        if key in answers:
            raise DataError(
                f"{path.name} has two lines for row {key[0]!r} in one trial",
                fix="name the column of re-runs as the arm's `trial`, or drop one of them",
            )
        answers[key] = _answer(line, spec)
    return answers


def _trial_order(values: list[Any]) -> dict[Any, int]:
    """Value of the trial column -> number of the trial, in numeric order where all values are numbers."""
    distinct = {str(v): v for v in values}
    if all(_number(v) is not None for v in distinct):
        ordered = sorted(distinct, key=lambda v: _number(v) or 0.0)
    else:
        ordered = sorted(distinct)
    return {distinct[v]: i for i, v in enumerate(ordered)}


def _answer(line: Row, spec: ArmSpec) -> Answer:
    facts: dict[str, Any] = {
        "cost_usd": _known(line, spec.cost_usd),
        "latency_ms": _known(line, spec.latency_ms),
    }
    if spec.score is not None:
        return Answer("ok", _score(line[spec.score]), **facts)
    try:
        output = json.loads(json.dumps(line[str(spec.output)], allow_nan=False, default=str))
    except ValueError:
        return Answer("invalid", error_type="NaN", **facts)
    if output is None or output == "":
        return Answer("invalid", error_type="None", **facts)
    return Answer("ok", output, **facts)


def _score(value: Any) -> JSON:
    """A score as a number; other text stays as it is, and is then unscored, as NaN and infinity are."""
    if value is None or isinstance(value, bool | int):
        return value
    word = str(value).strip().lower()
    number = _WORDS.get(word, _number(word))
    if number is None:
        return str(value)
    return number if math.isfinite(number) else None


def _known(line: Row, column: str | None) -> float | None:
    value = None if column is None or line[column] is None else _number(str(line[column]))
    return value if value is not None and 0 <= value < math.inf else None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
