"""The pilot: every arm on one train row, every field checked, before anything runs in full."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from itera_nb.arms.callers import Clients, caller_for
from itera_nb.arms.prompt_caller import PromptCaller
from itera_nb.arms.runtime import RunnableArm
from itera_nb.exceptions import Refusal
from itera_nb.experiment import Experiment
from itera_nb.ledger import Record, digest
from itera_nb.metrics import judge as asking
from itera_nb.models.client import Request, max_tokens
from itera_nb.models.prompt import PromptError

from .attempts import Attempt, AttemptLog
from .forecast import (
    ROWS,
    Forecast,
    Range,
    Varying,
    call_range,
    judged_range,
    one_call_range,
    prompt_range,
    varying,
)
from .judging import JUDGE, case_of, judge_of
from .registered import measure_baseline
from .runs import ATTEMPTS, arm_inputs, part_rows, run_part, runnable

if TYPE_CHECKING:
    import pandas as pd

    from itera_nb.spec import ArmSpec

PLACEHOLDERS = frozenset(
    ("", "todo", "tbd", "n/a", "none", "null", "nan", "placeholder", "lorem ipsum", "{}", "[]", "...")
)
STUBS = re.compile(r"<[\w.]+( object)?( \w+)? at 0x[0-9a-f]+>|\[object Object\]", re.IGNORECASE)
"""What a program prints in place of an output: a scorer or judge that sees this sees nothing."""


@dataclass(frozen=True)
class Pilot:
    """One train row in full.

    Attributes:
        row: Its columns.
        table: A line an arm: output, score and figures.
        attempts: Each arm's call.
        requests: What each prompt arm was asked.
        questions: What the judge was asked about each arm, if there is a judge.
        record: The ledger's record of it.
        forecast: What the whole experiment will probably cost; None where a price is unknown.
    """

    row: dict[str, Any]
    table: pd.DataFrame
    attempts: dict[str, Attempt]
    requests: dict[str, Request]
    questions: dict[str, str]
    record: Record
    forecast: Forecast | None


def run_pilot(experiment: Experiment) -> Pilot:
    """Run and check the pilot; a clean one is recorded, and shown again without a new call.

    Raises:
        Refusal: SG10, naming every field that is missing, per arm.
    """
    experiment.require("pilot_passed")
    spec, state = experiment.spec, experiment.state
    rows, genesis = part_rows(experiment, "train"), experiment.genesis
    row = min(rows, key=lambda r: digest([genesis, "pilot", r[spec.source.id]]))
    ready, root = runnable(experiment, spec.arms)
    # Rendering is free: a template that misses a column is found here, before any call.
    asked = {
        arm.name: list(_requests(arm, [row, *rows[:ROWS]])) for arm in ready if arm.spec.kind == "prompt"
    }
    if problems := [p for found in asked.values() for p in found if isinstance(p, str)]:
        _refuse(experiment, problems)
    requests = {name: [r for r in found if isinstance(r, Request)] for name, found in asked.items()}
    ran = run_part(experiment, "train", spec.arms, trials=1, limit=[row[spec.source.id]])
    attempts = {attempt.arm: attempt for attempt in ran.attempts}
    questions = {}
    if spec.judge is not None:
        judge = judge_of(spec, root, genesis=genesis)
        questions = _questions(experiment, judge, row, attempts)
    judge_name = spec.judge.model if spec.judge else None
    labels = (
        {str(r[spec.source.expected]).strip().casefold() for r in rows} if spec.source.expected else set()
    )
    faults = _problems(ran.table, spec.arms, PLACEHOLDERS - labels, _batched(attempts), judge_name)
    if problems := [*faults, *_unseen(questions, attempts)]:
        _refuse(experiment, problems, judged=spec.judge is not None)
    forecast = _forecast(experiment, row, attempts, requests)
    record = state.last("pilot_passed") or experiment.record(
        "pilot_passed", _body(row[spec.source.id], ran.table, forecast)
    )
    first = {name: found[0] for name, found in requests.items()}
    return Pilot(row, ran.table, attempts, first, questions, record, forecast)


def _requests(arm: RunnableArm, rows: Sequence[Mapping[str, Any]]) -> Iterator[Request | str]:
    """What an arm asks about each row, or why its template does not fit one."""
    caller = caller_for(arm, Clients({}))
    assert isinstance(caller, PromptCaller)
    for row in rows:
        try:
            yield caller.request({column: row[column] for column in arm.inputs})
        except PromptError as error:
            yield f"{arm.name}: {arm.spec.prompt} does not fit a train row: {error}"
            return


def _questions(
    experiment: Experiment,
    judge: asking.Judge,
    row: Mapping[str, Any],
    attempts: Mapping[str, Attempt],
) -> dict[str, str]:
    """What the judge is asked about each answered arm; a pairwise one compares with the baseline."""
    spec = experiment.spec
    inputs = arm_inputs(experiment)
    base = attempts[spec.baseline]
    found = {}
    for name, attempt in attempts.items():
        compared = judge.pairwise and (name == spec.baseline or base.status != "ok")
        if attempt.status == "ok" and not compared:
            case = case_of(spec, row, inputs, attempt.output, base.output if judge.pairwise else None)
            found[name] = asking.questions(judge, case)[0].text
    return found


def _refuse(experiment: Experiment, problems: Sequence[str], *, judged: bool = False) -> NoReturn:
    unread = judged and all("the judge" in problem for problem in problems)
    again = "run again: itera run   (the judge is asked again for what it gave no usable reply to)"
    experiment.refuse(
        Refusal(
            "SG10",
            f"the pilot found {len(problems)} problem(s): {'; '.join(problems)}.",
            why="a full run would pay for the same fault on every row.",
            instead=again
            if unread
            else "mend the arm and run again: itera run   (finished calls are not repeated)",
        )
    )


def _batched(attempts: Mapping[str, Attempt]) -> set[str]:
    """Arms whose call was one of a batch, which has no latency: the baseline's, made on train before this."""
    return {n for n, a in attempts.items() if any(u.get("service_tier") == "batch" for u in a.usage)}


