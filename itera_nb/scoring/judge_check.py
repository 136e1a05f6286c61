"""Asking a second opinion about a judge's work: which outputs, and what it says beside the judge.

The second opinion is another model with the same rubric, or a person. Both are asked blind, about the first
trial of the same sampled rows, the arms side by side. A label is a score of one output (0 to 1), or of a
pairwise metric the preference for the arm over the baseline (-1 to 1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from itera_nb._typing import JSON, Row
from itera_nb.ledger import digest
from itera_nb.metrics.judge import Case
from itera_nb.scoring.evidence import Evidence, Floats
from itera_nb.scoring.judging import Panel, case_of, judge_rows
from itera_nb.scoring.ratings import Item, value_of
from itera_nb.stats.second_opinion import SecondOpinion, draw_sample, paired_opinion

if TYPE_CHECKING:
    import pandas as pd

    from itera_nb.spec import Spec

TRIAL = 0
SECOND, WEIGHT = "second", "second_weight"
HUMAN, NONE = "human", "none"
_SAME = 1e-9


@dataclass(frozen=True, slots=True)
class Asked:
    """One question to the second opinion.

    Args:
        row_id: The row's id.
        arm: Whose output is rated; it is never shown.
        case: What is shown.
        weight: How many rows the row stands for.
    """

    row_id: str
    arm: str
    case: Case
    weight: float


def rng_of(genesis: str, *purpose: str) -> np.random.Generator:
    """Randomness that the registration fixes: nobody can choose another sample."""
    return np.random.default_rng(int(digest([genesis, "judge check", *purpose])[:16], 16))


def second_model(spec: Spec) -> str | None:
    """The registered second model as `vendor/name`; None where a person or nobody is asked."""
    second = spec.judge.second if spec.judge else NONE
    return None if second in {HUMAN, NONE} else second


def choose(
    results: pd.DataFrame,
    outputs: Mapping[tuple[str, str], JSON],
    rows: Sequence[Row],
    spec: Spec,
    *,
    inputs: Sequence[str],
    genesis: str,
    part: str,
) -> list[Asked]:
    """What to ask: all rows on which the judge prefers one arm first, then random others, in random order.

    Args:
        results: One line per row, arm and trial with columns id, arm, trial, status, score.
        outputs: (row id, arm) -> the output of the first trial.
        rows: The rows with all their columns.
        spec: The registered experiment, with its `[judge]`.
        inputs: The columns that are shown.
        genesis: The experiment's id, which decides the draw, as does `part` ("dev", "test" ...).
        part: Whose rows these are.
    """
    assert spec.judge is not None
    arms = (spec.baseline, *(a for a in spec.candidates if (results["arm"] == a).any()))
    by_id = {str(row[spec.source.id]): row for row in rows}
    ids = list(by_id)
    first = {arm: _first(results, arm, ids) for arm in arms}
    base = first[spec.baseline]
    d = np.stack([first[arm] - base for arm in arms[1:]])
    usable = np.isfinite(d).any(axis=0)
    discordant = (np.abs(np.nan_to_num(d)) > _SAME).any(axis=0)
    sample = draw_sample(discordant, spec.judge.rows, rng_of(genesis, part), usable=usable)
    rated = arms[1:] if spec.metric.pairwise else arms

    def case(row_id: str, arm: str) -> Case:
        other = outputs[row_id, spec.baseline] if spec.metric.pairwise else None
        return case_of(spec, by_id[row_id], inputs, outputs[row_id, arm], other)

    return [
        Asked(ids[i], arm, case(ids[i], arm), float(weight))
        for i, weight in zip(sample.index, sample.weight, strict=True)
        for arm in rated
        if math.isfinite(first[arm][i])
    ]


def _first(results: pd.DataFrame, arm: str, ids: list[str]) -> Floats:
    """The judge's scores of an arm's first trial; NaN where it gave none, or had no output to look at."""
    own = results[(results["arm"] == arm) & (results["trial"] == TRIAL) & (results["status"] == "ok")]
    scores: Floats = own.set_index("id")["score"].reindex(ids).to_numpy(dtype=np.float64)
    return scores


def ask_model(asked: Sequence[Asked], panel: Panel, model: str) -> list[float]:
    """The labels of another model with the same rubric, NaN where it gave no usable reply.

    Raises:
        StoppedError: Credentials, budget or an interrupt ended the calls; what is recorded is kept.
    """
    judge = replace(panel.judge, model=model, params={}, modes=())
    found = judge_rows([one.case for one in asked], replace(panel, judge=judge))
    return [judgement.value for judgement in found]


def labels(asked: Sequence[Asked], second: Sequence[float]) -> pd.DataFrame:
    """The second opinion's labels: columns id, arm, trial, second (NaN for none), second_weight."""
    import pandas as pd

    lines = [
        {"id": one.row_id, "arm": one.arm, "trial": TRIAL, SECOND: label, WEIGHT: one.weight}
        for one, label in zip(asked, second, strict=True)
    ]
    return pd.DataFrame(lines, columns=["id", "arm", "trial", SECOND, WEIGHT])


