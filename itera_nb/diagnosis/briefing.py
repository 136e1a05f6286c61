"""What a proposer is told, gathered from the record: dev as figures only, train in full."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from itera_nb.diagnosis.clusters import find_clusters
from itera_nb.diagnosis.edits import parent_of
from itera_nb.diagnosis.loop import results
from itera_nb.diagnosis.proposer import Briefing, Finding, Parent, Tried
from itera_nb.diagnosis.sprint import arm_spec, line_heads
from itera_nb.experiment import Experiment
from itera_nb.scoring.registered import score_registered
from itera_nb.scoring.runs import arm_inputs, part_rows
from itera_nb.spec import Spec

MOST_TRAIN_CHARACTERS = 60_000
MOST_VALUES = 50


def brief(experiment: Experiment, told: str = "") -> Briefing:
    """All that a proposer sees now; `told` is why its last answer was refused."""
    spec, state = experiment.spec, experiment.state
    scored = state.scored("dev")
    assert scored is not None
    heads = [_parent(experiment, head) for head in line_heads(spec, state).values()]
    return Briefing(
        frame=_frame(spec),
        parents=tuple(parent for parent in heads if parent.components),
        columns=_columns(experiment),
        train=_train(experiment),
        means={arm: float(figures["mean"]) for arm, figures in scored.body["arms"].items()},
        findings=tuple(
            Finding(c.arm, f"{c.by}: {c.name}", c.n, c.effect.estimate, c.effect.low, c.effect.high)
            for c in find_clusters(experiment).found
        ),
        history=_history(experiment),
        told=told,
    )


def _parent(experiment: Experiment, name: str) -> Parent:
    """The replaceable components of an arm or iteration."""
    return parent_of(experiment.folder, name, arm_spec(experiment.spec, experiment.state, name))


def _frame(spec: Spec) -> str:
    goal = "no worse than" if spec.rule.goal == "no_worse" else "better than"
    return f"""\
Question: {spec.frame.question}
Registered hypothesis: {spec.frame.hypothesis}
Baseline: {spec.baseline}. Candidates: {", ".join(spec.candidates)}.
Scorer: {spec.metric.scorer}.
Rule: {goal} the baseline by {spec.rule.min_effect}; no slice may lose more than \
{100 * spec.rule.max_slice_loss:g} pp."""


def _columns(experiment: Experiment) -> dict[str, tuple[str, ...]]:
    """Slices, strata and the label: by what rows may be predicted, with their values on train."""
    spec, rows = experiment.spec, part_rows(experiment, "train")
    named = [*spec.source.slices, *spec.split.stratify, spec.source.expected]
    columns = {str(c): sorted({str(row[c]) for row in rows}) for c in named if c and rows and c in rows[0]}
    return {c: tuple(values) for c, values in columns.items() if len(values) <= MOST_VALUES}


def _train(experiment: Experiment) -> tuple[Mapping[str, Any], ...]:
    """Train rows with what each arm answered, those with the lowest scores first, to a bounded size."""
    spec, rows = experiment.spec, part_rows(experiment, "train")
    found: dict[str, dict[str, Any]] = {}
    lowest: dict[str, float] = {}
    if experiment.state.scored("train"):
        table = score_registered(experiment, "train").results
        for line in table[table["trial"] == 0].to_dict("records"):
            id_, score = str(line["id"]), float(line["score"])
            found.setdefault(id_, {})[str(line["arm"])] = {"output": line["output"], "score": score}
            lowest[id_] = min(lowest.get(id_, 1.0), score)
    shown = {*arm_inputs(experiment), *spec.source.slices, spec.source.expected}
    kept, size = [], 0
    for row in sorted(rows, key=lambda row: lowest.get(str(row[spec.source.id]), 1.0)):
        entry = {c: v for c, v in row.items() if c in shown}
        entry["answers"] = found.get(str(row[spec.source.id]), {})
        size += len(json.dumps(entry, default=str))
        if size > MOST_TRAIN_CHARACTERS:
            break
        kept.append(entry)
    return tuple(kept)


def _history(experiment: Experiment) -> tuple[Tried, ...]:
    judged = {c["id"]: c for gate in experiment.state.all("gate") for c in gate.body["changes"]}
    tried = []
    for found in results(experiment):
        body = found.record.body
        change = judged.get(body["id"], {})
        tried.append(
            Tried(
                id=body["id"],
                parent=body["parent"],
                what=body["what"],
                hypothesis=body["hypothesis"],
                predicted_effect=body["predicted_effect"],
                effect=found.effect.estimate,
                outcome=found.outcome,
                class_=change.get("class"),
                kept=bool(change.get("kept")),
            )
        )
    return tuple(tried)
