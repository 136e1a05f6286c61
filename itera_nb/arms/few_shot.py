"""Examples for prompt arms: train rows only, by their ids or drawn by the experiment's own seed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from itera_nb._typing import Row
from itera_nb.exceptions import ArmError, Refusal
from itera_nb.ledger import digest
from itera_nb.models.prompt import Shot, read_text
from itera_nb.spec import ArmSpec, SourceSpec


def choose(
    arm: ArmSpec, root: Path, train: Sequence[Row], source: SourceSpec, inputs: Sequence[str], genesis: str
) -> tuple[Shot, ...]:
    """The examples of an arm, in their order; none without `few_shot`.

    For a number n these are the first n + 1 train rows with different inputs in an order under the
    experiment's id: a row that is itself among them gets the next one.

    Raises:
        ArmError: The file is missing, or there are too few train rows.
        Refusal: SG03 for ids that are not train rows.
    """
    if arm.few_shot is None:
        return ()
    by_id = {str(row[source.id]): row for row in train}
    if isinstance(arm.few_shot, int):
        ordered = sorted(by_id, key=lambda row_id: digest([genesis, "few_shot", row_id]))
        chosen = _distinct((by_id[i] for i in ordered), inputs, arm.few_shot + 1)
        if len(chosen) <= arm.few_shot:
            raise ArmError(
                f"few_shot = {arm.few_shot} needs more than {len(chosen)} different train rows",
                fix="take fewer examples, or a larger `train` in [split]",
            )
    else:
        ids = _ids(arm.few_shot, root)
        if unknown := [i for i in ids if i not in by_id]:
            more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
            raise Refusal(
                "SG03",
                f"{arm.few_shot} names rows that are not in train: {', '.join(unknown[:3])}{more}.",
                why="an arm that was shown a row that is scored later has its answer already.",
                instead="take ids of train rows: exp.train.head(), or let few_shot = 3 draw them",
            )
        chosen = [by_id[i] for i in ids]
    return tuple(Shot({c: row[c] for c in inputs}, row[str(source.expected)]) for row in chosen)


def _distinct(rows: Iterable[Row], inputs: Sequence[str], wanted: int) -> list[Row]:
    """The first rows with different inputs, at most `wanted`."""
    found: list[Row] = []
    for row in rows:
        if len(found) == wanted:
            break
        if all(any(row[c] != other[c] for c in inputs) for other in found):
            found.append(row)
    return found


def _ids(name: str, root: Path) -> list[str]:
    """Row ids: a JSON list, or one a line."""
    text = read_text(root, name)
    try:
        listed = json.loads(text)
    except ValueError:
        listed = None
    ids = listed if isinstance(listed, list) else [line.strip() for line in text.splitlines() if line.strip()]
    if not ids:
        raise ArmError(f"{name} names no row", fix="write ids of train rows, one a line")
    return list(dict.fromkeys(map(str, ids)))
