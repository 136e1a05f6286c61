"""C: moving what was registered."""

import nbformat
import pytest
from kernels import Kernel
from steps import step
from world import conclude, go, in_process

from itera_nb.scoring.package import verdict_template
from itera_nb.seal import custody
from itera_nb.seal.parquet import read_sealed, write_sealed


def edit(world, old, new, file="experiment.toml"):
    """Replace text in a file of the experiment."""
    path = world.folder / file
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")


def refused_for(world, named):
    """The verdict refuses an edit by name, and opens nothing."""
    with world.entered():
        done = in_process("verdict", world.folder)
    assert done.code == 3, done.text
    assert "refused SG04" in done.err
    assert named in done.err
    assert "opening" not in done.out
    assert world.records("test_opened") == []
    assert world.records("attempt_refused")[-1]["body"]["safeguard"] == "SG04"


@step(
    "C01",
    "edit the threshold after the metric was locked",
    local="P",
    escrow="P",
    how="SG04: the verdict refuses and shows the difference",
)
def test_c01_threshold_edited_after_the_lock(ready):
    edit(ready, 'min_effect = "5pp"', 'min_effect = "1pp"')
    done = ready.itera("verdict")
    assert done.code == 3
    assert "rule.min_effect.value: 0.05 -> 0.01" in done.text
    assert ready.records("test_opened") == []


@step(
    "C02",
    "edit the threshold or the conclusion after the verdict",
    local="D",
    escrow="D",
    how="`itera verify` exits 4 and names the file and the record",
)
@pytest.mark.parametrize("file", ["experiment.toml", "conclusion.md", "data.json"])
def test_c02_edited_after_the_verdict(finished, file):
    edit(finished, "5pp" if file == "experiment.toml" else "35" if file == "data.json" else "SHIP", "1", file)
    done = finished.itera("verify")
    assert done.code == 4
    assert f"{file} was changed" in done.err
    assert "(record " in done.err


MODES = {
    "a mode more": ("rude = 1.0", "rude = 1.0, late = 1.0", "metric.failure_modes.late"),
    "another name": ("wrong_label = 2.0", "wrong_lable = 2.0", "metric.failure_modes.wrong_l"),
    "another weight": (
        "wrong_label = 2.0",
        "wrong_label = 0.5",
        "metric.failure_modes.wrong_label.weight: 2 -> 0.5",
    ),
    "another severity": ('severity = "value"', 'severity = "value"\nseverity_cap = 3', "source.severity"),
}


@step(
    "C03",
    "add or rename a failure mode, or change the severity weights",
    local="P",
    escrow="P",
    how="SG04: modes, weights and the severity column are locked with the metric",
)
@pytest.mark.parametrize("change", MODES)
def test_c03_failure_modes_and_severity(judged, change):
    old, new, named = MODES[change]
    edit(judged, old, new)
    refused_for(judged, named)


JUDGE = {
    "rubric": ("bad otherwise", "good otherwise", "code.rubric.md (file content)", "rubric.md"),
    "model": ("claude-haiku-4-5", "claude-sonnet-4-5", "judge.model", "experiment.toml"),
    "temperature": (
        "temperature = 0.0",
        "temperature = 1.0",
        "judge.params.temperature: 0 -> 1",
        "experiment.toml",
    ),
}


@step(
    "C04",
    "change the rubric, the judge's model or its temperature",
    local="P",
    escrow="P",
    how="SG04: the rubric's hash and the judge's parameters are locked with the metric",
)
@pytest.mark.parametrize("change", JUDGE)
def test_c04_the_judge(judged, change):
    old, new, named, file = JUDGE[change]
    edit(judged, old, new, file)
    refused_for(judged, named)


@step(
    "C05",
    "edit an arm, or a file that it imports, or the snapshot itself, after the lock",
    local="P",
    escrow="P",
    how="SG04 for the arm's files (the whole import closure is hashed), SG32 for the snapshot",
)
@pytest.mark.parametrize("file", ["arms/rules.py", "arms/words.py", "snapshot/arms/words.py"])
def test_c05_arm_edited_after_the_lock(judged, file):
    path = judged.folder / file
    path.write_text(path.read_text("utf-8") + "\n\ndef v2(row):\n    return row.get('label')\n", "utf-8")
    done = judged.itera("verdict")
    assert done.code == 3
    assert ("refused SG32" if file.startswith("snapshot") else "manifests.v2.implementation") in done.text
    assert judged.records("test_opened") == []


