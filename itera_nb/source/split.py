"""Train, dev and test: stratified, whole units on one side, in an order that only the secret seed knows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from itera_nb.exceptions import DataError
from itera_nb.source.keys import Codes, Order, codes_of, derived_key, keyed_order
from itera_nb.spec import Requirement, SplitSpec

Parts: TypeAlias = NDArray[np.int8]
PARTS = ("train", "dev", "test")
TRAIN, DEV, TEST = range(3)
FEW_ROWS = 50
"""Below this sample size dev gets folds."""


@dataclass(frozen=True, slots=True)
class RequirementResult:
    """Rows with `column` = `value` in each part, against the registered minimum `count`; `met` if all parts have it."""

    column: str
    value: str
    count: int
    train: int
    dev: int
    test: int
    met: bool


@dataclass(frozen=True, slots=True)
class Split:
    """The part of each of n rows (0 train, 1 dev, 2 test), its dev fold (−1 outside dev) if any, required counts."""

    parts: Parts
    folds: Parts | None
    requirements: tuple[RequirementResult, ...]


@dataclass(frozen=True, slots=True)
class _Units:
    """Units in secret order: row counts by stratum (unit u: `strata[u]`, `counts[u]`), and the code of each row."""

    of_row: Codes
    strata: list[list[int]]
    counts: list[list[int]]
    sizes: Codes
    stratum_sizes: list[int]
    stratum_order: list[int]


def split_rows(keys: pa.Table, units: Codes, split: SplitSpec, seed: bytes, *, id: str, strata: Sequence[str]) -> Split:
    """Split n rows into train, dev and test by `split.fractions`.

    Within every stratum (combination of the strata columns and of the required conditions) whole units are dealt, in
    an order under HMAC(seed, "split"), to the part that lacks most rows of what the unit holds. Where units lie inside
    one stratum each part is within one unit of its share there; overall it is within rounding. Then units are moved
    where a part lacks required rows, test first.

    Args:
        keys: The id and the columns of `strata` and `split.require` of n rows, as text.
        units: n codes; rows of the same code stay together.
        split: The `[split]` section.
        seed: The secret 32-byte seed.
        id: Name of the id column.
        strata: Columns to stratify by.

    Raises:
        DataError: A part with a positive fraction would be empty.
    """
    secret = derived_key(seed, "split")
    order = keyed_order(secret, keys.column(id))
    dealt = _units(keys, units, order, strata, split.require, secret)
    part_of_unit = _deal(dealt, split.fractions)
    _move_required(part_of_unit, dealt, _required_rows(keys, split.require), split)
    parts = part_of_unit[dealt.of_row]
    for part, fraction in enumerate(split.fractions):
        if fraction > 0 and not (parts == part).any():
            raise DataError(
                f"{len(parts)} rows in {len(part_of_unit)} inseparable units leave {PARTS[part]} empty",
                fix="add rows, or use a cluster column of smaller groups",
            )
    folds = _folds(keys, units, order, parts, strata, split, secret) if len(parts) < FEW_ROWS else None
    return Split(parts, folds, tuple(_results(keys, split.require, parts, split)))


def seed_commitment(seed: bytes) -> str:
    """SHA-256 of the seed (hex): published at sealing, so that the split can be proven later and not guessed before."""
    return hashlib.sha256(seed).hexdigest()


def allocate(sizes: Sequence[int], fractions: Sequence[float]) -> list[list[int]]:
    """Rows of each stratum for each part: whole numbers within one row of the share in every stratum.

    What rounding takes from a part in one stratum is owed to it in the next, so that the totals keep their fractions.
    """
    owed = [0.0] * len(fractions)
    counts = []
    for size in sizes:
        exact = [fraction * size for fraction in fractions]
        row = [int(share + 1e-9) for share in exact]
        lacking = [share - whole if fraction else -1.0 for share, whole, fraction in zip(exact, row, fractions, strict=True)]
        claim = [(a if a > 1e-9 else -1.0) + b if a > 1e-9 else -1e9 for a, b in zip(lacking, owed, strict=True)]
        for part in sorted(range(len(row)), key=lambda p: -claim[p])[: size - sum(row)]:
            row[part] += 1
        owed = [o + share - whole for o, share, whole in zip(owed, exact, row, strict=True)]
        counts.append(row)
    return counts


def _units(
    keys: pa.Table, codes: Codes, order: Order, strata: Sequence[str], require: Sequence[Requirement], secret: bytes
) -> _Units:
    stratum, names = _strata(keys, strata, require)
    # The smallest place of a unit's rows names it whatever the order of the rows; mixing it makes early and late
    # places equally likely for large and small units.
    place = np.full(int(codes.max()) + 1, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(place, codes, order)
    rank = np.argsort(np.argsort(_mix(place), kind="stable"), kind="stable")
    of_row = rank[codes]
    pairs, counts = np.unique(of_row * len(names) + stratum, return_counts=True)
    first = np.flatnonzero(np.r_[True, np.diff(pairs // len(names)) != 0])
    bounds = [*first[1:].tolist(), len(pairs)]
    held, held_counts = (pairs % len(names)).tolist(), counts.tolist()
    spans = list(zip(first.tolist(), bounds, strict=True))
    # Strata of one first column (a slice) stay neighbours, so that rounding evens out inside it.
    hashed = [hashlib.sha256(secret + name.encode("utf-8", "surrogatepass")).digest() for name in names]
    stratum_order = sorted(range(len(names)), key=lambda s: (names[s].split("\x1f", 1)[0], hashed[s]))
    return _Units(
        of_row=of_row,
        strata=[held[a:b] for a, b in spans],
        counts=[held_counts[a:b] for a, b in spans],
        sizes=np.bincount(of_row),
        stratum_sizes=np.bincount(stratum, minlength=len(names)).tolist(),
        stratum_order=stratum_order,
    )


def _strata(keys: pa.Table, columns: Sequence[str], require: Sequence[Requirement]) -> tuple[Codes, list[str]]:
    """The stratum code of every row and the name of every stratum (values, separated)."""
    texts = [keys.column(c).fill_null("") for c in dict.fromkeys(columns)]
    conditions = [[str(int(hit)) for hit in rows] for rows in ()]
    del conditions
    code = np.zeros(keys.num_rows, np.int64)
    for values in [*(codes_of(t, missing_apart=False) for t in texts), *(r.astype(np.int64) for r in _required_rows(keys, require))]:
        code = np.unique(code * (int(values.max(initial=0)) + 1) + values, return_inverse=True)[1].astype(np.int64)
    _, example = np.unique(code, return_index=True)
    named = [t.take(pa.array(example)).to_pylist() for t in texts]
    named += [r[example].astype(str).tolist() for r in _required_rows(keys, require)]
    return code, ["\x1f".join(values) for values in zip(*named, strict=True)] if named else ["all"]


def _deal(units: _Units, fractions: Sequence[float]) -> Parts:
    """The part of every unit."""
    targets = allocate([units.stratum_sizes[s] for s in units.stratum_order], fractions)
    lacking = [[0] * len(fractions)] * len(targets)
    for stratum, target in zip(units.stratum_order, targets, strict=True):
        lacking[stratum] = target
    allowed = [p for p, fraction in enumerate(fractions) if fraction > 0]
    part = np.empty(len(units.strata), np.int8)
    # Units that span strata go first: those inside one stratum then even out what is left.
    spanning = [len(s) > 1 for s in units.strata]
    for turn in (True, False):
        for unit, (held, counts) in enumerate(zip(units.strata, units.counts, strict=True)):
            if spanning[unit] is not turn:
                continue
            if turn:
                gains = [sum(lacking[s][p] * n for s, n in zip(held, counts, strict=True)) for p in allowed]
                best = allowed[gains.index(max(gains))]
                for s, n in zip(held, counts, strict=True):
                    lacking[s][best] -= n
            else:
                row = lacking[held[0]]
                best = max(allowed, key=row.__getitem__)
                row[best] -= counts[0]
            part[unit] = best
    return part


def _move_required(part: Parts, units: _Units, required: Sequence[NDArray[np.bool_]], split: SplitSpec) -> None:
    """Move units into parts that lack required rows: test first, from where there are most, smallest units first."""
    held = [np.bincount(units.of_row[rows], minlength=len(part)) for rows in required]
    used = [p for p, fraction in enumerate(split.fractions) if fraction > 0]
    # A move for one condition can cost another; a second round settles that where it can be settled.
    for _ in range(2):
        for having, rule in zip(held, split.require, strict=True):
            for needy in (p for p in (TEST, DEV, TRAIN) if p in used):
                _fill(part, units.sizes, having, needy, rule.count, used)


def _fill(part: Parts, sizes: Codes, having: Codes, needy: int, count: int, used: Sequence[int]) -> None:
    totals = {p: int(having[part == p].sum()) for p in used}
    units = np.flatnonzero((having > 0) & (part != needy))
    for unit in units[np.argsort(sizes[units], kind="stable")].tolist():
        if totals[needy] >= count:
            return
        donor, rows = int(part[unit]), int(having[unit])
        spare = totals[donor] - rows >= count
        # The test set decides, so it may take from dev and train what these then lack; dev takes from train.
        if (spare or donor < needy) and (part == donor).sum() > 1:
            part[unit] = needy
            totals[donor] -= rows
            totals[needy] += rows


def _folds(
    keys: pa.Table,
    units: Codes,
    order: Order,
    parts: Parts,
    strata: Sequence[str],
    split: SplitSpec,
    secret: bytes,
) -> Parts | None:
    """Stratified folds of the dev rows, whole units in one fold; None where dev has a single unit."""
    dev = np.flatnonzero(parts == DEV)
    codes = np.unique(units[dev], return_inverse=True)[1].astype(np.int64)
    number = min(split.folds, len(np.unique(codes)))
    if number < 2:
        return None
    dealt = _units(keys.take(pa.array(dev)), codes, order[dev], strata, split.require, secret)
    folds = np.full(len(parts), -1, np.int8)
    folds[dev] = _deal(dealt, [1 / number] * number)[dealt.of_row]
    return folds


def _required_rows(keys: pa.Table, require: Sequence[Requirement]) -> list[NDArray[np.bool_]]:
    import pyarrow.compute as pc

    return [
        pc.equal(keys.column(r.column).fill_null(""), r.value).to_numpy().astype(np.bool_) for r in require
    ]


def _results(
    keys: pa.Table, require: Sequence[Requirement], parts: Parts, split: SplitSpec
) -> Iterable[RequirementResult]:
    for rule, rows in zip(require, _required_rows(keys, require), strict=True):
        train, dev, test = (int(rows[parts == p].sum()) for p in range(3))
        met = all(n >= rule.count for n, f in zip((train, dev, test), split.fractions, strict=True) if f > 0)
        yield RequirementResult(rule.column, rule.value, rule.count, train, dev, test, met)


def _mix(values: Order) -> Order:
    """The finaliser of SplitMix64, a bijection of 64-bit numbers (Steele, Lea & Flood 2014)."""
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Order = z ^ (z >> np.uint64(31))
    return mixed
