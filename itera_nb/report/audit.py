"""The self-audit: one line a safeguard, ticked from the ledger's evidence and never by assertion (SG34).

A check answers with a status and its evidence; a safeguard without evidence is not met.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from itera_nb.experiment import Experiment
from itera_nb.ledger import backward_times
from itera_nb.protocol import MAX_ITERATIONS, MAX_SPRINTS, SAFEGUARDS, State
from itera_nb.report.judge_check import audit_answer
from itera_nb.report.judged import rubric_locked
from itera_nb.report.labels import label_evidence
from itera_nb.report.leaks import scan_evidence
from itera_nb.report.power import power_line
from itera_nb.report.readings import seen_words
from itera_nb.report.wording import percent, shorten, size
from itera_nb.spec import Spec

MET, NOT_MET, NOT_APPLICABLE = "met", "not met", "not applicable"


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One safeguard, its status and the evidence for it."""

    id: str
    text: str
    status: str
    evidence: str

    def as_json(self) -> dict[str, str]:
        """The line as plain strings."""
        return asdict(self)


@dataclass(frozen=True)
class Facts:
    """What the checks read: the locked experiment, its ledger and the verdict record."""

    spec: Spec
    state: State
    verdict: dict[str, Any]

    @property
    def records(self) -> list[dict[str, Any]]:
        """The verdict records of the candidate arms."""
        found: list[dict[str, Any]] = self.verdict["records"]
        return found

    def body(self, event: str) -> dict[str, Any]:
        """The body of the latest event of a type, or {}."""
        record = self.state.last(event)
        return record.body if record else {}

    def before(self, first: str, second: str) -> bool:
        """Whether the first event of one type stands before the first of another."""
        a, b = self.state.all(first), self.state.all(second)
        return bool(a) and (not b or a[0].seq < b[0].seq)


Answer: TypeAlias = tuple[str, str]
Check: TypeAlias = Callable[[Facts], Answer]


def self_audit(experiment: Experiment) -> list[AuditLine]:
    """Every safeguard's line, in order, as things stood at the verdict: what comes later changes no page."""
    state = experiment.state
    record = state.last("verdict")
    until = State(state.records[: record.seq]) if record else state
    facts = Facts(experiment.spec, until, record.body["verdict"] if record else {"records": []})
    return [AuditLine(id_, SAFEGUARDS[id_], *CHECKS[id_](facts)) for id_ in SAFEGUARDS]


def _tick(holds: bool, evidence: str) -> Answer:
    return (MET if holds else NOT_MET), evidence


def _order(first: str, second: str, evidence: str) -> Check:
    return lambda f: _tick(f.before(first, second), evidence)


def _sg01(f: Facts) -> Answer:
    touches = len(f.state.all("seal_touched"))
    opened = f.state.last("test_opened")
    when = f"opened by record {opened.seq}" if opened else "never opened"
    return _tick(
        f.before("locked", "test_opened"), f"{when}, after the lock; {touches} failed reads recorded"
    )


def _sg02(f: Facts) -> Answer:
    openings, resumes = len(f.state.all("test_opened")), len(f.state.all("resumed"))
    batches = len(f.state.batches)
    top_up = " (one of them the registered top-up)" if batches > 1 else ""
    text = f"{batches} sealed batch(es){top_up}, {openings} opening(s), {resumes} resumes of the same pass"
    return _tick(openings == batches > 0, text)


def _sg03(f: Facts) -> Answer:
    found = f.body("sealed").get("duplicates", {})
    alike = found.get("groups", 0) + (found.get("near_groups") or 0)
    looked = f.body("test_opened").get("scan") is not None and not f.state.leaks
    kept = f"{alike} groups of same or nearly same rows kept on one side of the split"
    return _tick(bool(found) and looked, f"{kept}; {scan_evidence(f.state)}")


def _sg04(f: Facts) -> Answer:
    amended = len(f.state.all("amended"))
    return _tick(f.before("metric_locked", "scored"), f"locked before the first score; {amended} amendments")


