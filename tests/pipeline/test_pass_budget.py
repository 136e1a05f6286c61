"""The sealed pass obeys the budget: it is asked about before the test set opens, and a person may lift it."""

import pytest
from world import go, in_process, new_world, open_test, tickets, write_csv

import itera_nb

ARM = """\
from itera_nb import Output


def today(row):
    return Output(row["text"].split()[-2] if row["text"].endswith("plain") else "other", cost_usd=0.001)


def better(row):
    return Output(row["text"].split()[-2], cost_usd=0.001)
"""


@pytest.fixture
def priced(tmp_path, monkeypatch):
    """An experiment whose every call costs a tenth of a cent: 60 + 120 calls before the lock, 420 in the pass."""
    world = new_world(tmp_path / "world")
    for name, value in world.variables.items():
        monkeypatch.setenv(name, value)
    write_csv(world.project / "eval.csv", tickets(100))
    (world.project / "rules.py").write_text(ARM, "utf-8")
    monkeypatch.chdir(world.project)
    flags = "--data eval.csv --id ticket_id --expected label --slices tenant --min-effect 5pp"
    done = in_process(
        "new", "fees", *flags.split(), "--baseline", "rules.py:today", "--arm", "rules.py:better"
    )
    assert done.code == 0, done.text
    toml = world.folder / "experiment.toml"
    text = toml.read_text("utf-8").replace('cost   = "free"\n', "").replace('cost = "free"\n', "")
    assert "free" not in text.split("[source]")[0]
    toml.write_text(text.replace("[run]\n", "[run]\nbudget_usd = 0.3\n"), "utf-8")
    return world


def test_a_pass_that_would_cross_the_budget_does_not_open_until_a_person_lifts_it(priced):
    exp = itera_nb.open(priced.folder)
    exp.accept("budget", "the forecast is too high")
    go(exp)
    with pytest.raises(itera_nb.Refusal, match="of budget_usd is left") as refused:
        open_test(exp.experiment)
    assert "--accept budget" in refused.value.instead
    assert priced.records("test_opened") == []
    done = in_process("verdict", str(priced.folder))
    assert done.code != 0
    assert "opening" not in done.text
    assert "of budget_usd is left" in done.text

    exp.accept("budget", "the test rows are worth it")
    open_test(exp.experiment)
    assert len(priced.records("verdict")) == 1
