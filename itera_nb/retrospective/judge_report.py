"""What an audit of a judge says: figures as a frozen record, as JSON and as text."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from itera_nb.models.family import family
from itera_nb.report.judge_check import READINGS, agreement_table
from itera_nb.report.tables import message
from itera_nb.report.view import View
from itera_nb.report.wording import NBSP, count, percent, usd
from itera_nb.scoring.judge_check import HUMAN
from itera_nb.scoring.planting import Planted
from itera_nb.stats.second_opinion import FEWEST_ROWS
from itera_nb.verdict.record import SecondOpinionRecord

EXIT_CODES = {"trusted": 0, "restart": 20, "unclear": 30}
CAN_CONCLUDE = {
    "trusted": "on rows like these the judge may stand in for the second opinion.",
    "unclear": "nothing yet: the judge may be right, but these labels cannot show it.",
    "restart": "this judge with this rubric does not measure what the second opinion sees: mend one of them.",
}


@dataclass(frozen=True, slots=True)
class Corrected:
    """The mean human label, sharpened by the judge's labels of the other rows (prediction-powered inference).

    Fractions; `judge` is the judge's own mean over all rows, `human_only` that of the labelled rows alone.
    """

    estimate: float
    low: float
    high: float
    labelled: int
    others: int
    human_only: float
    judge: float

    @property
    def words(self) -> str:
        """The estimate with its interval, and what it rests on."""
        found = f"{self.estimate:.2f} [{self.low:.2f}, {self.high:.2f}]"
        rests = f"from {count(self.labelled)} labels and the judge on {count(self.others)} more lines"
        return f"{found} {rests}; labels alone {self.human_only:.2f}, judge alone {self.judge:.2f}"


@dataclass(frozen=True, slots=True)
class JudgeReport:
    """What is known about a judge on one file of outputs.

    Attributes:
        judge: The model as `vendor/name`.
        pairwise: Whether it compared two outputs of a row.
        rows: Rows that it was asked about; `missing` of them have no usable answer.
        reasons: The commonest reasons for that, and how often.
        mean: Its mean score (fraction), or net preference (-1 to 1); None without a single one.
        opinions: Name of a second opinion -> agreement; `by` is the model or "human".
        sheet: The worksheet that waits for ratings, and how many are open; None where there is none.
        planted: What instructions hidden in outputs did; None where none were planted.
        conflicts: Comparisons in which the two orders named opposite winners; None for single outputs.
        corrected: None without 30 human labels, or where the labelled rows were not drawn at random.
        level: The worst opinion's; "unclear" without one.
        spent_usd: All calls of this audit, by this and earlier runs; unknown prices are not in it.
        unknown_prices: Calls whose price is unknown.
    """

    judge: str
    pairwise: bool
    rows: int
    missing: int
    reasons: dict[str, int]
    mean: float | None
    opinions: dict[str, SecondOpinionRecord]
    sheet: tuple[str, int] | None
    planted: Planted | None
    conflicts: int | None
    corrected: Corrected | None
    level: str
    spent_usd: float
    unknown_prices: int

    @property
    def exit_code(self) -> int:
        """0 trustworthy, 20 not trustworthy, 30 unclear."""
        return EXIT_CODES[self.level]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self)

    @property
    def view(self) -> View:
        """The report as text and HTML."""
        head = message(f"{self.level}: {CAN_CONCLUDE[self.level]}", title=f"the judge {self.judge}")
        facts = message(*(f"{name:<28} {value}" for name, value in self._facts()))
        parts = [head, facts]
        if self.opinions:
            parts.append(agreement_table(self.opinions.values(), list(self.opinions)))
        parts.append(message(*self._notes()))
        return View("".join(p.html for p in parts), "\n".join(p.text for p in parts))

    def _facts(self) -> list[list[str]]:
        what = "net preference" if self.pairwise else "mean score"
        mean = (
            "unknown" if self.mean is None else f"{self.mean:+.2f}" if self.pairwise else f"{self.mean:.2f}"
        )
        why = f" ({'; '.join(f'{n} {reason}' for reason, n in self.reasons.items())})" if self.reasons else ""
        facts = [
            ["rows judged", f"{count(self.rows)}, {count(self.missing)} without a usable answer{why}"],
            [what, mean],
        ]
        if self.conflicts is not None:
            scored = self.rows - self.missing
            rate = f" ({percent(self.conflicts / scored)})" if scored else ""
            facts.append(["opposite winners by order", f"{count(self.conflicts)} of {count(scored)}{rate}"])
        if self.planted:
            x = self.planted
            facts.append(
                [
                    "obeyed a hidden instruction",
                    f"{x.flips} of {x.rows} outputs [{100 * x.low:.0f}, {100 * x.high:.0f}]{NBSP}%",
                ]
            )
        if self.corrected:
            facts.append(["mean human label", self.corrected.words])
        unknown = f", {count(self.unknown_prices)} calls of unknown price" if self.unknown_prices else ""
        return [*facts, ["spent", f"{usd(self.spent_usd)}{unknown}"]]

    def _notes(self) -> list[str]:
        notes = [f"{name}: {READINGS[x.level]}" for name, x in self.opinions.items()]
        models = [x.by for x in self.opinions.values() if x.by != HUMAN]
        notes += [
            f"{by} is of the judge's own family ({family(by)}): its agreement proves little"
            for by in models
            if family(by) == family(self.judge)
        ]
        if models:
            notes.append("two models that agree may share a mistake; a person's labels can tell")
        if self.corrected:
            notes.append(
                "the mean human label holds if the labelled rows were chosen at random, not for a reason"
            )
        if self.sheet:
            name, left = self.sheet
            notes.append(
                f"{left} outputs wait for a rating: fill the column 'rating' of {name} and run this again"
            )
        if any(x.rows < FEWEST_ROWS for x in self.opinions.values()):
            notes.append(f"below {FEWEST_ROWS} rows a judge cannot be shown to be trustworthy")
        if not self.opinions:
            notes.append("nobody else looked: what a judge says is no evidence about the judge")
        return notes
