"""The table of what may follow what, and the refusals that answer."""

import pytest

from itera_nb.exceptions import Refusal
from itera_nb.ledger import Record
from itera_nb.protocol import (
    MAX_ITERATIONS,
    MAX_SPRINTS,
    NEEDS,
    PHASES,
    SAFEGUARDS,
    State,
    actor,
    check,
    may_open,
    may_run,
    may_show,
    next_phase,
    open_question,
    seen,
)

BODIES = {
    "frame_locked": {"values": {"rule": {"extension": "none"}}},
    "scored": {"rows": "dev", "iteration": None},
    "verdict": {"outcome": "ship", "arm": "better"},
    "test_opened": {"nonce": "0"},
}
TO_SCORES = [
    "created",
    "frame_locked",
    "sampled",
    "audit_passed",
    "sealed",
    "baseline_measured",
    "metric_locked",
    "pilot_passed",
    "scored",
]
TO_VERDICT = [*TO_SCORES, "locked", "test_opened", "verdict"]
ALWAYS = {"accepted", "seal_touched", "attempt_refused", "recovered", "created"}


def state(*events):
    """A state from event names, or (name, body) pairs."""
    pairs = [(e, BODIES.get(e, {})) if isinstance(e, str) else e for e in events]
    records = (
        Record(n, "", type_, f"2026-11-21T10:00:{n:02d}.000+00:00", body, f"{n:064d}")
        for n, (type_, body) in enumerate(pairs, 1)
    )
    return State(tuple(records))


def iteration(name, *, scored=True):
    events = [("iteration_registered", {"id": name})]
    return [*events, ("scored", {"rows": "dev", "iteration": name})] if scored else events


def sprint(number, size=1):
    return [e for i in range(size) for e in iteration(f"i{number}-{i}")]


def gate():
    return ("gate", {"changes": []})


def safeguard(event, *events):
    refusal = check(event, state(*events))
    return None if refusal is None else refusal.safeguard


# each event: refused before its needs, with which safeguard, and allowed after --------------------------------

TABLE = [
    ("sampled", ["frame_locked"], "SG07"),
    ("audit_passed", ["sampled"], "SG07"),
    ("audit_accepted", ["sampled"], "SG07"),
    ("sealed", ["sampled"], "SG07"),
    ("baseline_measured", ["sealed"], "SG01"),
    ("revealed", ["sealed"], "SG01"),
    ("metric_locked", ["baseline_measured"], "SG14"),
    ("pilot_passed", ["metric_locked"], "SG04"),
    ("scored", ["pilot_passed"], "SG10"),
    ("scored", ["audit_passed"], "SG11"),
    ("screened", ["metric_locked"], "SG04"),
    ("proposal_refused", ["scored"], "SG10"),
    ("iteration_registered", ["scored"], "SG10"),
    ("gate", ["scored"], "SG10"),
    ("locked", ["scored"], "SG10"),
    ("judge_checked", ["scored"], "SG10"),
    ("labels_audited", ["scored"], "SG10"),
    ("test_opened", ["locked"], "SG01"),
    ("resumed", ["test_opened"], "SG01"),
    ("verdict", ["test_opened"], "SG01"),
    ("concluded", ["verdict"], "SG02"),
    ("amended", ["frame_locked"], "SG07"),
    ("resealed", ["sealed"], "SG01"),
    ("contamination", ["sealed"], "SG01"),
    ("evicted", ["sealed"], "SG01"),
]


def history(event):
    """The shortest ordinary history after which `event` is allowed."""
    if event == "gate":
        return [*TO_SCORES, *sprint(1)]
    order = [*TO_VERDICT, "concluded"]
    before = {"iteration_registered": "locked", "revealed": "baseline_measured", "audit_accepted": "sealed"}
    before |= {"screened": "pilot_passed", "proposal_refused": "locked"}
    before |= {
        "resumed": "verdict",
        "amended": "sampled",
        "judge_checked": "locked",
        "labels_audited": "locked",
    }
    before |= dict.fromkeys(["resealed", "contamination", "evicted"], "baseline_measured")
    return order[: order.index(before.get(event, event))]


