"""Leaked rows go to dev with all their like, fresh rows of the same strata are sealed, and scores start anew."""

import collections
import csv

import pandas as pd
import pytest
from filelock import FileLock
from world import go

from itera_nb.exceptions import IteraError, Refusal, StoppedError
from itera_nb.seal.parquet import read_sealed
from itera_nb.source.parts import read_part, to_rows
from itera_nb.source.reseal import NEXT, finish, reseal

SAMPLED = "sample = 60"


def parts(exp):
    experiment = exp.experiment
    sealed = experiment.state.the("sealed").body
    test = read_sealed(
        experiment.path("sealed", "test.parquet"),
        experiment.secret.identity,
        sha256=sealed["sealed"]["sha256"],
    )
    found = {p: read_part(experiment.path("data", f"{p}.parquet")) for p in ("train", "dev")}
    return found | {"test": to_rows(test)}


def ids(rows):
    return {r["row_id"] for r in rows}


def strata(rows):
    return collections.Counter((r["tenant"], r["label"]) for r in rows)


def test_named_rows_move_to_dev_and_fresh_ones_are_sealed(make_experiment):
    exp = make_experiment(rows=200, source=SAMPLED)
    go(exp, until="seal")
    before = parts(exp)
    leaked = sorted(ids(before["test"]))[:4]
    record = reseal(exp.experiment, leaked, "they were in a slide deck")
    after = parts(exp)
    assert record.body["moved"] == leaked
    assert (record.body["fresh"], record.body["why"]) == (4, "they were in a slide deck")
    assert ids(after["dev"]) == ids(before["dev"]) | set(leaked)
    assert after["train"] == before["train"]
    fresh = ids(after["test"]) - ids(before["test"])
    assert len(fresh) == 4
    assert not fresh & ids(before["train"]) | fresh & ids(before["dev"])
    assert strata(after["test"]) == strata(before["test"])
    counts = {part: len(rows) for part, rows in after.items()}
    assert exp.experiment.state.the("sealed").body["counts"] == counts
    tenants = exp.experiment.state.the("sealed").body["slices"]
    assert sum(p["test"] for p in tenants.values()) == counts["test"]


def test_without_fresh_rows_the_test_set_shrinks(make_experiment):
    exp = make_experiment(rows=60)
    go(exp, until="seal")
    before = parts(exp)
    record = reseal(exp.experiment, sorted(ids(before["test"]))[:3], "seen")
    after = parts(exp)
    assert record.body["fresh"] == 0
    assert len(after["test"]) == len(before["test"]) - 3
    assert len(after["dev"]) == len(before["dev"]) + 3


def test_a_leaked_row_takes_its_cluster_with_it(make_experiment):
    exp = make_experiment(
        rows=120, tenants=[f"t{n}" for n in range(60)], preset="iterate", source='cluster = "tenant"'
    )
    go(exp, until="seal")
    before = parts(exp)
    first = min(before["test"], key=lambda r: r["row_id"])
    reseal(exp.experiment, [first["row_id"]], "seen")
    after = parts(exp)
    assert first["tenant"] not in {r["tenant"] for r in after["test"]}
    assert not {r["tenant"] for r in after["test"]} & {r["tenant"] for r in after["dev"]}


def test_fresh_rows_keep_the_caps(make_experiment):
    exp = make_experiment(
        rows=200, tenants=[f"t{n}" for n in range(80)], source='sample = 60\ncap_by = "tenant"\ncap = 1'
    )
    exp.frame.lock()
    exp.experiment.record("accepted", {"safeguard": "SG12", "why": "one each"})
    go(exp, until="seal")
    reseal(exp.experiment, sorted(ids(parts(exp)["test"]))[:3], "seen")
    held = collections.Counter(r["tenant"] for rows in parts(exp).values() for r in rows)
    assert max(held.values()) == 1


def test_dev_folds_take_the_moved_rows(make_experiment):
    exp = make_experiment(rows=40)
    go(exp, until="seal")
    before = parts(exp)
    reseal(exp.experiment, sorted(ids(before["test"]))[:2], "seen")
    dev = parts(exp)["dev"]
    assert {r["fold"] for r in dev} == {r["fold"] for r in before["dev"]}


