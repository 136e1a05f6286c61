"""`itera new`: a complete folder, or none."""

import re
from pathlib import Path

import pytest

from itera_nb.exceptions import ArmError, DataError, IteraError, SpecError
from itera_nb.protocol import PHASES
from itera_nb.scaffold import Wanted, new, new_demo
from itera_nb.spec import load_spec

CODE = "import tools\n\ndef answer(row):\n    return tools.reply(row)\n\ndef better(row):\n    return 'yes'\n"


@pytest.fixture
def wanted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src").mkdir()
    (tmp_path / "src/fees.py").write_text(CODE, "utf-8")
    (tmp_path / "src/tools.py").write_text("def reply(row):\n    return 'no'\n", "utf-8")
    (tmp_path / "v1.md").write_text("Answer {{text}}", "utf-8")
    (tmp_path / "v2.md").write_text("Answer {{text}} briefly", "utf-8")
    rows = "".join(
        f"r{i},text {i},{'acme' if i % 2 else 'zeta'},{'yes' if i % 3 else 'no'}\n" for i in range(40)
    )
    (tmp_path / "eval.csv").write_text("row_id,text,tenant,label\n" + rows, "utf-8")

    def of(**changes):
        keys = {
            "name": "fees", "data": tmp_path / "eval.csv", "baseline": "src/fees.py:answer",
            "arms": ["src/fees.py:better"], "expected": "label", "slices": ["tenant"],
        }  # fmt: skip
        return Wanted(**keys | changes)

    return of


def nothing_written(tmp_path):
    return not list(tmp_path.glob("docs/experiments/*"))


def test_a_new_folder_is_complete_and_its_file_is_valid(wanted, tmp_path):
    experiment = new(wanted())
    assert experiment.folder.parent == tmp_path / "docs/experiments"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d-fees", experiment.folder.name)
    spec = load_spec(experiment.folder / "experiment.toml")
    assert (spec.baseline, spec.candidates) == ("answer", ("better",))
    assert (spec.source.id, spec.source.inputs, spec.source.slices) == ("row_id", ["text"], ["tenant"])
    assert (experiment.folder / spec.source.uri).resolve() == tmp_path / "eval.csv"
    assert (experiment.folder / spec.arms["answer"].ref).resolve() == tmp_path / "src/fees.py"
    assert spec.arms["better"].cost == "free"
    assert spec.rule.min_effect.value == 0.05
    files = {p.relative_to(experiment.folder).as_posix() for p in experiment.folder.rglob("*") if p.is_file()}
    notebooks = {
        f"notebooks/{p}.ipynb"
        for p in ("0-frame", "1-source", "2-metric", "3-run", "4-diagnose", "5-verdict")
    }
    assert files == {
        "experiment.toml",
        ".gitignore",
        ".gitattributes",
        "arms/fees.py",
        "arms/tools.py",
        *notebooks,
    }


def test_what_holds_rows_stays_out_of_git(wanted):
    folder = new(wanted()).folder
    ignored = (folder / ".gitignore").read_text("utf-8").split("\n")
    assert {"data/", "runs/", "sealed/", "notebooks/", ".env"} <= set(ignored)
    assert (folder / ".gitattributes").read_text("utf-8") == "ledger.jsonl -merge -text\n"


def test_what_is_asked_for_stands_in_the_file(wanted):
    spec = new(
        wanted(
            min_effect="10%",
            question='Is "better" better? # really',
            hypothesis="Multi\nline 'quotes' \\ and ü.",
            cluster="tenant",
            ref="src/fees.py:3",
            id="row_id",
            inputs=["text", "tenant"],
        )
    ).spec
    assert spec.frame.question == 'Is "better" better? # really'
    assert spec.frame.hypothesis == "Multi\nline 'quotes' \\ and ü."
    assert spec.rule.min_effect.relative
    assert (spec.source.cluster, spec.source.inputs) == ("tenant", ["text", "tenant"])
    assert spec.arms["answer"].ref == "src/fees.py:3"


def test_prompt_arms(wanted):
    spec = new(wanted(baseline="v1.md", arms=["v2.md"], model="anthropic/claude-x")).spec
    assert {a.kind for a in spec.arms.values()} == {"prompt"}
    assert spec.arms["v2"].model == "anthropic/claude-x"
    assert spec.arms["v2"].prompt == "arms/v2.md"


def test_functions_of_one_name_are_called_after_their_files(wanted, tmp_path):
    (tmp_path / "other.py").write_text("def answer(row):\n    return 1\n", "utf-8")
    assert list(new(wanted(arms=["other.py:answer"])).spec.arms) == ["fees", "other"]


