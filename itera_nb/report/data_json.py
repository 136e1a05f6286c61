"""`data.json`: the canonical results of an experiment, built from the ledger alone.

A superset of the published schema of the auto-itera reports; what that schema lacks stands under `itera`.
Scores, effects and shares are fractions, costs USD, times milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from itera_nb import __version__
from itera_nb.diagnosis.loop import results as iteration_results
from itera_nb.diagnosis.sprint import QUEUE
from itera_nb.experiment import Experiment
from itera_nb.ledger import Record
from itera_nb.protocol import NOTHING_SEEN, State, check
from itera_nb.report.audit import self_audit
from itera_nb.report.banner import banner, limits, rule_sentence, test_next
from itera_nb.report.judged import PAIRWISE
from itera_nb.spec import Spec


def build(experiment: Experiment) -> dict[str, Any]:
    """The whole of `data.json` for an experiment with a verdict."""
    spec, state = experiment.spec, experiment.state
    record = state.the("verdict")
    verdict = record.body["verdict"]
    records = verdict["records"]
    arms = {name: verdict["arms"][name] for name in spec.arms if name in verdict["arms"]}
    slices, seal = _slices(state), state.the("sealed").body["sealed"]
    said = banner(spec, verdict, extendable=check("extended", state) is None)
    passed = [r["arm"] for r in records if r["outcome"] in {"ship", "scope"}]
    weighted = {arm: x["weighted"] for arm, x in arms.items() if x["weighted"] is not None}
    return {
        "experiment": _experiment(experiment, spec, state, records),
        "arms": [_arm(spec, state, name, figures) for name, figures in arms.items()],
        "slices": slices,
        "failure_modes": {
            "categories": _categories(state),
            "test_set_counts": {arm: x["modes"] for arm, x in arms.items()},
        },
        "severity": {"field": spec.source.severity, "test_set_weighted_accuracy": weighted}
        if weighted
        else None,
        "variance_trials": {arm: x["trials"] for arm, x in arms.items()},
        "test_set_aggregate": {arm: x["mean"] for arm, x in arms.items()},
        "test_set_per_slice": {arm: x["per_slice"] for arm, x in arms.items()},
        "effect_sizes": {x["arm"]: _effects(x) for x in (*records, *verdict["controls"])},
        "verdict": {
            "winner": verdict["arm"] if verdict["arm"] in passed else None,
            "killed": [r["arm"] for r in records if r["outcome"] == "kill"],
            "rationale": said.sentence,
        },
        "itera": {
            "version": __version__,
            "outcome": verdict["outcome"],
            "arm": verdict["arm"],
            "headline": said.headline,
            "sentence": said.sentence,
            "do": said.do,
            "records": records,
            "rule": _rule(spec, records),
            "dev": _dev(spec, state),
            "iterations": _iterations(experiment),
            "proposals": _proposals(state),
            "screened": len(screened.body["arms"]) if (screened := state.last("screened")) else 0,
            "limits": limits(experiment),
            "test_next": test_next(verdict),
            "pareto": verdict["pareto"],
            "preference": {
                arm: x["preference"]
                for arm, x in arms.items()
                if x.get("preference") and arm != spec.baseline
            },
            "judge": verdict.get("judge"),
            "custody": experiment.custody.words,
            "looks": len(state.all("verdict")),
            "resumes": record.body["resumes"],
            "accepted": [
                {"safeguard": r.body["safeguard"], "why": r.body["why"]} for r in state.all("accepted")
            ],
            "amended": [
                {
                    "what": "; ".join(r.body["changed"]),
                    "why": r.body["why"],
                    "seen": r.body["seen"] != NOTHING_SEEN,
                }
                for r in state.all("amended")
            ],
            "audit": [asdict(line) for line in self_audit(experiment)],
            "record": {
                "head": record.hash,
                "seq": record.seq,
                "genesis": experiment.genesis,
                "seal": seal["sha256"],
                "recipients": seal["recipients"],
            },
        },
    }


def _experiment(
    experiment: Experiment, spec: Spec, state: State, records: list[dict[str, Any]]
) -> dict[str, Any]:
    audit = state.audit
    return {
        "name": experiment.name,
        "question": spec.frame.question,
        "hypothesis": spec.frame.hypothesis,
        "metric": metric_name(spec),
        "threshold_pct": 100 * records[0]["tau"],
        "threshold_rule": rule_sentence(spec, records[0]["tau"]),
        "test_set_n": records[0]["n"],
        "trials_per_arm": max(r["trials"] for r in records),
        "locked_at": state.the("frame_locked").ts,
        "opened_at": state.the("test_opened").ts,
        "concluded_at": state.the("verdict").ts,
        "folder": folder_name(experiment.folder.parts),
        "expected_effect": spec.expected_effect(records[0]["tau"]),
        "limitations": list(spec.frame.limitations),
        "production_counts": "not checked" if audit is None else _audit_words(audit.body),
    }


def metric_name(spec: Spec) -> str:
    """The scorer as a reader calls it."""
    scorer = spec.metric.scorer
    if spec.metric.pairwise:
        return PAIRWISE
    if spec.judge is not None:
        return "judge's score"
    return "accuracy" if scorer in {"exact", "accuracy"} else scorer.rpartition(":")[2]


def _audit_words(body: dict[str, Any]) -> str:
    if "why" in body:
        return f"accepted: {body['why']}"
    return "not checked" if body["status"] == "not_checked" else str(body["status"])


def folder_name(parts: Sequence[str]) -> str:
    """The folder as a reader of the repository would name it; never this machine's absolute path."""
    above = [i for i, part in enumerate(parts[:-1]) if part == "docs"]
    return "/".join(parts[above[-1] if above else -1 :])


