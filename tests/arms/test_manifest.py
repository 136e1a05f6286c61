"""What an arm is made of, what counts as a difference, and which files stand behind a target."""

import textwrap

import pytest

from itera_nb.arms.manifest import build, code_closure
from itera_nb.exceptions import ArmError
from itera_nb.spec import ArmSpec

CODE = """\
LIMIT = 3

def helper(x):
    return x + LIMIT

def unused(x):
    return -x

def answer(row):
    return helper(row["x"])
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with arms/, and a way to write files into it."""

    class Folder:
        root = tmp_path / "experiment"

        def write(self, name, text):
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text), "utf-8")
            return path

    found = Folder()
    found.write("arms/a.py", CODE)
    return found


@pytest.fixture
def manifest(folder, make_spec):
    def of(name="a", spec=None, **keys):
        arm = ArmSpec(**({"kind": "python", "target": "arms/a.py:answer"} | keys))
        return build(spec or make_spec(), name, arm, folder.root)

    return of


@pytest.fixture
def changed(folder, manifest):
    """What an arm in another file, with edited code, changes against arms/a.py."""

    def by(code, symbol="answer", **keys):
        folder.write("arms/b.py", code)
        return manifest("b", target=f"arms/b.py:{symbol}", **keys).changes(manifest())

    return by


# differences ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        CODE,
        CODE.replace("\n\n", "\n\n\n# a comment\n\n").replace("x + LIMIT", "x  +  LIMIT  # limit"),
        CODE.replace('return helper(row["x"])', "return (helper(\n        row['x'],\n    ))"),
        CODE.replace("return -x", "return x * x"),
    ],
    ids=["the same", "comments and layout", "quotes and brackets", "code that is not used"],
)
def test_what_is_no_change(changed, code):
    assert changed(code) == []


def test_another_name_for_the_same_function_is_no_change(changed):
    assert changed(CODE.replace("def answer", "def reply"), "reply") == []


@pytest.mark.parametrize(
    "edit",
    [
        ('helper(row["x"])', 'helper(row["y"])'),
        ("x + LIMIT", "x - LIMIT"),
        ("LIMIT = 3", "LIMIT = 4"),
        ("def answer(row):", "def answer(row, k=1):"),
        ("def answer", "async def answer"),
        ("LIMIT = 3", "import math\nLIMIT = 3"),
    ],
)
def test_what_is_a_change(changed, edit):
    assert CODE.count(edit[0]) == 1
    assert changed(CODE.replace(*edit)) == ["implementation"]


def test_a_helper_behind_a_constant_counts(changed, folder):
    code = "def words():\n    return {'a'}\n\nWORDS = words()\n\ndef answer(row):\n    return row['x'] in WORDS\n"
    folder.write("arms/a.py", code)
    assert changed(code) == []
    assert changed(code.replace("{'a'}", "{'a', 'b'}")) == ["implementation"]


def test_a_base_class_and_a_decorator_count(changed, folder):
    code = "def keep(f):\n    return f\n\nclass Base:\n    k = 1\n\nclass Arm(Base):\n    @keep\n    def predict(self, rows):\n        return rows\n"
    folder.write("arms/a.py", code.replace("class Arm", "class answer"))
    assert changed(code, "Arm") == []
    assert changed(code.replace("k = 1", "k = 2"), "Arm") == ["implementation"]
    assert changed(code.replace("return f\n", "return None\n"), "Arm") == ["implementation"]


def test_what_a_decorator_registers_counts_though_nobody_names_it(changed, folder):
    code = (
        "from functools import singledispatch\n\n@singledispatch\ndef show(x):\n    return 'other'\n\n"
        "@show.register\ndef _(x: int):\n    return 'int'\n\n@show.register\ndef _(x: str):\n    return 'str'\n\n"
        "def answer(row):\n    return show(row['x'])\n"
    )
    folder.write("arms/a.py", code)
    assert changed(code) == []
    assert changed(code.replace("'int'", "'whole'")) == ["implementation"]


