"""Iterations: a hypothesis and one change, registered before the score, and what the score says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itera_nb.arms.lock import manifests
from itera_nb.arms.manifest import Manifest, build
from itera_nb.exceptions import ArmError, DataError, IteraError, Refusal
from itera_nb.experiment import Experiment
from itera_nb.ledger import Record
from itera_nb.protocol import MAX_SPRINTS, State
from itera_nb.scoring.runs import part_rows, runnable, worker_of
from itera_nb.spec import ArmSpec, IterationSpec, Spec, load_iteration
from itera_nb.stats.paired import Delta

QUEUE = "queue"
"""The proposer of what a person wrote into the queue."""
LOCK_INSTEAD = """\
lock what passed, once no file waits in iterations/queue:
itera run   (or exp.lock() in 4-diagnose)"""


@dataclass(frozen=True, slots=True)
class Iteration:
    """A registered iteration: its arm, and the record that registered it."""

    id: str
    parent: str
    arm: ArmSpec
    record: Record


def registered(state: State) -> dict[str, Iteration]:
    """Every registered iteration by id, oldest first."""
    return {
        r.body["id"]: Iteration(r.body["id"], r.body["parent"], ArmSpec.model_validate(r.body["arm"]), r)
        for r in state.all("iteration_registered")
    }


def as_registered(experiment: Experiment, iteration: Iteration) -> Manifest:
    """The iteration's manifest, if its files are still those that were registered.

    Raises:
        Refusal: SG21, if they were edited: the score would belong to other code.
    """
    manifest = build(experiment.spec, iteration.id, iteration.arm, experiment.folder)
    if manifest.digest != iteration.record.body["digest"]:
        experiment.refuse(
            Refusal(
                "SG21",
                f"the files of iteration {iteration.id} were edited after it was registered.",
                why="its score belongs to the code that was registered, not to this.",
                instead="undo the edit, then: itera run   (new code is an iteration of its own)",
            )
        )
    return manifest


def all_manifests(experiment: Experiment) -> dict[str, Manifest]:
    """The manifest of every registered arm and every iteration, by name; raises as `as_registered`."""
    iterations = registered(experiment.state).items()
    return manifests(experiment) | {name: as_registered(experiment, one) for name, one in iterations}


def arm_spec(spec: Spec, state: State, name: str) -> ArmSpec:
    """The arm behind a registered arm's name or an iteration's id.

    Raises:
        ArmError: If there is none.
    """
    known = spec.arms | {id_: iteration.arm for id_, iteration in registered(state).items()}
    if name not in known:
        raise ArmError(f"there is no arm or iteration {name!r}", fix=f"one of: {', '.join(known)}")
    return known[name]


def root_arm(spec: Spec, state: State, name: str) -> str:
    """The registered arm that an iteration descends from."""
    iterations = registered(state)
    while name not in spec.arms:
        name = iterations[name].parent
    return name


def line_heads(spec: Spec, state: State) -> dict[str, str]:
    """Candidate -> what its line ends in: the latest gate-passed iteration, never the best, or the arm."""
    heads = {name: name for name in spec.candidates}
    for gate in state.all("gate"):
        for change in gate.body["changes"]:
            if change["kept"]:
                heads[root_arm(spec, state, change["id"])] = change["id"]
    return heads


def queued(experiment: Experiment) -> list[tuple[str, Path]]:
    """Iterations of the queue that are not registered yet: (id, file), in file order."""
    spec = experiment.spec
    if spec.iterate is None:
        return []
    done = registered(experiment.state)
    files = sorted(experiment.path(spec.iterate.queue).glob("*.toml"))
    return [(f.stem, f) for f in files if f.stem not in done]


def proposals_open(experiment: Experiment) -> bool:
    """Whether the registered proposer may be asked: not at its end or limit, and no gate has said stop."""
    spec, state = experiment.spec.iterate, experiment.state
    if spec is None or spec.proposer == QUEUE:
        return False
    done = [r for r in state.all("iteration_registered") if r.body.get("proposer", QUEUE) != QUEUE]
    ended = any(r.body["final"] for r in state.all("proposal_refused") if r.seq > state.amended_at)
    gates = state.all("gate")
    go_on = not gates or gates[-1].body["outcome"] == "next sprint"
    return not ended and go_on and (spec.iterations is None or len(done) < spec.iterations)


def more_ideas(experiment: Experiment) -> bool:
    """Whether the queue holds an iteration, or the proposer may be asked for one."""
    return bool(queued(experiment)) or proposals_open(experiment)


def _check_change(experiment: Experiment, wanted: IterationSpec) -> tuple[ArmSpec, Manifest, list[str]]:
    """The iteration's arm, its manifest and the components it changes against its parent."""
    spec = experiment.spec
    parent = arm_spec(spec, experiment.state, wanted.parent)
    if parent.baseline or parent.negative_control:
        raise IteraError(
            f"{wanted.name}: an iteration refines a candidate arm, not {wanted.parent!r}",
            fix=f"parent = one of: {', '.join(spec.candidates)}",
        )
    arm = wanted.change.inherit(parent)
    manifest = build(spec, wanted.name, arm, experiment.folder)
    changes = manifest.changes(all_manifests(experiment)[wanted.parent])
    if not changes:
        experiment.refuse(
            Refusal(
                "SG09",
                f"iteration {wanted.name} does not differ from {wanted.parent}.",
                why="two names for one arm measure noise.",
                instead="change one component in its [change] table, or drop it",
            )
        )
    if len(changes) > 1 and wanted.change.bundle is None:
        experiment.refuse(
            Refusal(
                "SG21",
                f"iteration {wanted.name} changes {len(changes)} components: {', '.join(changes)}.",
                why="a win could not be attributed to either of them.",
                instead='split it in two, or declare [change] bundle = "why they belong together"',
            )
        )
    return arm, manifest, changes