def _arm(spec: Spec, state: State, name: str, figures: dict[str, Any]) -> dict[str, Any]:
    arm = spec.arms[name]
    locked = state.the("locked")
    line = next(x for x in locked.body["lines"] if x["arm"] == name)
    scored = state.scored("dev")
    dev = scored.body["arms"].get(name, {}) if scored else {}
    return {
        "id": name,
        "name": name,
        "baseline": arm.baseline,
        "negative_control": arm.negative_control,
        "change": arm.change,
        "ref": arm.ref,
        "where": arm.target or arm.prompt,
        "secondary": figures["secondary"],
        "cost_per_1k_usd": figures["cost_per_1k_usd"],
        "latency_p50_ms": figures["latency_p50_ms"],
        "latency_p95_ms": figures["latency_p95_ms"],
        "amortised": bool(dev.get("amortised")),
        "deterministic": len(set(figures["trials"])) == 1,
        "iteration": line["head"] if line["head"] != name else None,
    }


def _slices(state: State) -> list[dict[str, Any]]:
    sealed = state.the("sealed")
    counts = {name: parts["test"] for name, parts in sealed.body["slices"].items()}
    for extended in state.all("extended"):
        for name, n in extended.body["slices"].items():
            counts[name] = counts.get(name, 0) + n
    named = [(name, *name.partition("=")[::2], n) for name, n in counts.items() if n]
    return [{"id": name, "name": value, "column": column, "n": n} for name, column, value, n in named]


def _categories(state: State) -> list[dict[str, Any]]:
    locked = state.the("metric_locked")
    return [
        {"id": m, "name": m.replace("_", " "), "severity_weight": w} for m, w in locked.body["modes"].items()
    ]


def _effects(record: dict[str, Any]) -> dict[str, Any]:
    """The effect of an arm and on its slices; a control is judged on all rows alone."""

    def effect(x: dict[str, Any]) -> dict[str, float]:
        return {"delta": x["estimate"], "ci_low": x["low"], "ci_high": x["high"]}

    return {"aggregate": effect(record), "per_slice": {s["id"]: effect(s) for s in record.get("slices", ())}}


def _rule(spec: Spec, records: list[dict[str, Any]]) -> dict[str, Any]:
    rule = spec.rule
    return {
        "goal": rule.goal,
        "min_effect": records[0]["tau"],
        "margin": rule.margin,
        "max_slice_loss": rule.max_slice_loss,
        "proof": rule.proof,
        "slice_rule": rule.slice_rule,
        "extension": rule.extension,
        "alpha": records[0]["alpha"],
        "sentence": rule_sentence(spec, records[0]["tau"]),
    }


def _dev(spec: Spec, state: State) -> dict[str, Any]:
    scored, baseline = state.scored("dev"), state.last("baseline_measured")
    assert scored is not None
    arms = {name: scored.body["arms"][name] for name in spec.arms}
    return {
        "aggregate": {arm: x["mean"] for arm, x in arms.items()},
        "trials": {arm: x["trials"] for arm, x in arms.items()},
        "n": scored.body["n"],
        "noise_floor": baseline.body["noise_floor"] if baseline else None,
        "revealed": len(state.revealed),
        "baseline": spec.baseline,
    }


def _proposals(state: State) -> list[dict[str, Any]]:
    """What each proposer but the queue did: iterations, answers that became none, and USD (None: unknown)."""
    found: dict[str, list[Record]] = {}
    for record in (*state.all("iteration_registered"), *state.all("proposal_refused")):
        found.setdefault(record.body.get("proposer", QUEUE), []).append(record)
    found.pop(QUEUE, None)
    return [
        {
            "proposer": name,
            "iterations": sum(r.type == "iteration_registered" for r in records),
            "refused": sum(bool(r.body["request"]) and r.type == "proposal_refused" for r in records),
            "cost_usd": None
            if any(r.body["cost_usd"] is None for r in records)
            else sum(r.body["cost_usd"] for r in records),
        }
        for name, records in found.items()
    ]


def _iterations(experiment: Experiment) -> list[dict[str, Any]]:
    judged = {c["id"]: c for gate in experiment.state.all("gate") for c in gate.body["changes"]}
    found = []
    for result in iteration_results(experiment):
        body, gate = result.record.body, judged.get(result.record.body["id"], {})
        found.append(
            {
                "id": body["id"],
                "hypothesis": body["hypothesis"],
                "what": body["what"],
                "parent": body["parent"],
                "proposer": body.get("proposer", QUEUE),
                "predicted_effect": body["predicted_effect"],
                "predicted_rows": body["predicted_rows"],
                "dev_overall": result.overall.estimate,
                "dev_effect": result.effect.estimate,
                "dev_low": result.effect.low,
                "dev_high": result.effect.high,
                "outcome": result.outcome,
                "reach": asdict(result.reach),
                "class": gate.get("class"),
                "action": gate.get("action"),
                "evidence": gate.get("evidence"),
                "judged_by": gate.get("by"),
                "against_the_figures": gate.get("against"),
                "measured": gate.get("measured", {}).get("sentence"),
                "gate": "kept" if gate.get("kept") else "not locked",
            }
        )
    return found
