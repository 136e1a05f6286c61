"""The self-audit: one line a safeguard, ticked from the ledger's evidence and never by assertion (SG34).

A check answers whether its safeguard holds, None where it asks for nothing here, and with what evidence; a
safeguard without evidence is not met.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

from itera_nb.experiment import Experiment
from itera_nb.ledger import Record, backward_times
from itera_nb.protocol import MAX_ITERATIONS, MAX_SPRINTS, SAFEGUARDS, State
from itera_nb.report.judge_check import audit_answer
from itera_nb.report.labels import label_evidence, seen_words
from itera_nb.report.leaks import scan_evidence
from itera_nb.report.power import power_line
from itera_nb.report.wording import changes_text, percent, shorten, size
from itera_nb.spec import Spec

MET, NOT_MET, NOT_APPLICABLE = "met", "not met", "not applicable"
STATUS = {True: MET, False: NOT_MET, None: NOT_APPLICABLE}
NO_ITERATION = None, "no iteration was made"
NO_MODES = None, "no failure modes are registered"

Answer: TypeAlias = tuple[bool | None, str]


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One safeguard, its status and the evidence for it."""

    id: str
    text: str
    status: str
    evidence: str


def self_audit(experiment: Experiment) -> list[AuditLine]:
    """Every safeguard's line, in order, as things stood at the verdict: what comes later changes no page."""
    state = experiment.state
    record = state.last("verdict")
    until = State(state.records[: record.seq]) if record else state
    return Facts(experiment.spec, until, record.body["verdict"] if record else {"records": []}).lines()


