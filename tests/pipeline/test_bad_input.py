"""Bad input: what, where and how to go on; never a traceback, a row's text, or a half-written folder."""

import csv
import io
import re

import pytest
from world import go, in_process, new_world, tickets, write_csv

from itera_nb.exceptions import ArmError, IteraError, Refusal

SECRET = "CANARY00007X"


def rewrite(exp, change):
    """Pass the rows of data.csv through a function."""
    path = exp.experiment.folder / "data.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = [dict(row) for row in csv.DictReader(file)]
    write_csv(path, change(rows))


def duplicated(rows):
    return [*rows, rows[7], rows[8]]


def unlabelled(rows):
    return [{**row, "label": ""} if n in {7, 8} else row for n, row in enumerate(rows)]


def one_class(rows):
    return [{**row, "label": "yes"} for row in rows]


def without_label(rows):
    return [{k: v for k, v in row.items() if k != "label"} for row in rows]


def without_id(rows):
    return [{**row, "row_id": "" if n == 7 else row["row_id"]} for n, row in enumerate(rows)]


SOURCES = {
    "missing column": (without_label, r"no column 'label'"),
    "duplicate ids": (duplicated, r"2 values of 'row_id' stand in more than one row: .*r00007"),
    "null labels": (unlabelled, r"2 of 60 rows have no label 'label': row_id .*r00007"),
    "one class": (one_class, r"all 60 rows have the same label"),
    "no rows": (lambda rows: None, r"has no rows"),
    "empty file": (lambda data: b"", r"is empty"),
    "latin-1": (lambda data: data.replace(b"answer", b"r\xe9ponse", 1), r"not UTF-8"),
    "ragged": (lambda data: data + b"r99999,one,too,many,fields\r\n", r"another number of fields"),
    "open quote": (
        lambda data: data + b'r99999,"never closed,acme,yes\r\n',
        r"quotation mark|number of fields|cannot be read",
    ),
    "same names": (lambda data: data.replace(b"tenant", b"text", 1), r"of the same name"),
    "zeros": (lambda data: bytes(4096), r"data\.csv"),
}


def spoil(exp, case):
    change, words = SOURCES[case]
    path = exp.experiment.folder / "data.csv"
    if case == "no rows":
        path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    elif case in {"empty file", "latin-1", "ragged", "open quote", "same names", "zeros"}:
        path.write_bytes(change(path.read_bytes()))
    else:
        rewrite(exp, change)
    return words


@pytest.mark.parametrize("case", SOURCES)
def test_source(make_experiment, case):
    exp = make_experiment()
    words = spoil(exp, case)
    with pytest.raises(IteraError, match=words) as raised:
        go(exp, until="seal")
    error = raised.value
    assert error.exit_code == 2
    assert error.fix
    assert SECRET not in str(error)
    assert "unexpected" not in str(error)
    assert not exp.experiment.state.has("sealed")
    assert not list(exp.experiment.path("sealed").glob("*"))


@pytest.mark.parametrize(
    "case",
    [c if c == "duplicate ids" else pytest.param(c, marks=pytest.mark.slow) for c in SOURCES],
)
def test_source_on_the_command_line(make_experiment, case):
    exp = make_experiment()
    words = spoil(exp, case)
    done = in_process("run", "--yes", exp.experiment.folder)
    assert done.code == 2, done.text
    assert re.search(words, done.err)
    assert "fix" in done.err
    assert "Traceback" not in done.text
    assert SECRET not in done.text


def test_source_with_a_missing_id(make_experiment):
    exp = make_experiment()
    rewrite(exp, without_id)
    with pytest.raises(IteraError, match=r"1 of 60 rows have no 'row_id'"):
        go(exp, until="seal")


@pytest.mark.slow
def test_missing_and_foreign_source(make_experiment):
    exp = make_experiment()
    (exp.experiment.folder / "data.csv").unlink()
    with pytest.raises(IteraError, match="does not exist"):
        go(exp, until="seal")
    for name in ("data.txt", "data.parquet"):
        exp = make_experiment(f"kind-{name[5:]}")
        folder = exp.experiment.folder
        (folder / "data.csv").rename(folder / name)
        toml = folder / "experiment.toml"
        toml.write_text(toml.read_text("utf-8").replace("data.csv", name), "utf-8")
        with pytest.raises(IteraError, match=r"what kind of file|not a Parquet file"):
            go(exp, until="seal")


