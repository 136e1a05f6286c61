"""The isolated verdict process: `python -I -m itera_nb.verdict FOLDER`. It alone opens the test set.

The ticket's nonce stands on its standard input. Neither a debugger nor another process of this user may look
into its memory while it holds rows, as far as the system can forbid that.
"""

import contextlib
import ctypes
import sys

from itera_nb.experiment import Experiment
from itera_nb.isolated import answer_as_json
from itera_nb.verdict.opening import open_and_decide

PR_SET_DUMPABLE = 4


def _close_to_debuggers() -> None:
    with contextlib.suppress(OSError, AttributeError):  # Linux only
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


if __name__ == "__main__":
    _close_to_debuggers()
    nonce = sys.stdin.read(128).strip()
    sys.exit(answer_as_json(lambda: open_and_decide(Experiment(sys.argv[1]), nonce)))