@pytest.mark.parametrize(("event", "needed", "answer"), TABLE)
def test_an_event_is_refused_before_what_it_needs_and_allowed_after(event, needed, answer):
    full = history(event)
    assert safeguard(event, *full) is None
    without = [e for e in full if (e if isinstance(e, str) else e[0]) not in needed]
    assert len(without) < len(full)
    assert safeguard(event, *without) == answer


def test_the_table_covers_every_event_but_those_that_always_may_happen():
    covered = {event for event, _, _ in TABLE} | ALWAYS | {"frame_locked", "extended"}
    assert covered == set(NEEDS)
    for event in ALWAYS:
        assert check(event, state()) is None
        assert check(event, state(*TO_VERDICT)) is None


def test_a_judge_may_be_checked_until_the_test_is_opened():
    assert safeguard("judge_checked", *TO_SCORES, "locked") is None
    assert safeguard("judge_checked", *TO_SCORES, "locked", "test_opened") == "SG02"


@pytest.mark.parametrize(
    ("event", "answer"),
    [("frame_locked", "SG04"), ("sampled", "SG07"), ("sealed", "SG02"), ("metric_locked", "SG04")],
)
def test_what_is_done_once_is_not_done_again(event, answer):
    assert safeguard(event, *TO_SCORES) == answer
    assert safeguard(event, *TO_SCORES, ("amended", {})) is not None, "an amendment changes values, not this"


def every_refusal():
    histories = [TO_VERDICT[:n] for n in range(len(TO_VERDICT) + 1)]
    histories += [[*TO_SCORES, *sprint(1, size)] for size in range(1, MAX_ITERATIONS + 1)]
    histories += [[*TO_SCORES, *iteration("x", scored=False)], [e for e in TO_SCORES if e != "audit_passed"]]
    histories += [[*TO_SCORES, *[e for i in range(MAX_SPRINTS) for e in [*sprint(i), gate()]]]]
    for events in histories:
        for event in NEEDS:
            if (refusal := check(event, state(*events))) is not None:
                yield event, refusal


def test_every_refusal_names_a_safeguard_says_why_and_how_to_go_on():
    found = list(every_refusal())
    assert {r.safeguard for _, r in found} >= {"SG01", "SG02", "SG04", "SG07", "SG10", "SG11", "SG14", "SG21", "SG22", "SG23", "SG24"}  # fmt: skip
    for event, refusal in found:
        assert isinstance(refusal, Refusal)
        assert refusal.safeguard in SAFEGUARDS, event
        assert refusal.what.endswith("."), event
        assert refusal.why.endswith("."), event
        assert "itera " in refusal.instead or "exp." in refusal.instead, event
        assert str(refusal).startswith(
            f"refused {refusal.safeguard}: {refusal.what}\nwhy      {refusal.why}\ninstead  "
        )


def test_there_are_34_safeguards():
    assert list(SAFEGUARDS) == [f"SG{n:02d}" for n in range(1, 35)]


# sprints ------------------------------------------------------------------------------------------------------


def test_sg22_a_sprint_holds_three_iterations():
    for size in range(MAX_ITERATIONS):
        assert safeguard("iteration_registered", *TO_SCORES, *sprint(1, size)) is None
    full = [*TO_SCORES, *sprint(1, MAX_ITERATIONS)]
    assert safeguard("iteration_registered", *full) == "SG22"
    assert safeguard("iteration_registered", *full, gate()) is None


def test_sg22_three_sprints_and_no_fourth():
    events = list(TO_SCORES)
    for number in range(MAX_SPRINTS):
        assert safeguard("iteration_registered", *events) is None
        events += [*sprint(number), gate()]
    assert safeguard("iteration_registered", *events) == "SG22"
    assert safeguard("locked", *events) is None


