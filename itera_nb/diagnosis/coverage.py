"""Did the changed code run on the failing rows? Line coverage of python arms, sent text of prompt arms.

A falsified iteration whose change never ran says where the mechanism is not; one that ran, what it is not.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from itera_nb.arms.manifest import Manifest, build
from itera_nb.arms.runtime import RunnableArm
from itera_nb.diagnosis.literals import code
from itera_nb.diagnosis.sprint import Iteration, arm_spec, predicted_mask
from itera_nb.exceptions import ArmError, StoppedError
from itera_nb.experiment import Experiment
from itera_nb.models.parsing import Parser
from itera_nb.models.prompt import PromptError, compile_prompt
from itera_nb.scoring.child import Failure
from itera_nb.scoring.evidence import Evidence
from itera_nb.scoring.runs import part_rows, runnable, worker_of
from itera_nb.spec import ArmSpec
from itera_nb.stats.paired import row_means

MOST_ROWS = 200
TIMEOUT_S = 300.0
TEXTS = {"template", "system", "few-shot data"}


@dataclass(frozen=True, slots=True)
class Reach:
    """On how many of the failing rows an iteration's change was in play.

    `rows` are predicted rows that its parent fails on, at most 200; on `ran` of them a changed line ran or
    the sent prompt differs, None where that is not known; `note` says why it is not.
    """

    rows: int
    ran: int | None
    note: str = ""


def reach(experiment: Experiment, iteration: Iteration, evidence: Evidence) -> Reach:
    """Whether an iteration's change was in play on the predicted dev rows that its parent fails on.

    A python arm is run once more on those rows, in a worker of its own, where it is registered as free.
    `evidence` holds the parent's dev scores.
    """
    rows = _failing(experiment, iteration, evidence)
    arm, parent = iteration.arm, arm_spec(experiment.spec, experiment.state, iteration.parent)
    if not rows:
        return Reach(0, None, f"{iteration.parent} fails on none of the predicted rows")
    if arm.kind == "prompt" == parent.kind:
        ready, _ = runnable(experiment, {iteration.id: arm, iteration.parent: parent})
        return _sent(rows, ready, iteration.record.body["components"])
    if arm.kind != "python" or parent.kind != "python":
        return Reach(len(rows), None, f"an arm of kind {arm.kind} cannot be looked into")
    return _ran(experiment, iteration, parent, rows)


def _ran(
    experiment: Experiment, iteration: Iteration, parent: ArmSpec, rows: Sequence[dict[str, Any]]
) -> Reach:
    spec, arm = experiment.spec, iteration.arm
    new = build(spec, iteration.id, arm, experiment.folder)
    old = build(spec, iteration.parent, parent, experiment.folder)
    lines = changed_lines(new, old, (_file(arm.target), _file(parent.target)))
    if not lines:
        return Reach(len(rows), None, "the change adds no line inside a function")
    if arm.cost != "free":
        note = "the arm is not registered as free: its calls would be paid again"
        return Reach(len(rows), None, note)
    if importlib.util.find_spec("coverage") is None:
        note = 'line coverage is not installed: pip install "itera-nb[diagnose]"'
        return Reach(len(rows), None, note)
    (ready,), _ = runnable(experiment, {iteration.id: arm})
    return _covered(experiment, ready, rows, lines)


def _failing(experiment: Experiment, iteration: Iteration, evidence: Evidence) -> list[dict[str, Any]]:
    rows, predicted = part_rows(experiment, "dev"), iteration.record.body["predicted_rows"]
    mask = predicted_mask(rows, predicted)
    if not evidence.pairwise:
        mask &= ~(row_means(evidence.scores[iteration.parent]) >= experiment.spec.metric.fail_below)
    return [rows[i] for i in np.flatnonzero(mask)[:MOST_ROWS]]


def _sent(rows: Sequence[dict[str, Any]], ready: Sequence[RunnableArm], components: Sequence[str]) -> Reach:
    """On how many rows the prompt that is sent is another than the parent's."""
    if not TEXTS & set(components):
        return Reach(len(rows), None, f"the change is no text: {', '.join(components)} goes with every row")
    prompts = [
        compile_prompt(arm.spec, arm.root, arm.shots, Parser(arm.spec.parse, arm.root).example)
        for arm in ready
    ]
    differ = 0
    for row in rows:
        inputs = {column: row[column] for column in ready[0].inputs}
        try:
            one, two = (prompt.render(inputs) for prompt in prompts)
        except PromptError:
            continue
        differ += one != two
    return Reach(len(rows), differ)


def _file(target: str | None) -> str:
    return str(Path((target or "").rpartition(":")[0]))


def changed_lines(manifest: Manifest, parent: Manifest, targets: tuple[str, str]) -> dict[str, list[int]]:
    """Lines inside functions that an arm has and its parent has not: snapshot-relative file -> line numbers.

    Of a new condition the lines that it guards count, not the condition, which is asked on every row. The
    files that both are loaded from, `targets`, are compared with each other.
    """
    found, before = {}, code(parent)
    for relative, source in code(manifest).items():
        old = before.get(targets[1] if relative == targets[0] else relative, "")
        new = _new_lines(source.splitlines(), old.splitlines())
        spans = [head for head, body in _statements(source) if head & new and not body & new]
        if own := set().union(*spans):
            found[relative] = sorted(own)
    return found


def _new_lines(new: Sequence[str], old: Sequence[str]) -> set[int]:
    """Line numbers of `new` that `old` does not have in their place; layout does not count."""
    one, two = ([line.strip() for line in lines] for lines in (old, new))
    matcher = difflib.SequenceMatcher(a=one, b=two, autojunk=False)
    kept = {block.b + i + 1 for block in matcher.get_matching_blocks() for i in range(block.size)}
    return set(range(1, len(new) + 1)) - kept


def _statements(source: str) -> Iterator[tuple[set[int], set[int]]]:
    """Lines of each statement inside a function: its own (of a compound one the head), and its body's."""
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        documented = ast.get_docstring(function, clean=False) is not None
        for node in (n for statement in function.body[documented:] for n in ast.walk(statement)):
            if not isinstance(node, ast.stmt | ast.ExceptHandler):
                continue
            body: list[ast.AST] = [*getattr(node, "body", ()), *getattr(node, "cases", ())]
            end = (node.end_lineno or node.lineno) + 1
            first = min((n.lineno for b in body for n in ast.walk(b) if hasattr(n, "lineno")), default=end)
            first = max(first, node.lineno + 1)
            yield set(range(node.lineno, first)), set(range(first, end))


def _covered(
    experiment: Experiment, arm: RunnableArm, rows: Sequence[dict[str, Any]], lines: dict[str, list[int]]
) -> Reach:
    """On how many rows any of the lines ran; the arm is fitted as it was for its score."""
    items = [({column: row[column] for column in arm.inputs},) for row in rows]
    wanted = {str(arm.root / relative): numbers for relative, numbers in lines.items()}
    try:
        with worker_of(experiment, arm) as worker:
            found = worker.ran(items, wanted, TIMEOUT_S)
    except (ArmError, StoppedError) as error:
        return Reach(len(rows), None, f"it could not be run again: {error.what}")
    if isinstance(found, Failure):
        return Reach(len(rows), None, f"it could not be run again ({found.error_type})")
    return Reach(len(rows), sum(found))