def _sg05(f: Facts) -> Answer:
    found = rubric_locked(f.state, f.spec)
    return (NOT_APPLICABLE, "no judge, so no rubric") if found is None else _tick(*found)


def _sg06(f: Facts) -> Answer:
    modes = f.body("metric_locked").get("modes", {})
    if not modes:
        return NOT_APPLICABLE, "no failure modes are registered"
    return _tick(f.before("metric_locked", "scored"), f"{len(modes)} modes locked with the metric")


def _sg08(f: Facts) -> Answer:
    changes = f.body("frame_locked").get("changes", {})
    several = [arm for arm, parts in changes.items() if len(parts) > 1]
    baseline = f.spec.arms[f.spec.baseline].ref
    text = f"baseline {baseline}; " + (
        "; ".join(f"{a}: {', '.join(p) or 'nothing'}" for a, p in changes.items())
    )
    return _tick(bool(changes) and not several and bool(baseline), text)


def _sg09(f: Facts) -> Answer:
    changes = f.body("frame_locked").get("changes", {})
    same = [a for a, parts in changes.items() if not parts and not f.spec.arms[a].negative_control]
    return _tick(bool(changes) and not same, "every arm's components differ from the baseline's")


def _sg11(f: Facts) -> Answer:
    audit = f.state.audit
    if audit is None:
        return NOT_MET, "no distribution audit"
    if audit.body["status"] == "not_checked":
        return NOT_MET, "not checked: no production counts were given"
    return _tick(audit.type == "audit_passed", "; ".join(audit.body["sentences"])[:200])


def _sg12(f: Facts) -> Answer:
    if f.spec.source.cap_by is None:
        return NOT_APPLICABLE, "no cap is declared"
    report = f.body("sampled").get("report", {})
    accepted = f.state.answer("SG12")
    dropped = f"caps dropped {percent(report.get('dropped_share', 0))} of the rows"
    return _tick(bool(report), f"{dropped}; accepted: {accepted.body['why']}" if accepted else dropped)


def _sg13(f: Facts) -> Answer:
    wanted = f.body("sealed").get("requirements", [])
    missing = [r for r in wanted if not r["met"]]
    if not f.spec.source.slices and not wanted:
        return NOT_APPLICABLE, "no slices and no required conditions are declared"
    slices = f.body("sealed").get("slices", {})
    empty = [name for name, parts in slices.items() if not parts["test"]]
    text = f"{len(slices) - len(empty)} of {len(slices)} slices and {len(wanted) - len(missing)} of "
    holds = f.state.has("sealed") and not missing and not empty
    return _tick(holds, f"{text}{len(wanted)} requirements are in the test set")


def _sg14(f: Facts) -> Answer:
    needed = [r["n_needed"] for r in f.records if r["n_needed"]]
    power = f.body("metric_locked").get("power")
    foreseen = f"; at the lock, {power_line(power)}" if power else ""
    if not needed:
        return NOT_APPLICABLE, f"no size can be computed: nothing varies, or the goal is not a gain{foreseen}"
    rows = f.records[0]["n"]
    text = f"{rows:,} test rows; {max(needed):,} give 80 % power at the expected effect{foreseen}"
    return _tick(rows >= max(needed), text)


def _sg15(f: Facts) -> Answer:
    if f.records and f.body("baseline_measured").get("noise_floor") is None:
        return NOT_MET, "re-run noise was not measured: one trial"
    lines = [f"{r['arm']} {size(r['estimate'])} points, floor {size(r['noise']['floor'])}" for r in f.records]
    passing = [r for r in f.records if r["outcome"] in {"ship", "scope"}]
    clear = all(abs(r["estimate"]) >= 2 * r["noise"]["floor"] for r in passing)
    return _tick(bool(f.records) and clear, "; ".join(lines))


def _sg16(f: Facts) -> Answer:
    trials = {r["trials"] for r in f.records}
    return _tick(
        bool(trials), f"means over {', '.join(map(str, sorted(trials)))} trials; no trial can be chosen"
    )


