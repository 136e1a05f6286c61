"""The README's walk-through: a CSV, two functions, a verdict; and everything again for nothing."""

import json

import nbformat
import pytest
from world import PHASES, go, in_process

from itera_nb.notebooks.runner import execute

CHARTS = ("arm-bar.png", "forest-plot.png", "cost-vs-accuracy.png")


def test_meets_no_refusal_and_ships(walked):
    done = walked.done
    codes = {name: getattr(done, name).code for name in vars(done)}
    assert codes == dict.fromkeys(["new", "plan", "run", "verdict", "verify", "show"], 0), done
    assert walked.world.records("attempt_refused", "seal_touched", "amended", "accepted") == []
    (verdict,) = walked.world.records("verdict")
    assert (verdict["body"]["outcome"], verdict["body"]["arm"]) == ("ship", "v2")


def test_commands_print_what_a_person_needs(walked):
    done = walked.done
    assert "itera plan" in done.new.out
    assert "confirm" in done.plan.out
    assert "iterate" in done.plan.out
    assert "train 20  dev 40  test 140" in done.run.out
    assert "ready. The sealed test opens once: itera verdict" in done.run.out
    assert done.verdict.out.count("SHIP v2") == 1
    assert "140 rows × 3 trials" in done.verdict.out
    assert "verified" in done.verify.out
    assert "level: record and rows" in done.verify.out
    assert "SHIP v2" in done.show.out
    for command in vars(done).values():
        assert "Traceback" not in command.text
        assert "Warning" not in command.text


def test_conclusion_is_complete(walked):
    folder = walked.world.folder
    page, text = (
        (folder / "conclusion.html").read_text("utf-8"),
        (folder / "conclusion.md").read_text("utf-8"),
    )
    data = json.loads((folder / "data.json").read_text("utf-8"))
    assert "SHIP" in page
    assert text.startswith("# SHIP")
    assert data["verdict"]["winner"] == "v2"
    assert data["experiment"]["test_set_n"] == 140
    low, high = (data["effect_sizes"]["v2"]["aggregate"][k] for k in ("ci_low", "ci_high"))
    assert 0.05 < low < 0.24 < high < 0.40, "24 % of the rows are planted as gains"
    for chart in CHARTS:
        assert (folder / "charts" / chart).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("phase", PHASES)
def test_notebooks_hold_outputs_and_no_error(walked, phase):
    cells = [c for c in walked.world.notebook(phase)["cells"] if c["cell_type"] == "code"]
    outputs = [o for c in cells for o in c["outputs"]]
    assert not [o for o in outputs if o["output_type"] == "error"]
    views = [c for c in cells if c["source"] and "".join(c["source"]).startswith("exp.")]
    silent = ["".join(c["source"]) for c in views if not c["outputs"]]
    assert not silent, "every cell shows something"


def add_cell(world, phase, source):
    path = world.folder / "notebooks" / f"{phase}.ipynb"
    notebook = nbformat.read(path, 4)
    notebook.cells.append(nbformat.v4.new_code_cell(source))
    nbformat.write(notebook, path)


@pytest.mark.slow
def test_again_spends_nothing_refuses_nothing_and_changes_no_record(finished):
    """A user's own cells survive in 0-4; 5-verdict is what the conclusion is made of, and is restored."""
    add_cell(finished, "1-source", "'my own ' + 'cell'")
    add_cell(finished, "5-verdict", "'not from the ' + 'template'")
    before = finished.files()
    again = finished.itera("run", "--yes")
    assert again.code == 0, again.text
    assert "the test set was opened: itera show" in again.out
    assert "ready. The sealed test opens" not in again.out
    with finished.entered() as exp:
        execute(exp.experiment, "5-verdict")
    after = finished.files()
    changed = {f for f in before.keys() | after.keys() if before.get(f) != after.get(f)}
    assert {f.split("/")[0] for f in changed} <= {"notebooks"}
    for phase in PHASES:
        outputs = [o for c in finished.notebook(phase)["cells"] for o in c.get("outputs", [])]
        assert outputs
        assert not [o for o in outputs if o["output_type"] == "error"]
    verdict = json.dumps(finished.notebook("5-verdict"))
    assert "SHIP" in verdict
    assert "not from the" not in verdict
    assert "my own cell" in json.dumps(finished.notebook("1-source"))


ARMS = {
    "scope": """
    def answer(row):
        words = dict(word.split("=") for word in row["text"].split()[1:])
        right = int(row["text"].split()[0][6:11]) % 5 != 0
        return words["answer"] if right else ("no" if words["answer"] == "yes" else "yes")
    """,
    "kill": "def answer(row):\n    return 'yes'\n",
}
CODES = {"scope": 10, "kill": 20, "inconclusive": 30}


@pytest.mark.slow
@pytest.mark.parametrize("outcome", CODES)
def test_exit_codes_of_the_other_outcomes(make_experiment, outcome):
    if outcome == "inconclusive":
        exp = make_experiment(rows=40, effect=0.1, discordance=0.3)
    else:
        tenants = ("zeta", "acme", "acme", "acme", "acme")
        accuracy = {"scope": 0.5, "kill": 0.9}[outcome]
        arms = {"better": ARMS[outcome]}
        exp = make_experiment(
            rows=300, tenants=tenants, accuracy=accuracy, effect=0.0, arms=arms, preset="confirm"
        )
    go(exp)
    done = in_process("verdict", exp.experiment.folder)
    assert done.code == CODES[outcome], done.text
    assert f"{outcome.upper()} better" in done.out
    assert in_process("verify", exp.experiment.folder).code == 0
    page = (exp.experiment.folder / "conclusion.html").read_text("utf-8")
    assert outcome.upper() in page