def register(
    experiment: Experiment, name: str, file: Path, origin: Mapping[str, Any] | None = None
) -> Record:
    """Register one iteration before its score can exist; its file is kept under `iterations/`.

    `origin` says who proposed it (`proposer`, its `reason`, the `request` and its `cost_usd`); by default the
    queue.

    Raises:
        Refusal: SG21 for several changes without a bundle, SG09 for none; SG22 or SG23 where its line or the
            audit of the gates does not allow it.
        DataError: If `predicted_rows` fits no dev row.
        ArmError: If its code cannot be loaded and fitted: once registered it could not be repaired.
        IteraError: If the id is a registered arm's name.
        SpecError: If the file is malformed.
    """
    experiment.require("iteration_registered")
    wanted = load_iteration(file)
    if name in experiment.spec.arms:
        raise IteraError(
            f"{file.name}: {name!r} is the name of a registered arm", fix="give the file another name"
        )
    _check_line(experiment, wanted)
    audit = _audit_before(experiment)
    _check_prediction(wanted, file, part_rows(experiment, "dev"))
    arm, manifest, changes = _check_change(experiment, wanted)
    if arm.kind == "python":
        (ready,), _ = runnable(experiment, {name: arm})
        with worker_of(experiment, ready) as worker:
            worker.start()
    kept = experiment.write_bytes(f"iterations/{name}.toml", file.read_bytes())
    body: dict[str, Any] = {
        "id": name,
        "sprint": len(experiment.state.all("gate")) + 1,
        "parent": wanted.parent,
        "hypothesis": wanted.hypothesis,
        "what": wanted.what,
        "components": changes,
        "bundle": wanted.change.bundle,
        "predicted_effect": wanted.predicted_effect,
        "predicted_rows": wanted.predicted_rows,
        "arm": arm.model_dump(mode="json", by_alias=True, exclude_unset=True),
        "digest": manifest.digest,
        "file": {"name": f"iterations/{name}.toml", "sha256": kept},
        "gate_audit": audit,
        **(origin or {"proposer": QUEUE}),
    }
    return experiment.record("iteration_registered", body)


