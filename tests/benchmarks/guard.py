"""What the guard's audit hook costs each file that a kernel opens: one JSON line a figure, exit 1 above a limit.

Processes with and without the hook take turns, since a hook cannot be taken out again.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROUNDS, OPENS = 7, 20_000
LIMIT_US = 5.0
MEASURE = """
import os, sys, time
from pathlib import Path
path, sealed, hooked = sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "hooked"
if hooked:
    from IPython.core.interactiveshell import InteractiveShell
    from itera_nb.kernel import guard
    guard.load_ipython_extension(InteractiveShell.instance())
    guard.watch(sealed)
    assert guard._watched
def once():
    begun = time.process_time()
    for _ in range({opens}):
        os.close(os.open(path, os.O_RDONLY))
    return 1e6 * (time.process_time() - begun) / {opens}
once()
print(min(once() for _ in range(5)))
"""


def microseconds(path, sealed, kind):
    """CPU microseconds that opening and closing a file takes in a fresh process."""
    code = MEASURE.format(opens=OPENS)
    command = [sys.executable, "-c", code, str(path), str(sealed), kind]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main():
    """Print the figure; 1 if it is above its limit."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, path = Path(scratch), Path(scratch) / "file"
        path.touch()
        (folder / "sealed").mkdir()
        (folder / "sealed" / "test.parquet").touch()
        taken = [
            {kind: microseconds(path, folder, kind) for kind in ("plain", "hooked")} for _ in range(ROUNDS)
        ]
    value = statistics.median(t["hooked"] - t["plain"] for t in taken)
    ok = value <= LIMIT_US
    print(
        json.dumps(
            {"name": "guard_per_open", "value": round(value, 2), "unit": "µs", "limit": LIMIT_US, "ok": ok}
        )
    )
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
