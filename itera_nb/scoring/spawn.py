"""The multiprocessing context of workers: spawned, and without the caller's main module.

Plain spawn runs the caller's script a second time in every worker, and fails where the script has no
`if __name__ == "__main__"`. Workers need nothing from it: their code is named by file, never pickled.
"""

from __future__ import annotations

import sys
import threading
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any

_hiding = threading.Lock()


class _Process(SpawnProcess):
    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Any:  # noqa: N802 - multiprocessing's name
        with _hiding:
            main = sys.modules["__main__"]
            sys.modules["__main__"] = ModuleType("__main__")
            try:
                return SpawnProcess._Popen(process_obj)  # noqa: SLF001
            finally:
                sys.modules["__main__"] = main


class WorkerContext(SpawnContext):
    """`multiprocessing.get_context("spawn")` that leaves the caller's main module alone."""

    Process = _Process
