"""A second judge beside the verdict: its labels on a sample of rows, and whether they change the decision."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from itera_nb.scoring.evidence import Evidence
from itera_nb.scoring.judge_check import SECOND, opinions, replaced
from itera_nb.stats.second_opinion import SecondOpinion
from itera_nb.verdict.record import ArmRecord, SecondOpinionRecord

if TYPE_CHECKING:
    import pandas as pd

    from itera_nb.spec import Spec

_DECIDED = {"ship", "scope", "kill"}


@dataclass(frozen=True, slots=True)
class SecondJudge:
    """Another judge's labels of some rows.

    Attributes:
        by: The model as `vendor/name`, or "human".
        evidence: The evidence with its labels where there are any.
        opinions: Arm -> how far it agrees.
    """

    by: str
    evidence: Evidence
    opinions: Mapping[str, SecondOpinion]

    def beside(self, one: ArmRecord, other: ArmRecord) -> ArmRecord:
        """The record of the judge's own labels; inconclusive where the second judge's decide otherwise.

        Args:
            one: By the judge's labels.
            other: By the second judge's, where there are any.
        """
        flipped = one.outcome != other.outcome
        plain = opinion_record(self.by, self.opinions[one.arm])
        found = dataclasses.replace(plain, outcome=other.outcome, flipped=flipped)
        if not flipped or one.outcome not in _DECIDED:
            return dataclasses.replace(one, second_opinion=found)
        text = (
            f"By the judge's labels {one.outcome}, but {other.outcome} where {found.rows} rows carry those "
            f"of {self.by}: the decision rests on who judges."
        )
        return dataclasses.replace(
            one, outcome="inconclusive", reason="second_judge", sentence=text, second_opinion=found
        )


def second_judge(by: str, evidence: Evidence, results: pd.DataFrame, spec: Spec) -> SecondJudge | None:
    """The second judge of a results table; None where it holds no label of one."""
    if SECOND not in results or not results[SECOND].notna().any():
        return None
    return SecondJudge(by, replaced(evidence, results), opinions(results, spec))


def opinion_record(by: str, opinion: SecondOpinion) -> SecondOpinionRecord:
    """An opinion as plain values."""
    ac1, direction = opinion.ac1, opinion.direction
    return SecondOpinionRecord(
        by=by,
        rows=opinion.rows,
        raw=_known(opinion.raw),
        ac1=ac1.value if ac1 else None,
        ac1_low=ac1.low if ac1 else None,
        ac1_high=ac1.high if ac1 else None,
        kappa=_known(opinion.kappa),
        alpha=opinion.alpha,
        agreeing=direction.agreeing if direction else None,
        discordant=direction.rows if direction else 0,
        direction_low=direction.low if direction else None,
        rule_of_thumb=direction.rule_of_thumb if direction else None,
        level=opinion.level,
    )


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