def _sg17(f: Facts) -> Answer:
    failed = sum(r["missing"]["failed_calls"] for r in f.records)
    base = max((r["missing"]["baseline_unscored"] for r in f.records), default=0)
    unscored = base + sum(r["missing"]["unscored"] for r in f.records)
    sealed = f.body("sealed").get("counts", {}).get("test", 0) + f.body("extended").get("count", 0)
    whole = bool(f.records) and all(r["missing"]["rows"] == sealed for r in f.records)
    scored = min((r["n"] for r in f.records), default=0)
    rows = (
        f"all {sealed} rows counted"
        if scored == sealed
        else f"{scored} scored of {sealed} rows; all {sealed} in the bounds"
    )
    return _tick(whole, f"{rows}; {failed} failed calls, {unscored} outputs without a score")


def _sg18(f: Facts) -> Answer:
    prints = {r.body["fingerprint"] for r in f.state.all("scored") if r.seq > f.state.amended_at}
    same = f.body("locked").get("package")
    return _tick(
        len(prints) == 1 and bool(same), f"{len(prints)} run fingerprint; package hash checked at opening"
    )


def _sg19(f: Facts) -> Answer:
    arms = f.verdict.get("arms", {})
    unknown = [a for a, x in arms.items() if x["cost_per_1k_usd"] is None]
    text = (
        f"price unknown: {', '.join(unknown)}"
        if unknown
        else "mean over all rows and trials, priced per call"
    )
    return _tick(bool(arms) and not unknown, text)


def _sg20(f: Facts) -> Answer:
    holds, evidence = audit_answer(f.spec, f.state)
    return (NOT_APPLICABLE, evidence) if holds is None else _tick(holds, evidence)


def _iterated(f: Facts) -> bool:
    return bool(f.state.all("iteration_registered"))


def _sg21(f: Facts) -> Answer:
    if not _iterated(f):
        return NOT_APPLICABLE, "no iteration was made"
    late = []
    for record in f.state.all("iteration_registered"):
        scored = f.state.scored("dev", record.body["id"])
        if scored is not None and scored.seq < record.seq:
            late.append(record.body["id"])
    return _tick(not late, f"{len(f.state.all('iteration_registered'))} registered before their scores")


def _sg22(f: Facts) -> Answer:
    if not _iterated(f):
        return NOT_APPLICABLE, "no iteration was made"
    gates = f.state.all("gate")
    longest = max((len(g.body["changes"]) for g in gates), default=0)
    short = len(gates) <= MAX_SPRINTS and longest <= MAX_ITERATIONS and not f.state.ungated
    return _tick(short, f"{len(gates)} sprint(s), at most {longest} iteration(s) each, every one gated")


def _sg23(f: Facts) -> Answer:
    if not _iterated(f):
        return NOT_APPLICABLE, "no iteration was made"
    judged = {c["id"]: c for g in f.state.all("gate") for c in g.body["changes"]}
    locked = [line["head"] for line in f.body("locked").get("lines", []) if line["head"] in judged]
    classes = ", ".join(f"{i}: {c['class']}" for i, c in judged.items())
    return _tick(
        all(judged[i]["class"] == "universal" for i in locked), f"{classes}; locked: {len(locked)} of them"
    )


def _sg24(f: Facts) -> Answer:
    from itera_nb.diagnosis.sprint import line_heads

    heads = line_heads(f.spec, f.state)
    lines = {line["arm"]: line["head"] for line in f.body("locked").get("lines", []) if line["arm"] in heads}
    return _tick(lines == heads, "; ".join(f"{arm}: {head}" for arm, head in lines.items()))


def _sg25(f: Facts) -> Answer:
    if not f.spec.source.slices:
        return NOT_APPLICABLE, "no slices are declared"
    flagged = [f"{r['arm']}: {s['id']}" for r in f.records for s in r["slices"] if s["level"] == "flagged"]
    judged = all(r["slices"] for r in f.records)
    return _tick(bool(f.records) and judged, f"every slice judged; flagged: {', '.join(flagged) or 'none'}")


