"""Answers of an earlier run keep their price and latency, and are counted."""

from world import go

from itera_nb.cli import lines


def test_reused_answers_are_counted_and_keep_their_latency(make_experiment):
    exp = make_experiment(rows=60)
    go(exp, until="train")
    experiment = exp.experiment
    first = experiment.read_frame("runs/baseline-train.parquet").set_index(["id", "trial"])["latency_ms"]
    train = experiment.read_frame("runs/train.parquet")
    base = train[train["arm"] == "base"].set_index(["id", "trial"])
    assert base["reused"].all()
    assert base["latency_ms"].equals(first[base.index])
    # Of the other arm only the pilot's row was answered before.
    arms = experiment.state.scored("train").body["arms"]
    assert arms["base"]["reused"] == len(base)
    assert arms["better"]["reused"] == 1
    assert "answers are an earlier run's, at their first price and latency" in exp.run("train", trials=1).text
    exp.run("dev")
    assert "reused" not in lines.dev(experiment)