def _problems(
    table: pd.DataFrame,
    arms: Mapping[str, ArmSpec],
    placeholders: Container[str],
    batched: Container[str],
    judge: str | None,
) -> Iterator[str]:
    """Fields that are null or placeholders, arm by arm."""
    for line in table.to_dict("records"):
        name, arm = str(line["arm"]), arms[str(line["arm"])]
        if line["status"] != "ok":
            detail = f" ({line['error']})" if line.get("error") else ""
            yield f"{name}: status {line['status']}{detail}"
            continue
        output = str(line["output"] or "").strip('"').strip()
        if output.casefold() in placeholders or STUBS.search(output):
            yield f"{name}: the output is empty or a placeholder"
        if math.isnan(line["score"]):
            why = line["unscored"] or "the scorer gave none"
            whose = f"the judge {judge} gave no score" if judge and line["judged"] else "no score"
            yield f"{name}: {whose} ({why.removeprefix('judge: ')})"
        timeless = name in batched or (arm.kind == "recorded" and arm.latency_ms is None)
        if math.isnan(line["latency_ms"]) and not timeless:
            yield f"{name}: no latency"
        if arm.cost == "free" and line["cost_usd"] != 0:  # it reports a price, or usage of unknown price
            yield f'{name}: cost = "free", but the arm reports model usage: remove cost = "free"'
        elif math.isnan(line["cost_usd"]) and _must_cost(arm):
            how = 'say cost = "free", return Output(..., cost_usd=...), or give prices in prices.toml'
            yield f"{name}: no cost ({how})"
        if arm.kind == "prompt" and not line["output_tokens"]:
            yield f"{name}: no token counts"


def _must_cost(arm: ArmSpec) -> bool:
    """Whether an arm's own cost must be known: a model may be unpriced, a file may lack the column."""
    return arm.kind != "prompt" and not (arm.kind == "recorded" and arm.cost_usd is None)


def _unseen(questions: Mapping[str, str], attempts: Mapping[str, Attempt]) -> Iterator[str]:
    """Arms of whose output the judge would not see all."""
    for name, text in questions.items():
        if asking.shown(attempts[name].output) not in text:
            yield f"{name}: the judge would not see its real output"


