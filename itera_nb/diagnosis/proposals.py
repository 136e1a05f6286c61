"""What a proposer is told, and how its answer becomes an iteration: dev in figures only, train in full.

A registered arm's own files are never touched: what replaces one stands beside it under a name of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import tomlkit

from itera_nb.arms.manifest import inside
from itera_nb.diagnosis import sprint
from itera_nb.diagnosis.clusters import find_clusters
from itera_nb.diagnosis.literals import decoded
from itera_nb.diagnosis.loop import results
from itera_nb.diagnosis.proposer import (
    Answer,
    Briefing,
    Finding,
    Parent,
    Proposal,
    ProposalError,
    Proposer,
    Replacement,
    Tried,
)
from itera_nb.exceptions import ArmError, DataError, Refusal, SpecError
from itera_nb.experiment import Experiment
from itera_nb.scoring.registered import score_registered
from itera_nb.scoring.runs import arm_inputs, part_rows
from itera_nb.spec import ArmSpec, Spec

MOST_TRAIN_CHARACTERS = 60_000
MOST_VALUES = 50
PARAMETER = "params."
ON = "itera run   (goes on to the gate without it; iterations of your own: iterations/queue)"
FAULTS = (ProposalError, Refusal, ArmError, DataError, SpecError)


def brief(experiment: Experiment, told: str = "") -> Briefing:
    """All that a proposer sees now; `told` is why its last answer was refused."""
    spec, state = experiment.spec, experiment.state
    heads = {head: sprint.arm_spec(spec, state, head) for head in sprint.line_heads(spec, state).values()}
    parents = [parent_of(experiment.folder, head, arm) for head, arm in heads.items()]
    scored = state.scored("dev")
    assert scored is not None
    return Briefing(
        frame=_frame(spec),
        parents=tuple(parent for parent in parents if parent.components),
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
        characters = len(json.dumps(entry, default=str))
        if size + characters <= MOST_TRAIN_CHARACTERS:  # a huge row is left out, not all after it
            kept.append(entry)
            size += characters
    return tuple(kept)


def _history(experiment: Experiment) -> tuple[Tried, ...]:
    judged = {c["id"]: c for gate in experiment.state.all("gate") for c in gate.body["changes"]}
    tried = []
    for found in results(experiment):
        body = found.record.body
        change = judged.get(body["id"], {})
        same = {key: body[key] for key in ("id", "parent", "what", "hypothesis", "predicted_effect")}
        class_, kept = change.get("class"), bool(change.get("kept"))
        tried.append(
            Tried(**same, effect=found.effect.estimate, outcome=found.outcome, class_=class_, kept=kept)
        )
    return tuple(tried)


def parent_of(folder: Path, name: str, arm: ArmSpec) -> Parent:
    """An arm's replaceable components: the files of a prompt, a python arm's own file, parameters."""
    texts = {
        component: decoded(relative, inside(folder, relative, name).read_bytes())
        for component, (_, relative) in _files(arm).items()
    }
    if arm.kind == "prompt" and arm.system is not None and "system" not in texts:
        texts["system"] = arm.system
    texts |= {PARAMETER + key: json.dumps(value) for key, value in arm.params.items()}
    return Parent(name, arm.kind or "python", texts)


def register(experiment: Experiment, proposer: Proposer, answer: Answer, briefing: Briefing) -> None:
    """Check a proposal, write what it replaces, and register it; what is refused leaves no file.

    Raises:
        Refusal: SG21 for several changes, SG29 for text of dev rows, SG09 for no change.
        ProposalError, ArmError, DataError, SpecError: It is no iteration of this experiment.
    """
    proposal = answer.proposal
    if proposal is None:
        raise ProposalError(answer.fault)
    try:
        proposal.text.encode()
    except UnicodeEncodeError:
        raise ProposalError("the answer holds characters that no file can hold (half of a pair)") from None
    if len(proposal.changes) > 1:
        experiment.refuse(
            Refusal(
                "SG21",
                f"the proposal changes {len(proposal.changes)} components.",
                why="a win could not be attributed to either of them.",
                instead=f"propose one of them; else: {ON}",
            )
        )
    _quotes_nothing(experiment, proposal, briefing)
    id_ = _free_id(experiment, proposal.name)
    written = []
    try:
        change, file = _replace(experiment, id_, proposal)
        written += [file] if file else []
        toml, text = experiment.path("iterations", f"{id_}.toml"), _toml(proposal, id_, change)
        if toml.exists() and toml.read_text("utf-8") != text:
            raise ProposalError(f"there is an iteration {id_} already: give it another name")
        experiment.write_text(f"iterations/{id_}.toml", text)
        written.append(toml)
        origin = {
            "proposer": proposer.name,
            "request": answer.request,
            "cost_usd": answer.cost_usd,
            "reason": proposal.reason,
        }
        sprint.register(experiment, id_, toml, origin)
    except FAULTS:
        for path in written:
            path.unlink(missing_ok=True)
        raise


def _replace(experiment: Experiment, id_: str, proposal: Proposal) -> tuple[dict[str, Any], Path | None]:
    spec, state, (change,) = experiment.spec, experiment.state, proposal.changes
    heads = sprint.line_heads(spec, state).values()
    if proposal.parent not in heads:
        raise ProposalError(f"its parent is none of: {', '.join(heads)}")
    arm = sprint.arm_spec(spec, state, proposal.parent)
    known = parent_of(experiment.folder, proposal.parent, arm).components
    if change.component not in known:
        raise ProposalError(f"{proposal.parent} has no such component; it has: {', '.join(known)}")
    return replace(experiment, id_, arm, change)


def _toml(proposal: Proposal, id_: str, change: Mapping[str, Any]) -> str:
    said = {key: getattr(proposal, key) for key in ("hypothesis", "parent", "what", "predicted_effect")}
    rows = dict(proposal.predicted_rows)
    return tomlkit.dumps(
        {"name": id_, **said, "class": proposal.class_, "predicted_rows": rows, "change": dict(change)}
    )


def _free_id(experiment: Experiment, name: str) -> str:
    """`NN-name`: the number of the iteration, and the proposal's name in letters, digits and dashes."""
    number = len(sprint.registered(experiment.state)) + 1
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-")
    return f"{number:02d}-{words or 'proposal'}"