def _sg26(f: Facts) -> Answer:
    if not f.body("metric_locked").get("modes"):
        return NOT_APPLICABLE, "no failure modes are registered"
    levels = [
        f"{r['arm']}: {m['id']} {m['level']}" for r in f.records for m in r["failure_modes"] if m["level"]
    ]
    return _tick(bool(levels), "; ".join(levels))


def _sg27(f: Facts) -> Answer:
    if f.spec.source.severity is None:
        return NOT_APPLICABLE, "no severity is declared"
    both = [f"{r['arm']}: {r['severity']['note']}" for r in f.records if r["severity"]]
    return _tick(bool(both) and len(both) == len(f.records), "; ".join(both))


def _sg28(f: Facts) -> Answer:
    checked = [f"{r['arm']}: {r['overfit']['alarm']}" for r in f.records if r["overfit"]]
    lines = f.body("locked").get("lines", [])
    seen = [f"{x['head']}: {seen_words(x['seen'])}" for x in lines if x.get("seen")]
    return _tick(bool(checked) and len(checked) == len(f.records), "; ".join([*checked, *seen]))


def _sg29(f: Facts) -> Answer:
    scored, why = f.state.scored("dev"), f.state.readings
    text = f"{len(f.state.revealed)} of {scored.body['n'] if scored else 0} dev rows were read"
    if why:
        text += ": " + "; ".join(f"{n} to {shorten(reason, 60)!r}" for reason, n in why.items())
    return _tick(scored is not None, text)


def _sg30(f: Facts) -> Answer:
    holds, evidence = label_evidence(f.state, generated=f.spec.source.generated)
    return (NOT_APPLICABLE, evidence) if holds is None else _tick(holds, evidence)


def _sg31(f: Facts) -> Answer:
    undecided = [r for r in f.records if r["outcome"] == "inconclusive"]
    kills = [r for r in f.records if r["reason"] == "not_worth_it"]
    shown = all(r["high"] < r["tau"] for r in kills)
    text = f"{len(undecided)} arm(s) inconclusive; {len(kills)} kill(s) with a worthwhile gain ruled out"
    return _tick(bool(f.records) and shown, text)


def _sg32(f: Facts) -> Answer:
    backward = backward_times(f.state.records)
    text = f"{len(f.state.records)} records in one chain, head remembered outside the folder"
    return _tick(not backward, f"{text}; clock runs backward at {backward[:3]}" if backward else text)


def _sg33(f: Facts) -> Answer:
    count = len(f.records)
    return _tick(bool(f.records), f"Holm over {count} arm(s); a slice can take a pass away, never give one")


def _sg34(_: Facts) -> Answer:
    return MET, "computed from the ledger when this page was made"


CHECKS: dict[str, Check] = {
    "SG01": _sg01,
    "SG02": _sg02,
    "SG03": _sg03,
    "SG04": _sg04,
    "SG05": _sg05,
    "SG06": _sg06,
    "SG07": _order("frame_locked", "sampled", "the frame's lock stands before the sample in the ledger"),
    "SG08": _sg08,
    "SG09": _sg09,
    "SG10": _order("pilot_passed", "scored", "the pilot's field check stands before the first full run"),
    "SG11": _sg11,
    "SG12": _sg12,
    "SG13": _sg13,
    "SG14": _sg14,
    "SG15": _sg15,
    "SG16": _sg16,
    "SG17": _sg17,
    "SG18": _sg18,
    "SG19": _sg19,
    "SG20": _sg20,
    "SG21": _sg21,
    "SG22": _sg22,
    "SG23": _sg23,
    "SG24": _sg24,
    "SG25": _sg25,
    "SG26": _sg26,
    "SG27": _sg27,
    "SG28": _sg28,
    "SG29": _sg29,
    "SG30": _sg30,
    "SG31": _sg31,
    "SG32": _sg32,
    "SG33": _sg33,
    "SG34": _sg34,
}
