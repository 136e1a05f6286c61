"""Phase 4 by itself: iterations from the queue and from a proposer, and the gate where no person is needed.

A person is needed where a change is called universal and the figures do not agree; unattended, that is no
reason to keep it: what is not shown to be a universal mechanism is treated as a hardcode and deleted.
"""

from __future__ import annotations

from itera_nb.arms.lock import require_unchanged
from itera_nb.diagnosis import gate, sprint
from itera_nb.diagnosis.class_judge import judge_class
from itera_nb.diagnosis.claude import Claude
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
from itera_nb.diagnosis.proposals import FAULTS, ON, brief, register
from itera_nb.diagnosis.proposer import Answer, Proposer
from itera_nb.exceptions import Refusal, StoppedError
from itera_nb.experiment import Experiment
from itera_nb.protocol import check
from itera_nb.scoring.budget import BudgetReachedError
from itera_nb.spec import read_toml

FIGURES = "the figures, without a person"
"""Who judged a change where no person did."""


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
            register(experiment, asked, answer, briefing)
        except FAULTS as error:
            final = bool(told) or getattr(error, "safeguard", "") == "SG29"
            _refused(experiment, asked, answer, error.what, final=final)
            if not final:
                continue
            if unattended:
                return False
            if isinstance(error, Refusal):
                raise error from None
            raise StoppedError(f"the proposer gave no usable proposal twice: {error.what}", fix=ON) from None
        else:
            return True
    return False


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
    body = {"proposer": proposer.name, "request": answer.request, "cost_usd": answer.cost_usd}
    experiment.record("proposal_refused", {**body, "what": what, "final": final})
