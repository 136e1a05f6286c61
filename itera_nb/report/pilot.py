"""The pilot as it is read: requests and responses in full, and the short form for a terminal."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from html import escape
from typing import Any

from itera_nb.models.client import Request
from itera_nb.report.tables import STYLE, clean
from itera_nb.report.view import View
from itera_nb.report.wording import shorten, usd
from itera_nb.scoring.pilot import Pilot
from itera_nb.spec import Spec

WIDEST = 40
BLOCK = "white-space:pre-wrap;overflow-wrap:anywhere;border-left:3px solid currentColor;padding-left:.8em"


def pilot_view(spec: Spec, found: Pilot) -> View:
    """Every column, request and response of one row, literally and in full, with every figure."""
    parts = list(_parts(spec, found))
    html = "".join(
        f'<p class="itera-n"><b>{escape(clean(name))}</b></p><pre style="{BLOCK}">{escape(clean(text))}</pre>'
        for name, text in parts
    )
    notes = _notes(spec, found)
    html += "".join(f'<p class="itera-n">{escape(note)}</p>' for note in notes)
    text = "\n".join(f"{clean(name)}\n{_indented(clean(text))}" for name, text in parts)
    return View(html=f"{STYLE}<h4>pilot row</h4>{html}", text="\n".join([text, *notes]))


def pilot_line(spec: Spec, found: Pilot) -> str:
    """One line: `row 17   v1 "transfer" · v2 "fees" · 588+58 tokens · $0.0018 each`."""
    lines = found.table.to_dict("records")
    said = [f"{line['arm']} {_short(str(line['output']))}" for line in lines]
    tokens = {
        f"{line['input_tokens']}+{line['output_tokens']} tokens" for line in lines if line["output_tokens"]
    }
    prices = list(dict.fromkeys(_price(line["cost_usd"]) for line in lines))
    figures = [*sorted(tokens)[:1], f"{prices[0]} each" if len(prices) == 1 else " and ".join(prices)]
    row = found.row[spec.source.id]
    return clean(f"3 pilot    row {row}   {' · '.join([*said, *figures])}")


def forecast_line(spec: Spec, found: Pilot) -> str:
    """The price of the whole experiment with its range, beside the budget."""
    budget = spec.run.budget_usd
    limit = f" of a budget of {usd(budget)}" if budget is not None else "; no budget_usd is registered"
    if found.forecast is None:
        return f"price of the experiment: unknown{limit}"
    total = found.forecast.total
    if total.high == 0:
        return "price of the experiment: $0"
    ends = f"[{usd(total.low)}, {usd(total.high)}]".replace("$", "")
    return f"price of the experiment: about {usd(total.usd)} {ends}{limit}"


def _parts(spec: Spec, found: Pilot) -> Iterator[tuple[str, str]]:
    """Headings and texts, in the order in which they are read."""
    for name, value in found.row.items():
        yield f"{'label' if name == spec.source.expected else 'column'}: {name}", _text(value)
    for line in found.table.to_dict("records"):
        arm = str(line["arm"])
        if arm in found.requests:
            yield from ((f"{arm}, {name}", text) for name, text in _request(found.requests[arm]))
        attempt = found.attempts[arm]
        if attempt.trace is not None:
            yield f"{arm}, response", _text(attempt.trace)
        yield f"{arm}, output", _text(attempt.output)
        if arm in found.questions:
            yield f"{arm}, what the judge is asked", found.questions[arm]
        reason = str(line.get("reason") or "")
        yield f"{arm}, figures", "\n".join(filter(None, [_figures(line), reason and f"judge: {reason}"]))


def _request(request: Request) -> Iterator[tuple[str, str]]:
    if request.system:
        yield "system", request.system
    for turn in request.messages:
        yield str(turn["role"]), _text(turn["content"])
    settings = {"model": request.model, **request.params}
    yield "parameters", json.dumps(settings, ensure_ascii=False, default=str)
    if request.tools:
        yield "tools", json.dumps(list(request.tools), ensure_ascii=False, indent=1, default=str)
    if request.schema:
        yield "schema", json.dumps(dict(request.schema), ensure_ascii=False, indent=1, default=str)


def _figures(line: dict[Any, Any]) -> str:
    parts = [f"score {line['score']:.2f}", _price(line["cost_usd"])]
    if line["output_tokens"]:
        parts.append(f"{line['input_tokens']}+{line['output_tokens']} tokens")
    if not math.isnan(line["latency_ms"]):
        parts.append(f"{line['latency_ms']:,.0f} ms")
    return ", ".join(parts) + (" (answered by an earlier run)" if line["reused"] else "")


def _notes(spec: Spec, found: Pilot) -> list[str]:
    return [
        "one call's price is not the steady-state one: what a first call writes to a cache, later ones read",
        forecast_line(spec, found),
    ]


def _price(cost_usd: float) -> str:
    return "price unknown" if math.isnan(cost_usd) else usd(cost_usd)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _short(output: str) -> str:
    return shorten(output.replace("\n", " "), WIDEST)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.split("\n"))