@step(
    "C06",
    "an official amendment after dev scores",
    local="D",
    escrow="D",
    how="what ran before it no longer counts, and the page prints what changed, why, and that results had been seen",
)
@pytest.mark.slow
def test_c06_an_amendment_is_printed(ready):
    edit(ready, 'min_effect = "5pp"', 'min_effect = "2pp"')
    why = "finance accepts two points since the price fell"
    done = ready.itera("amend", "--why", why)
    assert done.code == 0, done.text
    assert "dev results seen" in done.out
    with ready.entered() as exp:
        go(exp)
        conclude(exp)
    page = (ready.folder / "conclusion.md").read_text("utf-8").replace("\\", "")
    assert "Amended after results had been seen" in page
    assert why in page
    assert "0.05 -> 0.02" in page


@step(
    "C07",
    "edit the verdict notebook's cells to skip a gate",
    local="P",
    escrow="P",
    how="the gates live in the package: a kernel whose notebook is not the locked one gets no ticket, and `itera verdict` "
    "puts the notebook back before it runs",
)
def test_c07_edited_verdict_notebook(ready):
    path = edited_notebook(ready)
    with Kernel(ready, name="itera", JPY_SESSION_NAME=str(path)) as kernel:
        kernel.run("%load_ext itera_nb\nimport itera_nb\nexp = itera_nb.open()")
        ran = kernel.run("exp.verdict()")
    assert "refused SG01" in ran.text
    assert "the cells of 5-verdict.ipynb are not those of the package's verdict notebook" in ran.text
    assert ready.records("test_opened") == []


@pytest.mark.slow
def test_an_edited_verdict_notebook_is_put_back(ready):
    edited_notebook(ready)
    done = ready.itera("verdict")
    assert done.code == 0, done.text
    sources = ["".join(cell["source"]) for cell in ready.notebook("5-verdict")["cells"]]
    assert any("preflight" in source for source in sources)
    assert not any("mine" in source for source in sources)


def edited_notebook(world):
    """The verdict notebook without its preflight, and with a cell of one's own; its path."""
    path = world.folder / "notebooks" / "5-verdict.ipynb"
    book = nbformat.read(verdict_template(), as_version=4)
    book.cells = [cell for cell in book.cells if "preflight" not in cell.source]
    book.cells.append(nbformat.v4.new_code_cell("mine = exp.experiment.secret"))
    nbformat.write(book, path)
    return path


@step(
    "C08",
    "a second verdict after a tweak",
    local="P",
    escrow="P",
    how="SG02: the test set opens once; the refusal names the first record and is itself recorded",
)
def test_c08_second_verdict(finished):
    edit(finished, '"5pp"', '"1pp"')
    done = finished.itera("verdict")
    assert done.code == 3
    assert "refused SG02" in done.text
    assert f"(record {finished.records('verdict')[0]['seq']})" in done.text
    assert len(finished.records("test_opened")) == 1
    assert finished.records("attempt_refused")


@step(
    "C09",
    "a verdict on a subset of the test rows: by an option, an argument or a sliced sealed file",
    local="P",
    escrow="P",
    how="there is no such option, and a sealed file with other bytes is refused before the claim (SG32)",
)
def test_c09_a_subset(ready):
    assert ready.itera("verdict", "--limit", "5").code == 2
    with ready.entered() as exp:
        with pytest.raises(TypeError):
            exp.verdict(limit=5)
        secret = custody.load_secret(exp.experiment.genesis)
    path = ready.folder / "sealed" / "test.parquet"
    rows = read_sealed(path, secret.identity).slice(0, 20)
    write_sealed(path, rows.schema, rows.to_batches(), [secret.recipient])
    done = ready.itera("verdict")
    assert done.code == 3
    assert "refused SG32" in done.text
    assert "the hash of test.parquet differs" in done.text
    assert ready.records("test_opened") == []