def _check_line(experiment: Experiment, wanted: IterationSpec) -> None:
    """Refuse what builds on a change that a gate dropped, unless to replace it, or on a killed line."""
    spec, state = experiment.spec, experiment.state
    judged = {c["id"]: c for gate in state.all("gate") for c in gate.body["changes"]}
    parent = judged.get(wanted.parent)
    if parent is not None and not parent["kept"] and parent["action"] != "upgrade":
        experiment.refuse(
            Refusal(
                "SG23",
                f"iteration {wanted.name} builds on {wanted.parent}, which did not pass its gate.",
                why="what is built on a hardcode brings it to the test.",
                instead=f"parent = one of: {', '.join(line_heads(spec, state).values())}",
            )
        )
    arm_spec(spec, state, wanted.parent)
    arm = root_arm(spec, state, wanted.parent)
    lines = [line for gate in state.all("gate") for line in gate.body["lines"] if line["arm"] == arm]
    if lines and lines[-1]["outcome"] == "kill":
        experiment.refuse(
            Refusal(
                "SG23",
                f"the line of {arm} is killed: {lines[-1]['why']}.",
                why="an arm that only gains by hardcodes has no mechanism to refine.",
                instead=LOCK_INSTEAD,
            )
        )


def _audit_before(experiment: Experiment) -> dict[str, Any] | None:
    """The audit of the gates where the registered number of sprints is over, and None before that."""
    state = experiment.state
    if len(state.all("gate")) < MAX_SPRINTS or state.ungated:
        return None
    from itera_nb.diagnosis.judgement import audit_gates

    found = audit_gates(experiment)
    if suspected := [arm for arm, measured in found.items() if measured.proposed == "hardcode"]:
        experiment.refuse(
            Refusal(
                "SG22",
                f"what the gates kept of {', '.join(suspected)} looks like a hardcode, taken together.",
                why="more sprints would add to what the gates should not have let pass.",
                instead=LOCK_INSTEAD,
            )
        )
    return {arm: {"proposed": x.proposed, "sentence": x.sentence} for arm, x in found.items()}


def _check_prediction(wanted: IterationSpec, file: Path, rows: list[dict[str, Any]]) -> None:
    """Refuse a prediction about no dev row: it could never be falsified."""
    columns = set(rows[0]) if rows else set()
    if unknown := sorted(wanted.predicted_rows.keys() - columns):
        raise DataError(
            f"{file.name}: predicted_rows names no column: {', '.join(unknown)}",
            fix=f"the columns of dev: {', '.join(sorted(columns))}",
        )
    if not predicted_mask(rows, wanted.predicted_rows).any():
        raise DataError(f"{file.name}: predicted_rows fits no dev row", fix="correct its values")


def outcome(predicted: float, measured: Delta) -> str:
    """Supported, falsified or neutral: the interval against the registered prediction (fraction).

    Supported: the predicted direction is shown and the predicted size is not ruled out. Falsified: the
    predicted size is ruled out and the direction is not shown. Neutral: everything between.
    """
    sign = 1.0 if predicted >= 0 else -1.0
    low, high = sorted((sign * measured.low, sign * measured.high))
    if low > 0 and high >= abs(predicted):
        return "supported"
    if high < abs(predicted) and low <= 0:
        return "falsified"
    return "neutral"


def predicted_mask(rows: Sequence[Mapping[str, Any]], predicted: Mapping[str, str]) -> NDArray[np.bool_]:
    """n-mask of the rows for which the effect was predicted: those whose columns equal the given values."""
    return np.array([all(str(row[c]) == v for c, v in predicted.items()) for row in rows], dtype=np.bool_)
