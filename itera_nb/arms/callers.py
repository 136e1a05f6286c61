"""From a registered arm to what calls it, with one client a vendor for all arms of a run."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Self

from itera_nb.models.client import Client

from .caller import Caller

if TYPE_CHECKING:
    from itera_nb.spec import ModelSpec

    from .runtime import RunnableArm


class Clients:
    """The vendors' clients of a run: each is opened when an arm first needs it, and closed with this object.

    `quiet` switches the vendors' own logging off, which can show prompts.
    """

    def __init__(self, models: Mapping[str, ModelSpec], *, quiet: bool = False) -> None:
        self._models = models
        self._quiet = quiet
        self._open: dict[str, Client] = {}
        self._stack = AsyncExitStack()

    async def of(self, vendor: str) -> Client:
        """The client of a vendor, ready to send; what it raises says `open_client`."""
        if vendor not in self._open:
            from itera_nb.models.sdk import open_client

            client = open_client(vendor, self._models.get(vendor), quiet=self._quiet)
            self._open[vendor] = await self._stack.enter_async_context(client)
        return self._open[vendor]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._open.clear()
        await self._stack.aclose()


def caller_for(arm: RunnableArm, clients: Clients, *, quiet: bool = False) -> Caller:
    """What calls an arm of any kind but `python`; in quiet, what may quote a row is left out of answers.

    Raises:
        ArmError: A file of the arm is missing or wrong.
    """
    if arm.spec.kind == "prompt":
        from .prompt_caller import PromptCaller

        return PromptCaller(arm, clients, quiet=quiet)
    if arm.spec.kind == "http":
        from .http_caller import HttpCaller

        return HttpCaller(arm, quiet=quiet)
    if arm.spec.kind == "command":
        from .command_caller import CommandCaller

        return CommandCaller(arm, quiet=quiet)
    if arm.spec.kind == "recorded":
        from .recorded_caller import RecordedCaller

        return RecordedCaller(arm)
    raise AssertionError(f"arms of kind {arm.spec.kind} run in workers")
