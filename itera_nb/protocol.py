"""What may follow what: the one place that knows.

The ledger is the state machine. `State` reads it, `NEEDS` is the table of what each event needs before it,
and `check` answers with the `Refusal` that a notebook, the command line and the audit all show.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from itera_nb.exceptions import Refusal
from itera_nb.ledger import Record

MAX_ITERATIONS = 3
MAX_SPRINTS = 3
NOTHING_SEEN = "nothing run"
VOIDS = {
    "amended": {"baseline_measured", "pilot_passed", "scored", "judge_checked", "locked"},
    "resealed": {"scored", "judge_checked", "locked"},
}
"""What no longer counts after an amendment, and after rows have moved from test to dev."""

SAFEGUARDS: dict[str, str] = {
    "SG01": "the test set is not read before the verdict",
    "SG02": "the test set is opened once",
    "SG03": "a test row that leaked is found",
    "SG04": "metric, threshold and rule do not move after scores",
    "SG05": "the rubric does not drift",
    "SG06": "no failure mode is added after outputs",
    "SG07": "no data are sampled before the frame is locked",
    "SG08": "each arm changes one thing against a real baseline",
    "SG09": "arms really differ",
    "SG10": "no full run without a clean pilot",
    "SG11": "the sample mirrors production",
    "SG12": "de-duplication and caps do not distort the sample",
    "SG13": "the test set holds the hard conditions",
    "SG14": "there are rows enough for the effect",
    "SG15": "the gap is not noise",
    "SG16": "no best-of-N trials",
    "SG17": "every row finishes and counts",
    "SG18": "arms are run on the same inputs, scorer and versions",
    "SG19": "cost is steady-state",
    "SG20": "the judge is blind and cross-checked",
    "SG21": "each iteration has a hypothesis and one change before its score",
    "SG22": "sprints are short and end in a gate",
    "SG23": "hardcodes do not reach the test",
    "SG24": "the latest gate-passed iteration is locked, never the best-scoring one",
    "SG25": "an aggregate winner does not hurt a slice",
    "SG26": "errors do not shift into the worst category",
    "SG27": "frequency does not hide impact",
    "SG28": "overfitting to dev is looked for",
    "SG29": "dev rows that were read are counted",
    "SG30": "label noise is not read as model failure",
    "SG31": "no power is not called no effect",
    "SG32": "history is not rewritten",
    "SG33": "one lucky win among several is not reported",
    "SG34": "the self-audit is computed",
}


@dataclass(frozen=True)
class State:
    """Where an experiment stands, read from its ledger."""

    records: tuple[Record, ...]

    @cached_property
    def by_type(self) -> dict[str, tuple[Record, ...]]:
        """Every record, oldest first, by its type."""
        found: dict[str, list[Record]] = {}
        for record in self.records:
            found.setdefault(record.type, []).append(record)
        return {type_: tuple(records) for type_, records in found.items()}

    def all(self, type_: str) -> tuple[Record, ...]:
        """Every record of one type, oldest first."""
        return self.by_type.get(type_, ())

    def last(self, type_: str) -> Record | None:
        """The latest record of one type that still counts: amending and resealing void what ran before.

        A `resealed` record stands for the `sealed` one, whose fields it has.
        """
        if type_ == "sealed" and self.all("resealed"):
            return self.all("resealed")[-1]
        latest = self.all(type_)[-1:]
        return latest[0] if latest and latest[0].seq > self._voided_before(type_) else None

    def the(self, type_: str) -> Record:
        """As `last`, for a record that must be there by now."""
        record = self.last(type_)
        assert record is not None, type_
        return record

    def _voided_before(self, type_: str) -> int:
        since = (r.seq for event, voided in VOIDS.items() if type_ in voided for r in self.all(event))
        return max(since, default=0)

    @property
    def found(self) -> dict[str, list[str]]:
        """File -> ids of sealed rows found in it since the latest sealing, so of unopened rows."""
        return self._found(self._latest_sealing)

    @property
    def leaks(self) -> dict[str, list[str]]:
        """Of those found, the ones that nobody has accepted since."""
        answer = self.answer("SG03")
        return self._found((*self._latest_sealing, *((answer,) if answer else ())))

    @property
    def _latest_sealing(self) -> tuple[Record, ...]:
        return (*self.all("resealed")[-1:], *self.all("extended"))

    def _found(self, settled: tuple[Record, ...]) -> dict[str, list[str]]:
        since, files = max((r.seq for r in settled), default=0), dict[str, list[str]]()
        for record in self.all("contamination"):
            for hit in record.body["found"] if record.seq > since else ():
                files.setdefault(hit["file"], []).extend([*hit["passages"], *hit["wholes"]])
        return files

    @cached_property
    def amended_at(self) -> int:
        """Sequence number of the latest amendment, or 0."""
        return max((r.seq for r in self.all("amended")), default=0)

    def has(self, *types: str) -> bool:
        """Whether each of these events has happened."""
        return all(self.last(t) for t in types)

    @cached_property
    def audit(self) -> Record | None:
        """The distribution audit that counts: passed, or accepted with a reason."""
        return self.last("audit_accepted") or self.last("audit_passed")

    def scored(self, rows: str, iteration: str | None = None) -> Record | None:
        """The latest score record of `rows` (train or dev), of the registered arms or of one iteration."""
        hits = [r for r in self.all("scored") if r.body["rows"] == rows and r.body["iteration"] == iteration]
        return hits[-1] if hits and hits[-1].seq > self._voided_before("scored") else None

    @property
    def pass_open(self) -> bool:
        """A test batch is opened and its verdict not written: the same pass may be finished."""
        opened, verdict = self.last("test_opened"), self.last("verdict")
        return opened is not None and (verdict is None or verdict.seq < opened.seq)

    @property
    def batches(self) -> tuple[Record, ...]:
        """The sealed test batches, oldest first: the first one, and the registered top-up."""
        first = self.last("sealed")
        return (*((first,) if first else ()), *self.all("extended"))

    @property
    def decided(self) -> bool:
        """Every sealed batch has been opened and its verdict written."""
        return len(self.all("verdict")) == len(self.batches) > 0

    @property
    def outcome(self) -> str | None:
        """The banner's outcome of the latest verdict."""
        verdict = self.last("verdict")
        return None if verdict is None else str(verdict.body["outcome"])

    @property
    def extension_registered(self) -> bool:
        """Whether the locked rule allows one top-up of the test set."""
        locks = [r for r in self.records if "rule" in r.body.get("values", {})]
        return bool(locks) and locks[-1].body["values"]["rule"]["extension"] == "once"

    @property
    def ungated(self) -> tuple[Record, ...]:
        """Iterations registered since the last gate: the open sprint."""
        gate = self.last("gate")
        return tuple(r for r in self.all("iteration_registered") if gate is None or r.seq > gate.seq)

    @property
    def revealed(self) -> set[str]:
        """Ids of the dev rows whose text was shown to a person."""
        return {row for record in self.all("revealed") for row in record.body["ids"]}

    def revealed_before(self, score: Record | None) -> set[str]:
        """Ids of the dev rows read before a score existed: only they can have shaped what it scores."""
        end = score.seq if score else 0
        return {row for record in self.all("revealed") if record.seq < end for row in record.body["ids"]}

    @property
    def readings(self) -> dict[str, int]:
        """Why dev rows were read -> how many, in the order of the first reading."""
        found: dict[str, int] = {}
        for record in self.all("revealed"):
            found[record.body["why"]] = found.get(record.body["why"], 0) + len(record.body["ids"])
        return found

    def answer(self, safeguard: str) -> Record | None:
        """The reason with which a person accepted this safeguard's question."""
        return next((r for r in reversed(self.all("accepted")) if r.body["safeguard"] == safeguard), None)

    def answers(self, safeguard: str) -> int:
        """How often a person has accepted this safeguard's question."""
        return sum(r.body["safeguard"] == safeguard for r in self.all("accepted"))

    @property
    def head(self) -> str:
        """Hash of the last record, or "" for an empty ledger."""
        return self.records[-1].hash if self.records else ""


