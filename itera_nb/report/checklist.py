"""A checklist as static HTML and text: a list to a screen reader, and what a widget ticks live."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from itera_nb.protocol import PHASES, State, check, happened, next_phase
from itera_nb.report.tables import clean, framed, message
from itera_nb.report.view import View
from itera_nb.verdict.preflight import Condition, phase_conditions

MARKS = {True: ("\N{CHECK MARK}", "met"), False: ("\N{WHITE CIRCLE}", "not met")}
STYLE = (
    "<style>.itera-c{list-style:none;margin:.3em 0;padding:0}.itera-c li{margin:.2em 0;padding-left:1.6em;"
    "text-indent:-1.6em}.itera-c li>*{text-indent:0}.itera-c b{display:inline-block;width:1.6em}"
    ".itera-c [data-met=true] b{color:var(--jp-success-color0,#1b5e20)}</style>"
)


def checklist(found: Sequence[Condition], *, title: str = "", notes: Sequence[str] = ()) -> View:
    """Conditions, each ticked where it holds, with its evidence or the sentence that says why not."""
    items, lines = "", []
    for condition in found:
        mark, word = MARKS[condition.holds]
        says = clean(f"{condition.name}: {condition.detail}" if condition.detail else condition.name)
        item = f'<b role="img" aria-label="{word}">{mark}</b>{escape(says)}'
        items += f'<li data-met="{str(condition.holds).lower()}">{item}</li>'
        lines.append(f"{mark} {says}")
    return framed(f'<ul class="itera-c">{items}</ul>', lines, title=title, notes=notes, style=STYLE)


def what_next(state: State) -> View:
    """The next phase with its conditions, and why what comes after it has to wait."""
    phase = next_phase(state)
    if phase is None:
        return message("The experiment is concluded. Show it: itera show    Check it: itera verify")
    command = "itera verdict" if phase.startswith("5") else "itera run"
    later = [event for name, events in PHASES.items() if name > phase for event in events]
    notes = [
        f"not yet: {event.replace('_', ' ')} - {refusal.what}"
        for event in later
        if not happened(event, state) and (refusal := check(event, state))
    ]
    title = f"next: {phase}.ipynb, or `{command}` headless"
    return checklist(phase_conditions(state, phase), title=title, notes=notes)
