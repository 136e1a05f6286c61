"""Which rows enter the experiment: at most so many of one entity and in all, in a secret order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from itera_nb.source.keys import Codes, Order, codes_of
from itera_nb.spec import SourceSpec

MANY_DROPPED = 0.10


@dataclass(frozen=True, slots=True)
class Ask:
    """A question that a person answers with a reason before going on: safeguard id and sentence."""

    safeguard: str
    sentence: str


@dataclass(frozen=True, slots=True)
class SampleReport:
    """What the sample kept and dropped, in rows.

    `over_cap` rows were more than `cap` of one entity, `over_share` rows more than `max_entity_share` of the
    sample, `not_drawn` rows beyond the wanted size. `entities` have `capped` among them; `without_entity`
    rows name none and are never capped. `largest_before` and `largest_after` are the largest entity's shares
    (fractions).
    """

    source_rows: int
    rows: int
    not_drawn: int
    over_cap: int = 0
    over_share: int = 0
    dropped_share: float = 0.0
    entities: int = 0
    capped: int = 0
    without_entity: int = 0
    largest_before: float = 0.0
    largest_after: float = 0.0
    asks: tuple[Ask, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """Which of the source's rows are drawn (n flags in source order), and the report."""

    mask: NDArray[np.bool_]
    report: SampleReport


def draw_sample(keys: pa.Table, order: Order, source: SourceSpec, *, novelty: bool = False) -> Sample:
    """Draw the sample: cap rows per entity, bound the largest entity, take the first `source.sample` rows.

    All three go by the secret order, so that the same seed draws the same rows from the same source in any
    order of its rows and with any engine.

    `keys` are the id and, if declared, the `cap_by` column of every row, as text; `order` is the
    `keyed_order` of the ids under HMAC(seed, "sample"); with `novelty` one row of an
    entity is what is wanted.
    """
    ids = keys.column(source.id)
    chosen = np.ones(len(ids), np.bool_)
    if source.cap_by is None:
        not_drawn = _first(chosen, order, source.sample)
        return Sample(chosen, SampleReport(len(ids), int(chosen.sum()), not_drawn))
    column = keys.column(source.cap_by)
    entities = codes_of(column, missing_apart=True)
    before = np.bincount(entities)
    over_cap = _cap(chosen, entities, order, source.cap)
    over_share = _bound_largest(chosen, entities, order, source.max_entity_share)
    not_drawn = _first(chosen, order, source.sample)
    over_share += _bound_largest(chosen, entities, order, source.max_entity_share) if not_drawn else 0
    after = np.bincount(entities[chosen], minlength=len(before))
    dropped = (over_cap + over_share) / len(ids)
    largest = float(after.max() / after.sum())
    report = SampleReport(
        source_rows=len(ids),
        rows=int(chosen.sum()),
        over_cap=over_cap,
        over_share=over_share,
        not_drawn=not_drawn,
        dropped_share=dropped,
        entities=len(before) - column.null_count,
        capped=int((before > source.cap).sum()),
        without_entity=column.null_count,
        largest_before=float(before.max() / before.sum()),
        largest_after=largest,
        asks=tuple(_asks(source, over_cap + over_share, dropped, largest, novelty)),
    )
    return Sample(chosen, report)


def _asks(source: SourceSpec, rows: int, share: float, largest: float, novelty: bool) -> list[Ask]:
    asks = []
    if share > MANY_DROPPED:
        asks.append(
            f"capping by {source.cap_by!r} drops {rows:,} rows ({share:.0%} of the source): "
            "frequent entities are frequent in production too"
        )
    if source.cap == 1 and not novelty:
        asks.append(
            f"one row per {source.cap_by!r} removes repetition that production has; is novelty the question?"
        )
    if largest > source.max_entity_share + 1e-9:
        asks.append(
            f"one {source.cap_by!r} makes up {largest:.0%} of the sample (wanted: at most "
            f"{source.max_entity_share:.0%}): there are too few others to bound it"
        )
    return [Ask("SG12", sentence) for sentence in asks]


def _first(chosen: NDArray[np.bool_], order: Order, size: int | None) -> int:
    """Keep the first `size` chosen rows in secret order; the number of rows left out."""
    rows = np.flatnonzero(chosen)
    if size is None or len(rows) <= size:
        return 0
    out = rows[np.argsort(order[rows], kind="stable")[size:]]
    chosen[out] = False
    return len(out)


def _cap(chosen: NDArray[np.bool_], entities: Codes, order: Order, cap: int) -> int:
    """Keep the first `cap` chosen rows of every entity in secret order; the number of rows dropped."""
    rows = np.flatnonzero(chosen)
    rows = rows[np.lexsort((order[rows], entities[rows]))]
    starts = np.flatnonzero(np.r_[True, np.diff(entities[rows]) != 0])
    place = np.arange(len(rows)) - np.repeat(starts, np.diff(np.r_[starts, len(rows)]))
    out = rows[place >= cap]
    chosen[out] = False
    return len(out)


def _bound_largest(chosen: NDArray[np.bool_], entities: Codes, order: Order, share: float) -> int:
    """Cap entities at the largest count that is at most `share` of what remains; the number of rows dropped.

    Where too few entities exist for any such count, nothing is dropped: the report then asks.
    """
    counts = np.sort(np.bincount(entities[chosen]))
    counts = counts[counts > 0]
    if counts[-1] <= share * counts.sum():
        return 0
    below = np.r_[0, np.cumsum(counts)]

    def fits(cap: int) -> bool:
        smaller = int(np.searchsorted(counts, cap))
        return bool(cap <= share * (below[smaller] + cap * (len(counts) - smaller)) + 1e-9)

    # A cap of t leaves sum(min(count, t)) rows, per t a falling number: the caps that fit are the low ones.
    low, high = 0, int(counts[-1])
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return _cap(chosen, entities, order, low) if low else 0
