"""The label audit in a real experiment: what is asked about, who reads what, and what it does to the figures."""

import csv
import io
import math
import shutil
from types import SimpleNamespace

import pytest
from world import go, in_process

import itera_nb
from itera_nb.diagnosis import label_noise
from itera_nb.diagnosis.judgement import excused_rows
from itera_nb.diagnosis.label_noise import ANSWER, FILE, SHEET, find_suspects
from itera_nb.exceptions import ArmError, DataError, IteraError, Refusal
from itera_nb.report.audit import self_audit
from itera_nb.report.labels import label_limits, seen_limits
from itera_nb.scoring.runs import part_rows
from itera_nb.stats.agreement import wilson_interval

EVIL = "=cmd|' /C calc'!A0"
# Of levels from 70 on both fail; `better` answers them in words of its own, which is another output.
BASE = """\
def answer(row):
    words = dict(word.split("=") for word in row["text"].split()[1:])
    return words["answer"] if int(words["level"]) < 50 else "=cmd|' /C calc'!A0"
"""
BETTER = """\
def answer(row):
    words = dict(word.split("=") for word in row["text"].split()[1:])
    return words["answer"] if int(words["level"]) < 70 else "something else"
"""


@pytest.fixture(scope="module")
def kept():
    """Experiments that were scored before, and their state: scoring one takes seconds, a copy does not."""
    return {}


@pytest.fixture
def scored(make_experiment, kept, state, tmp_path, tmp_path_factory):
    """A session with dev scores, and train scores if wanted."""

    def make(*, source="", base=BASE, better=BETTER, train=True):
        key, folder = (source, base, better, train), tmp_path / "2026-11-21-fees"
        if key in kept:
            shutil.copytree(kept[key] / "folder", folder)
            shutil.copytree(kept[key] / "state", state, dirs_exist_ok=True)
            for head in (state / "heads").glob("*.json"):
                head.write_text(
                    head.read_text("utf-8").replace(*map(str, (kept[key, "was"], folder))), "utf-8"
                )
            return itera_nb.open(folder)
        session = make_experiment(
            rows=120, base=base, arms={"better": better}, source=source, run="trials = 1", preset="iterate"
        )
        session.frame.lock()
        session.source.sample()
        session.source.audit()
        session.split.seal()
        session.metric.try_on()
        session.metric.lock()
        session.pilot()
        if train:
            session.run("train", trials=1)
        session.run("dev")
        kept[key], kept[key, "was"] = tmp_path_factory.mktemp("kept"), folder
        shutil.copytree(folder, kept[key] / "folder")
        shutil.copytree(state, kept[key] / "state")
        return session

    return make


def level(row):
    return int(dict(word.split("=") for word in row["text"].split()[1:])["level"])


def sheet_of(session):
    return list(csv.DictReader(io.StringIO((session.experiment.folder / SHEET).read_text("utf-8-sig"))))


def fill(session, verdict):
    """Write `verdict(line)` into each line of the worksheet, as a spreadsheet would save it."""
    lines, text = sheet_of(session), io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]))
    writer.writeheader()
    writer.writerows(line | {ANSWER: verdict(line)} for line in lines)
    (session.experiment.folder / SHEET).write_text(text.getvalue(), "utf-8")


def test_rows_that_every_arm_fails_are_asked_about(scored):
    session = scored()
    rows = {part: part_rows(session.experiment, part) for part in ("train", "dev")}
    found = find_suspects(session.experiment)
    for part in ("train", "dev"):
        wanted = {row["row_id"] for row in rows[part] if level(row) >= 70}
        assert {row.id for row in found.rows if row.part == part} == wanted
        assert (found.found[part], found.totals[part]) == (len(wanted), len(rows[part]))
    assert all(row.moves == {"better"} for row in found.rows)


def test_of_generated_data_each_row_that_the_baseline_fails(scored):
    session = scored(source="generated = true", train=False)
    found = find_suspects(session.experiment)
    for part in ("train", "dev"):
        wanted = {row["row_id"] for row in part_rows(session.experiment, part) if level(row) >= 50}
        assert {row.id for row in found.rows if row.part == part} == wanted


