"""What a comparison says: figures as a frozen record, as JSON, as a forest plot, and as text.

The text is a table of at most 100 columns with sentences below it.
"""

from __future__ import annotations

import dataclasses
import re
import textwrap
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from itera_nb.report.tables import table
from itera_nb.report.view import View
from itera_nb.report.wording import NBSP, count, interval, level, points, shorten, size
from itera_nb.retrospective.pairing import Unpaired
from itera_nb.retrospective.reading import Columns, listed, shown
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

WIDTH = 100
_LABEL = 12
_NAME = 24
_RIGHT = {1, 2, 3, 4}  # columns of figures, so that their points stand below each other


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
        return _view(self)

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


def _view(report: ComparisonReport) -> View:
    """The table: all rows first, then each slice."""
    header = ["", "rows", "baseline", "arm", "effect", f"{level(report.alpha)} interval", "level"]
    lines = [_line("all rows", report, ""), *(_line(shown(s.id), s, s.level) for s in report.slices)]
    cells = [line[: None if report.slices else 6] for line in (header, *lines)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells = [[c.rjust(widths[i]) if i in _RIGHT else c for i, c in enumerate(line)] for line in cells]
    notes = [_wrapped(label, text) for label, text in _notes(report)]
    return table(cells[0], cells[1:], title=_title(report), notes=notes)


def _line(name: str, of: ComparisonReport | SliceEffect, judged: str) -> list[str]:
    scores = (f"{100 * x:.1f}" for x in (of.baseline_score, of.arm_score))
    return [
        shorten(name, 28),
        count(of.n),
        *scores,
        points(of.estimate),
        interval(of.low, of.high),
        judged,
    ]


def _title(report: ComparisonReport) -> str:
    trials = " and ".join(str(t) for t in dict.fromkeys(report.trials))
    units = f"{count(report.n)} paired rows" + ("" if trials == "1" else f" × {trials} trials")
    part = "   (not on every slice)" if report.scope else ""
    return (
        f"{report.outcome}   {points(report.estimate)} pp {interval(report.low, report.high)}{part}\n"
        f"{_name(report.arm)} against {_name(report.baseline)}   {units}   scores in %, effects in points"
    )


def _name(arm: str) -> str:
    return shorten(shown(arm), _NAME)


def _wrapped(label: str, text: str) -> str:
    # An interval and a number with its unit stay on one line.
    whole = re.sub(r"(?<=,) (?=[+\N{MINUS SIGN}\d.]+\])| (?=(?:pp|%)(?:\W|$))", NBSP, text)
    lines = textwrap.fill(
        whole,
        WIDTH,
        initial_indent=label.ljust(_LABEL),
        subsequent_indent=" " * _LABEL,
        break_on_hyphens=False,
    )
    return lines.replace(NBSP, " ")


def _notes(report: ComparisonReport) -> Iterator[tuple[str, str]]:
    yield "why", report.sentence
    yield "never ship", NEVER_SHIP
    yield (
        "intervals",
        "are for rows like these, not for a change of traffic or of a model behind an arm",
    )
    yield "rows", _rows(report)
    yield "power", _power(report)
    if max(report.trials) > 1:
        yield "re-runs", _reruns(report)
    yield from _absent(report)
    for part in report.slices:
        if part.wording == "regression":
            yield "flagged", f"{shown(part.id)}: a loss beyond {size(report.max_slice_loss)} pp is shown"
        elif part.level == "flagged":
            yield "flagged", f"{shown(part.id)} may lose more than {size(report.max_slice_loss)} pp"
    if len(report.columns.slices) > 1:
        yield "slices", "those of different columns overlap: they are not independent"
    if report.columns.found:
        taken = " and ".join(
            f"{getattr(report.columns, role)!r} as the {role}" for role in report.columns.found
        )
        yield "columns", f"took {shown(taken)}; --id and --score name others"
    for caution in report.warnings:
        yield "caution", caution


def _rows(report: ComparisonReport) -> str:
    right = "alone is right" if report.trials == (1, 1) and not report.graded else "is ahead"
    ahead, behind, tied = (count(x) for x in (report.arm_ahead, report.baseline_ahead, report.tied))
    together = "" if report.columns.cluster is None else f"; {count(report.clusters)} clusters"
    both = f"{_name(report.arm)} {right} on {ahead}, {_name(report.baseline)} on {behind}"
    return f"{both}, equal on {tied}{together}"


def _power(report: ComparisonReport) -> str:
    if report.goal == "no_worse":
        shows, planned = f"no loss beyond {size(report.margin or 0.0)} pp", "if both are equally good"
    else:
        shows, planned = "a gain", f"for a true {points(report.planned_effect)} pp (twice the smallest gain)"
    truth = f"80 % of cases if the truth is {points(report.detectable)} pp"
    chance = f"{count(report.n)} such rows show {shows} in {truth}"
    needed = f"; {planned} that takes {count(report.rows_needed)} rows" if report.rows_needed else ""
    return f"{chance}{needed}"


def _reruns(report: ComparisonReport) -> str:
    if report.rerun_se is None or report.rerun_share is None:
        return "one side has a single trial, so its re-run noise is not known"
    if report.rerun_se == 0:
        return "identical; which rows were drawn is the only uncertainty"
    helps = "more trials help" if report.rerun_share > 0.3 else "more rows help, not more trials"
    moved = f"move the effect by {size(report.rerun_se)} pp (standard error)"
    return f"{moved}, {report.rerun_share:.0%} of its variance: {helps}"


def _absent(report: ComparisonReport) -> Iterator[tuple[str, str]]:
    apart = report.unpaired
    for arm, number, ids in (
        (report.baseline, apart.baseline_only, apart.baseline_ids),
        (report.arm, apart.arm_only, apart.arm_ids),
    ):
        if number:
            yield "unpaired", f"{count(number)} only in {_name(arm)}, left out: {listed(ids, number)}"
    if any(report.missing):
        base, arm_ = (count(x) for x in report.missing)
        side = f"{base} of {_name(report.baseline)}, {arm_} of {_name(report.arm)}"
        yield (
            "missing",
            f"scores of paired rows: {side}; missing, not 0: {count(report.n)} rows have one on both sides",
        )
    if report.worst and report.best:
        worst, best = (f"{points(b.estimate)} {interval(b.low, b.high)}" for b in (report.worst, report.best))
        if report.worst_must_pass:
            must = "a good outcome has to hold at the worst"
        elif report.reason == "missing_scores":
            must = "a loss has to hold at the best"
        else:
            must = "too few to change the outcome"
        yield "bounds", f"if all that is absent went against the arm {worst}, for it {best}: {must}"
