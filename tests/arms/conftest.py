"""Arms in a snapshot folder, called as the engine calls them."""

import asyncio

import pytest

from itera_nb.arms.caller import Answer, priced
from itera_nb.arms.callers import Clients, caller_for
from itera_nb.arms.runtime import RunnableArm
from itera_nb.spec import ArmSpec


class Called:
    """A folder of arm files, and calls of one arm on one row after the other."""

    def __init__(self, root):
        self.root = root

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    def arm(self, *, inputs=("text",), shots=(), file=None, **spec):
        return RunnableArm(
            "arm", ArmSpec(**spec), self.root, "digest", tuple(inputs), shots=tuple(shots), file=file
        )

    def call(self, *rows, client=None, quiet=False, timeout_s=10.0, trials=(0,), **spec):
        """One answer a row and trial; an exception takes an answer's place."""

        async def main():
            async with Clients({}, quiet=quiet) as clients:
                if client is not None:
                    clients._open = dict.fromkeys(("anthropic", "openai"), client)
                arm = self.arm(**spec)
                caller = caller_for(arm, clients, quiet=quiet)
                caller.check(rows[0])
                async with caller:
                    calls = [caller.call(row, trial, timeout_s=timeout_s) for row in rows for trial in trials]
                    found = await asyncio.gather(*calls, return_exceptions=True)
                    return [priced(arm, one) if isinstance(one, Answer) else one for one in found]

        return asyncio.run(main())


@pytest.fixture
def called(tmp_path):
    root = tmp_path / "snapshot"
    root.mkdir()
    return Called(root)