def test_sg22_the_third_sprint_may_be_filled():
    events = [*TO_SCORES, *sprint(1), gate(), *sprint(2), gate(), *sprint(3, 2)]
    assert safeguard("iteration_registered", *events) is None


def test_sg22_a_gate_needs_an_iteration():
    assert safeguard("gate", *TO_SCORES) == "SG22"
    assert safeguard("gate", *TO_SCORES, *sprint(1), gate()) == "SG22"


def test_sg21_one_open_change_at_a_time():
    open_ = [*TO_SCORES, *iteration("x", scored=False)]
    assert safeguard("iteration_registered", *open_) == "SG21"
    assert safeguard("gate", *open_) == "SG21"
    assert "iteration x is registered but not scored" in check("gate", state(*open_)).what
    assert safeguard("iteration_registered", *TO_SCORES, *iteration("x")) is None


def test_sg21_a_score_of_another_iteration_does_not_help():
    other = ("scored", {"rows": "dev", "iteration": "y"})
    assert safeguard("gate", *TO_SCORES, *iteration("x", scored=False), other) == "SG21"


def test_sg23_what_has_not_passed_a_gate_is_not_locked():
    assert safeguard("locked", *TO_SCORES, *sprint(1, 2)) == "SG23"
    assert "2 iteration(s)" in check("locked", state(*TO_SCORES, *sprint(1, 2))).what
    assert safeguard("locked", *TO_SCORES, *sprint(1, 2), gate()) is None


@pytest.mark.parametrize("event", ["scored", "iteration_registered", "gate", "locked"])
def test_sg24_nothing_moves_after_the_lock(event):
    before = [*TO_SCORES, *sprint(1)] if event == "gate" else TO_SCORES
    assert safeguard(event, *before, "locked") == "SG24"


# the test set -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event", ["test_opened", "amended", "frame_locked", "sealed", "sampled", "metric_locked"]
)
@pytest.mark.parametrize("done", [TO_VERDICT[:-1], TO_VERDICT])
def test_sg02_after_the_opening_nothing_is_opened_or_changed_again(event, done):
    assert check(event, state(*done)) is not None
    if event in {"test_opened", "amended", "frame_locked"}:
        assert safeguard(event, *done) == "SG02"


def test_sg02_a_pass_that_was_cut_off_is_resumed_until_its_verdict():
    opened = TO_VERDICT[:-1]
    assert safeguard("resumed", *opened) is None
    assert safeguard("resumed", *opened, "resumed", "resumed") is None
    assert safeguard("verdict", *opened, "resumed") is None
    assert safeguard("resumed", *TO_VERDICT) == "SG02"
    assert safeguard("verdict", *TO_VERDICT) == "SG02"


def test_sg02_says_what_the_first_pass_gave():
    refusal = check("test_opened", state(*TO_VERDICT))
    assert "gave SHIP better (record 12)" in refusal.what
    assert "itera show" in refusal.instead
    unfinished = check("test_opened", state(*TO_VERDICT[:-1]))
    assert "its pass is not finished" in unfinished.what
    assert unfinished.instead.endswith("itera verdict")


@pytest.mark.parametrize("outcome", ["ship", "scope", "kill", "inconclusive"])
@pytest.mark.parametrize("registered", ["once", "none"])
def test_only_an_inconclusive_verdict_with_a_registered_top_up_is_extended(outcome, registered):
    events = [("frame_locked", {"values": {"rule": {"extension": registered}}}) if e == "frame_locked" else e for e in TO_VERDICT[:-1]]  # fmt: skip
    events = [*events, ("verdict", {"outcome": outcome, "arm": None}), "concluded"]
    allowed = (outcome, registered) == ("inconclusive", "once")
    assert (check("extended", state(*events)) is None) is allowed
    assert safeguard("test_opened", *events) == "SG02"
    if allowed:
        assert safeguard("test_opened", *events, "extended") is None
        again = [*events, "extended", "test_opened", ("verdict", {"outcome": outcome, "arm": None})]
        assert check("extended", state(*again)) is not None
        assert safeguard("test_opened", *again) == "SG02"


