"""What a scorer returns when a bare number is not enough."""

from __future__ import annotations

from dataclasses import dataclass

from itera_nb._typing import JSON


@dataclass(frozen=True, slots=True)
class Score:
    """A row's score.

    Args:
        value: A fraction from 0 (wrong) to 1 (right).
        modes: Failure modes the scorer saw; only registered ones are counted.
        detail: Any JSON value that helps a person to read the score.
    """

    value: float
    modes: tuple[str, ...] = ()
    detail: JSON = None
