"""Arms in any language: one process a row, the row on standard input, the answer on standard output."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
import time
from asyncio.subprocess import PIPE, Process, SubprocessStreamProtocol
from pathlib import Path
from typing import TYPE_CHECKING, Self

from itera_nb._typing import Row
from itera_nb.exceptions import ArmError, StoppedError

from .caller import Answer, Status
from .manifest import command_words
from .reported import BLOCK, ReportingCaller, body_of, read_bounded, too_large

if TYPE_CHECKING:
    from .runtime import RunnableArm

_TAIL = 4096
_SECRET = ("_KEY", "_TOKEN", "_SECRET", "_PASSWORD")
_NOT_PASSED_ON = ("ITERA_", "PYTHON")
"""Of these nothing is passed on: what Python would run or find by them was not frozen with the arm."""


class CommandCaller(ReportingCaller):
    """A `command` arm: a JSON object of the arm's `params` and the row's input columns on standard input.

    The command runs without a shell, in the folder of the arm's frozen files, with an environment that holds
    no credentials and no setting of Python but those named in `env`.

    Raises:
        ArmError: `command` or `parse` is wrong.
    """

    def __init__(self, arm: RunnableArm, *, quiet: bool) -> None:
        super().__init__(arm, quiet=quiet)
        self._words = command_words(arm.spec)
        self._scratch: Path | None = None

    async def __aenter__(self) -> Self:
        self._scratch = Path(tempfile.mkdtemp(prefix="itera-"))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def check(self, row: Row) -> None:  # noqa: ARG002 - any row can be written
        """Look for the program; see `Caller.check`."""
        program = self._words[0]
        if shutil.which(program) is None and shutil.which(str(self._arm.root / program)) is None:
            raise ArmError(
                f"arm {self._arm.name}: there is no program {program}",
                fix="install it, or correct `command` in experiment.toml",
            )

    async def call(self, row: Row, trial: int, *, timeout_s: float) -> Answer:  # noqa: ARG002 - all are alike
        """Run the command once; one that is late is killed with everything that it started."""
        data = body_of(self._arm.spec.params, row)
        begun = time.perf_counter()
        process, transport = await self._start()
        try:
            async with asyncio.timeout(timeout_s):
                output, errors = await _talk(process, data)
        except BaseException as error:  # a deadline, or the end of the run: nothing may go on
            _kill(process)
            await process.wait()
            if not isinstance(error, TimeoutError):
                raise
            late = f"no answer within {timeout_s:g} s"
            return self._failed("timeout", "Timeout", late, latency_ms=1000 * timeout_s)
        finally:
            transport.close()
        latency_ms = 1000 * (time.perf_counter() - begun)
        if process.returncode and not too_large(output):
            last = errors.decode(errors="replace").strip().splitlines()[-1:]
            code = process.returncode
            ended = f"Exit {code}" if code > 0 else f"Signal {-code}"
            return self._failed("error", ended, "".join(last), latency_ms=latency_ms)
        return self.read(output, latency_ms)

    async def _start(self) -> tuple[Process, asyncio.SubprocessTransport]:
        """The command's process in a group of its own, and the transport that closes its pipes."""
        loop = asyncio.get_running_loop()
        try:
            transport, protocol = await loop.subprocess_exec(
                lambda: SubprocessStreamProtocol(limit=BLOCK, loop=loop),
                *self._words,
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                cwd=self._arm.root,
                env=self._environment(),
                start_new_session=True,
            )
        except OSError as error:
            what = f"arm {self._arm.name}: {self._words[0]} cannot be started ({error.strerror})"
            raise StoppedError(what, fix="run it by hand; a script needs its first line: #!/bin/sh") from None
        return Process(transport, protocol, loop), transport

    def _failed(self, status: Status, kind: str, said: str, *, latency_ms: float) -> Answer:
        return Answer(status, error_type=kind, error=self.said(said), latency_ms=latency_ms)

    def _environment(self) -> dict[str, str]:
        named = self._arm.spec.env
        kept = {
            name: value
            for name, value in os.environ.items()
            if name in named or not (name.upper().endswith(_SECRET) or name.startswith(_NOT_PASSED_ON))
        }
        # Bytecode beside the frozen files could have been planted there, and would change what was hashed.
        kept["PYTHONPYCACHEPREFIX"] = str(self._scratch)
        if self._arm.pythonpath:
            kept["PYTHONPATH"] = os.pathsep.join(map(str, self._arm.pythonpath))
        return kept


async def _talk(process: Process, data: bytes) -> tuple[bytes, bytes]:
    """Standard output in full and the end of standard error, once the process has ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None

    async def feed(stdin: asyncio.StreamWriter) -> None:
        # A command that does not read its input may end before it is written.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            stdin.write(data)
            await stdin.drain()
            stdin.close()

    async with asyncio.TaskGroup() as group:
        group.create_task(feed(process.stdin))
        output = group.create_task(_bounded(process, process.stdout))
        errors = group.create_task(_tail(process.stderr))
    await process.wait()
    return output.result(), errors.result()


async def _bounded(process: Process, stream: asyncio.StreamReader) -> bytes:
    """All of a stream; a process that writes too much is killed."""
    data = await read_bounded(stream)
    if too_large(data):
        _kill(process)
    return data


async def _tail(stream: asyncio.StreamReader) -> bytes:
    data = b""
    while block := await stream.read(BLOCK):
        data = (data + block)[-_TAIL:]
    return data


def _kill(process: Process) -> None:
    """End a process and everything that it started and left in its group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
