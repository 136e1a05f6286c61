"""What the planned test can decide: what is known of it at any moment, and its power, kept with the lock.

Power at the lock is computed from the sealed counts, the measured baseline and the registered rule; seeded,
so that anyone gets it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from itera_nb.experiment import Experiment
from itera_nb.spec import Spec
from itera_nb.stats.decision import Rule, look_alpha
from itera_nb.stats.simulate import Design, outcome_odds, with_extension
from itera_nb.stats.slices import detectable_harm

DRAWS = 2_000
SEED = 20_260_104
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
        # Of two equally good arms: each row won is wrong today, each row lost right.
        most = 1.0 if baseline is None else 2 * min(baseline, 1 - baseline)
        discordance = max(min(GUESSED_DISCORDANCE, most), 0.01)
    else:
        discordance = max(float(found), 0.01)
    return Outlook(baseline, smallest, expected, discordance, found is not None, _slice_shares(experiment))


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


def power_at_lock(experiment: Experiment) -> dict[str, Any]:
    """Odds of each outcome at no effect, the smallest and the expected one, and each slice's detectable loss.

    Returns:
        JSON values, shares and effects as fractions rounded to 4 decimals: `test_rows`, `trials`,
        `discordance`, `discordance_measured`, `baseline` (None where scores are preferences over it),
        `headroom` (what the baseline leaves to gain),
        `min_effect`, `expected` (0 under `no_worse`), `expected_guessed`, `independent` (whether each row
        stands alone), `odds` and `top_up_odds` (empty without a registered top-up; it then has as many rows
        again): lists of {truth, ship, scope, kill, inconclusive, literal}, and `slices`: id -> {rows,
        detectable_loss} at about 80 % power.
    """
    spec, sealed, seen = experiment.spec, experiment.state.the("sealed"), outlook(experiment, experiment.spec)
    assert seen.baseline is not None
    rows, headroom = int(sealed.body["counts"]["test"]), 1 - seen.baseline
    if spec.rule.goal == "no_worse":
        expected, wanted = 0.0, [-(spec.rule.margin or 0.0), 0.0]
    else:
        expected, wanted = round(seen.expected, 4), [0.0, seen.min_effect, seen.expected]
    truths = list(dict.fromkeys(round(x, 4) for x in wanted if x <= headroom))
    design = planned_design(spec, seen, rows, largest=0.0)
    again = with_extension(design, rows) if spec.rule.extension == "once" else None
    return {
        "test_rows": rows,
        "trials": spec.trials,
        "discordance": round(seen.discordance, 4),
        "discordance_measured": seen.measured,
        "baseline": None if spec.metric.pairwise else round(seen.baseline, 4),
        "headroom": round(headroom, 4),
        "min_effect": round(seen.min_effect, 4),
        "expected": expected,
        "expected_guessed": spec.frame.expected_effect is None,
        "independent": spec.source.cluster is None,
        "odds": [_odds(design, truth, seen) for truth in truths],
        "top_up_odds": [_odds(again, truth, seen) for truth in truths] if again else [],
        "slices": {
            name: {
                "rows": round(rows * share),
                "detectable_loss": round(min(float(detectable_harm(seen.discordance, rows * share)), 1.0), 4),
            }
            for name, share in seen.shares.items()
            if share > 0
        },
    }


def _odds(design: Design, truth: float, seen: Outlook) -> dict[str, float]:
    # Each effect has just the discordance that it needs: one that is large for all would widen the others.
    fitted = replace(design, discordance=max(seen.discordance, abs(truth)))
    found = outcome_odds(fitted, truth, np.random.default_rng(SEED), draws=DRAWS)
    shares = {name: getattr(found, name) for name in ("ship", "scope", "kill", "inconclusive", "literal")}
    return {"truth": truth} | {name: round(value, 4) for name, value in shares.items()}


def power_expected(power: Mapping[str, Any]) -> float | None:
    """Probability of a ship or scope at the expected effect (under `no_worse`: of equal arms), first look.

    None where the baseline leaves less than the expected effect to gain.
    """
    last = power["odds"][-1]
    return float(last["ship"] + last["scope"]) if last["truth"] == power["expected"] else None
