"""Did the changed code run? Changed lines, the rows that run them, and the text that is sent."""

import pytest

from itera_nb.arms.manifest import build
from itera_nb.arms.runtime import RunnableArm
from itera_nb.diagnosis.coverage import Reach, _sent, changed_lines
from itera_nb.scoring.child import Failure
from itera_nb.scoring.workers import Worker
from itera_nb.spec import ArmSpec

PARENT = '''\
"""Doc."""
LIMIT = 5


def answer(row):
    """How."""
    text = row["text"]
    return "no"
'''
CHILD = '''\
"""Another doc."""
LIMIT = 6


def answer(row):
    """In another way."""
    text = row["text"]
    if "refund" in text:
        # money back
        return "yes"
    return "no"


class Arm:
    def predict(self, rows):
        return [answer(row) for row in rows]


async def later(row):
    return answer(row)
'''


@pytest.fixture
def changed(tmp_path, make_spec):
    """The lines that a change adds to PARENT, in a file of another name."""
    (tmp_path / "arms").mkdir()

    def of(code):
        built = []
        for name, text in (("b", code), ("a", PARENT)):
            (tmp_path / f"arms/{name}.py").write_text(text, "utf-8")
            arm = ArmSpec(kind="python", target=f"arms/{name}.py:answer")
            built.append(build(make_spec(), name, arm, tmp_path))
        return changed_lines(*built, ("arms/b.py", "arms/a.py"))

    return of


def test_lines_that_a_condition_guards_count_and_the_condition_does_not(changed):
    assert changed(CHILD)["arms/b.py"][:1] == [10]
    assert 8 not in changed(CHILD)["arms/b.py"]


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        (PARENT, {}),
        (PARENT.replace("How.", "Why."), {}),
        (PARENT.replace("LIMIT = 5", "LIMIT = 6"), {}),
        (PARENT.replace("    return", "    # a remark\n    return"), {}),
        (PARENT.replace('return "no"', 'return "yes"'), {"arms/b.py": [8]}),
        (PARENT.replace('return "no"', 'return max(\n        "no",\n        "a",\n    )'), {"arms/b.py": [8, 9, 10, 11]}),
    ],
)  # fmt: skip
def test_lines_inside_functions(changed, code, lines):
    assert changed(code) == lines


@pytest.mark.parametrize("symbol", ["answer", "Arm", "later"])
def test_the_rows_on_which_a_line_runs(tmp_path, symbol):
    (tmp_path / "b.py").write_text(CHILD, "utf-8")
    items = [({"text": text},) for text in ("a refund", "nothing", "refund")]
    with Worker(tmp_path, f"b.py:{symbol}", quiet=True) as worker:
        assert worker.ran(items, {str(tmp_path / "b.py"): [10]}, 60) == [True, False, True]


def test_an_arm_that_raises_has_run_and_one_that_dies_is_not_known(tmp_path):
    (tmp_path / "b.py").write_text(
        'import os\ndef f(row):\n    if row["x"]:\n        os._exit(3)\n    return 1 / 0\n', "utf-8"
    )
    with Worker(tmp_path, "b.py:f", quiet=True) as worker:
        lines = {str(tmp_path / "b.py"): [5]}
        assert worker.ran([({"x": 0},)], lines, 60) == [True]
        assert isinstance(worker.ran([({"x": 1},)], lines, 60), Failure)


@pytest.mark.parametrize(
    ("template", "reach"),
    [
        ("Class: {{text}} Mind the order id.", Reach(3, 3)),
        ("Class: {{text}}{% if 'refund' in text %} Mind the order id.{% endif %}", Reach(3, 2)),
        ("Class: {{text}}{% if 'chargeback' in text %} Mind the order id.{% endif %}", Reach(3, 0)),
    ],
)
def test_the_rows_whose_prompt_differs(tmp_path, template, reach):
    arms = []
    for name, text in (("b", template), ("a", "Class: {{text}}")):
        (tmp_path / f"{name}.md").write_text(text, "utf-8")
        spec = ArmSpec(kind="prompt", prompt=f"{name}.md", model="anthropic/x")
        arms.append(RunnableArm(name, spec, tmp_path, name, ("text",)))
    rows = [{"text": text, "label": "x"} for text in ("a refund", "nothing", "refund")]
    assert _sent(rows, arms, ["template"]) == reach
    other = _sent(rows, arms, ["model"])
    assert (other.ran, "the change is no text: model" in other.note) == (None, True)