def _forecast(
    experiment: Experiment,
    row: Mapping[str, Any],
    attempts: Mapping[str, Attempt],
    requests: Mapping[str, Sequence[Request]],
) -> Forecast | None:
    """USD of the whole experiment: each arm's row cost times its rows and trials, the judge's with them."""
    spec, sealed = experiment.spec, experiment.state.the("sealed")
    known = _baseline(experiment, str(row[spec.source.id]))
    rows = {name: _row_range(experiment, attempts[name], requests.get(name), known) for name in spec.arms}
    if any(found is None for found in rows.values()):
        return None
    counts, total = sealed.body["counts"], Range(0.0, 0.0, 0.0)
    for name, found in rows.items():
        assert found is not None
        train = spec.trials if name == spec.baseline else 1
        total = total.plus(
            found.times(counts["train"] * train + spec.trials * (counts["dev"] + counts["test"]))
        )
    per_row = sum(found.usd for found in rows.values() if found is not None)
    per_row *= spec.trials
    if spec.judge is not None:
        call = call_range(_judge_costs(experiment))
        if call is None:
            return None
        fresh, pairwise, others = _fresh(experiment), spec.metric.pairwise, len(spec.arms) - 1
        # On train the others have one trial; for preferences the baseline was compared with itself there.
        here = [spec.trials, *[1] * (others + pairwise)]
        judged = judged_range(call, [spec.trials] * (1 + others), pairwise=pairwise, fresh=fresh)
        total = total.plus(judged_range(call, here, pairwise=pairwise, fresh=fresh).times(counts["train"]))
        total = total.plus(judged.times(counts["dev"] + counts["test"]))
        per_row += judged.usd
    return None if math.isnan(total.high) else Forecast(total, per_row)


def _judge_costs(experiment: Experiment) -> list[float]:
    """USD of every call of the judge so far: on the baseline's train rows, and on the pilot's."""
    with AttemptLog(experiment.path(ATTEMPTS)) as log:
        made = [attempt for attempt in log.finished if attempt.arm == JUDGE]
    return [math.nan if attempt.cost_usd is None else attempt.cost_usd for attempt in made]


def _fresh(experiment: Experiment) -> float | None:
    """The share of the baseline's repeated outputs on train that said something new; None with one trial."""
    table, trials = measure_baseline(experiment).results, experiment.spec.trials
    answered = table[table["status"] == "ok"]
    if trials < 2 or answered.empty:
        return None
    repeated = len(answered) - answered["id"].nunique()
    return float((answered.groupby("id")["output"].nunique() - 1).sum() / repeated) if repeated else None


def _row_range(
    experiment: Experiment, attempt: Attempt, requests: Sequence[Request] | None, known: Varying | None
) -> Range | None:
    spec, arm = experiment.spec, experiment.spec.arms[attempt.arm]
    if arm.cost == "free":
        return Range(0.0, 0.0, 0.0)
    if attempt.arm == spec.baseline and known is not None:
        return known.row
    if requests is None:
        return None if attempt.cost_usd is None else one_call_range(attempt.cost_usd)
    own, *others = (_size(request) for request in requests)
    same_kind = known if spec.arms[spec.baseline].kind == "prompt" else None
    most = max_tokens(arm.params)
    batch, models = spec.run.batch, spec.models
    return prompt_range(attempt, others, own, most, same_kind, batch=batch, models=models)


def _baseline(experiment: Experiment, pilot_row: str) -> Varying | None:
    """How the baseline's calls on train vary; they were made before the metric was locked."""
    table = measure_baseline(experiment).results
    here = table.loc[table["id"] == pilot_row, "output_tokens"].mean()
    costs = table.groupby("id")["cost_usd"].agg(lambda row: row.mean(skipna=False))
    return varying(costs.tolist(), table["output_tokens"].tolist(), float(here))


def _size(request: Request) -> int:
    """Characters of everything that a model reads."""
    read = [list(request.messages), request.system, list(request.tools), request.schema]
    return len(json.dumps(read, ensure_ascii=False, default=str))


def _body(row_id: object, table: pd.DataFrame, forecast: Forecast | None) -> dict[str, Any]:
    """What the ledger keeps: figures, no text of the row and no output."""
    arms = {
        str(line["arm"]): {
            "status": line["status"],
            "score": line["score"],
            "cost_usd": _known(line["cost_usd"]),
            "latency_ms": _known(line["latency_ms"]),
            "input_tokens": int(line["input_tokens"]),
            "output_tokens": int(line["output_tokens"]),
        }
        for line in table.to_dict("records")
    }
    price = forecast and asdict(forecast.total) | {"row_usd": forecast.row_usd}
    return {"row": str(row_id), "arms": arms, "forecast": price}


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
