"""What a proposer of iterations is given and what it answers; one asks a model, anybody may write another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from itera_nb.exceptions import IteraError


class ProposalError(IteraError):
    """An answer that is no proposal; what it says may be told back, so it quotes nothing of the answer."""


@dataclass(frozen=True, slots=True)
class Parent:
    """What may be changed: an arm, or the latest gate-passed iteration of its line.

    `components` are those that a proposal may replace, with their whole text.
    """

    id: str
    kind: str
    components: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Finding:
    """An arm against the baseline on one group of dev rows; fractions, with the 95 % interval."""

    arm: str
    group: str
    n: int
    effect: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Tried:
    """An iteration that was scored: what was expected, what came of it, and how the gate classed it."""

    id: str
    parent: str
    what: str
    hypothesis: str
    predicted_effect: float
    effect: float
    outcome: str
    class_: str | None
    kept: bool


@dataclass(frozen=True, slots=True)
class Briefing:
    """All that a proposer sees: no text of a dev row, and nothing of a test row.

    Attributes:
        frame: Question, hypothesis, metric and rule, in words.
        parents: What may be changed.
        columns: Columns by which rows may be predicted -> their values on train.
        train: Train rows with their labels and, where known, each arm's output and score; failures first.
        means: Arm -> mean score on dev (a fraction; of a preference from -1 to 1).
        findings: Dev effects by slice, failure mode, cluster and other declared groups.
        history: Every iteration so far, falsified ones too.
        told: Why the answer before this one was refused, or "".
    """

    frame: str
    parents: tuple[Parent, ...]
    columns: Mapping[str, tuple[str, ...]]
    train: tuple[Mapping[str, Any], ...]
    means: Mapping[str, float]
    findings: tuple[Finding, ...]
    history: tuple[Tried, ...]
    told: str = ""


@dataclass(frozen=True, slots=True)
class Replacement:
    """The whole new text of one component (of a parameter: its value as JSON)."""

    component: str
    text: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """One iteration: a hypothesis, the one change, and what it will do.

    Attributes:
        name: A short name of small letters, digits and dashes.
        hypothesis: Why the change should help, and on which rows.
        parent: The id of what it changes.
        what: The change in a few words.
        changes: The components that it replaces: more than one is refused (SG21).
        predicted_effect: Against the parent on the predicted rows, as a fraction.
        predicted_rows: Column -> value; all rows without any.
        class_: What the proposer itself calls the change.
        reason: Why it calls it so.
    """

    name: str
    hypothesis: str
    parent: str
    what: str
    changes: tuple[Replacement, ...]
    predicted_effect: float
    predicted_rows: Mapping[str, str]
    class_: Literal["universal", "hardcode", "cant_tell"]
    reason: str

    @property
    def text(self) -> str:
        """Everything that it says, in one text."""
        rows = [part for pair in self.predicted_rows.items() for part in pair]
        said = [self.name, self.hypothesis, self.what, self.reason, *rows]
        return "\n".join([*said, *(change.text for change in self.changes)])


@dataclass(frozen=True, slots=True)
class Answer:
    """What a proposer answered.

    Attributes:
        proposal: None where it has nothing more to propose, or said no proposal.
        fault: Why that is no proposal; it may be told back, so it quotes nothing of the answer.
        request: Digest of what was asked, or "".
        cost_usd: What the answer cost; None is unknown.
    """

    proposal: Proposal | None
    fault: str = ""
    request: str = ""
    cost_usd: float | None = 0.0


class Proposer(Protocol):
    """Proposes iterations. What is proposed is checked, registered and scored by the loop."""

    @property
    def name(self) -> str:
        """By which the record calls it."""
        ...

    def propose(self, briefing: Briefing) -> Answer:
        """The next iteration, or an answer without one, which ends the proposals.

        Asked again with the same briefing after an interruption, it should give the same answer unpaid.

        Raises:
            BudgetReachedError: The next call could cross the budget; none was made.
            StoppedError: No call would succeed: key, credit or model.
        """
        ...
