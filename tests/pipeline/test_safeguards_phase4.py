"""SG21 to SG30: somebody tries, through the public interface, what each of them stops."""

import json

import pytest
from world import decide, go, in_process

from itera_nb.exceptions import IteraError, Refusal, SpecError
from itera_nb.scoring.runs import part_rows

QUEUE = "[iterate]\n"
ANSWER = """\
def answer(row):
    words = dict(word.split("=") for word in row["text"].split()[1:])
    right = {right}
    return words["answer"] if right else ("no" if words["answer"] == "yes" else "yes")
"""
LEVEL = 'int(words["level"])'
UNIVERSAL = 'class = "universal"\nevidence = "a range of levels, no word of a row"\naction = "keep"\n'
HARDCODE = 'class = "hardcode"\nevidence = "names rows"\naction = "delete"\n'


def levels(top):
    return ANSWER.format(right=f"0 <= {LEVEL} < {top}")


def iteration(name, *, effect=0.1, parent="better", judged=UNIVERSAL, more="", change=None):
    return (
        f'name = "{name}"\nhypothesis = "{name} answers levels that {parent} gets wrong."\nparent = "{parent}"\n'
        f'what = "other levels"\npredicted_effect = {effect}\n{judged}{more}[change]\n'
        + (change or f'target = "arms/{name}.py:answer"\n')
    )


def queued(*names, **texts):
    """Files of a queue, in order; a name's own text or code where given (`x` and `x_code`)."""
    files = {}
    for number, name in enumerate(names, start=1):
        files[f"arms/{name}.py"] = texts.get(f"{name}_code", levels(71 + 4 * number))
        files[f"iterations/queue/{number:02d}-{name}.toml"] = texts.get(name, iteration(name))
    return files


@pytest.fixture
def scored(make_experiment):
    """A session with dev scores and a queue."""

    def make(files, **more):
        settings = {"rows": 100, "effect": 0.2, "preset": "iterate", "run": "trials = 1"} | more
        exp = make_experiment(extra_toml=QUEUE, files=files, **settings)
        go(exp, until="dev")
        return exp

    return make


def test_sg21_two_changes_or_no_hypothesis_is_no_iteration(scored):
    both = iteration("both", change='target = "arms/both.py:answer"\nparams = { top = 1 }\n')
    exp = scored(queued("both", both=both))
    with pytest.raises(Refusal, match="2 components") as refused:
        exp.iterate()
    assert refused.value.safeguard == "SG21"
    file = exp.experiment.folder / "iterations" / "queue" / "01-both.toml"
    file.write_text(both.replace('hypothesis = "both answers levels that better gets wrong."\n', ""), "utf-8")
    with pytest.raises(SpecError, match="hypothesis"):
        exp.iterate()
    assert not exp.experiment.state.all("iteration_registered")
    # a score first and the hypothesis later: the candidate's file is edited instead of a new iteration
    code = exp.experiment.folder / "arms" / "better.py"
    code.write_text(levels(95), "utf-8")
    with pytest.raises(Refusal) as refused:
        exp.run("dev")
    assert refused.value.safeguard == "SG04"


def test_sg22_no_fourth_iteration_in_a_sprint_and_no_fourth_sprint(scored):
    exp = scored(queued("one", "two", "three", "four"))
    state = lambda: exp.experiment.state  # noqa: E731
    shown = exp.iterate().text
    assert len(state().all("iteration_registered")) == 3
    assert "04-four" in shown
    assert "already has 3 iterations" in shown
    with pytest.raises(Refusal) as refused:
        exp.lock()
    assert refused.value.safeguard == "SG23", "no sprint ends without a gate"
    exp.gate()
    folder = exp.experiment.folder
    for number, name in ((5, "five"), (6, "six")):
        exp.iterate()
        assert len(state().all("iteration_registered")) == number - 1
        exp.gate()
        for path, text in queued(name).items():
            (folder / path.replace("01-", f"0{number}-")).write_text(
                text.replace("75", str(80 + number)), "utf-8"
            )
    exp.iterate()
    exp.gate()
    assert len(state().all("gate")) == 3
    shown = exp.iterate().text
    assert "06-six" in shown
    assert "3 sprints are over" in shown
    assert len(state().all("iteration_registered")) == 5
    exp.lock()


def test_sg23_a_hardcode_is_not_kept_and_an_unjudged_change_not_locked(scored):
    wanted = iteration("coded", judged=HARDCODE.replace("delete", "keep"))
    right = f'0 <= {LEVEL} < 70 or "level=83" in row["text"]'
    exp = scored(queued("coded", coded=wanted, coded_code=ANSWER.format(right=right)))
    exp.iterate()
    for step in (exp.gate, exp.lock):
        with pytest.raises(Refusal) as refused:
            step()
        assert refused.value.safeguard == "SG23"
    done = in_process("run", exp.experiment.folder)
    assert done.code == 3
    assert "waiting for you: SG23" in done.out
    assert done.out.count("\n") <= done.out.count("waiting") + 12


def test_sg24_the_latest_passed_iteration_is_locked_not_the_best(scored):
    best, latest = levels(95), levels(80)
    exp = scored(queued("best", "latest", best_code=best, latest_code=latest))
    exp.iterate()
    exp.gate()
    exp.lock()
    state = exp.experiment.state
    means = {n: state.scored("dev", n).body["arms"][n]["mean"] for n in ("01-best", "02-latest")}
    assert means["01-best"] > means["02-latest"]
    heads = {line["arm"]: line["head"] for line in state.the("locked").body["lines"]}
    assert heads["better"] == "02-latest"
    with pytest.raises(Refusal) as refused:
        exp.experiment.record("locked", {})
    assert refused.value.safeguard == "SG24"