def _quotes_nothing(experiment: Experiment, proposal: Proposal, briefing: Briefing) -> None:
    """Refuse a proposal that holds text of dev rows which neither train nor a component has."""
    from itera_nb.seal.fingerprints import IndexBuilder

    def texts(part: str) -> list[list[str]]:
        return [[str(v) for v in row.values() if v is not None] for row in part_rows(experiment, part)]

    dev = texts("dev")
    builder = IndexBuilder()
    builder.add([str(i) for i in range(len(dev))], dev)
    known = [text for parent in briefing.parents for text in parent.components.values()]
    known += [" ".join(cells) for cells in texts("train")]
    index = builder.build().without(text.encode("utf-8", "surrogatepass") for text in known)
    found = index.find(proposal.text.encode("utf-8", "surrogatepass"))
    if rows := len(found.passages | found.wholes):
        experiment.refuse(
            Refusal(
                "SG29",
                f"the proposal holds the text of {rows} dev row(s), which the proposer was never shown.",
                why="text of dev rows from elsewhere has leaked, and tunes to the rows it is scored on.",
                instead=f"find out where it read them; else: {ON}",
            )
        )


def replace(
    experiment: Experiment, id_: str, arm: ArmSpec, change: Replacement
) -> tuple[dict[str, Any], Path | None]:
    """Write what replaces a component of iteration `id_`'s parent.

    Returns:
        The `[change]` table that names it, and the file that was written, if any.

    Raises:
        ProposalError: A parameter's value is no JSON, or there is another file of that name.
    """
    component, files = change.component, _files(arm)
    if component.startswith(PARAMETER):
        try:
            value = json.loads(change.text)
        except ValueError:
            raise ProposalError(f"the value of {component} is not JSON") from None
        return {"params": {**arm.params, component.removeprefix(PARAMETER): value}}, None
    if component not in files:
        return {component: change.text}, None
    key, relative = files[component]
    new = str(PurePosixPath(relative).with_stem(f"{PurePosixPath(relative).stem}_{id_.replace('-', '_')}"))
    path, data = experiment.path(new), change.text.encode()
    if path.exists() and path.read_bytes() != data:
        raise ProposalError(f"there is a file {new} already: give the iteration another name")
    experiment.write_bytes(new, data)
    symbol = f":{arm.target.rpartition(':')[2]}" if key == "target" and arm.target else ""
    return {key: new + symbol}, path


def _files(arm: ArmSpec) -> dict[str, tuple[str, str]]:
    """Component -> (key of the arm, file) of what stands in a file of its own."""
    if arm.kind == "python" and arm.target is not None:
        return {"implementation": ("target", arm.target.rpartition(":")[0])}
    if arm.kind != "prompt":
        return {}
    named = {"template": "prompt", "system": "system", "tools": "tools", "few-shot data": "few_shot"}
    return {
        component: (key, value)
        for component, key in named.items()
        if isinstance(value := getattr(arm, key), str) and (key != "system" or value.endswith(".md"))
    }