def test_two_arms_of_one_name_get_two_names(wanted, tmp_path):
    (tmp_path / "other.py").write_text(
        "def answer(row):\n    return 1\n\n\ndef more(row):\n    return 2\n", "utf-8"
    )
    spec = new(wanted(arms=["other.py:answer", "other.py:more"])).spec
    assert list(spec.arms) == ["answer", "answer-2", "more"]


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"name": "Fees"}, IteraError, "not a name"),
        ({"name": "../x"}, IteraError, "not a name"),
        ({"name": "a" * 300}, IteraError, "not a name"),
        ({"name": "a\x00"}, IteraError, "not a name"),
        ({"arms": []}, ArmError, "1 to 3 arms"),
        ({"arms": ["v1.md"] * 4, "model": "anthropic/x"}, ArmError, "1 to 3 arms"),
        ({"baseline": "none.py:f"}, ArmError, "no file"),
        ({"baseline": "src/fees.py"}, ArmError, "which function"),
        ({"baseline": "src/fees.py:missing"}, ArmError, "does not define"),
        ({"baseline": "v1.md"}, ArmError, "for which model"),
        ({"expected": "labl"}, DataError, "no column 'labl'"),
        ({"slices": ["x"]}, DataError, "no column 'x'"),
        ({"inputs": ["x"]}, DataError, "no column 'x'"),
        ({"cluster": "x"}, DataError, "no column 'x'"),
        ({"id": "x"}, DataError, "no column 'x'"),
        ({"slices": ["tenant", "text"]}, DataError, "no column is left"),
        ({"min_effect": "much"}, IteraError, "--min-effect much"),
        ({"min_effect": "500pp"}, IteraError, "--min-effect 500pp"),
        ({"question": "Why?"}, SpecError, "question"),
    ],
)
def test_a_mistake_writes_nothing(wanted, tmp_path, changes, error, words):
    with pytest.raises(error, match=words):
        new(wanted(**changes))
    assert nothing_written(tmp_path)


def test_an_ambiguous_id_is_asked_for(wanted, tmp_path):
    rows = "".join(f"{i},{i + 100},t{i},yes\n" for i in range(30))
    (tmp_path / "eval.csv").write_text("order_id,ticket_id,text,label\n" + rows, "utf-8")
    with pytest.raises(DataError, match="which column identifies a row") as caught:
        new(wanted(slices=[]))
    assert "--id COLUMN" in caught.value.fix
    assert new(wanted(slices=[], id="ticket_id")).spec.source.id == "ticket_id"


def test_two_files_of_one_name_are_refused(wanted, tmp_path):
    (tmp_path / "fees.py").write_text("def answer(row):\n    return 1\n", "utf-8")
    with pytest.raises(ArmError, match="two different files are called"):
        new(wanted(arms=["fees.py:answer"]))
    assert nothing_written(tmp_path)


def test_a_folder_is_never_written_over(wanted):
    experiment = new(wanted())
    before = experiment.toml.read_bytes()
    with pytest.raises(IteraError, match="exists already"):
        new(wanted(question="Another question altogether?"))
    assert experiment.toml.read_bytes() == before


def test_what_new_writes_can_be_locked(wanted):
    import itera_nb

    session = itera_nb.open(new(wanted()).folder)
    session.frame.lock()
    session.source.sample()
    assert session.experiment.state.last("sampled").body["rows"] == 40


def test_arms_may_be_endpoints_and_commands_beside_code(wanted, tmp_path):
    (tmp_path / "src/run.py").write_text("import tools\n", "utf-8")
    arms = ["https://service.example/v2/classify", "exec: python src/run.py --k 3"]
    experiment = new(wanted(arms=arms))
    text, spec = (experiment.folder / "experiment.toml").read_text("utf-8"), experiment.spec
    assert spec.candidates == ("v2-classify", "run")
    http, command = spec.arms["v2-classify"], spec.arms["run"]
    assert (http.kind, http.url, http.cost, http.target) == ("http", arms[0], None, None)
    assert (command.kind, command.command) == ("command", ["python", "arms/run.py", "--k", "3"])
    assert (experiment.folder / "arms/run.py").is_file()
    assert (experiment.folder / "arms/tools.py").is_file()
    assert "from =" not in text


def test_arms_of_one_kind_say_only_what_differs(wanted):
    experiment = new(wanted(baseline="http://a.example/v1", arms=["http://a.example/v2"]))
    text = (experiment.folder / "experiment.toml").read_text("utf-8")
    assert 'ref = "http://a.example/v1"' in text
    assert text.count("kind =") == 1
    assert experiment.spec.arms["v2"].url == "http://a.example/v2"


def test_files_are_looked_for_below_the_base(wanted, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    keys = {
        "data": Path("eval.csv"),
        "baseline": "src/fees.py:answer",
        "arms": ["exec: python3 src/tools.py"],
    }
    with pytest.raises(ArmError, match="no file"):
        new(wanted(**keys, under=tmp_path / "made"))
    made = new(wanted(**keys, under=tmp_path / "made", base=tmp_path))
    assert made.outside(made.spec.source.uri) == tmp_path / "eval.csv"
    assert sorted(p.name for p in (made.folder / "arms").iterdir()) == ["fees.py", "tools.py"]


def test_the_demo_is_a_fresh_experiment_each_time(tmp_path):
    first, second = (new_demo(tmp_path / "made", tmp_path / "cache") for _ in range(2))
    assert second.name == f"{first.name}-2"
    assert first.outside(first.spec.source.uri).is_file()
    assert sorted(p.stem for p in (first.folder / "notebooks").iterdir()) == sorted(PHASES)
    assert first.state.records == ()
