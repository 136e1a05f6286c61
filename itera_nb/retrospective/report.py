"""What a comparison says: figures as a frozen record, as JSON, as text and as a forest plot."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from itera_nb.report.view import View
from itera_nb.retrospective.pairing import Unpaired
from itera_nb.retrospective.reading import Columns
from itera_nb.stats.decision import Goal
from itera_nb.stats.slices import Level, Wording
from itera_nb.verdict.record import EffectRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Outcome: TypeAlias = Literal[
    "retrospective: better", "retrospective: worse", "retrospective: no worse", "retrospective: inconclusive"
]
NEVER_SHIP = (
    "nothing was sealed or registered before these results were seen, so this may be the luckiest of several "
    "tries; an experiment on unseen rows can ship: itera new"
)


@dataclass(frozen=True, slots=True)
class SliceEffect:
    """One slice (fractions). `level`, `p_harm`, `shrunken` and `wording` are those of `stats.slices`."""

    id: str
    n: int
    baseline_score: float
    arm_score: float
    estimate: float
    low: float
    high: float
    level: Level
    p_harm: float | None
    shrunken: float | None
    wording: Wording | None


@dataclass(frozen=True, slots=True)
class ComparisonReport:
    """What results that exist already say about an arm and its baseline. Effects and scores are fractions.

    Attributes:
        outcome: Better, worse, no worse or inconclusive, always as retrospective.
        trials: Largest number of trials of a row, baseline and arm; so is `missing`, absent paired scores.
        arm_ahead: Paired rows on which the arm scores higher; on one trial of 0/1 scores the discordant count
            b, and `baseline_ahead` is c.
        scope: The slices of a good outcome that does not hold on all of them; empty otherwise.
        worst: The effect if all that is unpaired or missing went against the arm, None where nothing is;
            `best` likewise for it. `worst_must_pass`: a good outcome had to hold at the worst too.
        rerun_se: Standard error of the effect from re-runs alone, None without two trials on both sides.
        detectable: The true effect that so many rows show with 80 % power, from the closed form.
        rows_needed: Rows for 80 % power at a true `planned_effect`; None where no number would do.
    """

    outcome: Outcome
    reason: str
    sentence: str
    baseline: str
    arm: str
    columns: Columns
    goal: Goal
    min_effect: float
    margin: float | None
    max_slice_loss: float
    alpha: float
    n: int
    clusters: int
    trials: tuple[int, int]
    graded: bool
    baseline_score: float
    arm_score: float
    estimate: float
    low: float
    high: float
    arm_ahead: int
    baseline_ahead: int
    tied: int
    slices: tuple[SliceEffect, ...]
    scope: tuple[str, ...]
    unpaired: Unpaired
    missing: tuple[int, int]
    worst: EffectRecord | None
    best: EffectRecord | None
    worst_must_pass: bool
    rerun_se: float | None
    rerun_share: float | None
    detectable: float
    planned_effect: float
    rows_needed: int | None
    warnings: tuple[str, ...]

    @property
    def view(self) -> View:
        """One table and what has to be known beside it; text of at most 100 columns."""
        from itera_nb.retrospective.wording import view

        return view(self)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values under the names of the fields, and why this is never "ship"."""
        return dataclasses.asdict(self) | {"never_ship": NEVER_SHIP}

    def data_json(self) -> dict[str, Any]:
        """The published results schema, as `itera charts` reads it; nothing in it was sealed."""
        keys = {s.id: f"s{i}" for i, s in enumerate(self.slices)}
        scores = {"baseline": self.baseline_score, "arm": self.arm_score}
        return {
            "experiment": {
                "name": f"{self.arm} against {self.baseline}",
                "question": f"Is {self.arm} better than {self.baseline} on rows that are scored already?",
                "metric": self.columns.score,
                "threshold_pct": 100 * self.min_effect,
                "threshold_rule": "retrospective: no rule was registered before the results were seen",
                "test_set_n": self.n,
                "trials_per_arm": max(self.trials),
            },
            "arms": [
                {"id": "baseline", "name": self.baseline, "baseline": True, "cost_per_1k_usd": None},
                {"id": "arm", "name": self.arm, "cost_per_1k_usd": None},
            ],
            "slices": [{"id": keys[s.id], "name": s.id, "n": s.n} for s in self.slices],
            "failure_modes": {"categories": [], "test_set_counts": {}},
            "variance_trials": {arm: [value] for arm, value in scores.items()},
            "test_set_aggregate": scores,
            "test_set_per_slice": {
                "baseline": {keys[s.id]: s.baseline_score for s in self.slices},
                "arm": {keys[s.id]: s.arm_score for s in self.slices},
            },
            "effect_sizes": {
                "arm": {
                    "aggregate": _published(self),
                    "per_slice": {keys[s.id]: _published(s) for s in self.slices},
                }
            },
            "verdict": {"winner": None, "killed": [], "rationale": self.sentence},
            "itera": {
                "outcome": self.outcome,
                "arm": "arm",
                "rule": {
                    "goal": self.goal,
                    "margin": self.margin,
                    "max_slice_loss": self.max_slice_loss,
                    "alpha": self.alpha,
                },
                "records": [
                    {
                        "arm": "arm",
                        "cost": {},
                        "slices": [{"id": keys[s.id], "level": s.level} for s in self.slices],
                    }
                ],
            },
        }

    def forest_plot(self) -> Figure:
        """Effect on all rows and on each slice; a line below says that it is retrospective."""
        from itera_nb.report.charts import MUTED, forest_plot

        figure = forest_plot(self.data_json())
        words = "retrospective: nothing was sealed or registered before these results were seen"
        figure.supxlabel(f"{figure.get_supxlabel()}\n{words}", fontsize=8, color=MUTED)
        return figure

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, str]:
        return self.view._repr_mimebundle_(include, exclude)

    def __str__(self) -> str:
        return self.view.text


def _published(effect: ComparisonReport | SliceEffect) -> dict[str, float | None]:
    # Of a slice too small for a level the chart says so: its interval would squeeze all others.
    if isinstance(effect, SliceEffect) and effect.level == "not assessed":
        return {"delta": None, "ci_low": None, "ci_high": None}
    return {"delta": effect.estimate, "ci_low": effect.low, "ci_high": effect.high}