BAD_ARMS = {
    "raises": (
        "def answer(row):\n    raise RuntimeError('no model here')\n",
        "status error",
        "no model here",
    ),
    "hangs": (
        "import time\n\n\ndef answer(row):\n    time.sleep(60)\n",
        "status timeout",
        "no answer within 1 s",
    ),
    "none": ("def answer(row):\n    return None\n", "status invalid", "the output is None"),
    "nan": ("def answer(row):\n    return float('nan')\n", "status invalid", "."),
    "no json": ("def answer(row):\n    return object()\n", "status invalid", "not a JSON value"),
    "empty": ("def answer(row):\n    return ''\n", "empty or a placeholder", "."),
    "exits": ("import os\n\n\ndef answer(row):\n    os._exit(3)\n", "status error", "ended with code 3"),
    "wrong length": (
        "class answer:\n    def predict(self, rows):\n        return ['yes'] * (len(rows) + 1)\n",
        "status invalid",
        "2 outputs for 1 rows",
    ),
    "asks for the label": ("def answer(row):\n    return row['label']\n", "status error", "KeyError|label"),
}


def refused_pilot(make_experiment, code):
    exp = make_experiment(arms={"better": code}, run="trials = 2\ntimeout_s = 1.0")
    with pytest.raises(Refusal) as refused:
        go(exp, until="dev")
    return exp, refused.value


@pytest.mark.parametrize("case", BAD_ARMS)
def test_pilot_finds_a_bad_arm_on_one_row(make_experiment, case):
    code, status, _ = BAD_ARMS[case]
    exp, refusal = refused_pilot(make_experiment, code)
    assert refusal.safeguard == "SG10"
    assert f"better: {status}" in refusal.what.replace("the output is ", "")
    log = exp.experiment.path("runs", "attempts.jsonl").read_text("utf-8")
    assert log.count('"arm":"better"') == 1, "the pilot runs one row"
    assert not exp.experiment.state.has("pilot_passed")


@pytest.mark.parametrize("case", ["raises", "none", "wrong length"])
def test_pilot_says_why(make_experiment, case):
    code, _, reason = BAD_ARMS[case]
    _, refusal = refused_pilot(make_experiment, code)
    assert re.search(reason, refusal.what)


@pytest.mark.slow
def test_bad_arm_on_the_command_line(make_experiment):
    exp = make_experiment(arms={"better": BAD_ARMS["none"][0]})
    done = in_process("run", "--yes", exp.experiment.folder)
    assert done.code == 3
    assert "refused SG10" in done.err
    assert "better: status invalid" in done.err
    assert "Traceback" not in done.text


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def answer(row:\n", r"better\.py:1"),
        ("def other(row):\n    return 'yes'\n", "does not define 'answer'"),
        (None, r"there is no file arms/better\.py"),
    ],
)
def test_arm_that_cannot_be_read(make_experiment, code, words):
    exp = make_experiment()
    path = exp.experiment.folder / "arms" / "better.py"
    path.unlink()
    if code is not None:
        path.write_text(code, "utf-8")
    with pytest.raises(ArmError, match=words):
        exp.frame.lock()
    done = in_process("plan", exp.experiment.folder)
    assert "Traceback" not in done.text
    assert done.code in {0, 2}


def test_arm_that_cannot_be_imported(make_experiment):
    exp = make_experiment(
        arms={"better": "import nothing_of_this_name\n\n\ndef answer(row):\n    return 'yes'\n"}
    )
    with pytest.raises(IteraError, match="nothing_of_this_name"):
        go(exp, until="dev")


def test_baseline_that_fails_everywhere(make_experiment):
    exp = make_experiment(base="def answer(row):\n    raise RuntimeError('down')\n")
    with pytest.raises(ArmError, match="fails on every train row"):
        go(exp, until="baseline")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("min_effect = 0.05", 'min_effect = "much"', r"experiment\.toml:\d+: rule\.min_effect"),
        ("min_effect = 0.05", "min_efect = 0.05", r'rule\.min_efect: unknown key; did you mean "min_effect"'),
        ("trials = 2", "trials = 0", r"run\.trials"),
        ('id = "row_id"', "", r"source\.id: this key is required"),
        ("baseline = true", "baseline = false", r"exactly one arm"),
        ("[metric]", "[metric", r"experiment\.toml:\d+: toml"),
        ('kind = "python"', 'kind = "http"', r"not available in this version|needs this key"),
        ("min_effect = 0.05", "min_effect = 5", r"five percentage points"),
        ('uri = "data.csv"', "uri = 7", r"source\.uri"),
    ],
)
def test_toml(make_experiment, old, new, words):
    exp = make_experiment()
    toml = exp.experiment.folder / "experiment.toml"
    text = toml.read_text("utf-8")
    assert old in text
    toml.write_text(text.replace(old, new, 1), "utf-8")
    for command in (["plan"], ["run", "--yes"], ["amend", "--why", "x"], ["status"]):
        done = in_process(*command, exp.experiment.folder)
        assert done.code == 2, (command, done.text)
        assert re.search(words, done.err), done.err
        assert "Traceback" not in done.text
    assert not (exp.experiment.folder / "ledger.jsonl").exists(), "nothing was written"


