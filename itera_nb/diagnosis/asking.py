"""One question to a registered model, whose answer fits a JSON schema.

A call is a unit of the scoring engine: its answer is recorded before it is used, an interrupted run reads it
back and does not pay for it twice, and the budget stops before the call that could cross it.
"""

from __future__ import annotations

from pathlib import Path

from itera_nb.arms.runtime import RunnableArm
from itera_nb.experiment import Experiment
from itera_nb.scoring import keys
from itera_nb.scoring.attempts import Attempt, AttemptLog
from itera_nb.spec import ArmSpec

TIMEOUT_S = 600.0
QUESTIONS = Path(__file__).parent / "questions"


def ask(
    experiment: Experiment,
    who: str,
    model: str,
    system: str,
    text: str,
    *,
    schema: str,
    max_tokens: int,
    log: str,
    budget_usd: float | None,
    turn: str = "",
) -> Attempt:
    """What a model answers in the form of `schema`, a file of `questions/`; `log` is a path in the folder.

    `who` names the calls in the log, as no arm can be named; another `turn` is another call of one question;
    `budget_usd` is of all calls in this log.

    Raises:
        BudgetReachedError: The call could cross the budget; it was not made.
        StoppedError: No call would succeed: key, credit or model.
    """
    from itera_nb.scoring.engine import RowGroup, run

    spec = experiment.spec
    arm = ArmSpec(
        kind="prompt",
        prompt="question.md",
        system="{{system}}",
        model=model,
        params={"max_tokens": max_tokens},
        parse={"schema": schema},
    )
    files = {name: keys.path_digest(QUESTIONS / name) for name in ("question.md", schema)}
    identity = keys.digest({"model": model, "params": arm.params, "files": files})
    row = {"id": keys.digest([system, text])[:16], "system": system, "text": text}
    with AttemptLog(experiment.path(log)) as attempts:
        return run(
            [RunnableArm(who, arm, QUESTIONS, identity, ("system", "text"), models=spec.models)],
            [RowGroup([row])],
            log=attempts,
            settings=spec.run.model_copy(update={"batch": False, "timeout_s": TIMEOUT_S}),
            models=spec.models,
            namespace=turn,
            budget_usd=budget_usd,
        )[0]