@dataclass(frozen=True)
class Need:
    """A condition on the state, and the refusal where it does not hold."""

    holds: Callable[[State], bool]
    refusal: Callable[[State], Refusal]


def _need(
    holds: Callable[[State], bool],
    safeguard: str,
    what: str | Callable[[State], str],
    why: str,
    instead: str,
    *,
    asks: bool = False,
) -> Need:
    def refusal(state: State) -> Refusal:
        said = what if isinstance(what, str) else what(state)
        return Refusal(safeguard, said, why=why, instead=instead, asks=asks)

    return Need(holds, refusal)


def _after(type_: str, *refused: str) -> Need:
    return _need(lambda s: s.has(type_), *refused)


def _once(type_: str, *refused: str) -> Need:
    return _need(lambda s: not s.has(type_), *refused)


def _not_extendable(state: State) -> str:
    if not state.extension_registered:
        return 'this experiment registered extension = "none".'
    if len(state.batches) > 1:
        return "the one registered top-up has been used."
    return f"the verdict is {state.outcome}; only an inconclusive one can be extended."


def _leaked(state: State) -> str:
    files = list(state.leaks)
    ids = list(dict.fromkeys(id_ for found in state.leaks.values() for id_ in found))
    more = f" and {len(ids) - 5} more" if len(ids) > 5 else ""
    others = f" and {len(files) - 3} more files" if len(files) > 3 else ""
    return f"{len(ids)} sealed row(s) stand in {', '.join(files[:3])}{others}: {', '.join(ids[:5])}{more}."


