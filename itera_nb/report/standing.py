"""Where an experiment stands, as values read from its ledger: what stepper, panel and toolbar chip show."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from itera_nb.ledger import Record
from itera_nb.protocol import PHASES, State, actor, check, finished, happened, next_phase, open_question
from itera_nb.report.wording import percent, size, usd
from itera_nb.seal.custody import holders

Progress = Literal["done", "current", "waiting"]
TITLES = {
    "0-frame": "Frame",
    "1-source": "Source",
    "2-metric": "Metric",
    "3-run": "Run",
    "4-diagnose": "Diagnose",
    "5-verdict": "Verdict",
}
LOCKS = {"frame": "frame_locked", "metric": "metric_locked", "arms": "locked"}


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
        title=TITLES[name],
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
    """USD of arms, iterations and proposals, by their latest score records; the pass is not in it."""
    scored = {(r.body["rows"], r.body["iteration"]): r for r in state.all("scored")}
    costs = [arm["cost_usd"] for record in scored.values() for arm in record.body["arms"].values()]
    proposals = (*state.all("iteration_registered"), *state.all("proposal_refused"))
    costs += [r.body["cost_usd"] for r in proposals if "cost_usd" in r.body]
    value = usd(sum(c for c in costs if c is not None))
    unknown = sum(c is None for c in costs)
    return Figure("spend", "spent", value, f"{unknown} arms of unknown price" if unknown else "train and dev")


def _command(state: State, phase: str | None) -> str:
    if phase is None:
        return "itera extend --from FILE" if check("extended", state) is None else "itera show"
    return "itera verdict" if phase == "5-verdict" else "itera run"
