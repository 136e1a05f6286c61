"""The phases as a vertical stepper: where there is no panel, `exp.status()` and `itera status` show this."""

from __future__ import annotations

from html import escape

from itera_nb.report.standing import Seal, Standing, Step
from itera_nb.report.tables import framed
from itera_nb.report.view import View
from itera_nb.report.wording import moment

MARKS = {
    "done": "\N{CHECK MARK}",
    "current": "\N{BLACK RIGHT-POINTING TRIANGLE}",
    "waiting": "\N{WHITE CIRCLE}",
}
WORDS = {"done": "done", "current": "now", "waiting": "waiting"}
STYLE = (
    "<style>.itera-s{list-style:none;margin:.4em 0;padding:0}.itera-s li{padding:.15em 0 .15em 1.6em;"
    "border-left:2px solid var(--jp-border-color1,#bdbdbd);margin-left:.5em}"
    ".itera-s li>b:first-child{display:inline-block;width:1.6em}"
    ".itera-s [aria-current]{font-weight:600;border-color:var(--jp-brand-color1,#1565c0)}"
    ".itera-s small{font-weight:400;opacity:.85;display:block}</style>"
)


def stepper(name: str, found: Standing) -> View:
    """Phases with state, time and who acts; what is locked, the seal, the figures, the next command."""
    notes = [
        f"locked: {', '.join(found.locked) or 'nothing yet'}",
        _seal(found.seal),
        "; ".join(f"{f.label} {f.value} ({f.note})" for f in found.figures),
        f"next: {found.command}",
    ]
    items = "".join(_item(step) for step in found.steps)
    steps = f'<ol class="itera-s" aria-label="phases">{items}</ol>'
    return framed(steps, [_line(step) for step in found.steps], title=name, notes=notes, style=STYLE)


def _item(step: Step) -> str:
    current = ' aria-current="step"' if step.state == "current" else ""
    mark = f'<b role="img" aria-label="{WORDS[step.state]}">{MARKS[step.state]}</b>'
    name, detail = escape(f"{step.id[0]} {step.title}"), escape(_detail(step))
    return f"<li{current}>{mark}{name}<small>{detail}</small></li>"


def _line(step: Step) -> str:
    return f"{MARKS[step.state]} {step.id[0]} {step.title:<9} {_detail(step)}".rstrip()


def _detail(step: Step) -> str:
    if step.at:
        took = "" if step.took_s is None else f", {_duration(step.took_s)}"
        return f"{moment(step.at)}{took}"
    if step.state == "waiting":
        return step.why or ""
    return f"{step.actor} may act" if step.why is None else f"not yet: {step.why}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _seal(seal: Seal) -> str:
    if seal.state == "none":
        return "seal: no test rows are sealed yet"
    touched = f"touched {seal.touches} times" if seal.touches else "not touched"
    return (
        f"seal: {seal.state} {moment(seal.at or '')}, {seal.rows or 0:,} test rows, {seal.custody}, {touched}"
    )
