"""What is known about the planned test at any moment: its rule, its effects, its slices, its discordance."""

from __future__ import annotations

from dataclasses import dataclass

from itera_nb.experiment import Experiment
from itera_nb.spec import Spec
from itera_nb.stats.decision import Rule, look_alpha
from itera_nb.stats.simulate import Design

GUESSED_DISCORDANCE = 0.20
GUESSED_WINNERS = 0.60  # of two free texts one is mostly liked better, whatever it is worth
LARGEST = 0.5  # with a larger effect nearly every row differs, and nothing is left to plan


@dataclass(frozen=True, slots=True)
class Outlook:
    """What planning starts from; effects and shares are fractions.

    Attributes:
        baseline: The baseline's value on train; None until it is measured.
        min_effect: The registered smallest effect, a relative one resolved with the baseline (1 until then).
        expected: The expected effect: registered, or twice the smallest one.
        discordance: Share of rows on which arm and baseline differ in one run; of comparisons with a winner.
        measured: Whether that was measured on dev, or guessed.
        shares: Slice id -> its share of the sealed test rows; empty before they are sealed.
    """

    baseline: float | None
    min_effect: float
    expected: float
    discordance: float
    measured: bool
    shares: dict[str, float]


def outlook(experiment: Experiment, spec: Spec) -> Outlook:
    """What the ledger and the registration say by now; `spec` may be one that is not written yet."""
    state = experiment.state
    measured, scored = state.last("baseline_measured"), state.scored("dev")
    baseline = float(measured.body["value"]) if measured else None
    smallest = min(spec.rule.min_effect.absolute(1.0 if baseline is None else baseline), LARGEST)
    expected = min(spec.expected_effect(smallest), LARGEST)
    found = scored.body.get("discordance") if scored else None
    if found is None and spec.metric.pairwise:
        discordance = GUESSED_WINNERS
    elif found is None:
        discordance = max(min(GUESSED_DISCORDANCE, most_discordance(baseline)), 0.01)
    else:
        discordance = max(float(found), 0.01)
    return Outlook(baseline, smallest, expected, discordance, found is not None, _slice_shares(experiment))


def most_discordance(baseline: float | None) -> float:
    """The largest discordance of two equally good arms: each row won is wrong today, each row lost right."""
    return 1.0 if baseline is None else 2 * min(baseline, 1 - baseline)


def planned_design(spec: Spec, seen: Outlook, rows: int, *, largest: float) -> Design:
    """The registered rule on `rows` test rows; the discordance must leave room for the `largest` effect."""
    rule = Rule(
        min_effect=seen.min_effect,
        alpha=look_alpha(spec.rule.extension == "once"),
        proof="shown" if spec.rule.proof == "literal" else spec.rule.proof,
        goal=spec.rule.goal,
        margin=spec.rule.margin or 0.0,
    )
    return Design(
        rows=max(rows, 1),
        rule=rule,
        discordance=max(seen.discordance, largest + 0.01),
        trials=spec.trials,
        slices=_partition(seen.shares),
        floor=spec.rule.max_slice_loss,
        arms=len(spec.candidates),
    )


def _partition(shares: dict[str, float]) -> tuple[float, ...]:
    """Shares of the first slice column: the simulation wants slices that do not overlap."""
    first = next(iter(shares), "").partition("=")[0]
    column = [share for name, share in shares.items() if name.startswith(f"{first}=") and share > 0]
    total = sum(column)
    return tuple(share / total for share in column) if first and total else (1.0,)


def _slice_shares(experiment: Experiment) -> dict[str, float]:
    sealed = experiment.state.last("sealed")
    if sealed is None:
        return {}
    test = sealed.body["counts"]["test"]
    return {name: parts["test"] / test for name, parts in sealed.body["slices"].items()}