# amendments ---------------------------------------------------------------------------------------------------


def test_an_amendment_voids_what_ran_before_it():
    after = state(*TO_SCORES, ("amended", {}))
    assert not after.has("baseline_measured")
    assert not after.has("pilot_passed")
    assert after.scored("dev") is None
    assert after.has("frame_locked", "sampled", "sealed", "metric_locked")
    assert after.audit is not None
    assert safeguard("locked", *TO_SCORES, ("amended", {})) == "SG10"
    assert safeguard("scored", *TO_SCORES, ("amended", {})) == "SG10"


def test_after_an_amendment_the_steps_run_again():
    again = [*TO_SCORES, ("amended", {}), "baseline_measured", "pilot_passed", "scored"]
    assert state(*again).scored("dev").seq == len(again)
    assert safeguard("locked", *again) is None


def test_an_amendment_voids_the_scores_of_an_open_sprint():
    events = [*TO_SCORES, *sprint(1), ("amended", {}), "baseline_measured", "pilot_passed", "scored"]
    assert safeguard("gate", *events) == "SG21"
    assert safeguard("gate", *events, ("scored", {"rows": "dev", "iteration": "i1-0"})) is None


def test_what_had_been_seen_is_read_from_the_ledger():
    words = [seen(state(*TO_SCORES[:n])) for n in (0, 5, 6, 8, 9)]
    assert words == [
        "nothing run",
        "nothing run",
        "baseline on train seen",
        "pilot outputs seen",
        "dev results seen",
    ]


# reading ------------------------------------------------------------------------------------------------------


def test_the_next_phase_follows_the_ledger():
    phases = [next_phase(state(*TO_VERDICT[:n])) for n in range(len(TO_VERDICT) + 1)]
    assert phases == sorted(phases), "phases never go back"
    assert set(phases) == set(PHASES)
    assert next_phase(state(*TO_VERDICT, "concluded")) is None


def test_scores_are_found_by_rows_and_iteration():
    found = state(*TO_SCORES, ("scored", {"rows": "train", "iteration": None}), *iteration("x"))
    assert found.scored("dev").seq == 9
    assert found.scored("train").seq == 10
    assert found.scored("dev", "x").seq == 12
    assert found.scored("dev", "y") is None


def test_the_latest_answer_to_a_safeguard_counts():
    answers = [
        ("accepted", {"safeguard": s, "why": w}) for s, w in [("SG12", "a"), ("SG08", "b"), ("SG12", "c")]
    ]
    assert state(*answers).answer("SG12").body["why"] == "c"
    assert state(*answers).answer("SG13") is None


def test_an_accepted_audit_stands_before_a_passed_one():
    assert state("audit_passed", "audit_accepted").audit.type == "audit_accepted"
    assert state("audit_passed").audit.type == "audit_passed"
    assert state().head == ""


# phases as they are run ----------------------------------------------------------------------------------------


def test_a_phase_may_run_once_what_it_needs_has_happened():
    def refused(*events):
        return {phase: r.safeguard for phase in PHASES if (r := may_run(phase, state(*events)))}

    nothing = {
        "1-source": "SG07",
        "2-metric": "SG01",
        "3-run": "SG04",
        "4-diagnose": "SG10",
        "5-verdict": "SG01",
    }
    assert refused() == nothing
    assert refused(*TO_SCORES[:7]) == {"3-run": "SG10", "4-diagnose": "SG10", "5-verdict": "SG01"}
    assert refused(*TO_SCORES) == {"5-verdict": "SG01"}
    assert refused(*TO_SCORES, "locked") == {}
    assert refused(*TO_VERDICT) == {"5-verdict": "SG02"}


