"""Reading dev rows: each row whose text a person sees is named in the ledger, and why."""

from __future__ import annotations

from collections.abc import Iterable

from itera_nb.exceptions import DataError, IteraError
from itera_nb.experiment import Experiment
from itera_nb.ledger import Record
from itera_nb.scoring.runs import part_rows


def reveal(experiment: Experiment, ids: Iterable[str], why: str) -> Record | None:
    """Record that the text of these dev rows is shown to a person; None where every one has been read before.

    Raises:
        Refusal: SG01, before the split is sealed.
        IteraError: Without a reason, or without a row.
        DataError: An id is of no dev row; the message does not say what else it may be.
    """
    wanted = list(dict.fromkeys(str(row) for row in ids))
    if not why.strip():
        raise IteraError("a reason is a sentence, not an empty text", fix='exp.reveal(ids, "why")')
    if not wanted:
        raise IteraError("no row is named", fix='exp.reveal(["an id", "another"], "why")')
    column = experiment.spec.source.id
    dev = {str(row[column]) for row in part_rows(experiment, "dev")}
    if unknown := [row for row in wanted if row not in dev]:
        raise DataError(
            f"{len(unknown):,} of {len(wanted):,} ids are of no dev row",
            fix="take ids from exp.inspect(); train rows are open, and test rows cannot be read",
        )
    seen = experiment.state.revealed
    fresh = [row for row in wanted if row not in seen]
    return experiment.record("revealed", {"ids": fresh, "why": why.strip()}) if fresh else None