def with_labels(results: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """A results table with the second opinion's columns; NaN where it was not asked."""
    return results.merge(found, on=["id", "arm", "trial"], how="left", validate="one_to_one")


def opinions(results: pd.DataFrame, spec: Spec) -> dict[str, SecondOpinion]:
    """Per candidate, how far the second opinion agrees on what it was asked about (`with_labels`)."""
    asked = results[results[WEIGHT].notna()]
    score, second, weight = (
        asked.pivot_table(index="id", columns="arm", values=column, dropna=False)
        for column in ("score", SECOND, WEIGHT)
    )
    found: dict[str, SecondOpinion] = {}
    for arm in (a for a in spec.candidates if a in score.columns):
        base = None if spec.metric.pairwise else spec.baseline
        found[arm] = paired_opinion(
            _difference(score, arm, base), _difference(second, arm, base), _floats(weight.max(axis=1))
        )
    return found


def _difference(labels_: pd.DataFrame, arm: str, base: str | None) -> Floats:
    own = _floats(labels_[arm])
    return own if base is None else own - _floats(labels_[base])


def _floats(column: pd.Series[float]) -> Floats:
    found: Floats = np.asarray(column, dtype=np.float64)
    return found


def replaced(evidence: Evidence, results: pd.DataFrame) -> Evidence:
    """The evidence with the second opinion's label, where there is one, as score of all trials of the row."""
    scores = {arm: values.copy() for arm, values in evidence.scores.items()}
    place = {row: i for i, row in enumerate(evidence.ids)}
    known = results[results[SECOND].notna()]
    for row, arm, label in zip(known["id"], known["arm"], known[SECOND], strict=True):
        scores[str(arm)][place[str(row)]] = label
    return replace(evidence, scores=scores)


def rating_items(asked: Sequence[Asked], genesis: str) -> list[Item]:
    """The questions to a person, in an order of their own; equal outputs of a row are one question.

    Of a comparison the sides are shuffled: A may be the arm's output or the baseline's.
    """
    found = {item.code: item for item in (_item(one, genesis)[0] for one in asked)}
    items = [found[code] for code in sorted(found)]
    return [items[i] for i in rng_of(genesis, "ratings").permutation(len(items))]


def rated(asked: Sequence[Asked], said: Mapping[str, str], genesis: str, scale: int) -> list[float]:
    """A person's labels of what was asked, NaN where there is none."""
    found = []
    for one in asked:
        item, swapped = _item(one, genesis)
        value = value_of(said.get(item.code, "?"), scale, pairwise=item.pairwise)
        found.append(math.nan if value is None else -value if swapped else value)
    return found


def _item(one: Asked, genesis: str) -> tuple[Item, bool]:
    case = one.case
    outputs = [_shown(case.output), *([_shown(case.other)] if case.other is not None else [])]
    code = digest([genesis, "rating", one.row_id, *outputs])[:10]
    swapped = len(outputs) == 2 and int(code, 16) % 2 == 1
    return Item(code, case.inputs, tuple(outputs[::-1] if swapped else outputs), case.expected), swapped


def _shown(output: JSON) -> str:
    import json

    return output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
