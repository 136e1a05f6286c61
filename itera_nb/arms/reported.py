"""What an arm outside this process reports: an output as text or JSON, alone or with what it cost."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from itera_nb._typing import JSON, Row
from itera_nb.models.parsing import NotFiniteError, ParseError, Parser, StrictDecoder

from .caller import Answer, Caller, bad_report, is_amount, priced

if TYPE_CHECKING:
    import asyncio

    from aiohttp import StreamReader

    from .runtime import RunnableArm

MAX_BYTES = 16 * 2**20
BLOCK = 2**16
_OUTPUT = ("output", "value")
_FIELDS = {*_OUTPUT, "usage", "cost_usd", "trace", "error", "first_token_ms"}
_SHOWN = 200


def body_of(params: Mapping[str, Any], row: Row) -> bytes:
    """The JSON object that an arm is sent: its parameters and the row's columns; dates become text."""
    values = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in {**params, **row}.items()
    }
    return json.dumps(values, ensure_ascii=False, default=str).encode(errors="replace")


async def read_bounded(stream: asyncio.StreamReader | StreamReader) -> bytes:
    """All of a stream; of one that is too large, a little more than may be read."""
    data = bytearray()
    while not too_large(data) and (block := await stream.read(BLOCK)):
        data += block
    return bytes(data)


def too_large(data: bytes | bytearray) -> bool:
    """Whether this is more than an arm may answer with."""
    return len(data) > MAX_BYTES


class ReportingCaller(Caller):
    """What `http` and `command` arms share: they are told a row, and reply with an answer or a report.

    A JSON object of `output` (or `value`), `usage`, `cost_usd`, `trace`, `error` and `first_token_ms` is read
    as such; any other JSON value, or text, is the output itself. A `parse` then reads the output out of it.

    Raises:
        ArmError: `parse` is wrong.
    """

    def __init__(self, arm: RunnableArm, *, quiet: bool) -> None:
        self._arm = arm
        self._parser = Parser(arm.spec.parse, arm.root) if arm.spec.parse is not None else None
        self._quiet = quiet
        self._dearest_usd = 0.0

    def bound_usd(self, row: Row) -> float:  # noqa: ARG002 - nothing is known of a row's cost
        """USD of the dearest answer so far."""
        return self._dearest_usd

    def read(self, data: bytes, latency_ms: float) -> Answer:
        """The answer in a reply that came after `latency_ms` milliseconds."""
        answer = priced(self._arm, replace(self._read(data), latency_ms=latency_ms))
        self._dearest_usd = max(self._dearest_usd, answer.cost_usd or 0.0)
        return answer

    def said(self, text: str) -> str:
        """What may be shown of an arm's words."""
        return "" if self._quiet else text[:_SHOWN]

    def _read(self, data: bytes) -> Answer:
        if too_large(data):
            said = f"the answer is larger than {MAX_BYTES // 2**20} MiB"
            return Answer("invalid", error_type="TooLarge", error=said)
        try:
            text = data.decode("utf-8-sig").strip()
        except UnicodeDecodeError:
            return Answer("invalid", error_type="NotUTF8")
        try:
            value = StrictDecoder().decode(text)
        except NotFiniteError:
            return Answer("invalid", error_type="NaN")
        except (ValueError, RecursionError):
            value = text
        if not isinstance(value, dict) or value.keys() - _FIELDS or not {*_OUTPUT, "error"} & value.keys():
            return self._with_output(Answer("ok"), value)
        return self._report(value)

    def _report(self, value: dict[str, Any]) -> Answer:
        usage, cost, first = value.get("usage") or [], value.get("cost_usd"), value.get("first_token_ms")
        usage = [usage] if isinstance(usage, dict) else usage
        sound = isinstance(usage, list) and all(isinstance(call, dict) for call in usage)
        if not sound or not is_amount(cost) or not is_amount(first):
            return bad_report("usage, cost_usd or first_token_ms is wrong", usage, cost)
        facts = Answer("ok", usage=usage, cost_usd=cost, trace=value.get("trace"), first_token_ms=first)
        if value.get("error") is not None:
            return replace(facts, status="error", error_type="Reported", error=self.said(str(value["error"])))
        return self._with_output(facts, next((value[key] for key in _OUTPUT if key in value), None))

    def _with_output(self, facts: Answer, output: JSON) -> Answer:
        if output is None or output == "":
            return replace(facts, status="invalid", error_type="None", error="the output is empty")
        if self._parser is None:
            return replace(facts, output=output)
        text = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
        try:
            return replace(facts, output=self._parser.output(text))
        except ParseError as error:
            said = self.said(f"{error}: {text!r}")
            return replace(facts, status="invalid", error_type="ParseError", error=said)
