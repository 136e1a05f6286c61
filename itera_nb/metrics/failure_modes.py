"""Which registered failure modes a failed row belongs to."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from itera_nb._typing import JSON, Row
from itera_nb.exceptions import ArmError

from .scorers import text_of

if TYPE_CHECKING:
    from itera_nb.spec import ModeSpec


def by_predicates(
    specs: Mapping[str, ModeSpec],
    output: JSON,
    expected: Any,
    row: Row,
    scored: Collection[str] = (),
    *,
    failed: bool = True,
) -> tuple[str, ...]:
    """Every mode whose `when` equals the row; the one mode without `when` applies where no other does.

    Several modes without `when` are names that only a scorer can give, as are those in `scored`. The mode
    without `when` applies to rows known to have failed, of which no judge was asked for the modes: `failed`.
    """
    values = {**row, "output": output, "expected": expected}
    hits = [
        name
        for name, spec in specs.items()
        if spec.when and all(_equal(values.get(key), wanted) for key, wanted in spec.when.items())
    ]
    rest = [name for name, spec in specs.items() if not spec.when]
    others = len(rest) > 1 or specs.keys() & set(scored)
    return tuple(hits if hits or others or not failed else rest)


def unknown_columns(specs: Mapping[str, ModeSpec], columns: Collection[str]) -> list[str]:
    """Keys of any `when` that are neither a column nor `output` or `expected`."""
    known = {*columns, "output", "expected"}
    return sorted({key for spec in specs.values() for key in spec.when} - known)


def sort_names(names: Iterable[str], registered: Collection[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Registered names, which count, and those found later, which never do; in order, each once."""
    unique = list(dict.fromkeys(names))
    return tuple(n for n in unique if n in registered), tuple(n for n in unique if n not in registered)


def read_names(value: JSON) -> tuple[str, ...]:
    """Mode names that a user's function returned: a name, a list of names, or nothing; else a `TypeError`."""
    names = [value] if value and isinstance(value, str) else (value or [])
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise TypeError("a failure-mode function returns a name, a list of names or None")
    return tuple(names)


def read_weights(value: JSON, target: str) -> dict[str, float]:
    """Mode weights from a module's MODES; an `ArmError` if that is missing or is not {"name": weight}."""
    fix = 'declare MODES = {"name": 1.0, ...} at the top level of that file'
    if not isinstance(value, dict) or not value:
        raise ArmError(f"{target}: its module has no MODES", fix=fix)
    if not all(isinstance(w, int | float) and not isinstance(w, bool) and w >= 0 for w in value.values()):
        raise ArmError(f"{target}: every weight in MODES is a number from 0", fix=fix)
    return {name: float(weight) for name, weight in value.items()}


def _equal(value: Any, wanted: Any) -> bool:
    return value is not None and text_of(value) == text_of(wanted)