def test_sg29_nobody_reads_a_dev_row_before_it_is_recorded(scored):
    session = scored()
    shown = session.labels()
    assert not session.experiment.state.revealed
    assert not (session.experiment.folder / SHEET).exists()
    assert "CANARY" not in shown.html + shown.text
    shown = session.labels(sheet=True)
    assert "CANARY" not in shown.html + shown.text
    (record,) = session.experiment.state.all("revealed")
    dev = {line["row"] for line in sheet_of(session) if line["part"] == "dev"}
    assert (set(record.body["ids"]), record.body["why"]) == (dev, "label audit")
    session.labels(sheet=True)
    assert len(session.experiment.state.all("revealed")) == 1


def test_the_worksheet_is_no_formula_and_names_no_arm(scored):
    session = scored()
    session.labels(sheet=True)
    for line in sheet_of(session):
        assert f"'{EVIL}" in line["answers"]
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in line.values())
        assert not {"base", "better"} & set(" ".join(line.values()).split())


def test_what_a_person_says_is_recorded_with_its_interval_and_its_effect(scored):
    session = scored()
    session.labels(sheet=True)
    dev = [line["item"] for line in sheet_of(session) if line["part"] == "dev"]
    wrong = set(dev[:3])
    fill(session, lambda line: "label wrong" if line["item"] in wrong else "")
    shown = session.labels()
    assert "3 of" in shown.text
    assert not session.experiment.state.has("labels_audited")
    fill(session, lambda line: "Label_Wrong" if line["item"] in wrong else "hard")
    session.labels()
    body = session.experiment.state.the("labels_audited").body
    asked = len(sheet_of(session))
    assert body["verdicts"] == {"label wrong": 3, "hard": asked - 3, "ambiguous": 0}
    interval = wilson_interval(3, asked)
    assert (body["rate"], body["low"], body["high"]) == (3 / asked, interval.low, interval.high)
    n = session.experiment.state.scored("dev").body["n"]
    effect = body["effects"]["better"]
    assert body["ceiling"] == pytest.approx(1 - 3 / n)
    assert effect["low"] == pytest.approx(effect["measured"] - 3 / n)
    assert effect["high"] == pytest.approx(effect["measured"] + 3 / n)
    said = label_limits(session.experiment.state)
    assert f"no arm can score above about {100 * body['ceiling']:.1f}" in said[0]
    assert said[0] in session.labels().text
    assert said[1].startswith("With right labels the dev effect of `better`")
    (line,) = [x for x in self_audit(session.experiment) if x.id == "SG30"]
    assert (line.status, line.evidence) == ("met", said[0])
    table = session.experiment.read_frame(FILE, sha256=body["sha256"])
    assert list(table.columns) == ["part", "id", "verdict"]


def test_equal_answers_stay_equal_whatever_the_label(scored):
    same = BETTER.replace('"something else"', repr(EVIL))
    session = scored(better=same)
    session.labels(sheet=True)
    fill(session, lambda _: "label wrong")
    session.labels()
    effect = session.experiment.state.the("labels_audited").body["effects"]["better"]
    assert effect["low"] == effect["measured"] == effect["high"]
    assert not effect["decides"]


def test_a_second_source_answers_without_a_reading(scored):
    session = scored()
    with pytest.raises(DataError, match="no second source"):
        session.labels(second="label")
    with pytest.raises(DataError, match="no second source"):
        session.labels(second="nothing")
    session.labels(second="tenant")  # no tenant is a label: each differs
    body = session.experiment.state.the("labels_audited").body
    assert body["by"] == "tenant"
    assert body["verdicts"]["label wrong"] == body["asked"] > 0
    assert not session.experiment.state.revealed


def test_a_worksheet_from_before_train_was_scored_gets_the_rows_of_train(scored):
    """Rows that it does not hold could never be answered; what was answered is kept."""
    session = scored(train=False)
    session.labels(sheet=True)
    fill(session, lambda _: "hard")
    before = sheet_of(session)
    session.run("train", trials=1)
    session.labels(sheet=True)
    lines = sheet_of(session)
    assert {line["part"] for line in before} == {"dev"}
    assert {line["item"] for line in lines} == {row.code for row in find_suspects(session.experiment).rows}
    assert {line[ANSWER] for line in lines if line["part"] == "dev"} == {"hard"}
    assert {line[ANSWER] for line in lines if line["part"] == "train"} == {""}
    fill(session, lambda _: "hard")
    session.labels()
    assert session.experiment.state.the("labels_audited").body["asked"] == len(lines) > len(before)


