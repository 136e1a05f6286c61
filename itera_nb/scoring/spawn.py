"""The multiprocessing context of workers: spawned, and without the caller's main module.

Plain spawn runs the caller's script a second time in every worker, and fails where the script has no
`if __name__ == "__main__"`. Workers need nothing from it: their code is named by file, never pickled.
"""

from __future__ import annotations

import sys
import threading
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess, current_process
from types import ModuleType
from typing import Any

_hiding = threading.Lock()


class _Process(SpawnProcess):
    def start(self) -> None:
        """Start, in a daemon too: a cluster's workers are such. Ours end with their parent by themselves."""
        own = current_process()._config  # type: ignore[attr-defined]  # noqa: SLF001
        with _hiding:
            daemon = own.pop("daemon", None)
            try:
                super().start()
            finally:
                if daemon is not None:
                    own["daemon"] = daemon

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Any:  # noqa: N802 - multiprocessing's name
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            return SpawnProcess._Popen(process_obj)  # noqa: SLF001
        finally:
            sys.modules["__main__"] = main


class WorkerContext(SpawnContext):
    """`multiprocessing.get_context("spawn")` that leaves the caller's main module alone."""

    Process = _Process


class _Tracker:
    """Ends the resource tracker that spawning starts, once no worker is left.

    It ignores SIGTERM, so that a notebook kernel that is asked to end would wait seconds for it. One that
    runs already belongs to somebody else and is left alone.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._workers = 0
        self._ours = False

    def enter(self) -> None:
        """A worker is about to start."""
        with self._mutex:
            if self._workers == 0:
                self._ours = getattr(resource_tracker._resource_tracker, "_fd", 0) is None  # noqa: SLF001
            self._workers += 1

    def leave(self) -> None:
        """A worker has ended."""
        with self._mutex:
            self._workers -= 1
            stop = getattr(resource_tracker._resource_tracker, "_stop", None)  # noqa: SLF001
            if self._workers == 0 and self._ours and stop is not None:
                stop()


tracker = _Tracker()