def test_unknown_scorer_stops_before_an_arm_runs(make_experiment):
    exp = make_experiment(metric='scorer = "telepathy"')
    with pytest.raises(IteraError, match="telepathy"):
        go(exp, until="baseline")
    assert not exp.experiment.state.has("baseline_measured")


def test_toml_that_is_not_utf8(make_experiment):
    exp = make_experiment()
    (exp.experiment.folder / "experiment.toml").write_bytes(b'[frame]\nquestion = "caf\xe9"\n')
    done = in_process("plan", exp.experiment.folder)
    assert done.code == 2
    assert "not UTF-8" in done.err


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder to call `itera new` in."""
    world = new_world(tmp_path / "world")
    write_csv(world.project / "eval.csv", tickets(40))
    (world.project / "rules.py").write_text(
        "def v1(row):\n    return 'fees'\n\n\ndef v2(row):\n    return 'transfer'\n"
    )
    (world.project / "v1.md").write_text("{{text}}")
    monkeypatch.chdir(world.project)
    return world.project


GOOD = {
    "--data": "eval.csv",
    "--id": "ticket_id",
    "--expected": "label",
    "--baseline": "rules.py:v1",
    "--arm": "rules.py:v2",
}


def new(name="fees", **changed):
    options = GOOD | {f"--{k}": v for k, v in changed.items()}
    return in_process(
        "new", name, *(part for pair in options.items() if pair[1] is not None for part in pair)
    )


@pytest.mark.parametrize(
    "name",
    [
        "../fees",
        "/tmp/fees",
        "fees\0",
        "f" * 300,
        "Fees",
        "fe es",
        "",
        ".",
        "..",
        "fees\u202e",
        "-fees",
        "fees\n",
    ],
)
def test_name(project, name):
    done = in_process("new", *(part for pair in GOOD.items() for part in pair), "--", name)
    assert done.code == 2, done.text
    assert "Traceback" not in done.text
    assert "unexpected" not in done.text
    assert not (project / "docs").exists()
    assert sorted(p.name for p in project.iterdir()) == ["eval.csv", "rules.py", "v1.md"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"expected": "lable"}, "no column 'lable'"),
        ({"id": "nothing"}, "no column 'nothing'"),
        ({"slices": "tenant,region"}, "no column 'region'"),
        ({"data": "missing.csv"}, "missing.csv"),
        ({"baseline": "rules.py"}, "which function"),
        ({"baseline": "rules.py:v9"}, "v9"),
        ({"baseline": "v1.md"}, "for which model"),
        ({"arm": "gone.py:v2"}, "no file gone.py"),
        ({"min-effect": "big"}, "--min-effect big"),
        ({"min-effect": "5"}, "--min-effect 5"),
        ({"expected": None}, "--expected is missing"),
        ({"colour": "red"}, "--colour"),
    ],
)
def test_new(project, changed, words):
    done = new(**changed)
    assert done.code == 2, done.text
    assert words in done.err
    assert "Traceback" not in done.text
    assert "unexpected" not in done.text
    assert not (project / "docs").exists()


def test_new_twice_keeps_the_first(project):
    assert new().code == 0
    (folder,) = (project / "docs" / "experiments").iterdir()
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    done = new()
    assert done.code == 2
    assert "exists already" in done.err
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("command", ["plan", "run", "verdict", "status", "show", "verify"])
def test_a_folder_without_an_experiment(tmp_path, command):
    done = in_process(command, tmp_path)
    assert done.code == 2
    assert "no experiment.toml" in done.err
    assert "itera new" in done.err


@pytest.mark.slow
def test_run_without_a_person_asks_for_yes(make_experiment, monkeypatch):
    exp = make_experiment()
    go(exp, until="metric")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    done = in_process("run", exp.experiment.folder)
    assert done.code == 2
    assert "itera run --yes" in done.err
    assert exp.experiment.state.scored("dev") is None


def test_accept_without_a_reason(make_experiment):
    exp = make_experiment()
    done = in_process("run", "--yes", "--accept", "SG12", exp.experiment.folder)
    assert done.code == 2
    assert "a reason is missing" in done.err