def _opened(state: State) -> str:
    return f"was opened on {state.the('test_opened').ts[:16].replace('T', ' ')}"


def _unfinished(state: State) -> str:
    seq = state.the("test_opened").seq
    return f"the test set {_opened(state)} (record {seq}) and its pass is not finished."


def _decided(state: State) -> str:
    verdict = state.the("verdict")
    arm = f" {verdict.body['arm']}" if verdict.body.get("arm") else ""
    outcome = verdict.body["outcome"].upper()
    return f"this test set {_opened(state)} and gave {outcome}{arm} (record {verdict.seq})."


FRAME = _after(
    "frame_locked",
    "SG07",
    "the frame is not locked yet.",
    "a question that is written after looking at the data is the answer to another question.",
    "lock it:                itera run   (or exp.frame.lock() in 0-frame)",
)
SAMPLED = _after(
    "sampled",
    "SG07",
    "no rows are sampled yet.",
    "a split needs a fixed sample.",
    "sample:                 itera run   (or exp.source.sample() in 1-source)",
)
SEALED = _after(
    "sealed",
    "SG01",
    "the test set is not sealed yet.",
    "rows that anyone may still read cannot decide anything.",
    "seal it:                itera run   (or exp.split.seal() in 1-source)",
)
ASKED_WHY = {
    "SG12": "a cap that drops much of the data asks about rows that production does not send in that mix.",
    "SG13": "a test set without the hard rows cannot see what the experiment is about.",
}


def unanswered(state: State) -> dict[str, str] | None:
    """The first question of sampling or splitting (`safeguard`, `sentence`) that has no answer yet."""
    record = state.last("sealed")
    asks = record.body.get("asks", []) if record else []
    return next((ask for ask in asks if state.answer(ask["safeguard"]) is None), None)


def _unanswered(state: State) -> Refusal:
    ask = unanswered(state)
    assert ask is not None
    return question(ask["safeguard"], ask["sentence"], ASKED_WHY[ask["safeguard"]])


def question(safeguard: str, sentence: str, why: str, *, remedy: str = "") -> Refusal:
    """What is refused until a person has answered it with a reason, or has done the `remedy`."""
    instead = f'accept it with a reason, which the conclusion prints: itera run --accept {safeguard}="why"'
    return Refusal(
        safeguard, sentence, why=why, instead=f"{remedy}, or {instead}" if remedy else instead, asks=True
    )