def test_decorated_functions_that_change_places_are_a_change(changed, folder):
    code = "from functools import cache\n\n@cache\ndef one(x):\n    return 1\n\n@cache\ndef two(x):\n    return 2\n\n"
    code += "def answer(row):\n    return one(1) - two(1) / 2\n"
    folder.write("arms/a.py", code)
    swapped = (
        code.replace("def one", "def three").replace("def two", "def one").replace("def three", "def two")
    )
    assert changed(code) == []
    assert changed(swapped) == ["implementation"]


def test_another_name_for_the_same_decorated_function_is_no_change(folder, manifest):
    code = "from functools import cache\n\n"
    for name in ("one", "two"):
        code += f"@cache\ndef {name}(row):\n    return row\n\n"
    folder.write("arms/a.py", code)
    one, two = (manifest(target=f"arms/a.py:{name}") for name in ("one", "two"))
    assert two.changes(one) == []


def test_an_imported_file_counts(folder, manifest):
    folder.write("arms/a.py", "import tools\n\ndef answer(row):\n    return tools.f(row)\n")
    folder.write("arms/tools.py", "def f(row):\n    return 1\n")
    before = manifest()
    folder.write("arms/tools.py", "def f(row):\n    return 2\n")
    assert manifest().changes(before) == ["implementation"]
    assert manifest().digest != before.digest


def test_comments_change_the_digest_though_not_the_meaning(folder, manifest):
    before = manifest()
    folder.write("arms/a.py", CODE + "# a comment\n")
    assert manifest().changes(before) == []
    assert manifest().digest != before.digest


def test_each_parameter_is_a_component(manifest):
    one, two = manifest(params={"k": 1, "t": 0.5}), manifest(params={"k": 2, "t": 0.5, "n": None})
    assert two.changes(one) == ["params.k", "params.n"]
    assert one.changes(one) == []


def test_a_prompt_arm_has_its_own_components(folder, manifest, make_spec):
    folder.write("arms/p.md", "Answer:  {{text}}\n\n")
    folder.write("arms/q.md", "Answer: {{text}}")
    folder.write("arms/r.md", "Answer {{text}}")
    prompt = {"kind": "prompt", "target": None, "model": "anthropic/x", "prompt": "arms/p.md"}
    base = manifest(**prompt)
    assert set(base.components) == {"template", "model", "parse"}
    assert manifest(**prompt | {"prompt": "arms/q.md"}).changes(base) == []
    assert manifest(**prompt | {"prompt": "arms/r.md"}).changes(base) == ["template"]
    both = manifest(**prompt | {"prompt": "arms/r.md", "model": "anthropic/y", "system": "Be brief."})
    assert both.changes(base) == ["model", "system", "template"]
    assert manifest(**prompt | {"parse": {"json": "label"}}).changes(base) == ["parse"]
    assert set(both.files) == {"arms/r.md"}


def test_resources_are_components_by_content(folder, manifest, make_spec):
    folder.write("corpus.txt", "one")
    spec = make_spec(run='trials = 1\n[resources]\ncorpus = "corpus.txt"')
    before = manifest(spec=spec)
    folder.write("corpus.txt", "two")
    assert manifest(spec=spec).changes(before) == ["resources.corpus"]
    (folder.root / "corpus.txt").unlink()
    with pytest.raises(ArmError, match="cannot be read"):
        manifest(spec=spec)


# the files behind a target ----------------------------------------------------------------------------------


def closure(folder, target="arms/a.py:answer", pythonpath=()):
    return set(code_closure(folder.root, target, list(pythonpath))[0])


