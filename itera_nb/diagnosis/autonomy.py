"""Phase 4 by itself: iterations from the queue and from a proposer, and the gate where no person is needed.

A person is needed where a change is called universal and the figures do not agree; unattended, that is no
reason to keep it: what is not shown to be a universal mechanism is treated as a hardcode and deleted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomlkit

from itera_nb.arms.lock import require_unchanged
from itera_nb.diagnosis import gate, sprint
from itera_nb.diagnosis.briefing import brief
from itera_nb.diagnosis.class_judge import judge_class
from itera_nb.diagnosis.claude import Claude
from itera_nb.diagnosis.edits import parent_of, replace
from itera_nb.diagnosis.judgement import (
    Change,
    Judgement,
    close_sprint,
    file_of,
    judged,
    open_changes,
    write_judgement,
)
from itera_nb.diagnosis.label_noise import PERSON
from itera_nb.diagnosis.loop import IterationResult, results, score_iterations
from itera_nb.diagnosis.proposer import Answer, Briefing, Proposal, ProposalError, Proposer
from itera_nb.exceptions import ArmError, DataError, IteraError, Refusal, SpecError, StoppedError
from itera_nb.experiment import Experiment
from itera_nb.protocol import check
from itera_nb.scoring.budget import BudgetReachedError
from itera_nb.scoring.runs import part_rows
from itera_nb.spec import read_toml

FIGURES = "the figures, without a person"
"""Who judged a change where no person did."""
ON = "itera run   (goes on to the gate without it; iterations of your own: iterations/queue)"
FAULTS = (ProposalError, Refusal, ArmError, DataError, SpecError)


def diagnose(experiment: Experiment, *, unattended: bool = False) -> None:
    """Every iteration and gate until there is nothing more to try.

    Raises:
        Refusal: A person is asked: how a change is classed (SG23), what else the gate needs.
        StoppedError: The proposer cannot be asked, or gave no usable proposal twice.
    """
    while not experiment.state.has("locked") and (experiment.state.ungated or may_iterate(experiment)):
        require_unchanged(experiment)
        iterate(experiment, unattended=unattended)
        if not experiment.state.ungated:
            return
        settle(experiment, unattended=unattended)
        close_sprint(experiment)


def iterate(
    experiment: Experiment, proposer: Proposer | None = None, *, unattended: bool = False
) -> list[IterationResult]:
    """Score what is registered, then register and score what comes next, until the sprint is full.

    What stands in the queue goes first; then `proposer` is asked, by default the registered one.

    Raises:
        Refusal: SG21 or SG22 where the next iteration may not run; SG29 where a proposal quotes dev rows.
        SpecError: If a file of the queue is malformed.
        StoppedError: The proposer cannot be asked or, unless `unattended`, gave no usable proposal twice.
    """
    if experiment.state.scored("dev") is None:
        experiment.require("iteration_registered")
    if not experiment.state.has("locked"):
        score_iterations(experiment)
        while check("iteration_registered", experiment.state) is None and _register_next(
            experiment, proposer, unattended=unattended
        ):
            score_iterations(experiment)
    return results(experiment)


def may_iterate(experiment: Experiment) -> bool:
    """Whether there may be something to try, no gate has killed every line, and the protocol allows it."""
    last = experiment.state.last("gate")
    if last is not None and last.body["outcome"] == gate.KILL:
        return False
    return sprint.more_ideas(experiment) and check("iteration_registered", experiment.state) is None


def settle(experiment: Experiment, *, unattended: bool = False) -> None:
    """Judge the changes of the open sprint that need no person, in their files.

    A proposer's change is kept where it calls it universal and the figures propose the same, deleted where
    one of them does not; only what it calls universal against the figures waits for a person. Unattended,
    that is deleted too, and so is what the queue calls universal without the figures' support: it was
    written before there were any. Where `[iterate] judge` names a model, its word is asked for first.
    """
    for change in open_changes(experiment):
        answer = judge_class(experiment, change) or _judged_alone(change, unattended=unattended)
        if answer is not None:
            write_judgement(experiment, change.id, answer, read_toml(file_of(experiment, change.id)))


def _judged_alone(change: Change, *, unattended: bool) -> Judgement | None:
    """The judgement that needs no person; None where one stands, or a person is needed."""
    said, figures = judged(change), change.measured
    whole = bool(said.class_ and said.action and said.evidence)
    mine = change.record.body.get("proposer", sprint.QUEUE) != sprint.QUEUE and not whole
    supported = said.class_ == figures.proposed == gate.UNIVERSAL
    stands = whole and (said.class_ != gate.UNIVERSAL or supported or said.by != PERSON)
    if stands or not (mine or unattended):
        return None
    if gate.against_the_figures(said.class_, figures) and not unattended:
        return None
    why = f"{'; '.join(figures.why)} ({figures.sentence})"
    if supported:
        return Judgement(
            gate.UNIVERSAL, gate.KEEP, f"{change.record.body.get('reason', '')} {why}".strip(), FIGURES
        )
    hardcode = gate.HARDCODE in {said.class_, figures.proposed} or figures.verdict == gate.SUSPECTED
    return Judgement(gate.HARDCODE if hardcode else gate.CANT_TELL, gate.DELETE, why, FIGURES)


def _register_next(experiment: Experiment, proposer: Proposer | None, *, unattended: bool) -> bool:
    """Register what comes next; False where there is nothing."""
    for name, file in sprint.queued(experiment)[:1]:
        sprint.register(experiment, name, file)
        return True
    while proposer is not None or sprint.proposals_open(experiment):
        asked: Proposer = proposer or Claude(experiment, turn=len(experiment.state.all("proposal_refused")))
        told = _told(experiment)
        briefing = brief(experiment, told)
        try:
            answer = asked.propose(briefing)
        except BudgetReachedError as error:
            _refused(experiment, asked, Answer(None), error.what, final=True)
            return False
        if answer.proposal is None and not answer.fault:
            _refused(experiment, asked, answer, "it has nothing more to propose", final=True)
            return False
        try:
            _register(experiment, asked, answer, briefing)
        except FAULTS as error:
            final = bool(told) or getattr(error, "safeguard", "") == "SG29"
            _refused(experiment, asked, answer, error.what, final=final)
            if final:
                _stop(error, unattended=unattended)
                return False
        else:
            return True
    return False


def _stop(error: IteraError, *, unattended: bool) -> None:
    """End the proposals: a person is told, unless nobody is there."""
    if unattended:
        return
    if isinstance(error, Refusal):
        raise error from None
    raise StoppedError(f"the proposer gave no usable proposal twice: {error.what}", fix=ON) from None


def _told(experiment: Experiment) -> str:
    """Why the answer before this one was refused; "" where the last one became an iteration."""
    records = (r for r in reversed(experiment.state.records) if r.seq > experiment.state.amended_at)
    for record in records:
        if record.type in {"iteration_registered", "gate"}:
            return ""
        if record.type == "proposal_refused":
            return "" if record.body["final"] else str(record.body["what"])
    return ""


def _refused(experiment: Experiment, proposer: Proposer, answer: Answer, what: str, *, final: bool) -> None:
    body = {
        "proposer": proposer.name,
        "request": answer.request,
        "cost_usd": answer.cost_usd,
        "what": what,
        "final": final,
    }
    experiment.record("proposal_refused", body)


def _register(experiment: Experiment, proposer: Proposer, answer: Answer, briefing: Briefing) -> None:
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
    _one_change(experiment, proposal)
    _quotes_nothing(experiment, proposal, briefing)
    id_ = _free_id(experiment, proposal.name)
    written = []
    try:
        change, file = _replace(experiment, id_, proposal)
        written += [file] if file else []
        toml = experiment.path("iterations", f"{id_}.toml")
        if toml.exists() and toml.read_text("utf-8") != _toml(proposal, id_, change):
            raise ProposalError(f"there is an iteration {id_} already: give it another name")
        experiment.write_text(f"iterations/{id_}.toml", _toml(proposal, id_, change))
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
    return tomlkit.dumps(
        {
            "name": id_,
            "hypothesis": proposal.hypothesis,
            "parent": proposal.parent,
            "what": proposal.what,
            "predicted_effect": proposal.predicted_effect,
            "class": proposal.class_,
            "predicted_rows": dict(proposal.predicted_rows),
            "change": dict(change),
        }
    )


def _free_id(experiment: Experiment, name: str) -> str:
    """`NN-name`: the number of the iteration, and the proposal's name in letters, digits and dashes."""
    number = len(sprint.registered(experiment.state)) + 1
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-")
    return f"{number:02d}-{words or 'proposal'}"


def _one_change(experiment: Experiment, proposal: Proposal) -> None:
    if len(proposal.changes) > 1:
        experiment.refuse(
            Refusal(
                "SG21",
                f"the proposal changes {len(proposal.changes)} components.",
                why="a win could not be attributed to either of them.",
                instead=f"propose one of them; else: {ON}",
            )
        )


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
