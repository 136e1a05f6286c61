"""A real kernel to attack from, cell by cell."""

import json
from dataclasses import dataclass

from jupyter_client.manager import KernelManager


@dataclass(frozen=True)
class Ran:
    """What a cell showed, and the error that ended it ("" for none)."""

    text: str
    error: str


class Kernel:
    """A kernel in an experiment's folder, with its world's state directory."""

    def __init__(self, world, *, name="python3", cwd=None, **variables):
        self._manager = KernelManager(kernel_name=name)
        self._manager.start_kernel(
            cwd=str(cwd or world.folder),
            env=world.environment(**variables),
            extra_arguments=["--IPKernelApp.log_level=50"],
        )
        self._client = self._manager.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=60)

    def run(self, code, *, timeout=120):
        """Execute a cell; an error is a result."""
        shown, error = [], []

        def keep(message):
            content = message["content"]
            if message["msg_type"] == "error":
                error.append(content["ename"])
                shown.append("\n".join(content["traceback"]))
            if message["msg_type"] == "stream":
                shown.append(content["text"])
            if "data" in content:
                shown.append(json.dumps(content["data"]))

        reply = self._client.execute_interactive(code, timeout=timeout, output_hook=keep, allow_stdin=False)
        if reply["content"]["status"] == "error" and not error:
            error.append(reply["content"]["ename"])
        return Ran("".join(shown), error[0] if error else "")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)
