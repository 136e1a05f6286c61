"""The README's walk-through: a CSV, two functions, a verdict; and everything again for nothing."""

import json

import pytest
from world import PHASES

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
    page, text = (folder / "conclusion.html").read_text("utf-8"), (folder / "conclusion.md").read_text("utf-8")
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


def test_again_spends_nothing_refuses_nothing_and_changes_no_record(finished):
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
    assert "SHIP" in json.dumps(finished.notebook("5-verdict"))
