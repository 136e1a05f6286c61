"""The self-audit: every safeguard has a line, ticked only where the ledger has the evidence."""

from dataclasses import replace

import pytest
from world import open_test

from itera_nb.ledger import Record
from itera_nb.protocol import SAFEGUARDS, State
from itera_nb.report.audit import MET, NOT_APPLICABLE, NOT_MET, Facts, self_audit


@pytest.fixture
def finished(make_experiment):
    session = make_experiment(rows=120, run="trials = 2")
    for step in (
        session.frame.lock,
        session.source.sample,
        session.source.audit,
        session.split.seal,
        session.metric.try_on,
        session.metric.lock,
        session.pilot,
        session.run,
        session.lock,
    ):
        step()
    open_test(session.experiment)
    return session.experiment


def lines(experiment):
    return {line.id: line for line in self_audit(experiment)}


def test_a_new_experiment_ticks_nothing_that_needs_evidence(make_experiment):
    found = lines(make_experiment().experiment)
    assert list(found) == list(SAFEGUARDS)
    assert {i for i, line in found.items() if line.status == MET} == {"SG32", "SG34"}
    assert all(line.evidence for line in found.values() if line.status == MET)


def test_a_finished_experiment(finished):
    found = lines(finished)
    met = {i for i, line in found.items() if line.status == MET}
    assert met >= {
        f"SG{n:02d}" for n in (1, 2, 3, 4, 7, 8, 9, 10, 13, 16, 17, 18, 19, 24, 25, 28, 29, 32, 33, 34)
    }
    assert found["SG11"].status == NOT_MET, "no production counts were given"
    assert {found[f"SG{n}"].status for n in ("05", 12, 20, 21, 22, 23, 27, 30)} == {NOT_APPLICABLE}
    assert found["SG29"].evidence == "0 of 24 dev rows were read"
    assert "all 84 rows counted" in found["SG17"].evidence
    assert found["SG02"].evidence.startswith("1 sealed batch(es), 1 opening(s), 0 resumes")
    assert all("CANARY" not in line.evidence for line in found.values())
    without_some_events(finished)


def without_some_events(experiment):
    """The same ledger without an event, or with it too late: the line that rests on it is not ticked."""
    state, spec = experiment.state, experiment.spec
    verdict = state.last("verdict").body["verdict"]

    def status(safeguard, records):
        return Facts(spec, state.__class__(tuple(records)), verdict).line(safeguard).status

    for safeguard, event in {"SG01": "locked", "SG03": "sealed", "SG04": "metric_locked", "SG07": "frame_locked", "SG10": "pilot_passed", "SG11": "audit_passed", "SG18": "scored", "SG24": "locked", "SG29": "scored"}.items():  # fmt: skip
        assert status(safeguard, [r for r in state.records if r.type != event]) == NOT_MET, safeguard
    first = next(r for r in state.records if r.type == "pilot_passed")
    late = [r for r in state.records if r is not first]
    late.append(first.__class__(**{f: getattr(first, f) for f in first.__slots__} | {"seq": 999}))
    assert status("SG10", late) == NOT_MET


def record_with(records, **changes):
    return [records[0] | changes]


@pytest.mark.parametrize(
    ("safeguard", "changes"),
    [
        ("SG15", {"outcome": "ship", "noise": {"floor": 0.5}}),
        ("SG17", {"missing": {"failed_calls": 0, "unscored": 0, "baseline_unscored": 0, "rows": 1}}),
        ("SG14", {"n_needed": 10_000}),
        ("SG31", {"reason": "not_worth_it", "high": 0.9}),
        ("SG28", {"overfit": None}),
        ("SG25", {"slices": []}),
    ],
)
def test_a_verdict_record_that_does_not_carry_the_line(make_experiment, safeguard, changes):
    record = {
        "arm": "better", "outcome": "kill", "reason": "harmful", "estimate": 0.2, "high": 0.3, "tau": 0.05, "n": 10,
        "n_needed": 5, "noise": {"floor": 0.01}, "missing": {"failed_calls": 0, "unscored": 0, "baseline_unscored": 0, "rows": 10}, "trials": 2,
        "slices": [{"id": "a", "level": "cleared"}], "overfit": {"alarm": "none"},
    }  # fmt: skip
    measured = Record(2, "", "baseline_measured", "", {"noise_floor": 0.01}, "")
    state = State((Record(1, "", "sealed", "", {"counts": {"test": 10}}, ""), measured))
    spec = make_experiment().experiment.spec

    def status(body):
        return Facts(spec, state, {"records": [body]}).line(safeguard).status

    assert status(record) == MET
    assert status(record | changes) == NOT_MET


def test_a_gap_is_not_beyond_noise_that_nobody_measured(finished):
    state, spec = finished.state, finished.spec
    assert lines(finished)["SG15"].status == MET
    once = [
        replace(r, body=r.body | {"noise_floor": None}) if r.type == "baseline_measured" else r
        for r in state.records
    ]
    facts = Facts(spec, state.__class__(tuple(once)), state.last("verdict").body["verdict"])
    line = facts.line("SG15")
    assert line.status == NOT_MET
    assert "not measured: one trial" in line.evidence


def test_severity_is_not_ticked_without_a_verdict(make_experiment):
    spec = make_experiment(source='severity = "text"').experiment.spec
    assert Facts(spec, State(()), {"records": []}).line("SG27").status == NOT_MET