ANSWERED = Need(lambda s: unanswered(s) is None, _unanswered)
BASELINE = _after(
    "baseline_measured",
    "SG14",
    "the baseline has no measured value yet.",
    "a threshold without the baseline's value has no known power.",
    "measure it:             itera run   (or exp.metric.try_on() in 2-metric)",
)
METRIC = _after(
    "metric_locked",
    "SG04",
    "the metric is not locked yet.",
    "a metric chosen after outputs drifts toward them.",
    "lock it:                itera run   (or exp.metric.lock() in 2-metric)",
)
PILOT = _after(
    "pilot_passed",
    "SG10",
    "no clean pilot has run.",
    "a full run on a broken arm costs its whole price and teaches nothing.",
    "run it:                 itera run   (or exp.pilot() in 3-run)",
)
AUDIT = _need(
    lambda s: s.audit is not None,
    "SG11",
    "the sample's distribution audit has not been passed or accepted.",
    "a sample that does not mirror production answers for rows that nobody sends.",
    'accept it with a reason: itera run --accept SG11="why"   (or exp.source.accept("why"))',
)
DEV_SCORED = _need(
    lambda s: s.scored("dev") is not None,
    "SG10",
    "the registered arms are not scored on dev yet.",
    "an iteration or a lock without dev scores has nothing to stand on.",
    'score them:             itera run   (or exp.run("dev") in 3-run)',
)
CLEAN = _need(
    lambda s: not s.leaks,
    "SG03",
    _leaked,
    "an arm that has met a test row is tested on what it knows.",
    "move them to dev:       itera reseal\n"
    'keep them, printed:     itera run --accept SG03="why no arm could use them"',
    asks=True,
)
LOCKED = _after(
    "locked",
    "SG01",
    "no arm is locked yet.",
    "opening the test set while arms can still change turns it into a tuning set.",
    "finish phases 0-4:      itera run",
)
NOT_LOCKED = _once(
    "locked",
    "SG24",
    "the arms are locked.",
    "whatever changes after the lock was not chosen before the test.",
    "go on to the verdict:   itera verdict",
)
MOVED = (
    "what moves after it was locked can follow the results.",
    'record it for good:     itera amend --why "\N{HORIZONTAL ELLIPSIS}"',
)
FRAME_OPEN = _once("frame_locked", "SG04", "the frame is locked.", *MOVED)
METRIC_OPEN = _once("metric_locked", "SG04", "the metric is locked.", *MOVED)
NOT_SAMPLED = _once(
    "sampled",
    "SG07",
    "the rows are sampled.",
    "a second sample could be chosen for what it shows.",
    "new rows:               itera new NAME",
)
NOT_SEALED = _once(
    "sealed",
    "SG02",
    "the test set is sealed.",
    "a second seal would be a second test set.",
    "new rows:               itera new NAME",
)
PASS_DONE = _need(
    lambda s: not s.pass_open,
    "SG02",
    _unfinished,
    "whatever changes now would be chosen with the test set open.",
    "finish the same pass:   itera verdict",
)
SECOND_LOOK = (
    "a second look after seeing the first turns the test into a tuning set.",
    "show it:               itera show\nnew idea, new rows:    itera new NAME",
)
UNDECIDED = _need(lambda s: s.pass_open or not s.has("test_opened"), "SG02", _decided, *SECOND_LOOK)
ROWS_LEFT = _need(
    lambda s: s.pass_open or len(s.all("test_opened")) < max(len(s.batches), 1),
    "SG02",
    _decided,
    *SECOND_LOOK,
)
OPENED = _after(
    "test_opened",
    "SG01",
    "the test set has not been opened.",
    "a verdict needs test scores.",
    "open it, once:          itera verdict",
)
SPRINT_OPEN = _need(
    lambda s: len(s.ungated) < MAX_ITERATIONS,
    "SG22",
    f"this sprint already has {MAX_ITERATIONS} iterations.",
    "long sprints tune to the dev rows they look at.",
    "close the sprint:       exp.gate() in 4-diagnose   (or itera run)",
)
SPRINTS_LEFT = _need(
    lambda s: bool(s.ungated) or len(s.all("gate")) < MAX_SPRINTS + s.answers("SG22"),
    "SG22",
    lambda s: f"{len(s.all('gate'))} sprints are over.",
    "each sprint spends some of what the dev rows can still tell.",
    "lock what passed:       itera run   (or exp.lock() in 4-diagnose)\n"
    'one more, if an audit of the gates passes: itera run --accept SG22="why"',
    asks=True,
)
PREVIOUS_SCORED = _need(
    lambda s: all(s.scored("dev", r.body["id"]) for r in s.ungated),
    "SG21",
    lambda s: f"iteration {s.ungated[-1].body['id']} is registered but not scored.",
    "two open changes cannot be told apart.",
    "score it first:         itera run   (or exp.iterate() in 4-diagnose)",
)
SPRINT_RAN = _need(
    lambda s: bool(s.ungated),
    "SG22",
    "there is no iteration since the last gate.",
    "a gate judges changes.",
    "lock the arms:          itera run   (or exp.lock() in 4-diagnose)",
)
GATED = _need(
    lambda s: not s.ungated,
    "SG23",
    lambda s: f"{len(s.ungated)} iteration(s) have not passed a gate.",
    "a change that nobody classed may have memorised the dev rows.",
    "close the sprint:       exp.gate() in 4-diagnose   (or itera run)",
)
VERDICT = _after(
    "verdict",
    "SG02",
    "there is no verdict yet.",
    "a conclusion is written from a verdict.",
    "open the test set:      itera verdict",
)

