"""What a run consists of: every unit of work with its key, made when it is needed."""

from __future__ import annotations

import bisect
import itertools
from array import array
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from itera_nb._typing import Row
from itera_nb.arms.runtime import RunnableArm
from itera_nb.exceptions import DataError

from . import keys

_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Rows that are scored by arms fitted on the same other rows; k-fold has one group a fold.

    Row values are plain Python values (`str`, `int`, `float`, lists, mappings ...).

    Args:
        rows: Rows to answer, with all their columns.
        fit_rows: Rows for `fit`, with all their columns.
    """

    rows: Sequence[Row]
    fit_rows: Sequence[Row] = ()


@dataclass(frozen=True, slots=True)
class Unit:
    """One piece of work: an arm on a row in a trial; `row` holds the declared input columns only."""

    key: str
    arm: RunnableArm
    row: Row
    row_id: str | int
    trial: int
    group: int
    seed: int


class Units:
    """All units of a run: row by row, then trial by trial, the arms side by side.

    Only their keys are held, 32 bytes a unit. Ids are unique over all groups; the arguments are those of
    `engine.run`.

    Raises:
        DataError: Ids repeat, or a row lacks a declared column.
    """

    def __init__(
        self,
        arms: Sequence[RunnableArm],
        groups: Sequence[RowGroup],
        *,
        id_column: str,
        trials: Mapping[str, int] | int,
        seed: Callable[[int], int],
        namespace: str = "",
    ) -> None:
        self.groups = groups
        planned = {arm.name: trials if isinstance(trials, int) else trials[arm.name] for arm in arms}
        most = max(planned.values(), default=0)
        self._each_row = [(arm, trial) for trial in range(most) for arm in arms if trial < planned[arm.name]]
        self._seeds = [seed(trial) for trial in range(most)]
        self._starts = list(itertools.accumulate((len(group.rows) for group in groups), initial=0))
        self._id_column = id_column
        self._refuse_repeated_ids()
        self._keys = bytearray()
        for key in self._made_keys(namespace):
            self._keys += key

    def __len__(self) -> int:
        return self._starts[-1] * len(self._each_row)

    def __getitem__(self, index: int) -> Unit:
        if not 0 <= index < len(self):
            raise IndexError(index)
        number, (arm, trial) = index // len(self._each_row), self._each_row[index % len(self._each_row)]
        group = bisect.bisect_right(self._starts, number) - 1
        row = self.groups[group].rows[number - self._starts[group]]
        return Unit(
            self.key(index), arm, _inputs(arm, row), row[self._id_column], trial, group, self._seeds[trial]
        )

    def key(self, index: int) -> str:
        """A unit's key: SHA-256 in hex."""
        return self._keys[_KEY_BYTES * index : _KEY_BYTES * (index + 1)].hex()

    def iter_keys(self) -> Iterator[str]:
        """Every unit's key."""
        return (self.key(index) for index in range(len(self)))

    def unfinished(self, finished: Container[str]) -> dict[str, array[int]]:
        """By arm name the indices of the units that have to run."""
        names = [arm.name for arm, _ in self._each_row]
        pending = {name: array("Q") for name in names}
        for index, (key, name) in enumerate(zip(self.iter_keys(), itertools.cycle(names), strict=False)):
            if key not in finished:
                pending[name].append(index)
        return pending

    def _refuse_repeated_ids(self) -> None:
        ids = {row[self._id_column] for group in self.groups for row in group.rows}
        if repeated := self._starts[-1] - len(ids):
            raise DataError(f"{repeated} rows repeat an id in column {self._id_column!r}")

    def _made_keys(self, namespace: str) -> Iterator[bytes]:
        resources = {arm.name: keys.resources_digest(arm.resources) for arm, _ in self._each_row}
        for group in self.groups:
            fitted = keys.rows_digest(group.fit_rows)
            for row in group.rows:
                contents: dict[tuple[str, ...], str] = {}
                for arm, trial in self._each_row:
                    if arm.inputs not in contents:
                        contents[arm.inputs] = keys.digest(_inputs(arm, row))
                    key = keys.digest(
                        {
                            "arm": arm.name,
                            "manifest": arm.digest,
                            "row": contents[arm.inputs],
                            "id": row[self._id_column],
                            "trial": trial,
                            "seed": self._seeds[trial],
                            # Only python arms learn: new training rows must not pay for other answers again.
                            "fit": fitted if arm.spec.kind == "python" else "",
                            "namespace": namespace,
                            "resources": resources[arm.name],
                        }
                    )
                    yield bytes.fromhex(key)


def _inputs(arm: RunnableArm, row: Row) -> dict[str, Any]:
    try:
        return {column: row[column] for column in arm.inputs}
    except KeyError as error:
        raise DataError(f"a row has no column {error.args[0]!r}, which [source] inputs names") from None
