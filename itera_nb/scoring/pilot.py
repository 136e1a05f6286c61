"""The pilot: every arm on one train row, every field checked, before anything runs in full."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from itera_nb.exceptions import Refusal
from itera_nb.experiment import Experiment
from itera_nb.ledger import Record, digest
from itera_nb.scoring.runs import part_rows, run_part

if TYPE_CHECKING:
    import pandas as pd

PLACEHOLDERS = {"", "todo", "tbd", "n/a", "none", "null", "nan", "placeholder", "lorem ipsum"}


@dataclass(frozen=True)
class Pilot:
    """One train row in full: its inputs, and per arm the output and its figures."""

    row: dict[str, Any]
    table: pd.DataFrame
    record: Record
    planned_usd: float | None


def run_pilot(experiment: Experiment) -> Pilot:
    """Run and check the pilot; a clean one is recorded, and shown again without a new call.

    Raises:
        Refusal: SG10, naming every field that is missing, per arm.
    """
    experiment.require("pilot_passed")
    spec, state = experiment.spec, experiment.state
    rows, genesis = part_rows(experiment, "train"), experiment.genesis
    row = min(rows, key=lambda r: digest([genesis, "pilot", r[spec.source.id]]))
    table = run_part(experiment, "train", spec.arms, trials=1, limit=[row[spec.source.id]])
    if problems := _problems(table, spec.arms):
        experiment.refuse(
            Refusal(
                "SG10",
                f"the pilot found {len(problems)} problem(s): {'; '.join(problems)}.",
                why="a full run would pay for the same fault on every row.",
                instead="mend the arm and run again: itera run   (finished calls are not repeated)",
            )
        )
    record = state.last("pilot_passed")
    if record is None:
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
        record = experiment.record("pilot_passed", {"row": str(row[spec.source.id]), "arms": arms})
    return Pilot(row, table, record, _planned(experiment, table))


def _problems(table: pd.DataFrame, arms: Mapping[str, Any]) -> list[str]:
    found = []
    for line in table.to_dict("records"):
        name = str(line["arm"])
        if line["status"] != "ok":
            detail = f" ({line['error']})" if line.get("error") else ""
            found.append(f"{name}: status {line['status']}{detail}")
            continue
        output = str(line["output"] or "").strip('"').strip().casefold()
        if output in PLACEHOLDERS:
            found.append(f"{name}: the output is empty or a placeholder")
        if math.isnan(line["score"]):
            found.append(f"{name}: no score ({line['unscored'] or 'the scorer gave none'})")
        if math.isnan(line["latency_ms"]):
            found.append(f"{name}: no latency")
        if math.isnan(line["cost_usd"]) and arms[name].kind != "prompt":
            found.append(f'{name}: no cost (say cost = "free", or return Output(..., cost_usd=...))')
        if arms[name].kind == "prompt" and not line["output_tokens"]:
            found.append(f"{name}: no token counts")
    return found


def _planned(experiment: Experiment, table: pd.DataFrame) -> float | None:
    """USD that train, dev and test will cost at the pilot row's prices; None where a price is unknown."""
    spec, sealed = experiment.spec, experiment.state.last("sealed")
    if sealed is None or table["cost_usd"].isna().any():
        return None
    counts = sealed.body["counts"]
    units: int = counts["train"] + spec.trials * (counts["dev"] + counts["test"])
    return float(table["cost_usd"].sum()) * units


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
