"""Both ends of an isolated process: rows that are or may become test rows live only in such a one."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from itera_nb.exceptions import IteraError, RecordError, Refusal, StoppedError, out_of_space

KINDS: dict[str, tuple[type[IteraError], tuple[str, ...]]] = {
    "refusal": (Refusal, ("safeguard", "what", "why", "instead", "asks")),
    "broken": (RecordError, ("what", "fix")),
    "error": (IteraError, ("what", "fix")),
}
"""How an error is told by one end and raised by the other, the most special kind first."""


def call(
    module: str,
    *arguments: str,
    progress: Callable[[str], None] | None = None,
    handed: str = "",
) -> Any:
    """Run `python -I -m module arguments` and return the JSON value that it prints.

    Its standard error passes through to `progress`, line by line; `handed` stands on its standard input,
    which no list of processes shows.

    Raises:
        Refusal, IteraError: Whatever the process answered with.
    """
    tail: deque[str] = deque(maxlen=20)
    with subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-I", "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            with contextlib.suppress(BrokenPipeError), process.stdin:
                process.stdin.write(handed)
            # Both are read at once: a long answer fills its pipe before the process ends the other.
            with ThreadPoolExecutor(1) as pool:
                answer = pool.submit(process.stdout.read)
                try:
                    for line in process.stderr:
                        tail.append(line)
                        if progress:
                            progress(line.rstrip("\n"))
                except Exception:  # else the process would wait for a reader, and the answer for the process
                    process.stderr.close()
                    raise
        except KeyboardInterrupt:
            process.wait()
            raise StoppedError("interrupted; what was finished is kept", fix="run it again") from None
    return answered(answer.result(), "".join(tail))


def answered(text: str, stderr: str = "") -> Any:
    """The value that a process of `answer_as_json` printed.

    Raises:
        Refusal, IteraError: Whatever it answered with.
    """
    try:
        reply = json.loads(text)
    except ValueError:
        raise IteraError(
            f"the isolated process ended without an answer\n{stderr.strip()}", fix="run it again"
        ) from None
    for told, (kind, _) in KINDS.items():
        if told in reply:
            error = kind(**reply[told])
            error.record = reply["record"]
            raise error
    return reply["value"]


def answer_as_json(work: Callable[[], Any]) -> int:
    """The other end: run `work`, print its value or its error as JSON; the code to exit with.

    Unknown errors are reduced to their type, because their text may quote a row. The process ends with the
    one that started it: an orphan would go on spending calls and hold the locks that a rerun needs.
    """
    threading.Thread(target=_leave_with_parent, args=(os.getppid(),), daemon=True).start()
    _no_core_dumps()
    try:
        reply: dict[str, Any] = {"value": work()}
    except IteraError as error:
        reply = _told(error)
    except KeyboardInterrupt:
        reply = _told(IteraError("interrupted", fix="run it again; it resumes"))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a user's code may exit with a row in its message
        reply = _told(_unforeseen(error))
    print(json.dumps(reply, allow_nan=False), flush=True)  # noqa: T201
    return 0 if "value" in reply else 1


def _told(error: IteraError) -> dict[str, Any]:
    told, names = next((told, names) for told, (kind, names) in KINDS.items() if isinstance(error, kind))
    return {told: {name: getattr(error, name) for name in names}, "record": error.record}


def _unforeseen(error: BaseException) -> IteraError:
    if known := out_of_space(error):
        return known
    if isinstance(error, MemoryError):
        return IteraError("this computer has not enough memory for these rows", fix="use a smaller source")
    where = error.__traceback__
    while where and where.tb_next:
        where = where.tb_next
    place = f"{Path(where.tb_frame.f_code.co_filename).name}:{where.tb_lineno}" if where else "?"
    what = f"unexpected {type(error).__name__} at {place} (its text is withheld: it may quote a test row)"
    return IteraError(what, fix="please report this")


def _leave_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _no_core_dumps() -> None:
    """Of this process and those that it starts: their memory holds rows."""
    if os.name == "posix":
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