def decided(exp):
    """The one candidate's verdict record."""
    go(exp)
    body = decide(exp)
    return body, body["verdict"]["records"][0]


@pytest.mark.slow
def test_sg25_an_aggregate_winner_that_hurts_a_slice_does_not_ship(make_experiment):
    odd = 'int(row["text"][6:11]) % 2'  # the tenant zeta
    code = ANSWER.format(right=f"not {odd} or {LEVEL} < 20")
    exp = make_experiment(rows=300, arms={"better": code}, preset="confirm", run="trials = 1")
    body, record = decided(exp)
    assert record["estimate"] > 0.05
    assert any(s["estimate"] < -0.1 for s in record["slices"])
    assert body["outcome"] != "ship"


@pytest.mark.slow
def test_sg26_errors_shifted_into_the_worst_category_are_counted(make_experiment):
    code = ANSWER.format(right=f"{LEVEL} < 70").replace(
        '("no" if words["answer"] == "yes" else "yes")', '"refund"'
    )
    modes = 'scorer = "exact"\nfailure_modes = { sign = 1.0, paid_out = { output = "refund", weight = 5.0 } }'
    exp = make_experiment(rows=300, arms={"better": code}, preset="confirm", run="trials = 1", metric=modes)
    body, record = decided(exp)
    assert record["estimate"] > 0.05
    assert body["outcome"] != "ship"
    assert "paid_out" in json.dumps(record)


@pytest.mark.slow
def test_sg27_the_rare_and_dear_rows_count(make_experiment):
    """The arm wins the cheap rows and loses the dear ones: unweighted better, weighted worse."""
    lines = ["row_id,text,tenant,label,amount"]
    for n in range(300):
        level, label = int(100 * ((n * 0.6180339887498949) % 1)), "yes" if n % 3 else "no"
        amount = 1000 if level < 20 else 10
        lines.append(
            f"r{n:05d},row{n:05d} level={level:02d} answer={label},{'acme' if n % 2 else 'zeta'},{label},{amount}"
        )
    code = ANSWER.format(right=f"{LEVEL} >= 20")
    exp = make_experiment(
        rows=300,
        arms={"better": code},
        preset="confirm",
        run="trials = 1",
        source='severity = "amount"',
        files={"data.csv": "\n".join(lines) + "\n"},
    )
    body, record = decided(exp)
    assert record["estimate"] > 0.05
    assert body["outcome"] != "ship"


@pytest.mark.slow
def test_sg28_and_sg29_tuning_on_dev_rows_that_were_read_is_counted_and_alarmed(make_experiment):
    exp = make_experiment(
        rows=200, effect=0.1, accuracy=0.4, preset="iterate", run="trials = 1", extra_toml=QUEUE
    )
    go(exp, until="dev")
    dev = part_rows(exp.experiment, "dev")
    read = [row["row_id"] for row in dev][:60]
    with pytest.raises(IteraError, match="reason"):
        exp.reveal(read, " ")
    closed = exp.inspect().html
    assert not [row["row_id"] for row in dev if row["text"].split()[0] in closed]
    exp.reveal(read, "why does it fail")
    words = {row["text"].split()[0] for row in dev if row["row_id"] in set(read)}
    code = ANSWER.format(right=f'{LEVEL} < 50 or row["text"].split()[0] in {sorted(words)!r}')
    for path, text in queued("tuned", tuned=iteration("tuned", effect=0.3), tuned_code=code).items():
        target = exp.experiment.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")
    go(exp)
    state = exp.experiment.state
    assert len(state.revealed) == 60
    (change,) = state.last("gate").body["changes"]
    assert change["measured"]["verdict"] == "hardcode suspected", (
        "and the reason why it is kept is on the page"
    )
    line = next(x for x in state.the("locked").body["lines"] if x["arm"] == "better")
    assert line["seen"] is not None, "read rows against the others"
    record = decide(exp)["verdict"]["records"][0]
    assert record["overfit"]["alarm"] != "none"


def test_sg29_only_dev_rows_can_be_revealed(scored):
    exp = scored({})
    for unknown in ("r99999", *(row["row_id"] for row in part_rows(exp.experiment, "train")[:1])):
        with pytest.raises(IteraError, match="of no dev row"):
            exp.reveal([unknown], "to look")
    with pytest.raises(Refusal) as refused:
        exp.inspect("test")
    assert refused.value.safeguard == "SG01"
    assert not exp.experiment.state.revealed


@pytest.mark.slow
def test_sg30_generated_labels_are_audited_or_a_reason_stands_on_the_record(scored):
    exp = scored({}, source="generated = true")
    with pytest.raises(Refusal) as refused:
        exp.lock()
    assert refused.value.safeguard == "SG30"
    assert refused.value.asks
    for arguments in (["--yes"], ["--unattended"]):
        done = in_process("run", *arguments, exp.experiment.folder)
        assert done.code == 3, "unattended, what is not accepted stops"
        assert "waiting for you: SG30" in done.out
    done = in_process("run", "--yes", "--accept", "SG30=the generator was proved", exp.experiment.folder)
    assert done.code == 0, done.err
    assert exp.experiment.state.has("locked")