@pytest.mark.parametrize(
    ("label", "other", "said"),
    [
        ("fees", "fees", "hard"),
        ("fees", "no", "label wrong"),
        (1, 1.0, "hard"),
        (1, 2.0, "label wrong"),
        (True, "true", "hard"),
        ("fees", None, "ambiguous"),
        (1, math.nan, "ambiguous"),
    ],
)
def test_a_label_and_a_second_one(label, other, said):
    """Numbers are equal by value: a column with gaps holds fractions."""
    assert label_noise._second(label, other) == said


def test_a_hard_row_is_left_to_explain_and_a_wrong_label_is_not(scored):
    """A second source that agrees with a label says that there is something to win."""
    session = scored()
    session.labels(sheet=True)
    verdicts = iter(["label wrong", "ambiguous"] * 50)
    dev = [line["row"] for line in sheet_of(session) if line["part"] == "dev"]
    fill(session, lambda line: "hard" if line["row"] == dev[0] else next(verdicts))
    session.labels()
    assert session.experiment.state.has("labels_audited")
    assert excused_rows(session.experiment) == set(dev[1:])


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (lambda _: "perhaps", "cannot be read"),
        (lambda line: "=1+1" if line["number"] == "1" else "", "1 verdicts cannot be read"),
    ],
)
def test_other_verdicts_are_refused(scored, verdict, words):
    session = scored()
    session.labels(sheet=True)
    fill(session, verdict)
    with pytest.raises(DataError, match=words) as caught:
        session.labels()
    assert "CANARY" not in str(caught.value)
    assert "label wrong, hard, ambiguous" in str(caught.value)


def test_lines_of_other_rows_are_refused(scored):
    session = scored()
    session.labels(sheet=True)
    path = session.experiment.folder / SHEET
    path.write_text(path.read_text("utf-8-sig").replace(sheet_of(session)[0]["item"], "0" * 12), "utf-8")
    with pytest.raises(DataError, match="1 lines of the worksheet are of other items"):
        session.labels()


def test_of_many_rows_a_sample_stands_for_all(scored):
    session = scored()
    every = find_suspects(session.experiment)
    some = find_suspects(session.experiment, most=9)
    assert len(some.rows) == 9 < len(every.rows)
    assert some.rows == find_suspects(session.experiment, most=9).rows
    assert some.found == every.found
    said = dict.fromkeys((row.code for row in some.rows), label_noise.WRONG)
    noise = label_noise.estimate(session.experiment, some, said, "a person")
    n = every.totals["dev"]
    assert noise.ceiling == pytest.approx(1 - every.found["dev"] / n)
    moved = math.fsum([noise.effects["better"].high, -noise.effects["better"].measured])
    assert moved == pytest.approx(every.found["dev"] / n)


def test_sg30_generated_data_are_not_locked_without_an_audit_or_a_reason(scored):
    session = scored(source="generated = true")
    with pytest.raises(Refusal, match="generated rows; nobody checked their labels") as caught:
        session.lock()
    assert (caught.value.safeguard, caught.value.asks) == ("SG30", True)
    assert "itera labels --sheet" in caught.value.instead
    session.accept("SG30", "the generator is proven")
    session.lock()
    (line,) = [x for x in self_audit(session.experiment) if x.id == "SG30"]
    assert (line.status, "the generator is proven" in line.evidence) == ("not met", True)


def test_sg30_an_audit_opens_the_lock(scored):
    session = scored(source="generated = true")
    session.labels(sheet=True)
    with pytest.raises(Refusal):
        session.lock()
    fill(session, lambda _: "hard")
    session.lock()
    assert session.experiment.state.the("labels_audited").seq < session.experiment.state.the("locked").seq


