"""What the panel may start in an experiment, and why the rest may not: as the protocol says."""

from __future__ import annotations

from dataclasses import dataclass

from itera_nb.exceptions import Refusal
from itera_nb.protocol import PHASES, State, check, may_open, may_run, may_show

VERDICT = "5-verdict"
LABELS = {
    "0-frame": "Lock the frame",
    "1-source": "Sample and seal",
    "2-metric": "Lock the metric",
    "3-run": "Score on dev",
    "4-diagnose": "Diagnose and lock the arms",
}
PILOT_QUESTION = "Does the pilot look right?"
OPENING_QUESTION = "This opens the sealed test set, once."


@dataclass(frozen=True, slots=True)
class Action:
    """Something that a job can do: what stands against it, and what a person is asked before it starts."""

    id: str
    label: str
    refusal: Refusal | None
    confirm: str | None = None


def actions(state: State) -> tuple[Action, ...]:
    """Every action, in the order of the phases."""
    found = []
    for phase in PHASES:
        if phase == VERDICT:
            continue
        asks = phase == "3-run" and state.scored("dev") is None
        if phase == "3-run":
            found.append(Action("pilot", "Show the pilot", check("pilot_passed", state)))
        question = PILOT_QUESTION if asks else None
        found.append(Action(f"run:{phase}", LABELS[phase], may_run(phase, state), question))
    opening = None if state.pass_open else OPENING_QUESTION
    label = "Finish the opened pass" if state.pass_open else "Open the test set"
    return (
        *found,
        Action("verdict", label, may_open(state), opening),
        Action("render", "Write the page again", may_show(state)),
        Action("verify", "Verify", None),
    )


IDS = ("pilot", *(f"run:{phase}" for phase in PHASES if phase != VERDICT), "verdict", "render", "verify")
