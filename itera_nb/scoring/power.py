"""Power at the lock: what the sealed rows can decide, computed once and kept with the metric's lock.

From the sealed counts, the measured baseline and the registered rule; seeded, so that anyone gets it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from itera_nb.experiment import Experiment
from itera_nb.scoring.design import Outlook, outlook, planned_design
from itera_nb.stats.simulate import Design, outcome_odds, with_extension
from itera_nb.stats.slices import detectable_harm

DRAWS = 2_000
SEED = 20_260_104


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
