"""Train, dev and test: stratified, whole units on one side, in an order that only the secret seed knows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from itera_nb.exceptions import DataError
from itera_nb.source.keys import Codes, Order, codes_of, derived_key, keyed_order
from itera_nb.spec import SplitSpec

Parts: TypeAlias = NDArray[np.int8]
Flags: TypeAlias = NDArray[np.bool_]
PARTS = ("train", "dev", "test")
TRAIN, DEV, TEST = range(3)
FEW_ROWS = 50
"""Below this sample size dev gets folds."""
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class RequirementResult:
    """Rows with `column` = `value` in each part; `met` if no part has fewer than the registered `count`."""

    column: str
    value: str
    count: int
    train: int
    dev: int
    test: int
    met: bool


@dataclass(frozen=True, slots=True)
class Split:
    """The part of each of n rows (0 train, 1 dev, 2 test), its dev fold (-1 elsewhere), required counts."""

    parts: Parts
    folds: Parts | None
    requirements: tuple[RequirementResult, ...]


@dataclass(frozen=True, slots=True)
class _Units:
    """Units in secret order 0 … u-1: the unit of each row, their sizes and what they hold of each stratum.

    `single` units lie inside the stratum `stratum_of_single`; `spanning` ones hold {stratum: rows}.
    """

    of_row: Codes
    sizes: Codes
    single: Codes
    stratum_of_single: Codes
    spanning: dict[int, dict[int, int]]
    stratum_sizes: list[int]


def split_rows(
    keys: pa.Table, units: Codes, split: SplitSpec, seed: bytes, *, id_column: str, strata: Sequence[str]
) -> Split:
    """Split n rows into train, dev and test by `split.fractions`.

    Within every stratum (combination of the strata columns and of the required conditions) whole units are
    dealt, in an order under HMAC(seed, "split"), to the part that lacks most rows of what the unit holds.
    Where units lie inside one stratum each part is within one unit of its rounded share there. Then units are
    moved where a part lacks required rows, test first.

    `keys` are the id and the columns of `strata` and `split.require` of n rows, as text; rows that share one
    of the n codes `units` stay together; `seed` is the secret one, of 32 bytes.

    Raises:
        DataError: A part with a positive fraction would be empty.
    """
    secret = derived_key(seed, "split")
    order = keyed_order(secret, keys.column(id_column))
    texts = [keys.column(c).fill_null("") for c in dict.fromkeys(strata)]
    required = _required(keys, split)
    stratum, strata_count = _strata(texts, required, len(order), secret)
    dealt = _units(units, order, stratum, strata_count)
    part_of_unit = _deal(dealt, split.fractions)
    _move_required(part_of_unit, dealt, required, split)
    parts = part_of_unit[dealt.of_row]
    for part, fraction in enumerate(split.fractions):
        if fraction > 0 and not (parts == part).any():
            raise DataError(
                f"{len(parts)} rows in {len(part_of_unit)} inseparable units leave {PARTS[part]} empty",
                fix="add rows, or use a cluster column of smaller groups",
            )
    folds = _folds(units, order, stratum, parts, split.folds) if len(parts) < FEW_ROWS else None
    return Split(parts, folds, requirements(keys, parts, split))


def seed_commitment(seed: bytes) -> str:
    """SHA-256 of the seed (hex): published at sealing, it proves the split later and gives nothing away."""
    return hashlib.sha256(seed).hexdigest()


def allocate(sizes: Sequence[int], fractions: Sequence[float]) -> list[list[int]]:
    """Rows of each stratum for each part: whole numbers within one row of the share in every stratum.

    What rounding takes from a part in one stratum is owed to it in the next, so that the totals keep their
    fractions.
    """
    owed = [0.0] * len(fractions)
    counts = []
    for size in sizes:
        exact = [fraction * size for fraction in fractions]
        row = [int(share + ROUNDING) for share in exact]
        broken = [p for p, share in enumerate(exact) if share - row[p] > ROUNDING]
        broken.sort(key=lambda p: row[p] - exact[p] - owed[p])
        for part in broken[: size - sum(row)]:
            row[part] += 1
        owed = [o + share - whole for o, share, whole in zip(owed, exact, row, strict=True)]
        counts.append(row)
    return counts


def _strata(
    texts: Sequence[pa.ChunkedArray], required: Sequence[Flags], rows: int, secret: bytes
) -> tuple[Codes, int]:
    """The stratum of every row, numbered in the order in which rounding is carried on, and their number.

    Strata of one first value (a slice) are neighbours, so that rounding evens out inside it. Their order is
    secret, since it decides who gets an odd row, and does not depend on the order of the rows.
    """
    code: Codes = np.zeros(rows, np.int64)
    for values in [
        *(codes_of(t, missing_apart=False) for t in texts),
        *(r.astype(np.int64) for r in required),
    ]:
        code = np.unique(code * (int(values.max()) + 1) + values, return_inverse=True)[1].astype(np.int64)
    _, example = np.unique(code, return_index=True)
    named = [t.take(pa.array(example)).to_pylist() for t in texts]
    named += [r[example].astype(str).tolist() for r in required]
    names = list(zip(*named, strict=True)) or [("",)]
    places = [(_hash(secret, name[0]), _hash(secret, "\x1f".join(name))) for name in names]
    rank = np.empty(len(names), np.int64)
    rank[sorted(range(len(names)), key=places.__getitem__)] = np.arange(len(names))
    return rank[code], len(names)


def _units(codes: Codes, order: Order, stratum: Codes, strata: int) -> _Units:
    # The smallest place of a unit's rows names it whatever the order of the rows; mixing it makes early and
    # late places equally likely for large and small units.
    place = np.full(int(codes.max()) + 1, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(place, codes, order)
    rank = np.empty(len(place), np.int64)
    rank[np.argsort(_mix(place), kind="stable")] = np.arange(len(place))
    of_row = rank[codes]
    pairs, counts = np.unique(of_row * strata + stratum, return_counts=True)
    unit, held = pairs // strata, pairs % strata
    alone = np.bincount(unit)[unit] == 1
    spanning: dict[int, dict[int, int]] = {}
    spread = (a[~alone].tolist() for a in (unit, held, counts))
    for u, s, n in zip(*spread, strict=True):
        spanning.setdefault(u, {})[s] = n
    sizes = np.bincount(stratum, minlength=strata).tolist()
    return _Units(of_row, np.bincount(of_row), unit[alone], held[alone], spanning, sizes)


def _deal(units: _Units, fractions: Sequence[float]) -> Parts:
    """The part of every unit. Units that span strata go first; the others then even out what is left."""
    lacking = allocate(units.stratum_sizes, fractions)
    in_all = [sum(counts) for counts in zip(*lacking, strict=True)]
    allowed = [p for p, fraction in enumerate(fractions) if fraction > 0]
    part = np.empty(len(units.sizes), np.int8)
    for unit, held in units.spanning.items():
        # Weighted by the stratum's size, so that rare classes count as much as frequent ones.
        gains = {p: sum(lacking[s][p] * n / units.stratum_sizes[s] for s, n in held.items()) for p in allowed}
        part[unit] = best = max(allowed, key=gains.__getitem__)
        for s, n in held.items():
            lacking[s][best] -= n
            in_all[best] -= n
    by_stratum = np.argsort(units.stratum_of_single, kind="stable")
    ends = np.cumsum(np.bincount(units.stratum_of_single, minlength=len(lacking)))
    for rest, members in zip(lacking, np.split(units.single[by_stratum], ends[:-1]), strict=True):
        part[members] = _deal_stratum(units.sizes[members], rest, in_all, allowed)
    return part


def _deal_stratum(sizes: Codes, lacking: list[int], in_all: list[int], allowed: Sequence[int]) -> Parts:
    """Deal the units of one stratum to the part that lacks most rows there and, among equals, in all."""
    if (sizes == 1).all() and min(lacking) >= 0 and sum(lacking) == len(sizes):
        in_all[:] = [rest - n for rest, n in zip(in_all, lacking, strict=True)]
        return np.repeat(np.arange(len(lacking), dtype=np.int8), lacking)
    dealt = np.empty(len(sizes), np.int8)
    for i, size in enumerate(sizes.tolist()):
        dealt[i] = best = max(allowed, key=lambda p: (lacking[p], in_all[p]))
        lacking[best] -= size
        in_all[best] -= size
    return dealt


def _move_required(part: Parts, units: _Units, required: Sequence[Flags], split: SplitSpec) -> None:
    """Move units into parts that lack required rows: test first, smallest units first."""
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


def _folds(units: Codes, order: Order, stratum: Codes, parts: Parts, folds: int) -> Parts | None:
    """Stratified folds of the dev rows, whole units in one fold; None where dev is a single unit."""
    dev = np.flatnonzero(parts == DEV)
    codes = np.unique(units[dev], return_inverse=True)[1].astype(np.int64)
    number = min(folds, int(codes.max(initial=0)) + 1)
    if number < 2:
        return None
    dealt = _units(codes, order[dev], stratum[dev], int(stratum.max()) + 1)
    fold = np.full(len(parts), -1, np.int8)
    # Large units can leave a fold empty: the others are numbered without gaps.
    fold[dev] = np.unique(_deal(dealt, [1 / number] * number)[dealt.of_row], return_inverse=True)[1]
    return fold


def _required(keys: pa.Table, split: SplitSpec) -> list[Flags]:
    return [
        pc.equal(keys.column(r.column).fill_null(""), r.value).to_numpy().astype(np.bool_)
        for r in split.require
    ]


def requirements(keys: pa.Table, parts: Parts, split: SplitSpec) -> tuple[RequirementResult, ...]:
    """What became of the required counts, for n rows whose keys and parts are given."""
    found = []
    for rule, rows in zip(split.require, _required(keys, split), strict=True):
        train, dev, test = (int(rows[parts == p].sum()) for p in range(3))
        met = all(n >= rule.count for n, f in zip((train, dev, test), split.fractions, strict=True) if f > 0)
        found.append(RequirementResult(rule.column, rule.value, rule.count, train, dev, test, met))
    return tuple(found)


def _hash(secret: bytes, text: str) -> bytes:
    return hashlib.sha256(secret + text.encode("utf-8", "surrogatepass")).digest()


def _mix(values: Order) -> Order:
    """The finaliser of SplitMix64, a bijection of 64-bit numbers (Steele, Lea & Flood 2014)."""
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Order = z ^ (z >> np.uint64(31))
    return mixed
