"""Where an experiment stands, as values read from its ledger: for the panel, a toolbar chip and the stepper.

The stepper shows the phases where there is no panel: in `exp.status()` and `itera status`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Literal

from itera_nb.ledger import Record
from itera_nb.protocol import PHASES, State, actor, check, finished, happened, next_phase, open_question
from itera_nb.report.tables import framed
from itera_nb.report.view import View
from itera_nb.report.wording import moment, percent, size, usd
from itera_nb.seal.custody import holders

Progress = Literal["done", "current", "waiting"]
LOCKS = {"frame": "frame_locked", "metric": "metric_locked", "arms": "locked"}
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


@dataclass(frozen=True, slots=True)
class Step:
    """One phase: when it was finished (ISO time), how long its own records took (seconds), and who acts.

    `why` is the sentence of the refusal that stands against its next event, None where it may go on.
    """

    id: str
    title: str
    state: Progress
    at: str | None
    took_s: float | None
    actor: Literal["you", "itera", "custodian"]
    why: str | None


@dataclass(frozen=True, slots=True)
class Seal:
    """The sealed test set: rows in every batch, touches outside the verdict, hash of the latest batch."""

    state: Literal["none", "sealed", "opened", "decided"]
    at: str | None
    rows: int | None
    custody: str
    touches: int
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure at a glance, in words."""

    id: Literal["noise", "power", "spend"]
    label: str
    value: str
    note: str


@dataclass(frozen=True, slots=True)
class Standing:
    """The whole picture.

    Attributes:
        phase: The first phase that is not finished; None when the experiment is concluded.
        locked: Those of frame, metric and arms that are locked.
        command: The next command.
        text: One line for a toolbar.
    """

    phase: str | None
    steps: tuple[Step, ...]
    locked: tuple[str, ...]
    seal: Seal
    figures: tuple[Figure, ...]
    command: str
    text: str


def standing(state: State) -> Standing:
    """Where the experiment of this ledger stands."""
    phase = next_phase(state)
    locked = tuple(name for name, event in LOCKS.items() if state.has(event))
    where = "concluded" if phase is None else f"phase {phase[0]} of {len(PHASES) - 1}"
    return Standing(
        phase=phase,
        steps=tuple(_step(name, state, phase) for name in PHASES),
        locked=locked,
        seal=_seal(state),
        figures=(_noise(state), _power(state), _spend(state)),
        command=_command(state, phase),
        text=f"{where} \N{MIDDLE DOT} {', '.join(locked)} locked" if locked else where,
    )


def _step(name: str, state: State, phase: str | None) -> Step:
    records = [record for event in PHASES[name] if (record := happened(event, state))]
    done = name != phase and finished(name, state)
    progress: Progress = "current" if name == phase else "done" if done else "waiting"
    missing = next((event for event in PHASES[name] if not happened(event, state)), None)
    refusal = check(missing, state) if missing else None
    asked = open_question(state) if name == phase else None
    return Step(
        id=name,
        title=name[2:].capitalize(),
        state=progress,
        at=max(r.ts for r in records) if done else None,
        took_s=_seconds(records) if done else None,
        actor=actor(name, state),
        why=str(asked.body["what"]) if asked else refusal.what if refusal and not done else None,
    )


def _seconds(records: list[Record]) -> float | None:
    times = sorted(datetime.fromisoformat(r.ts) for r in records)
    return (times[-1] - times[0]).total_seconds() if len(times) > 1 else None


def _seal(state: State) -> Seal:
    created, batches = state.last("created"), state.batches
    custody, touches = "", len(state.all("seal_touched"))
    if created is not None:
        custody = holders(created.body, batches[0].body if batches else None).words
    if not batches:
        return Seal("none", None, None, custody, touches, None)
    rows = sum(int(b.body["count"] if "count" in b.body else b.body["counts"]["test"]) for b in batches)
    opened = len(state.all("test_opened")) == len(batches)
    now: Literal["sealed", "opened", "decided"]
    now = "decided" if state.decided else "opened" if opened else "sealed"
    latest = {"decided": state.last("verdict"), "opened": state.last("test_opened"), "sealed": batches[-1]}
    record = latest[now]
    at = record.ts if record else None
    return Seal(now, at, rows, custody, touches, batches[-1].body["sealed"]["sha256"])


def _noise(state: State) -> Figure:
    measured = state.last("baseline_measured")
    floor = measured.body["noise_floor"] if measured else None
    value, note = ("unknown", "measured in 2-metric, with two trials or more")
    if floor is not None:
        value, note = f"{size(floor)} points", "re-runs of the baseline on train"
    return Figure("noise", "noise floor", value, note)


def _power(state: State) -> Figure:
    locked = state.last("metric_locked")
    if locked is None:
        return Figure("power", "power", "unknown", "kept with the metric's lock; until then: exp.plan()")
    power = locked.body["power"]
    last = power["odds"][-1]
    value, truth = percent(last["ship"] + last["scope"]), size(last["truth"])
    note = f"to ship at a true {truth} points, {power['test_rows']:,} test rows"
    return Figure("power", "power", value, note)


def _spend(state: State) -> Figure:
    """USD of arms, judge, iterations and proposals, by their latest score records; the pass is not in it."""
    scored = {(r.body["rows"], r.body["iteration"]): r for r in state.all("scored")}
    costs = [arm["cost_usd"] for record in scored.values() for arm in record.body["arms"].values()]
    costs += [r.body["judge"]["cost_usd"] for r in scored.values() if r.body.get("judge")]
    proposals = (*state.all("iteration_registered"), *state.all("proposal_refused"))
    costs += [r.body["cost_usd"] for r in proposals if "cost_usd" in r.body]
    value = usd(sum(c for c in costs if c is not None))
    unknown = sum(c is None for c in costs)
    return Figure("spend", "spent", value, f"{unknown} of unknown price" if unknown else "train and dev")


def _command(state: State, phase: str | None) -> str:
    if phase is None:
        return "itera extend --from FILE" if check("extended", state) is None else "itera show"
    return "itera verdict" if phase == "5-verdict" else "itera run"


def stepper(name: str, found: Standing) -> View:
    """Phases with state, time and who acts; what is locked, the seal, the figures, the next command."""
    notes = [
        f"locked: {', '.join(found.locked) or 'nothing yet'}",
        _seal_line(found.seal),
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


def _seal_line(seal: Seal) -> str:
    if seal.state == "none":
        return "seal: no test rows are sealed yet"
    touched = f"touched {seal.touches} times" if seal.touches else "not touched"
    return (
        f"seal: {seal.state} {moment(seal.at or '')}, {seal.rows or 0:,} test rows, {seal.custody}, {touched}"
    )
