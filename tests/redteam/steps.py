"""The red-team table: what each step tries, and what must come of it under local and under escrow custody."""

from dataclasses import dataclass

WORDS = {"P": "prevented", "D": "detected", "O": "out of scope"}


@dataclass(frozen=True)
class Step:
    """One step of the table.

    Attributes:
        id: A01 to G03.
        attack: What is tried.
        local, escrow: P prevented, D detected (it blocks, or the page prints it), O out of scope (the README says so).
        how: What stops or shows it, in one sentence.
    """

    id: str
    attack: str
    local: str
    escrow: str
    how: str


def step(id_, attack, *, local, escrow, how):
    """Mark the test that performs a step; `table.py` writes docs/redteam.md from these marks."""
    assert {local[0], escrow[0]} <= set(WORDS)

    def mark(test):
        test.step = Step(id_, attack, local, escrow, how)
        return test

    return mark