def test_the_closure_follows_packages_and_relative_imports(folder):
    folder.write(
        "arms/a.py", "from pack.deep import inner\nimport one, json\n\ndef answer(row):\n    return 1\n"
    )
    folder.write("arms/one.py", "def f():\n    import two\n")
    folder.write("arms/two.py", "")
    folder.write("arms/three.py", "")
    folder.write("arms/pack/__init__.py", "from . import side\n")
    folder.write("arms/pack/side.py", "")
    folder.write("arms/pack/other.py", "")
    folder.write("arms/pack/deep/__init__.py", "")
    folder.write("arms/pack/deep/inner.py", "from .. import side\nfrom ..late import x\n")
    folder.write("arms/pack/late.py", "x = 1\n")
    assert closure(folder) == {
        "arms/a.py", "arms/one.py", "arms/two.py", "arms/pack/__init__.py", "arms/pack/side.py",
        "arms/pack/deep/__init__.py", "arms/pack/deep/inner.py", "arms/pack/late.py",
    }  # fmt: skip


def test_the_closure_reaches_production_code(folder):
    folder.write("arms/a.py", "import prod.fees\n\ndef answer(row):\n    return 1\n")
    folder.write("../src/prod/__init__.py", "")
    folder.write("../src/prod/fees.py", "import prod.tax\n")
    folder.write("../src/prod/tax.py", "")
    folder.write("../src/prod/unused.py", "")
    assert closure(folder) == {"arms/a.py"}
    found = closure(folder, pythonpath=["../lib", "../src"])
    assert found == {"arms/a.py", *(f"pythonpath/1/prod/{f}.py" for f in ("__init__", "fees", "tax"))}


def test_the_arms_own_module_stands_before_production_code(folder):
    folder.write("arms/a.py", "import fees\n\ndef answer(row):\n    return 1\n")
    folder.write("arms/fees.py", "")
    folder.write("../src/fees.py", "")
    assert closure(folder, pythonpath=["../src"]) == {"arms/a.py", "arms/fees.py"}


def test_circular_imports_end(folder):
    folder.write("arms/a.py", "import b\n\ndef answer(row):\n    return 1\n")
    folder.write("arms/b.py", "import a\n")
    assert closure(folder) == {"arms/a.py", "arms/b.py"}


@pytest.mark.parametrize("shadow", ["arms/json.py", "arms/json/__init__.py"])
def test_a_module_of_the_standard_librarys_name_is_refused(folder, shadow):
    folder.write("arms/a.py", "import json\n\ndef answer(row):\n    return 1\n")
    folder.write(shadow, "")
    with pytest.raises(ArmError, match="standard module") as caught:
        closure(folder)
    assert caught.value.fix == "rename it"


def test_a_target_may_stand_in_a_branch(folder):
    folder.write(
        "arms/b.py",
        "try:\n    from fast import answer\nexcept ImportError:\n    def answer(row):\n        return 1\n"
        "if True:\n    other = answer\n",
    )
    for name in ("answer", "other"):
        assert closure(folder, f"arms/b.py:{name}") == {"arms/b.py"}
    with pytest.raises(ArmError, match="does not define 'row'"):
        closure(folder, "arms/b.py:row")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("arms/a.py", "not a file and a name"),
        ("arms/a.py:1x", "not a file and a name"),
        ("arms/a.txt:answer", "not a file and a name"),
        ("arms/a.py:missing", "does not define 'missing'"),
        ("arms/none.py:answer", "there is no file"),
        ("../outside.py:answer", "outside the experiment folder"),
        ("/etc/passwd.py:answer", "outside the experiment folder"),
        ("arms/link.py:answer", "outside the experiment folder"),
        ("arms/bad.py:answer", "bad.py:1:"),
    ],
)
def test_targets_that_cannot_be_used(folder, target, words):
    folder.write("../outside.py", CODE)
    folder.write("arms/bad.py", "def answer(:\n")
    (folder.root / "arms/link.py").symlink_to(folder.root.parent / "outside.py")
    with pytest.raises(ArmError, match=words):
        closure(folder, target)


@pytest.mark.parametrize(
    "code",
    ["answer = print\n", "from json import dumps as answer\n", "class answer: ...\n", "answer: object = 1\n"],
)
def test_a_target_may_be_any_top_level_name(folder, code):
    folder.write("arms/a.py", code)
    assert closure(folder) == {"arms/a.py"}