def test_scores_and_locks_before_it_no_longer_count(make_experiment):
    exp = make_experiment(rows=60)
    go(exp)
    state = exp.experiment.state
    assert state.has("locked")
    reseal(exp.experiment, [min(ids(parts(exp)["test"]))], "seen")
    state = exp.experiment.state
    assert not state.has("locked")
    assert state.scored("dev") is None
    assert state.has("baseline_measured", "pilot_passed", "metric_locked")
    assert state.the("resealed").body["seen"] == "dev results seen"
    go(exp)
    assert exp.experiment.state.scored("dev").body["n"] == len(parts(exp)["dev"])
    assert pd.read_parquet(exp.experiment.path("data", "dev.parquet")).shape[0] == len(parts(exp)["dev"])


@pytest.mark.parametrize(
    ("named", "words"), [([], "known to have leaked"), (["r99999"], "not in the sealed")]
)
def test_nothing_happens_without_rows_that_leaked(make_experiment, named, words):
    exp = make_experiment()
    go(exp, until="seal")
    before = parts(exp)
    with pytest.raises(IteraError, match=words):
        reseal(exp.experiment, named, "seen")
    assert parts(exp) == before


def test_not_every_row_can_go(make_experiment):
    exp = make_experiment()
    go(exp, until="seal")
    with pytest.raises(IteraError, match="every test row"):
        reseal(exp.experiment, sorted(ids(parts(exp)["test"])), "seen")


def test_an_opened_test_set_is_not_resealed(make_experiment):
    exp = make_experiment()
    go(exp)
    exp.experiment.record("test_opened", {"nonce": "0"})
    with pytest.raises(Refusal, match="SG02"):
        reseal(exp.experiment, ["r00001"], "seen")


def test_a_reseal_that_was_killed_is_finished_or_forgotten(make_experiment):
    exp = make_experiment(rows=200, source=SAMPLED)
    go(exp, until="seal")
    experiment = exp.experiment
    dev = experiment.path("data", "dev.parquet")
    (stray := dev.with_name(dev.name + NEXT)).write_bytes(b"half a file")
    finish(experiment)
    assert not stray.exists()
    old = dev.read_bytes()
    reseal(experiment, sorted(ids(parts(exp)["test"]))[:2], "seen")
    stray.write_bytes(dev.read_bytes())
    dev.write_bytes(old)
    finish(experiment)
    assert parts(exp)["dev"]


def test_the_next_run_finishes_a_reseal_that_was_killed_once_it_was_recorded(make_experiment, monkeypatch):
    exp = make_experiment(rows=200, source=SAMPLED)
    go(exp, until="seal")
    leaked = sorted(ids(parts(exp)["test"]))[:2]

    calls = []

    def killed(experiment):
        calls.append(experiment)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("itera_nb.source.reseal._finish", killed)
        with pytest.raises(KeyboardInterrupt):
            reseal(exp.experiment, leaked, "seen")
    assert exp.experiment.state.the("sealed").body["moved"] == leaked
    exp.split.seal()
    assert set(leaked) <= ids(parts(exp)["dev"])


def test_two_reseals_do_not_meet(make_experiment):
    exp = make_experiment(rows=200, source=SAMPLED)
    go(exp, until="seal")
    before = parts(exp)
    (next_ := exp.experiment.path("data", f"dev.parquet{NEXT}")).write_bytes(b"being written")
    with FileLock(exp.experiment.path("sealed", "reseal.lock")):
        for act in (finish, lambda e: reseal(e, [min(ids(before["test"]))], "seen")):
            with pytest.raises(StoppedError, match="resealing"):
                act(exp.experiment)
    assert next_.read_bytes() == b"being written"
    assert parts(exp) == before


def test_no_row_is_ever_fresh_twice(make_experiment):
    exp = make_experiment(rows=100, source=SAMPLED)
    go(exp, until="seal")
    with (exp.experiment.folder / "data.csv").open() as file:
        every = ids(csv.DictReader(file))
    gone = set()
    for _ in range(3):
        leaked = sorted(ids(parts(exp)["test"]))[:5]
        gone |= set(leaked)
        reseal(exp.experiment, leaked, "seen")
        held = [ids(rows) for rows in parts(exp).values()]
        assert sum(map(len, held)) == len(set.union(*held))
        assert gone <= held[1]
        assert set.union(*held) <= every
