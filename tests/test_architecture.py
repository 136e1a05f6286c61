"""The shape of the package: what may import what, and what `import itera_nb` costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import itera_nb

PACKAGE = Path(itera_nb.__file__).parent
# A module imports only what stands above it. `__init__` and `__main__` of the package stand outside.
ORDER = [
    "exceptions", "_typing", "isolated", "editing", "spec", "stats", "ledger", "protocol", "seal", "experiment", "source", "models", "arms",
    "metrics", "scoring", "diagnosis", "verdict", "report", "retrospective", "notebooks", "kernel", "widgets",
    "scaffold", "session", "server", "testing", "cli",
]  # fmt: skip
FILES = sorted(p for p in PACKAGE.rglob("*.py"))
HEAVY = [
    "anthropic",
    "duckdb",
    "matplotlib",
    "nbformat",
    "numpy",
    "pandas",
    "papermill",
    "pyarrow",
    "pydantic",
    "scipy",
    "seaborn",
]


def room(path):
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def parse(path):
    return ast.parse(path.read_text("utf-8"))


def is_type_checking(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def imports(node):
    """Every import below a node, those inside functions included; blocks for type checkers are not run."""
    for child in ast.iter_child_nodes(node):
        if is_type_checking(child):
            for other in child.orelse:
                yield from imports(other)
        elif isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        else:
            yield from imports(child)


def imported_rooms(path):
    """(line, room of the package) of every import of the package's own modules."""
    package = ["itera_nb", *path.relative_to(PACKAGE).parent.parts]
    for node in imports(parse(path)):
        if isinstance(node, ast.Import):
            names = [a.name.split(".") for a in node.names]
        elif node.level:
            base = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
            names = [[*base, a.name] for a in node.names]
        else:
            names = [[*(node.module or "").split("."), a.name] for a in node.names]
        for parts in names:
            if parts[0] == "itera_nb" and len(parts) > 1:
                yield node.lineno, parts[1]


def test_every_room_has_its_place():
    assert {room(p) for p in FILES} - {"__init__", "__main__"} <= set(ORDER)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_a_module_imports_only_what_stands_above_it(path):
    here = room(path)
    if here in {"__init__", "__main__"}:
        return
    for line, there in imported_rooms(path):
        if there in ORDER and there != here:
            assert ORDER.index(there) < ORDER.index(here), f"{path.name}:{line} imports {there}"


def test_the_rule_can_fail():
    tree = ast.parse(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a\ndef f():\n    import b\n"
    )
    found = [n.names[0].name for n in imports(tree)]
    assert found == ["TYPE_CHECKING", "b"]


def test_importing_the_package_pulls_in_no_third_party_module():
    code = (
        "import sys; before = set(sys.modules); import itera_nb\n"
        "new = {m.partition('.')[0] for m in set(sys.modules) - before} - {'itera_nb'}\n"
        "print(sorted(new - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_errors_and_the_version_are_light_too():
    code = (
        "import sys, itera_nb; itera_nb.__version__; itera_nb.Refusal\n"
        f"print(sorted({{m.partition('.')[0] for m in sys.modules}} & set({HEAVY})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_public_face():
    for name in itera_nb.__all__:
        assert getattr(itera_nb, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        itera_nb.nothing  # noqa: B018


def test_no_pickle_anywhere():
    banned = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    for path in FILES:
        names = {
            (a.name if isinstance(n, ast.Import) else n.module or "").partition(".")[0]
            for n in ast.walk(parse(path))
            if isinstance(n, ast.Import | ast.ImportFrom)
            for a in n.names
        }
        assert not names & banned, path
        calls = {n.attr for n in ast.walk(parse(path)) if isinstance(n, ast.Attribute)}
        assert not calls & {"read_pickle", "to_pickle"}, path


def definitions(node, public=True):
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            visible = public and not child.name.startswith("_")
            if visible:
                yield child
            if isinstance(child, ast.ClassDef):
                yield from definitions(child, visible)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_what_is_public_is_documented(path):
    tree = parse(path)
    if path.read_text("utf-8").strip():
        assert ast.get_docstring(tree), "the module"
    missing = [d.name for d in definitions(tree) if not ast.get_docstring(d)]
    assert missing == []


def test_the_verdicts_code_is_reached_only_by_its_own_process():
    """Only the isolated processes may open sealed rows or read the secret."""
    allowed = {"seal", "verdict", "source"}
    for path in FILES:
        if room(path) in allowed or path.name == "experiment.py":
            continue
        text = path.read_text("utf-8")
        for forbidden in ("read_sealed", "load_secret", ".secret", "open_and_decide"):
            assert forbidden not in text, f"{path.name} names {forbidden}"
