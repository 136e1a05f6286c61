"""What the panel may start in an experiment, and why the rest may not: as the protocol says."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as validated

from itera_nb.exceptions import Refusal
from itera_nb.protocol import State, check, may_open, may_run, may_show
from itera_nb.spec import hide_keys

LABELS = {
    "0-frame": "Lock the frame",
    "1-source": "Sample and seal",
    "2-metric": "Lock the metric",
    "3-run": "Score on dev",
    "4-diagnose": "Diagnose and lock the arms",
}
IDS = ("pilot", *(f"run:{phase}" for phase in LABELS), "verdict", "render", "verify")
PILOT_QUESTION = "Does the pilot look right?"
OPENING_QUESTION = "This opens the sealed test set, once."
STRICT = ConfigDict(strict=True, extra="forbid")
"""Of what is read from files that anyone may have written."""


@validated(frozen=True, slots=True, config=STRICT)
class Refused:
    """A refusal as answers and jobs' files hold it; nothing that looks like a key."""

    safeguard: str
    what: str
    why: str
    instead: str
    asks: bool
    record: int | None

    @classmethod
    def of(cls, refusal: Refusal) -> Refused:
        """The protocol's refusal without keys."""
        return cls(
            refusal.safeguard,
            hide_keys(refusal.what),
            hide_keys(refusal.why),
            hide_keys(refusal.instead),
            refusal.asks,
            refusal.record,
        )


@dataclass(frozen=True, slots=True)
class Action:
    """Something that a job can do: what stands against it, and what a person is asked before it starts."""

    id: str
    label: str
    refusal: Refusal | None
    confirm: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The action as answers hold it."""
        return {
            "id": self.id,
            "label": self.label,
            "enabled": self.refusal is None,
            "refusal": self.refusal and asdict(Refused.of(self.refusal)),
            "confirm": self.confirm,
        }


def actions(state: State) -> tuple[Action, ...]:
    """Every action, in the order of the phases."""
    found = []
    for phase, label in LABELS.items():
        question = None
        if phase == "3-run":
            found.append(Action("pilot", "Show the pilot", check("pilot_passed", state)))
            question = PILOT_QUESTION if state.scored("dev") is None else None
        found.append(Action(f"run:{phase}", label, may_run(phase, state), question))
    opens = ("Finish the opened pass", None) if state.pass_open else ("Open the test set", OPENING_QUESTION)
    return (
        *found,
        Action("verdict", opens[0], may_open(state), opens[1]),
        Action("render", "Write the page again", may_show(state)),
        Action("verify", "Verify", None),
    )