def test_sg13_what_the_split_asked_is_answered_before_the_metric():
    asks = [{"safeguard": "SG13", "sentence": "kind=rare has 0 rows in test; 3 are required."}]
    sealed = ["created", "frame_locked", "sampled", "audit_passed", ("sealed", {"asks": asks})]
    refusal = check("baseline_measured", state(*sealed))
    assert refusal.safeguard == "SG13"
    assert refusal.asks
    assert "kind=rare" in refusal.what
    assert '--accept SG13="why"' in refusal.instead
    assert next_phase(state(*sealed)) == "1-source"
    answered = state(*sealed, ("accepted", {"safeguard": "SG13", "why": "rare is not sent any more"}))
    assert check("baseline_measured", answered) is None
    assert next_phase(answered) == "2-metric"


def test_a_run_waits_for_its_pilot_and_its_audit():
    without = [event for event in TO_SCORES[:8] if event != "audit_passed"]
    assert may_run("3-run", state(*without)).safeguard == "SG11"
    assert may_run("3-run", state(*TO_SCORES[:8])) is None


def test_an_open_pass_may_be_finished_and_a_finished_one_shown():
    opened = [*TO_SCORES, "locked", "test_opened"]
    assert may_open(state(*opened)) is None
    assert may_show(state(*opened)).what == "there is no verdict yet."
    assert may_open(state(*TO_VERDICT)).safeguard == "SG02"
    assert may_show(state(*TO_VERDICT)) is None
    extended = [*TO_VERDICT, ("extended", {"count": 40})]
    assert may_show(state(*extended)) is not None
    assert may_open(state(*extended)) is None


def refused_attempt(safeguard):
    return ("attempt_refused", {"safeguard": safeguard, "what": "a question"})


def found_in(file, *ids):
    hit = {"file": file, "passages": list(ids), "wholes": []}
    return ("contamination", {"where": "scan", "found": [hit], "copies": []})


def test_leaks_count_until_they_are_moved_accepted_or_of_a_decided_batch():
    assert state("sealed", found_in("a.md", "r1")).leaks == {"a.md": ["r1"]}
    accepted = ("accepted", {"safeguard": "SG03", "why": "x"})
    assert state("sealed", found_in("a.md", "r1"), accepted).leaks == {}
    assert state("sealed", found_in("a.md", "r1"), accepted).found == {"a.md": ["r1"]}
    assert state("sealed", found_in("a.md", "r1"), accepted, found_in("b.md", "r2")).leaks == {"b.md": ["r2"]}
    assert state("sealed", found_in("a.md", "r1"), "resealed").found == {}
    topped_up = state("sealed", "verdict", found_in("a.md", "r1"), "extended", found_in("b.md", "r7"))
    assert topped_up.leaks == {"b.md": ["r7"]}


def test_who_acts_next():
    assert {phase: actor(phase, state()) for phase in PHASES} == {
        "0-frame": "itera",
        "1-source": "itera",
        "2-metric": "itera",
        "3-run": "you",  # the pilot wants a look
        "4-diagnose": "itera",
        "5-verdict": "you",
    }
    assert actor("3-run", state(*TO_SCORES)) == "itera"
    assert actor("1-source", state("created", "frame_locked", refused_attempt("SG12"))) == "you"
    assert actor("1-source", state("created", "frame_locked", refused_attempt("SG07"))) == "itera"
    assert actor("2-metric", state("created", "frame_locked", refused_attempt("SG12"))) == "itera"
    assert actor("4-diagnose", state(*TO_SCORES, *sprint(1))) == "you"
    assert actor("5-verdict", state(("sealed", {"custody": {"mode": "escrow"}}))) == "custodian"


def test_a_question_is_open_until_something_happens():
    asked = state("created", refused_attempt("SG12"))
    assert open_question(asked).body["what"] == "a question"
    assert (
        open_question(state("created", refused_attempt("SG12"), ("accepted", {"safeguard": "SG12"}))) is None
    )
    assert open_question(state("created", refused_attempt("SG02"))) is None
    assert open_question(state()) is None
