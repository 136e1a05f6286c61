"""Locking what goes to the test: each line's latest gate-passed iteration, frozen with all its files."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import itera_nb
from itera_nb.arms.manifest import build
from itera_nb.arms.snapshot import code_files, files_of, take
from itera_nb.diagnosis.label_noise import require_audit
from itera_nb.diagnosis.loop import score_iterations
from itera_nb.diagnosis.patterns import seen_contrast
from itera_nb.diagnosis.sprint import arm_spec, as_registered, line_heads, registered
from itera_nb.experiment import Experiment
from itera_nb.ledger import Record
from itera_nb.protocol import State
from itera_nb.scoring.evidence import Comparison, compare
from itera_nb.scoring.package import VERDICT, package_hash, verdict_cells
from itera_nb.scoring.registered import dev_evidence, planned_trials
from itera_nb.source.contamination import look_before
from itera_nb.stats.decision import look_alpha


def lock(experiment: Experiment) -> Record:
    """Freeze the baseline, the end of each line and the controls.

    Raises:
        Refusal: SG23 while an iteration has not passed a gate, SG21 where its files were edited since, SG30
            where the labels of generated data are not audited.
    """
    record = experiment.state.last("locked")
    if record is not None:
        return record
    experiment.require("locked")
    require_audit(experiment)
    scanned = look_before(experiment, "locked")
    score_iterations(experiment)
    spec, state = experiment.spec, experiment.state
    heads = {spec.baseline: spec.baseline} | line_heads(spec, state) | {c: c for c in spec.controls}
    for iteration in registered(state).values():
        as_registered(experiment, iteration)
    arms = {arm: arm_spec(spec, state, head) for arm, head in heads.items()}
    built = {arm: build(spec, arm, wanted, experiment.folder) for arm, wanted in arms.items()}
    files = take(files_of(built.values(), code_files(spec, experiment.folder)), experiment.path("snapshot"))
    evidence, alpha = dev_evidence(experiment), look_alpha(spec.rule.extension == "once")
    trials = planned_trials(experiment, "dev")
    compared = {
        arm: compare(evidence, head, spec.baseline, alpha)
        for arm, head in heads.items()
        if arm != spec.baseline
    }
    lines: list[dict[str, Any]] = [
        {
            "arm": arm,
            "head": heads[arm],
            "digest": built[arm].digest,
            "trials": trials[arm],
            "spec": arms[arm].model_dump(mode="json", by_alias=True, exclude_unset=True),
            "dev": asdict(compared[arm].delta) if arm in compared else None,
            "seen": _seen(state, compared[arm], spec.baseline) if arm in compared else None,
        }
        for arm in heads
    ]
    body = {
        "lines": lines,
        "files": files,
        "package": package_hash(),
        "version": itera_nb.__version__,
        "templates": {VERDICT: verdict_cells()},
        "dev_iterations": len(state.all("iteration_registered")),
        "scan": scanned,
    }
    return experiment.record("locked", body)


def _seen(state: State, compared: Comparison, baseline: str) -> dict[str, Any] | None:
    head = compared.arm if compared.arm in registered(state) else None
    found = seen_contrast(compared, baseline, state.revealed_before(state.scored("dev", head)))
    return asdict(found) if found else None
