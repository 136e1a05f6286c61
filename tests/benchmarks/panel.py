"""The panel's server time with 50 experiments of 10,000 ledger records each, in a real server's process.

A refresh is GET /itera/experiments and GET /itera/experiment on one connection, as the panel asks. Warm: no
ledger changed. Grown: one record was appended to one ledger. Cold: the server has just been started.
"""

import argparse
import hashlib
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from itera_nb.ledger import GENESIS

EXPERIMENTS, RECORDS, ROUNDS = 50, 10_000, 9
TOKEN = "a-token-of-this-benchmark"
TOML = """\
[frame]
question = "Should better replace base?"
hypothesis = "It answers more rows."
[arms.base]
baseline = true
kind = "python"
target = "arms/base.py:answer"
ref = "arms/base.py:1"
[arms.better]
from = "base"
target = "arms/better.py:answer"
change = "another implementation"
[source]
uri = "data.csv"
id = "row_id"
expected = "label"
"""


def line(seq, prev, kind, body):
    value = {"seq": seq, "prev": prev, "type": kind, "ts": "2026-11-21T10:00:00.000+00:00", "body": body}
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def ledger(genesis):
    """Records of a length as real ones have it: dev rows shown, attempts refused, touches, answers."""
    prev, lines = GENESIS, []
    for seq in range(1, RECORDS + 1):
        kind, body = (
            ("created", {"genesis_id": genesis, "version": "0.1.0", "custody": "file"}),
            ("revealed", {"ids": [f"row-{seq}", f"row-{seq + 1}"]}),
            ("attempt_refused", {"safeguard": "SG01", "what": "no arm is locked yet."}),
            ("seal_touched", {"file": "sealed/test.parquet", "safeguard": "SG01", "error": "OSError"}),
            ("accepted", {"safeguard": "SG12", "why": "the caps are the policy of this product"}),
        )[0 if seq == 1 else 1 + seq % 4]
        lines.append(line(seq, prev, kind, body))
        prev = hashlib.sha256(lines[-1]).hexdigest()
    return b"\n".join(lines) + b"\n"


def build(root):
    for n in range(EXPERIMENTS):
        folder = root / "docs" / "experiments" / f"2026-11-21-fees-{n:02d}"
        folder.mkdir(parents=True)
        (folder / "experiment.toml").write_text(TOML)
        (folder / "ledger.jsonl").write_bytes(ledger(f"{n:032x}"))
    return folder


def append(folder):
    path = folder / "ledger.jsonl"
    last = path.read_bytes().rstrip(b"\n").rpartition(b"\n")[2]
    more = line(
        json.loads(last)["seq"] + 1, hashlib.sha256(last).hexdigest(), "revealed", {"ids": ["one more"]}
    )
    with path.open("ab") as file:
        file.write(more + b"\n")


def serve(base):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (base / "config").mkdir(exist_ok=True)
    (base / "config" / "jupyter_server_config.json").write_text(
        json.dumps({"ServerApp": {"jpserver_extensions": {"itera_nb.server": True, "jupyterlab": False}}})
    )
    environment = {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(base / "config"),
        "ITERA_STATE_DIR": str(base / "state"),
    }
    command = [sys.executable, "-m", "jupyter_server", "--ip=127.0.0.1", f"--port={port}", "--no-browser"]
    command += ["--allow-root", f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={base / 'root'}"]
    with (base / "log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return process, http.client.HTTPConnection("127.0.0.1", port, timeout=120)


def get(connection, path):
    connection.request("GET", path, headers={"Authorization": f"token {TOKEN}"})
    answer = connection.getresponse()
    value = json.loads(answer.read())
    assert answer.status == 200, value
    return value


def refresh(connection, folder, root):
    """Seconds of both requests, and the list."""
    begun = time.perf_counter()
    listed = get(connection, "/itera/experiments")["experiments"]
    middle = time.perf_counter()
    detail = get(connection, f"/itera/experiment?path={folder.relative_to(root).as_posix()}")
    assert detail["broken"] is None, detail["broken"]
    return time.perf_counter() - begun, middle - begun, listed


def resident(pid):
    """MB of memory of a process (Linux), else NaN."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(int(text.split()[1]) for text in lines if text.startswith("VmRSS")) / 1024
    except OSError:
        return float("nan")


def measure(base):
    root = base / "root"
    folder = build(root)
    process, connection = serve(base)
    try:
        begun = time.perf_counter()
        first = refresh(connection, folder, root)
        assert len(first[2]) == EXPERIMENTS
        while any(shown["reading"] for shown in get(connection, "/itera/experiments")["experiments"]):
            time.sleep(0.1)
        known = time.perf_counter() - begun
        warm = [refresh(connection, folder, root)[0] for _ in range(ROUNDS)]
        grown = []
        for _ in range(ROUNDS):
            append(folder)
            took, _, listed = refresh(connection, folder, root)
            assert not any(shown["reading"] for shown in listed)
            grown.append(took)
        yield "refresh, warm", 1000 * statistics.median(warm), "ms", 100
        yield "refresh, one ledger of 50 grown", 1000 * statistics.median(grown), "ms", 100
        yield "list, cold: first answer", 1000 * first[1], "ms", 1000
        yield "all 500,000 records verified after a cold start", known, "s", 120
        yield "server's memory", resident(process.pid), "MB", 1000
    finally:
        connection.close()
        process.terminate()
        process.wait()


def main():
    argparse.ArgumentParser(description=__doc__).parse_args()
    ok = True
    with tempfile.TemporaryDirectory() as folder:
        for name, value, unit, limit in measure(Path(folder).resolve()):
            held = value <= limit
            ok &= held
            print(
                json.dumps({"name": name, "value": round(value, 2), "unit": unit, "limit": limit, "ok": held})
            )
    sys.exit(not ok)


if __name__ == "__main__":
    main()
