"""Everything a user can run into, each with what, why and how to go on."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


def printable(text: str) -> str:
    """Text with control characters escaped, so that a row or a path cannot draw on a terminal."""
    return "".join(c if c.isprintable() or c in "\n\u00a0\u202f" else repr(c)[1:-1] for c in text)


class IteraError(Exception):
    """A mistake or obstacle that the user can do something about.

    Args:
        what: One sentence: what is wrong and where.
        fix: One sentence or command: how to go on.
    """

    exit_code = 2
    record: int | None = None
    """Number of the ledger record concerned, or of the attempt, if there is one."""

    def __init__(self, what: str, *, fix: str = "") -> None:
        self.what = printable(what)  # it may name an id or a value of a row
        self.fix = fix
        super().__init__(self.what)

    def __str__(self) -> str:
        return f"{self.what}\nfix      {self.fix}" if self.fix else self.what


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake in an `experiment.toml`: where it stands and what was expected."""

    line: int
    key: str
    message: str


class SpecError(IteraError):
    """`experiment.toml` (or an iteration file) cannot be read as registered intent."""

    def __init__(self, path: Path, mistakes: Sequence[Mistake]) -> None:
        self.path = path
        self.mistakes = tuple(mistakes)
        lines = "\n".join(f"{path.name}:{m.line}: {m.key}: {m.message}" for m in self.mistakes)
        super().__init__(lines, fix=f"edit {path} and run the same command again; nothing was written")


class EditedError(IteraError):
    """A file was edited by somebody else since it was read; nothing was written over it."""


class DataError(IteraError):
    """The source data do not fit what the experiment declares."""


class ArmError(IteraError):
    """An arm, scorer or failure-mode function cannot be loaded or used."""


class StoppedError(IteraError):
    """A run stopped before its end (credentials, budget, interrupt); what is recorded is kept."""


class RecordError(IteraError):
    """The ledger or a file it vouches for is not what was recorded.

    Args:
        what: What does not match.
        record: Sequence number of the ledger record concerned, if there is one.
        fix: How to go on.
    """

    exit_code = 4

    def __init__(self, what: str, *, record: int | None = None, fix: str = "") -> None:
        super().__init__(what, fix=fix)
        self.record = record


class Refusal(IteraError):  # noqa: N818 - the field's word; it is an answer, not a failure
    """The protocol does not allow this now.

    Args:
        safeguard: Id of the safeguard, for example ``SG02``.
        what: One sentence: what is refused.
        why: One sentence: what would go wrong.
        instead: One or more lines, each a command or an act that goes on.
        asks: Whether a recorded reason would let it pass.
    """

    exit_code = 3

    def __init__(self, safeguard: str, what: str, *, why: str, instead: str, asks: bool = False) -> None:
        super().__init__(what, fix=instead)
        self.safeguard = safeguard
        self.why = why
        self.instead = instead
        self.asks = asks

    def __str__(self) -> str:
        instead = self.instead.replace("\n", "\n         ")
        text = f"refused {self.safeguard}: {self.what}\nwhy      {self.why}\ninstead  {instead}"
        return text if self.record is None else f"{text}\nthis attempt is record {self.record}."


def out_of_space(error: BaseException) -> StoppedError | None:
    """What to say of a full disk, an exhausted quota or a file that may not grow; None of any other error."""
    if not isinstance(error, OSError) or error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return None
    reason = os.strerror(error.errno).lower()
    return StoppedError(
        f"nothing more can be written: {reason}", fix="make room, then run the same command again"
    )
