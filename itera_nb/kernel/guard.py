"""`%load_ext itera_nb`: refusals without tracebacks, and one sentence when a read of the sealed file fails.

The guard explains; the encryption is the wall. It works the same, minus the words, when it is not loaded.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from itera_nb.exceptions import IteraError

SEALED_TEXT = (
    "SEALED: the test set opens once, in 5-verdict. Nothing was read.\n"
    "why      rows that were looked at cannot decide anything.\n"
    "instead  rows you may read:   exp.train.head()"
)
UNREADABLE = ("encrypted", "decryption", "PARE")


def load_ipython_extension(shell: Any) -> None:
    """Register the explainer with an IPython shell."""
    shell.set_custom_exc((Exception,), _explain)


def _explain(
    shell: Any,
    kind: type[BaseException],
    error: BaseException,
    trace: TracebackType,
    tb_offset: int | None = None,
) -> list[str]:
    if isinstance(error, IteraError):
        lines = str(error).splitlines()
    elif sealed := _sealed_file(error, trace):
        _record_touch(sealed, kind)
        lines = SEALED_TEXT.splitlines()
    else:
        listing: list[str] = shell.InteractiveTB.structured_traceback(kind, error, trace, tb_offset=tb_offset)
        shell._showtraceback(kind, error, listing)  # noqa: SLF001 - IPython's own way to show a made traceback
        return listing
    shell._showtraceback(kind, error, lines)  # noqa: SLF001
    return lines


def _sealed_file(error: BaseException, trace: TracebackType | None) -> Path | None:
    """The sealed file that a failed read was about, found in the error's text or the frames' strings."""
    text = str(error)
    if not any(word in text for word in UNREADABLE):
        return None
    while trace is not None:
        for value in _strings(trace.tb_frame):
            if "test.parquet" not in value:
                continue
            with contextlib.suppress(OSError, ValueError):
                path = Path(value).resolve()
                if path.parent.name == "sealed" and (path.parent.parent / "ledger.jsonl").is_file():
                    return path
        trace = trace.tb_next
    return None


def _strings(frame: FrameType) -> list[str]:
    return [str(v) for v in frame.f_locals.values() if isinstance(v, str | Path)]


def _record_touch(sealed: Path, kind: type[BaseException]) -> None:
    from itera_nb.experiment import Experiment

    with contextlib.suppress(IteraError, OSError):
        body = {"file": f"sealed/{sealed.name}", "safeguard": "SG01", "error": kind.__name__}
        Experiment(sealed.parent.parent).record("seal_touched", body)
