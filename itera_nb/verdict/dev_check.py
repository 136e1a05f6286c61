"""The check of a judge on dev: another model's labels or a person's ratings, and what they would change."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from itera_nb.diagnosis.reveal import reveal
from itera_nb.exceptions import IteraError
from itera_nb.experiment import Experiment
from itera_nb.scoring.judge_check import (
    HUMAN,
    NONE,
    SECOND,
    TRIAL,
    Asked,
    ask_model,
    choose,
    labels,
    rated,
    rating_items,
    rng_of,
    with_labels,
)
from itera_nb.scoring.ratings import Item, from_csv, to_csv
from itera_nb.scoring.registered import registered_modes, score_registered
from itera_nb.scoring.runs import arm_inputs, evidence_of, judge_at_work, part_rows
from itera_nb.verdict.record import SecondOpinionRecord
from itera_nb.verdict.rule import evaluate
from itera_nb.verdict.second_opinion import second_judge

if TYPE_CHECKING:
    import pandas as pd

    from itera_nb.ledger import Record
    from itera_nb.spec import JudgeSpec

LABELS, SHEET = "runs/judge-check.parquet", "runs/ratings.csv"
_WORST = ("restart", "unclear", "trusted")


@dataclass(frozen=True, slots=True)
class JudgeCheck:
    """Where the check stands.

    Attributes:
        second: Who is asked: a model as `vendor/name`, "human" or "none".
        arms: Candidate -> agreement, and the dev outcome with the second opinion's labels.
        level: The worst of the arms' levels; None while there is nothing to compare.
        labels: Labels asked for, and how many there are; a person's are ratings, equal outputs merged.
        record: The ledger's record; None while a person's ratings are open, and without a second opinion.
    """

    second: str
    arms: dict[str, SecondOpinionRecord] = field(default_factory=dict)
    level: str | None = None
    labels: tuple[int, int] = (0, 0)
    record: Record | None = None


@dataclass(frozen=True, slots=True)
class Worksheet:
    """A person's questions in their order, and the ratings given so far, by code."""

    items: list[Item]
    said: dict[str, str]
    asked: list[Asked]

    @property
    def open(self) -> list[Item]:
        """What is not rated yet."""
        return [item for item in self.items if item.code not in self.said]


def check_judge(experiment: Experiment) -> JudgeCheck:
    """Ask the registered second opinion about sampled dev rows and record how far it agrees.

    A finished check is read back. With `second = "human"` a worksheet is written first; it is recorded when
    every output has a rating.

    Raises:
        Refusal: SG10, before dev is scored.
        StoppedError: Credentials, budget or an interrupt ended the second judge's calls.
        DataError: The worksheet cannot be read.
    """
    judge = _judge(experiment)
    done = experiment.state.last("judge_checked")
    if done is not None:
        arms = {arm: SecondOpinionRecord(**found) for arm, found in done.body["arms"].items()}
        count = (int(done.body["asked"]), int(done.body["answered"]))
        return JudgeCheck(done.body["second"], arms, done.body["level"], count, done)
    if judge.second == NONE or experiment.state.has("test_opened"):
        return JudgeCheck(judge.second)  # too late is no refusal: it is printed
    experiment.require("judge_checked")
    results = score_registered(experiment, "dev").results
    if judge.second == HUMAN:
        sheet = worksheet(experiment)
        given = rated(sheet.asked, sheet.said, experiment.genesis, judge.scale)
        found = labels(sheet.asked, given)
        done_of = (len(sheet.items), len(sheet.items) - len(sheet.open))
        return _finish(experiment, results, found, done_of, complete=not sheet.open)
    asked = _asked(experiment, results)
    with judge_at_work(experiment) as (_, panel):
        assert panel is not None
        found = labels(asked, ask_model(asked, panel, judge.second))
    return _finish(experiment, results, found, (len(found), int(found[SECOND].notna().sum())), complete=True)


def worksheet(experiment: Experiment) -> Worksheet:
    """A person's worksheet, written where there is none; its rows count as read from then on.

    Raises:
        Refusal: SG10, before dev is scored; SG02, once the test set was opened.
        DataError: The file cannot be read, or is of other outputs.
    """
    judge = _judge(experiment)
    if judge.second != HUMAN:
        raise IteraError(
            f"[judge] second is {judge.second!r}: no person is asked",
            fix='register second = "human" before the metric is locked',
        )
    experiment.require("judge_checked")
    asked = _asked(experiment, score_registered(experiment, "dev").results)
    items = rating_items(asked, experiment.genesis)
    path = experiment.path(SHEET)
    if not path.is_file():
        reveal(experiment, sorted({one.row_id for one in asked}), "rated blind by a person")
        experiment.write_text(SHEET, to_csv(items))
    return Worksheet(items, from_csv(path.read_bytes(), items, judge.scale), asked)


def save(experiment: Experiment, sheet: Worksheet) -> None:
    """Write the worksheet with its ratings."""
    experiment.write_text(SHEET, to_csv(sheet.items, sheet.said))


def _judge(experiment: Experiment) -> JudgeSpec:
    judge = experiment.spec.judge
    if judge is None:
        raise IteraError(
            "no judge to check: the metric is deterministic", fix="audit a judge: itera judge-check"
        )
    return judge


def _asked(experiment: Experiment, results: pd.DataFrame) -> list[Asked]:
    first = results[(results["trial"] == TRIAL) & (results["status"] == "ok")]
    outputs = {
        (str(row), str(arm)): json.loads(output)
        for row, arm, output in zip(first["id"], first["arm"], first["output"], strict=True)
    }
    return choose(
        results,
        outputs,
        part_rows(experiment, "dev"),
        experiment.spec,
        inputs=arm_inputs(experiment),
        genesis=experiment.genesis,
        part="dev",
    )


def _finish(
    experiment: Experiment,
    results: pd.DataFrame,
    found: pd.DataFrame,
    count: tuple[int, int],
    *,
    complete: bool,
) -> JudgeCheck:
    judge = _judge(experiment)
    arms = _compared(experiment, with_labels(results, found), judge.second)
    level = min((a.level for a in arms.values()), key=_WORST.index, default=None)
    if not complete:
        return JudgeCheck(judge.second, arms, level, count)
    body: dict[str, Any] = {
        "rows": "dev",
        "second": judge.second,
        "judge": judge.model,
        "asked": count[0],
        "answered": count[1],
        "level": level,
        "arms": {arm: asdict(figures) for arm, figures in arms.items()},
        "file": LABELS,
        "sha256": experiment.write_frame(LABELS, found),
    }
    return JudgeCheck(judge.second, arms, level, count, experiment.record("judge_checked", body))


def _compared(experiment: Experiment, results: pd.DataFrame, by: str) -> dict[str, SecondOpinionRecord]:
    """Agreement per candidate, and whether the rule, put to these dev rows, would say something else."""
    spec, modes = experiment.spec, registered_modes(experiment)
    evidence = evidence_of(experiment, results, "dev", modes)
    second = second_judge(by, evidence, results, spec)
    if second is None:
        return {}
    said = evaluate(spec, evidence, modes, {}, rng_of(experiment.genesis, "bootstrap"), second=second)
    return {r.arm: r.second_opinion for r in said.records if r.second_opinion is not None}
