"""Small and awkward sets: folds, two slice columns, a negative control, caps, production counts."""

import csv

import pytest
from world import conclude, decide, go, in_process, write_csv

from itera_nb.exceptions import Refusal

CONTROL = """
[arms.base-again]
from = "base"
negative_control = true
change = "none"
"""


def add_column(exp, name, value):
    """A further column of data.csv, from the row's number."""
    path = exp.experiment.folder / "data.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = [dict(row) | {name: value(n)} for n, row in enumerate(csv.DictReader(file))]
    write_csv(path, rows)


def edit(exp, old, new):
    toml = exp.experiment.folder / "experiment.toml"
    text = toml.read_text("utf-8")
    assert old in text
    toml.write_text(text.replace(old, new), "utf-8")


def test_forty_rows_use_folds_and_stay_inconclusive(make_experiment):
    exp = make_experiment(rows=40, effect=0.1, discordance=0.3)
    go(exp)
    (sealed,) = exp.experiment.state.all("sealed")
    assert sealed.body["folds"] == 5
    body = conclude(exp)
    assert body["outcome"] == "inconclusive"
    text = (exp.experiment.folder / "conclusion.md").read_text("utf-8")
    assert text.startswith("# INCONCLUSIVE")
    assert in_process("show", exp.experiment.folder).code == 0


def test_folds_fit_on_the_other_rows(make_experiment):
    """What an arm has learned never holds the row that it answers."""
    learner = """
    class answer:
        def fit(self, train):
            self.known = {row["text"] for row in train}

        def predict(self, rows):
            return ["no" if row["text"] in self.known else row["text"].split("=")[-1] for row in rows]
    """
    exp = make_experiment(rows=40, arms={"better": learner})
    go(exp, until="dev")
    dev = exp.experiment.state.scored("dev")
    assert dev.body["arms"]["better"]["mean"] == 1.0


@pytest.mark.slow
def test_two_slice_columns(make_experiment):
    exp = make_experiment(rows=120, preset="confirm")
    add_column(exp, "tier", lambda n: "gold" if n % 3 else "free")
    edit(exp, 'slices = ["tenant"]', 'slices = ["tenant", "tier"]')
    go(exp)
    body = decide(exp)
    assert body["outcome"] == "ship"
    (record,) = body["verdict"]["records"]
    assert {s["id"] for s in record["slices"]} == {"tenant=acme", "tenant=zeta", "tier=gold", "tier=free"}
    for column in ("tenant", "tier"):
        rows = sum(s["n"] for s in record["slices"] if s["id"].startswith(f"{column}="))
        assert rows == record["n"]


@pytest.mark.slow
def test_a_harmed_slice_is_a_scope(make_experiment):
    """The arm gains on one tenant and loses on the other: the aggregate alone would ship."""
    code = """
    def answer(row):
        words = dict(word.split("=") for word in row["text"].split()[1:])
        zeta = int(row["text"].split()[0][6:11]) % 5 == 0
        right = not zeta
        return words["answer"] if right else ("no" if words["answer"] == "yes" else "yes")
    """
    exp = make_experiment(
        rows=300, tenants=("zeta", "acme", "acme", "acme", "acme"), arms={"better": code}, preset="confirm"
    )
    go(exp)
    body = conclude(exp)
    assert body["outcome"] == "scope"
    (record,) = body["verdict"]["records"]
    levels = {s["id"]: s["level"] for s in record["slices"]}
    assert levels["tenant=acme"] == "cleared"
    assert levels["tenant=zeta"] != "cleared"
    assert in_process("show", exp.experiment.folder).code == 0


def test_negative_control_shows_no_difference(make_experiment):
    exp = make_experiment(rows=100, extra_toml=CONTROL)
    go(exp)
    body = conclude(exp)
    assert [r["arm"] for r in body["verdict"]["records"]] == ["better"]
    (control,) = body["verdict"]["controls"]
    assert control["arm"] == "base-again"
    assert "base-again" in (exp.experiment.folder / "conclusion.md").read_text("utf-8")


def test_identical_arms_are_refused(make_experiment):
    exp = make_experiment(accuracy=0.5, effect=0.0)
    with pytest.raises(Refusal) as refused:
        exp.frame.lock()
    assert refused.value.safeguard == "SG09"
    assert "negative_control = true" in refused.value.instead


CAP = 'cap_by = "tenant"\ncap = 25\nmax_entity_share = 1.0'


def test_a_cap_that_drops_much_asks(make_experiment):
    exp = make_experiment(source=CAP)
    with pytest.raises(Refusal) as refused:
        go(exp)
    assert refused.value.safeguard == "SG12"
    assert refused.value.asks
    assert "10" in refused.value.what, "ten of sixty rows are dropped"
    assert "--accept SG12=" in refused.value.instead
    exp.accept("SG12", "no customer may fill the set")
    go(exp)
    assert sum(exp.experiment.state.last("sealed").body["counts"].values()) == 50
    conclude(exp)
    assert "no customer may fill the set" in (exp.experiment.folder / "conclusion.md").read_text("utf-8")


def test_a_cap_that_drops_little_does_not_ask(make_experiment):
    exp = make_experiment(source=CAP.replace("25", "28"))
    go(exp, until="seal")
    assert exp.experiment.state.all("attempt_refused") == ()


def counts(acme, zeta):
    return {"traffic.csv": f"tenant,count\nacme,{acme}\nzeta,{zeta}\n"}


def test_production_counts_that_fit_pass(make_experiment):
    exp = make_experiment(source='production_counts = "traffic.csv"', files=counts(520, 480))
    go(exp)
    assert exp.experiment.state.audit.type == "audit_passed"
    assert exp.experiment.state.audit.body["status"] == "passed"


def test_production_counts_that_do_not_fit_ask(make_experiment):
    exp = make_experiment(source='production_counts = "traffic.csv"', files=counts(900, 100))
    with pytest.raises(Refusal) as refused:
        go(exp)
    assert refused.value.safeguard == "SG11"
    assert not exp.experiment.state.scored("dev")
    exp.accept("SG11", "zeta is what we ask about")
    go(exp)
    assert exp.experiment.state.audit.type == "audit_accepted"
    conclude(exp)
    assert "zeta is what we ask about" in (exp.experiment.folder / "conclusion.md").read_text("utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("safeguard", "source", "files"),
    [("SG12", CAP, None), ("SG11", 'production_counts = "traffic.csv"', counts(900, 100))],
)
def test_questions_are_answered_on_the_command_line(make_experiment, safeguard, source, files):
    exp = make_experiment(source=source, files=files)
    folder = exp.experiment.folder
    asked = in_process("run", "--yes", folder)
    assert asked.code == 3, asked.text
    assert f"refused {safeguard}" in asked.err
    assert f"itera run --accept {safeguard}=" in asked.err
    answered = in_process("run", "--yes", "--accept", f"{safeguard}=it is policy", folder)
    assert answered.code == 0, answered.text
    assert "ready. The sealed test opens once" in answered.out


@pytest.mark.slow
def test_two_arms_and_a_deterministic_arm_under_auto(make_experiment):
    exp = make_experiment(rows=90, run='trials = "auto"')
    go(exp)
    (locked,) = exp.experiment.state.all("locked")
    assert {line["arm"]: line["trials"] for line in locked.body["lines"]} == {"base": 1, "better": 1}
    assert decide(exp)["outcome"] in {"ship", "inconclusive"}