@dataclass(frozen=True)
class Facts:
    """What the checks read: the locked experiment, its ledger and the verdict record; `_sg01` checks SG01."""

    spec: Spec
    state: State
    verdict: dict[str, Any]

    def lines(self) -> list[AuditLine]:
        """Every safeguard's line, in order."""
        return [self.line(id_) for id_ in SAFEGUARDS]

    def line(self, id_: str) -> AuditLine:
        """One safeguard's line."""
        check: Callable[[], Answer] = getattr(self, f"_{id_.lower()}")
        holds, evidence = check()
        return AuditLine(id_, SAFEGUARDS[id_], STATUS[holds], evidence)

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

    @cached_property
    def changes(self) -> dict[str, list[str]]:
        """Arm -> the components in which it differs from the baseline, as locked."""
        found: dict[str, list[str]] = self.body("frame_locked").get("changes", {})
        return found

    @cached_property
    def iterations(self) -> tuple[Record, ...]:
        """Every registered iteration."""
        return self.state.all("iteration_registered")

    @cached_property
    def locked_lines(self) -> list[dict[str, Any]]:
        """What goes to the test, one line an arm."""
        found: list[dict[str, Any]] = self.body("locked").get("lines", [])
        return found

    def _sg01(self) -> Answer:
        touches = len(self.state.all("seal_touched"))
        opened = self.state.last("test_opened")
        when = f"opened by record {opened.seq}" if opened else "never opened"
        evidence = f"{when}, after the lock; {touches} failed reads recorded"
        return self.before("locked", "test_opened"), evidence

    def _sg02(self) -> Answer:
        openings, resumes = len(self.state.all("test_opened")), len(self.state.all("resumed"))
        batches = len(self.state.batches)
        top_up = " (one of them the registered top-up)" if batches > 1 else ""
        text = (
            f"{batches} sealed batch(es){top_up}, {openings} opening(s), {resumes} resumes of the same pass"
        )
        return openings == batches > 0, text

    def _sg03(self) -> Answer:
        found = self.body("sealed").get("duplicates", {})
        alike = found.get("groups", 0) + (found.get("near_groups") or 0)
        looked = self.body("test_opened").get("scan") is not None and not self.state.leaks
        kept = f"{alike} groups of same or nearly same rows kept on one side of the split"
        return bool(found) and looked, f"{kept}; {scan_evidence(self.state)}"

    def _sg04(self) -> Answer:
        amended = len(self.state.all("amended"))
        evidence = f"locked before the first score; {amended} amendments"
        return self.before("metric_locked", "scored"), evidence

    def _sg05(self) -> Answer:
        if self.spec.judge is None:
            return None, "no judge, so no rubric"
        rubric = self.spec.judge.rubric
        locked, scored = self.state.last("metric_locked"), self.state.all("scored")
        sha256 = locked.body["values"].get("code", {}).get(rubric) if locked else None
        first = not scored or (locked is not None and locked.seq < scored[0].seq)
        return bool(sha256) and first, f"{rubric} (sha256 {str(sha256)[:12]}) locked before the first score"

    def _sg06(self) -> Answer:
        modes = self.body("metric_locked").get("modes")
        if not modes:
            return NO_MODES
        return self.before("metric_locked", "scored"), f"{len(modes)} modes locked with the metric"

    def _sg07(self) -> Answer:
        evidence = "the frame's lock stands before the sample in the ledger"
        return self.before("frame_locked", "sampled"), evidence

    def _sg08(self) -> Answer:
        several = [arm for arm, parts in self.changes.items() if len(parts) > 1]
        baseline = self.spec.arms[self.spec.baseline].ref
        evidence = f"baseline {baseline}; {changes_text(self.changes)}"
        return bool(self.changes) and not several and bool(baseline), evidence

    def _sg09(self) -> Answer:
        arms = self.spec.arms
        same = [a for a, parts in self.changes.items() if not parts and not arms[a].negative_control]
        return bool(self.changes) and not same, "every arm's components differ from the baseline's"

    def _sg10(self) -> Answer:
        evidence = "the pilot's field check stands before the first full run"
        return self.before("pilot_passed", "scored"), evidence

    def _sg11(self) -> Answer:
        audit = self.state.audit
        if audit is None:
            return False, "no distribution audit"
        if audit.body["status"] == "not_checked":
            return False, "not checked: no production counts were given"
        return audit.type == "audit_passed", "; ".join(audit.body["sentences"])[:200]

    def _sg12(self) -> Answer:
        if self.spec.source.cap_by is None:
            return None, "no cap is declared"
        report = self.body("sampled").get("report", {})
        accepted = self.state.answer("SG12")
        dropped = f"caps dropped {percent(report.get('dropped_share', 0))} of the rows"
        return bool(report), f"{dropped}; accepted: {accepted.body['why']}" if accepted else dropped

    def _sg13(self) -> Answer:
        wanted = self.body("sealed").get("requirements", [])
        missing = [r for r in wanted if not r["met"]]
        if not self.spec.source.slices and not wanted:
            return None, "no slices and no required conditions are declared"
        slices = self.body("sealed").get("slices", {})
        empty = [name for name, parts in slices.items() if not parts["test"]]
        text = f"{len(slices) - len(empty)} of {len(slices)} slices and {len(wanted) - len(missing)} of "
        holds = self.state.has("sealed") and not missing and not empty
        return holds, f"{text}{len(wanted)} requirements are in the test set"

    def _sg14(self) -> Answer:
        needed = [r["n_needed"] for r in self.records if r["n_needed"]]
        power = self.body("metric_locked").get("power")
        foreseen = f"; at the lock, {power_line(power)}" if power else ""
        if not needed:
            why = "no size can be computed: nothing varies, or the goal is not a gain"
            return None, f"{why}{foreseen}"
        rows = self.records[0]["n"]
        text = f"{rows:,} test rows; {max(needed):,} give 80 % power at the expected effect{foreseen}"
        return rows >= max(needed), text

    def _sg15(self) -> Answer:
        if self.records and self.body("baseline_measured").get("noise_floor") is None:
            return False, "re-run noise was not measured: one trial"
        lines = [
            f"{r['arm']} {size(r['estimate'])} points, floor {size(r['noise']['floor'])}"
            for r in self.records
        ]
        passing = [r for r in self.records if r["outcome"] in {"ship", "scope"}]
        clear = all(abs(r["estimate"]) >= 2 * r["noise"]["floor"] for r in passing)
        return bool(self.records) and clear, "; ".join(lines)

    def _sg16(self) -> Answer:
        trials = sorted({r["trials"] for r in self.records})
        return bool(trials), f"means over {', '.join(map(str, trials))} trials; no trial can be chosen"

    def _sg17(self) -> Answer:
        failed = sum(r["missing"]["failed_calls"] for r in self.records)
        base = max((r["missing"]["baseline_unscored"] for r in self.records), default=0)
        unscored = base + sum(r["missing"]["unscored"] for r in self.records)
        sealed = self.body("sealed").get("counts", {}).get("test", 0) + self.body("extended").get("count", 0)
        whole = bool(self.records) and all(r["missing"]["rows"] == sealed for r in self.records)
        scored = min((r["n"] for r in self.records), default=0)
        rows = f"all {sealed} rows counted"
        if scored != sealed:
            rows = f"{scored} scored of {sealed} rows; all {sealed} in the bounds"
        return whole, f"{rows}; {failed} failed calls, {unscored} outputs without a score"

    def _sg18(self) -> Answer:
        scored = (r for r in self.state.all("scored") if r.seq > self.state.amended_at)
        prints = {r.body["fingerprint"] for r in scored}
        same = self.body("locked").get("package")
        evidence = f"{len(prints)} run fingerprint; package hash checked at opening"
        return len(prints) == 1 and bool(same), evidence

    def _sg19(self) -> Answer:
        arms = self.verdict.get("arms", {})
        unknown = [a for a, x in arms.items() if x["cost_per_1k_usd"] is None]
        if unknown:
            return False, f"price unknown: {', '.join(unknown)}"
        return bool(arms), "mean over all rows and trials, priced per call"

    def _sg20(self) -> Answer:
        return audit_answer(self.spec, self.state)

    def _sg21(self) -> Answer:
        if not self.iterations:
            return NO_ITERATION
        scores = [(r, self.state.scored("dev", r.body["id"])) for r in self.iterations]
        late = [r for r, scored in scores if scored is not None and scored.seq < r.seq]
        return not late, f"{len(self.iterations)} registered before their scores"

    def _sg22(self) -> Answer:
        if not self.iterations:
            return NO_ITERATION
        gates = self.state.all("gate")
        longest = max((len(g.body["changes"]) for g in gates), default=0)
        short = len(gates) <= MAX_SPRINTS and longest <= MAX_ITERATIONS and not self.state.ungated
        return short, f"{len(gates)} sprint(s), at most {longest} iteration(s) each, every one gated"

    def _sg23(self) -> Answer:
        if not self.iterations:
            return NO_ITERATION
        judged = {c["id"]: c["class"] for g in self.state.all("gate") for c in g.body["changes"]}
        locked = [judged[line["head"]] for line in self.locked_lines if line["head"] in judged]
        classes = ", ".join(f"{i}: {class_}" for i, class_ in judged.items())
        return set(locked) <= {"universal"}, f"{classes}; locked: {len(locked)} of them"

    def _sg24(self) -> Answer:
        from itera_nb.diagnosis.sprint import line_heads

        heads = line_heads(self.spec, self.state)
        lines = {line["arm"]: line["head"] for line in self.locked_lines if line["arm"] in heads}
        return lines == heads, "; ".join(f"{arm}: {head}" for arm, head in lines.items())

    def _sg25(self) -> Answer:
        if not self.spec.source.slices:
            return None, "no slices are declared"
        slices = [(r["arm"], s) for r in self.records for s in r["slices"]]
        flagged = [f"{arm}: {s['id']}" for arm, s in slices if s["level"] == "flagged"]
        judged = bool(self.records) and all(r["slices"] for r in self.records)
        return judged, f"every slice judged; flagged: {', '.join(flagged) or 'none'}"

    def _sg26(self) -> Answer:
        if not self.body("metric_locked").get("modes"):
            return NO_MODES
        levels = [f"{r['arm']}: {m['id']} {m['level']}" for r in self.records for m in r["failure_modes"]]
        return bool(levels), "; ".join(levels)

    def _sg27(self) -> Answer:
        if self.spec.source.severity is None:
            return None, "no severity is declared"
        both = [f"{r['arm']}: {r['severity']['note']}" for r in self.records if r["severity"]]
        return len(both) == len(self.records) > 0, "; ".join(both)

    def _sg28(self) -> Answer:
        checked = [f"{r['arm']}: {r['overfit']['alarm']}" for r in self.records if r["overfit"]]
        seen = [f"{x['head']}: {seen_words(x['seen'])}" for x in self.locked_lines if x.get("seen")]
        return len(checked) == len(self.records) > 0, "; ".join([*checked, *seen])

    def _sg29(self) -> Answer:
        scored, why = self.state.scored("dev"), self.state.readings
        text = f"{len(self.state.revealed)} of {scored.body['n'] if scored else 0} dev rows were read"
        if why:
            text += ": " + "; ".join(f"{n} to {shorten(reason, 60)!r}" for reason, n in why.items())
        return scored is not None, text

    def _sg30(self) -> Answer:
        return label_evidence(self.state, generated=self.spec.source.generated)

    def _sg31(self) -> Answer:
        undecided = [r for r in self.records if r["outcome"] == "inconclusive"]
        kills = [r for r in self.records if r["reason"] == "not_worth_it"]
        shown = all(r["high"] < r["tau"] for r in kills)
        text = f"{len(undecided)} arm(s) inconclusive; {len(kills)} kill(s) with a worthwhile gain ruled out"
        return bool(self.records) and shown, text

    def _sg32(self) -> Answer:
        backward = backward_times(self.state.records)
        text = f"{len(self.state.records)} records in one chain, head remembered outside the folder"
        return not backward, f"{text}; clock runs backward at {backward[:3]}" if backward else text

    def _sg33(self) -> Answer:
        count = len(self.records)
        return count > 0, f"Holm over {count} arm(s); a slice can take a pass away, never give one"

    def _sg34(self) -> Answer:
        return True, "computed from the ledger when this page was made"
