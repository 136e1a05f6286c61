"""What the sealed pass may still cost: a pass that has to stop in the middle helps nobody."""

from __future__ import annotations

from itera_nb.exceptions import Refusal
from itera_nb.experiment import Experiment
from itera_nb.scoring.attempts import AttemptLog, Codec
from itera_nb.verdict.promises import batch_suffix


def money_left(experiment: Experiment, codec: Codec | None = None) -> float | None:
    """USD that the coming pass may cost; None where no budget is registered or a person has lifted it.

    What counts as spent are the attempts on train and dev and those of an earlier batch, read with `codec`.
    """
    state, budget = experiment.state, experiment.spec.run.budget_usd
    locked, lifted = state.last("locked"), state.answer("budget")
    if budget is None or (lifted is not None and locked is not None and lifted.seq > locked.seq):
        return None
    spent = _spent(experiment, "runs/attempts.jsonl", None)
    for number in range(1, len(state.batches)):
        spent += _spent(experiment, f"sealed/attempts{batch_suffix(number)}.age", codec)
    return max(budget - spent, 0.0)


def require_money(experiment: Experiment, left: float | None) -> None:
    """Ask before the test set is opened where dev's prices say that the pass will cross the budget.

    Raises:
        Refusal: Nobody has accepted that since the arms were locked.
    """
    foreseen = _foreseen(experiment)
    if left is None or foreseen <= left:
        return
    experiment.refuse(
        Refusal(
            "budget",
            f"the test rows will cost about ${foreseen:,.2f}, and ${left:,.2f} of budget_usd is left.",
            why="the test set opens once, and a pass that stops at the budget decides nothing.",
            instead='lift the budget for the pass, with a reason: itera run --accept budget="why"',
            asks=True,
        )
    )


def _spent(experiment: Experiment, file: str, codec: Codec | None) -> float:
    path = experiment.path(*file.split("/"))
    if not path.is_file():
        return _recorded(experiment) if codec is None else 0.0
    with AttemptLog(path, codec) as log:
        return log.totals.cost_usd


def _recorded(experiment: Experiment) -> float:
    """USD of all recorded scores: what a custodian's clone knows, where the log of attempts is not."""
    bodies = [scored.body for scored in experiment.state.all("scored")]
    arms = [arm for body in bodies for arm in body["arms"].values()]
    judges = [body.get("judge") or {} for body in bodies]
    return float(sum(one.get("cost_usd") or 0.0 for one in (*arms, *judges)))


def _foreseen(experiment: Experiment) -> float:
    """USD of the coming pass at dev's mean prices, a judge's included; what is unknown counts nothing."""
    dev, locked = experiment.state.scored("dev"), experiment.state.last("locked")
    if dev is None or locked is None:
        return 0.0
    batch, total = experiment.state.batches[-1].body, 0.0
    rows = int(batch["count"] if "count" in batch else batch["counts"]["test"])
    for line in locked.body["lines"]:
        arms = dev.body["arms"]
        known = arms.get(line["head"], arms.get(line["arm"], {})).get("cost_per_1k_usd")
        total += (known or 0.0) / 1000 * rows * int(line["trials"])
    judge = dev.body.get("judge") or {}
    return total + float(judge.get("cost_usd") or 0.0) / int(dev.body["n"]) * rows
