"""Prompt arms: from a row to one request, and from a reply to an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from itera_nb._typing import JSON, Row
from itera_nb.exceptions import ArmError
from itera_nb.models.client import Client, Reply, Request, check_params, max_tokens
from itera_nb.models.parsing import ParseError, Parser
from itera_nb.models.pricing import largest_price
from itera_nb.models.prompt import PromptError, compile_prompt, read_tools

from .caller import Answer, Caller

if TYPE_CHECKING:
    from .callers import Clients
    from .runtime import RunnableArm

_INVALID_STOPS = {"max_tokens", "model_context_window_exceeded"}
_SIZE_STEP = 1024


class PromptCaller(Caller):
    """A prompt arm, called once a row through its vendor's shared client.

    Attributes:
        vendor: The vendor's name, under which `clients` reach it.

    Raises:
        ArmError: A file is missing or wrong, or the model's name has no vendor.
    """

    def __init__(self, arm: RunnableArm, clients: Clients, *, quiet: bool) -> None:
        spec = arm.spec
        self.vendor, _, self._model = (spec.model or "").partition("/")
        if not self.vendor or not self._model:
            raise ArmError(
                f"arm {arm.name}: model {spec.model!r} names no vendor",
                fix='write `model` as "anthropic/MODEL" or "openai/MODEL"',
            )
        check_params(spec.params)
        self._arm = arm
        self._clients = clients
        self._quiet = quiet
        self._parser = Parser(spec.parse, arm.root)
        self._prompt = compile_prompt(spec, arm.root, arm.shots, self._parser.example)
        self._tools = read_tools(spec.tools, arm.root)
        self._client: Client | None = None

    async def __aenter__(self) -> Self:
        self._client = await self._clients.of(self.vendor)
        return self

    def check(self, row: Row) -> None:
        """Render a row; see `Caller.check`."""
        try:
            self.request(row)
        except PromptError as error:
            said = error.kind if self._quiet else str(error)
            raise ArmError(
                f"arm {self._arm.name}: {self._arm.spec.prompt} does not fit the rows: {said}",
                fix="name every column that it uses in [source] inputs",
            ) from None

    def request(self, row: Row) -> Request:
        """The one call that answers a row.

        Raises:
            PromptError: The template does not fit the row.
        """
        messages, system = self._prompt.render(row)
        return Request(
            model=self._model,
            messages=messages,
            system=system,
            params=self._arm.spec.params,
            tools=self._tools,
            schema=self._parser.schema,
        )

    def bound_usd(self, row: Row) -> float:
        """USD that one call can cost at most: every byte a token, every token of the answer used."""
        spec = self._arm.spec
        if spec.cost == "free":
            return 0.0
        try:
            size = _bytes(self.request(row))
        except PromptError:
            return 0.0
        rounded = size + _SIZE_STEP - size % _SIZE_STEP  # few distinct sizes: prices are remembered by them
        most = max_tokens(spec.params)
        return largest_price(str(spec.model), rounded, most, params=spec.params, models=self._arm.models)

    async def call(self, row: Row, trial: int, *, timeout_s: float) -> Answer:  # noqa: ARG002 - all are alike
        """See `Caller.call`."""
        assert self._client is not None, "call inside `async with`"
        try:
            request = self.request(row)
        except PromptError as error:
            return Answer("error", error_type=error.kind, error=self._said(str(error)), cost_usd=0.0)
        return self.answer(await self._client.send(request, timeout_s=timeout_s))

    def answer(self, reply: Reply) -> Answer:
        """What a reply means; a refusal, a cut-off answer and text that does not parse have no output."""
        facts: dict[str, Any] = {"usage": [dict(reply.usage)], "latency_ms": reply.latency_ms}
        if self._arm.spec.parse is not None and not self._quiet:
            facts["trace"] = reply.text  # what was parsed: a person wants to see both
        if reply.stop_reason == "refusal":
            return Answer("refusal", error_type="refusal", **facts)
        if reply.stop_reason in _INVALID_STOPS:
            return Answer("invalid", error_type=reply.stop_reason, **facts)
        try:
            output = self._output(reply)
        except ParseError as error:
            said = self._said(f"{error}: {reply.text[:200]!r}")
            return Answer("invalid", error_type="ParseError", error=said, **facts)
        return Answer("ok", output, **facts)

    def _output(self, reply: Reply) -> JSON:
        if self._tools and reply.tool_calls:
            return [{"name": call["name"], "input": call["input"]} for call in reply.tool_calls]
        return self._parser.output(reply.text)

    def _said(self, error: str) -> str:
        return "" if self._quiet else error


def _bytes(request: Request) -> int:
    """Bytes of everything that the model reads."""
    parts: Sequence[Any] = (request.messages, request.system or "", request.tools, request.schema or "")
    return sum(len(str(part).encode(errors="replace")) for part in parts)