EXTENDABLE = _need(
    lambda s: s.decided and s.extension_registered and len(s.batches) == 1 and s.outcome == "inconclusive",
    "SG02",
    _not_extendable,
    "more rows after a look are honest only where they were registered before it, and once.",
    "new idea, new rows:    itera new NAME",
)

NEEDS: dict[str, tuple[Need, ...]] = {
    "frame_locked": (PASS_DONE, UNDECIDED, FRAME_OPEN),
    "sampled": (FRAME, NOT_SAMPLED),
    "audit_passed": (SAMPLED,),
    "audit_accepted": (SAMPLED,),
    "sealed": (SAMPLED, NOT_SEALED),
    "baseline_measured": (SEALED, ANSWERED),
    "metric_locked": (BASELINE, METRIC_OPEN),
    "pilot_passed": (METRIC,),
    "scored": (PILOT, AUDIT, NOT_LOCKED),
    "judge_checked": (DEV_SCORED, PASS_DONE, UNDECIDED),
    "labels_audited": (DEV_SCORED, PASS_DONE, UNDECIDED),
    "screened": (METRIC, NOT_LOCKED),
    "proposal_refused": (DEV_SCORED, NOT_LOCKED),
    "iteration_registered": (DEV_SCORED, NOT_LOCKED, PREVIOUS_SCORED, SPRINT_OPEN, SPRINTS_LEFT),
    "gate": (DEV_SCORED, NOT_LOCKED, SPRINT_RAN, PREVIOUS_SCORED),
    "locked": (DEV_SCORED, NOT_LOCKED, GATED, CLEAN),
    "test_opened": (LOCKED, PASS_DONE, ROWS_LEFT, CLEAN),
    "resumed": (OPENED, UNDECIDED),
    "verdict": (OPENED, UNDECIDED),
    "concluded": (VERDICT,),
    "extended": (VERDICT, EXTENDABLE),
    "amended": (FRAME, PASS_DONE, UNDECIDED),
    "resealed": (SEALED, PASS_DONE, UNDECIDED),
    "contamination": (SEALED,),
    "evicted": (SEALED,),
    "accepted": (),
    "revealed": (SEALED,),
    "seal_touched": (),
    "attempt_refused": (),
    "recovered": (),
    "created": (),
}