def test_sg30_where_the_baseline_fails_no_row_nothing_is_asked(scored):
    session = scored(source="generated = true", base=BASE.replace("50", "100"), train=False)
    assert "nothing to audit" in session.labels().text
    session.lock()
    assert session.experiment.state.the("labels_audited").body["rate"] is None


def test_before_dev_scores_there_is_nothing_to_audit(make_experiment):
    session = make_experiment()
    for ask in (session.labels, lambda: session.labels(sheet=True), lambda: session.labels(second="tenant")):
        with pytest.raises(Refusal):
            ask()


def test_without_labels_or_with_preferences_no_row_can_be_said_to_fail(make_experiment):
    session = make_experiment(metric='scorer = "arms/m.py:prefer"')
    with pytest.raises(IteraError, match="a preference does not say who fails"):
        session.labels()


def test_the_command_line(scored):
    folder = scored().experiment.folder
    assert "itera labels --sheet" in in_process("labels", folder).out
    assert in_process("labels", folder, "--second", "label").code == 2
    assert in_process("labels", folder, "--sheet").code == 0
    assert (folder / SHEET).is_file()


def test_train_failures_are_free_to_read_and_dev_figures_hold_no_text(scored):
    session = scored()
    shown = session.failures("better")
    assert "CANARY" in shown.text
    assert "something else" in shown.text
    assert not session.experiment.state.revealed
    with pytest.raises(ArmError, match="no arm 'best'"):
        session.failures("best")
    figures = session.diffs()
    assert {"id", "kind", "d", "tenant", "latency_ms", "base_trial_1"} <= set(figures.columns)
    assert len(figures) == session.experiment.state.scored("dev").body["n"]
    assert "CANARY" not in figures.to_csv()
    assert "CANARY" not in session.clusters().html
    with pytest.raises(Refusal, match="SG01"):
        session.diffs("test")


def test_unscored_train_says_how_to_score_it(scored):
    session = scored(train=False)
    assert 'exp.run("train", trials=1)' in session.failures().text
    with pytest.raises(IteraError, match="not scored on train yet"):
        session.diffs("train")
    assert session.experiment.state.scored("train") is None


def test_sg29_readings_and_their_reasons_are_in_the_audit(scored):
    session = scored()
    ids = session.diffs()["id"].tolist()
    session.reveal(ids[:12], "why do these fail?")
    session.reveal(ids[10:15], "and these?")
    lines = {line.id: line for line in self_audit(session.experiment)}
    assert f"15 of {len(ids)} dev rows were read" in lines["SG29"].evidence
    assert "12 to 'why do these fail?'; 3 to 'and these?'" in lines["SG29"].evidence
    session.lock()
    better = session.experiment.state.the("locked").body["lines"][1]
    assert better["seen"] is None, "what was read after the score existed cannot have shaped the arm"


def test_rows_read_before_the_score_are_contrasted_where_there_is_something_to_gain(make_experiment):
    session = make_experiment(
        rows=160, base=BASE, arms={"better": BETTER}, run="trials = 1", preset="iterate"
    )
    go(session, until="pilot")
    dev = part_rows(session.experiment, "dev")
    read = {row["row_id"] for row in dev[::2]}
    session.reveal(read, "before anything ran")
    session.run("dev")
    session.lock()
    d = session.diffs().set_index("id")
    room = d[d["base_score"] < 1]["d"]
    seen = session.experiment.state.the("locked").body["lines"][1]["seen"]
    assert seen["rows"] == room.index.isin(read).sum() < len(read)
    assert seen["read"] == pytest.approx(room[room.index.isin(read)].mean())
    assert seen["others"] == pytest.approx(room[~room.index.isin(read)].mean())


@pytest.mark.parametrize(("p", "said"), [(0.01, 1), (0.2, 0)])
def test_a_gain_on_read_rows_alone_is_a_limit_of_the_conclusion(p, said):
    seen = {"rows": 20, "read": 0.3, "others": 0.01, "p": p}
    lines = [{"head": "base", "seen": None}, {"head": "better", "seen": seen}]
    state = SimpleNamespace(last=lambda _: SimpleNamespace(body={"lines": lines}))
    found = seen_limits(state)
    assert len(found) == said
    assert all("`better` gains +30.0 on 20 dev rows that were read, +1.0 on the others" in x for x in found)
