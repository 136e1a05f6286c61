"""Screening: any number of arms on train only, so that at most three are chosen before dev is looked at."""

from __future__ import annotations

from dataclasses import dataclass

from itera_nb.exceptions import IteraError
from itera_nb.experiment import Experiment
from itera_nb.ledger import Record
from itera_nb.scoring.forecast import require_budget
from itera_nb.scoring.registered import registered_modes
from itera_nb.scoring.runs import evidence_of, run_part, summarise
from itera_nb.stats.paired import paired_delta


@dataclass(frozen=True, slots=True)
class Screened:
    """An arm on train: its mean, and its 95 % interval (fractions; of a preference from -1 to 1)."""

    arm: str
    registered: bool
    mean: float
    low: float
    high: float


def screen(experiment: Experiment) -> tuple[list[Screened], Record]:
    """Score the arms of [screen] beside the registered ones on train, in one trial; finished rows are reused.

    Returns:
        The arms in the order of the file, never by score; and the `screened` record, whose arms the page
        counts. The same arms screened again are not recorded again.

    Raises:
        Refusal: The metric is not locked yet, or the arms are.
        IteraError: There is no [screen].
    """
    experiment.require("screened")
    spec = experiment.spec
    if not spec.screen:
        raise IteraError(
            "there is nothing to screen",
            fix='write the arms as [screen.NAME], for example with from = "an arm of [arms]"',
        )
    require_budget(experiment)
    arms = spec.arms | spec.screen
    ran = run_part(experiment, "train", arms, trials=1)
    evidence = evidence_of(experiment, ran.table, "train", registered_modes(experiment))
    figures = summarise(ran.table, evidence)
    body = {"n": figures["n"], "arms": {arm: figures["arms"][arm]["mean"] for arm in arms}}
    record = experiment.state.last("screened")
    if record is None or record.body != body:
        record = experiment.record("screened", body)
    described = evidence.complete(*arms)
    found = []
    for arm in arms:
        around = paired_delta(described.scores[arm][:, 0], described.cluster, graded=evidence.graded)
        found.append(Screened(arm, arm in spec.arms, body["arms"][arm], around.low, around.high))
    return found, record