PHASES: dict[str, tuple[str, ...]] = {
    "0-frame": ("frame_locked",),
    "1-source": ("sampled", "sealed"),
    "2-metric": ("baseline_measured", "metric_locked"),
    "3-run": ("pilot_passed", "scored"),
    "4-diagnose": ("locked",),
    "5-verdict": ("test_opened", "verdict", "concluded"),
}


PHASE_NEEDS: dict[str, tuple[Need, ...]] = {
    "0-frame": (),
    "1-source": (FRAME,),
    "2-metric": (SEALED,),
    "3-run": (METRIC, PILOT, AUDIT),
    "4-diagnose": (DEV_SCORED,),
}
ASKING = {"SG03", "SG08", "SG12", "SG13", "SG22", "SG30", "budget"}
"""Safeguards whose question a person may answer with a reason."""
JUDGED_BY_A_PERSON = ASKING | {"SG11", "SG23"}


def blockers(event: str, state: State) -> list[Refusal]:
    """Every refusal that stands against recording `event` now."""
    return [need.refusal(state) for need in NEEDS[event] if not need.holds(state)]


def check(event: str, state: State) -> Refusal | None:
    """The refusal that stands against recording `event` now, or None."""
    return next((need.refusal(state) for need in NEEDS[event] if not need.holds(state)), None)


def happened(event: str, state: State) -> Record | None:
    """The record with which an event of a phase has happened; scores on train alone do not finish a run."""
    return state.scored("dev") if event == "scored" else state.last(event)


def finished(phase: str, state: State) -> bool:
    """Whether every event of a phase has happened, and what it asked is answered."""
    asked = phase == "1-source" and unanswered(state) is not None
    return not asked and all(happened(event, state) for event in PHASES[phase])


def may_open(state: State) -> Refusal | None:
    """The refusal that stands against opening the test set now, or finishing its open pass; or None."""
    return check("resumed" if state.pass_open else "test_opened", state)


def may_run(phase: str, state: State) -> Refusal | None:
    """The refusal that stands against running a phase's notebook now, or None.

    A finished phase may run again: it shows its records.
    """
    if phase == "5-verdict":
        return may_open(state)
    return next((n.refusal(state) for n in PHASE_NEEDS[phase] if not n.holds(state)), None)


def may_show(state: State) -> Refusal | None:
    """The refusal that stands against showing a conclusion: every sealed batch needs its verdict."""
    return None if state.decided else VERDICT.refusal(state)


def open_question(state: State) -> Record | None:
    """The refused attempt that waits for a person's answer, if nothing has happened since."""
    last = state.records[-1] if state.records else None
    if last is None or last.type != "attempt_refused":
        return None
    return last if last.body.get("safeguard") in JUDGED_BY_A_PERSON else None


def actor(phase: str, state: State) -> Literal["you", "itera", "custodian"]:
    """Who acts next in a phase: a person where one must look or answer, or who holds an escrowed key."""
    if phase == "5-verdict":
        sealed = state.last("sealed")
        custody = sealed.body.get("custody", {}) if sealed else {}
        return "custodian" if custody.get("mode") == "escrow" else "you"
    asked = phase == next_phase(state) and open_question(state) is not None
    looked_at = phase == "3-run" and state.scored("dev") is None
    judged = phase == "4-diagnose" and bool(state.ungated)
    return "you" if asked or looked_at or judged else "itera"


def next_phase(state: State) -> str | None:
    """The first phase that is not finished, or None when the experiment is concluded."""
    phase = next((phase for phase in PHASES if not finished(phase, state)), None)
    reopened = phase is None and (not state.decided or len(state.all("concluded")) < len(state.batches))
    return "5-verdict" if reopened else phase


def seen(state: State) -> str:
    """What had been seen when something is amended now: filled in by the tool, never by the user."""
    if state.scored("dev"):
        return "dev results seen"
    if state.has("pilot_passed"):
        return "pilot outputs seen"
    if state.has("baseline_measured"):
        return "baseline on train seen"
    return NOTHING_SEEN
