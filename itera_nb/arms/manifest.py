"""What an arm is made of, and what it changes against another: computed from files, never taken on trust."""

from __future__ import annotations

import ast
import hashlib
import json
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from itera_nb.exceptions import ArmError
from itera_nb.ledger import digest
from itera_nb.models.prompt import read_text
from itera_nb.spec import ArmSpec, Spec

_DEFINITION = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True, slots=True)
class Manifest:
    """The components of one arm."""

    arm: str
    components: dict[str, str]  # component name -> hash of its exact content
    # Component name -> hash with white space, comments and names of no effect removed
    normalised: dict[str, str]
    files: dict[str, Path]  # snapshot-relative path -> file on disk, for everything that the arm needs to run
    # Component name -> its value, of those that stand in no file
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Hash of the exact content of all components."""
        return digest(self.components)

    def add(self, component: str, value: Any, normal: Any = None) -> None:
        """Add a component; `normal` is its value without what has no effect, where that differs."""
        self.components[component] = digest(value)
        self.normalised[component] = digest(value if normal is None else normal)

    def add_value(self, component: str, value: Any) -> None:
        """Add a component that stands in no file."""
        self.add(component, value)
        self.values[component] = value

    def add_text(self, component: str, text: str) -> None:
        """Add a text, in which white space has no effect."""
        self.add(component, text, " ".join(text.split()))

    def read(self, folder: Path, relative: str) -> str:
        """The text of a file that the arm needs, which becomes one of its files."""
        self.files[relative] = inside(folder, relative, self.arm)
        return read_text(folder, relative)

    def changes(self, reference: Manifest) -> list[str]:
        """Names of the components in which this arm differs from `reference`."""
        names = sorted(self.normalised.keys() | reference.normalised.keys())
        return [n for n in names if self.normalised.get(n) != reference.normalised.get(n)]


def build(spec: Spec, name: str, arm: ArmSpec, folder: Path, *, outside: Path | None = None) -> Manifest:
    """The manifest of one arm, whose own files are in `folder`: the experiment's, or a snapshot of them.

    Resources and recorded results are relative to the experiment's folder: `outside`, where that is another.

    Raises:
        ArmError: If a file that the arm names is missing, unreadable or shadows the standard library.
    """
    found = Manifest(name, {}, {}, {})
    base = outside or folder
    match arm.kind:
        case "prompt":
            _prompt(found, arm, folder)
        case "http":
            found.add_value("implementation", ["http", arm.url, arm.headers])
        case "command":
            _command(found, arm, folder, spec.run.pythonpath)
        case "recorded":
            columns = [arm.output, arm.score, arm.trial, arm.cost_usd, arm.latency_ms]
            found.add("recorded columns", columns)
            found.add("recorded results", hash_file(base / str(arm.file)))
        case _:
            _python(found, arm, folder, spec.run.pythonpath)
    if arm.parse is not None or arm.kind == "prompt":
        _parse(found, arm.parse or {}, folder)
    for key, value in arm.params.items():
        found.add_value(f"params.{key}", value)
    for key, relative in spec.resources.items():
        found.add(f"resources.{key}", hash_file(base / relative))
    return found


def _python(found: Manifest, arm: ArmSpec, folder: Path, pythonpath: list[str]) -> None:
    assert arm.target is not None
    closure, symbol = code_closure(folder, arm.target, pythonpath)
    found.files.update(closure)
    sources = {path: file.read_bytes() for path, file in closure.items()}
    found.add(
        "implementation",
        [symbol, {p: _sha(s) for p, s in sources.items()}],
        _normal_code(sources, arm.target.rpartition(":")[0], symbol),
    )


def _prompt(found: Manifest, arm: ArmSpec, folder: Path) -> None:
    assert arm.prompt is not None
    found.add_text("template", found.read(folder, arm.prompt))
    if arm.system is not None:
        is_file = arm.system.endswith(".md")
        found.add_text("system", found.read(folder, arm.system) if is_file else arm.system)
        if not is_file:
            found.values["system"] = arm.system
    found.add("model", arm.model)
    if arm.tools is not None:
        text = found.read(folder, arm.tools)
        found.add("tools", text, _normal_json(text))
    if isinstance(arm.few_shot, str):
        text = found.read(folder, arm.few_shot)
        found.add("few-shot data", text, text.split())
    elif arm.few_shot is not None:
        found.add_value("few-shot data", arm.few_shot)


def _command(found: Manifest, arm: ArmSpec, folder: Path, pythonpath: list[str]) -> None:
    words = command_words(arm)
    files = command_files(folder, words, pythonpath)
    found.files.update(files)
    contents = {path: _sha(file.read_bytes()) for path, file in files.items()}
    found.add("implementation", ["command", words, arm.env, contents])
    found.values["implementation"] = [words, arm.env]


def _parse(found: Manifest, parse: dict[str, Any], folder: Path) -> None:
    if "schema" not in parse:
        found.add("parse", parse or None)
        return
    text = found.read(folder, str(parse["schema"]))
    other = {key: value for key, value in parse.items() if key != "schema"}
    found.add("parse", [other, text], [other, _normal_json(text)])


def command_words(arm: ArmSpec) -> list[str]:
    """The words of a command arm's command; a string is split as a shell would, and run without one.

    Raises:
        ArmError: There is none, or a quotation mark is not closed.
    """
    try:
        words = arm.command if isinstance(arm.command, list) else shlex.split(arm.command or "")
    except ValueError as error:
        raise ArmError(f"command {arm.command!r}: {error}", fix="write it as a list of words") from None
    if not words:
        raise ArmError("command is empty", fix='for example command = ["python", "arms/answer.py"]')
    return words


def command_files(folder: Path, words: list[str], pythonpath: list[str]) -> dict[str, Path]:
    """Files of the folder that a command names, with Python files' imports and folders' contents."""
    files: dict[str, Path] = {}
    root = folder.resolve()
    for word in words:
        path = (folder / word).resolve()
        if Path(word).is_absolute() or not path.is_relative_to(root) or path == root:
            continue
        try:
            is_folder = path.is_dir()
        except OSError:  # too long for a path: code, say
            continue
        if is_folder:
            inner = (p for p in sorted(path.rglob("*")) if p.is_file() and "__pycache__" not in p.parts)
            files |= {p.relative_to(root).as_posix(): p for p in inner}
        elif path.suffix == ".py" and path.is_file():
            files |= _closure(folder, word, path, pythonpath)
        elif path.is_file():
            files[path.relative_to(root).as_posix()] = path
    return dict(sorted(files.items()))


def inside(folder: Path, relative: str, owner: str) -> Path:
    """A file that an arm names; an `ArmError` unless it exists inside the experiment folder."""
    path = (folder / relative).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ArmError(
            f"{owner}: {relative} lies outside the experiment folder",
            fix="put it under arms/, or reach production code through [run] pythonpath",
        )
    if not path.is_file():
        raise ArmError(
            f"{owner}: there is no file {relative}", fix=f"create {path} or correct experiment.toml"
        )
    return path


def hash_file(path: Path) -> str:
    """SHA-256 of a file; an `ArmError` if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ArmError(
            f"{path} cannot be read ({error.strerror})", fix="correct the path in experiment.toml"
        ) from None


def code_closure(folder: Path, target: str, pythonpath: list[str]) -> tuple[dict[str, Path], str]:
    """The files behind `path/file.py:Symbol`: it and what it imports from its folder and `pythonpath`.

    Returns:
        Snapshot-relative path -> file, and the symbol; `pythonpath` entry i stands under `pythonpath/i/`.

    Raises:
        ArmError: If the target is malformed, missing, does not parse, or shadows the standard library.
    """
    file, _, symbol = target.rpartition(":")
    if not file.endswith(".py") or not symbol.isidentifier():
        raise ArmError(f"target {target!r} is not a file and a name", fix='write it as "arms/file.py:name"')
    start = inside(folder, file, target)
    found = _closure(folder, file, start, pythonpath)
    if symbol not in _top_level_names(start):
        raise ArmError(
            f"{file} does not define {symbol!r}", fix=f"define it, or correct the target {target!r}"
        )
    return found, symbol


def _closure(folder: Path, file: str, start: Path, pythonpath: list[str]) -> dict[str, Path]:
    """A Python file and what it imports from its folder and `pythonpath`, by snapshot-relative path."""
    roots = {start.parent: str(Path(file).parent)}
    roots |= {(folder / p).resolve(): f"pythonpath/{i}" for i, p in enumerate(pythonpath)}
    found: dict[str, Path] = {}
    waiting = [(str(Path(file)), start)]
    while waiting:
        relative, path = waiting.pop()
        if relative in found:
            continue
        if _module(path, start.parent) in sys.stdlib_module_names:
            raise ArmError(f"{relative} has the name of a standard module", fix="rename it")
        found[relative] = path
        waiting += _imports(path, relative, roots)
    return dict(sorted(found.items()))


def _module(path: Path, folder: Path) -> str:
    """The top-level module or package of `folder` that a file belongs to, or "" for a file elsewhere."""
    return path.relative_to(folder).with_suffix("").parts[0] if path.is_relative_to(folder) else ""


def _parse_code(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes())
    except SyntaxError as error:
        raise ArmError(f"{path.name}:{error.lineno}: {error.msg}", fix="correct the file") from None
    except (MemoryError, RecursionError):
        raise ArmError(f"{path.name}: nested too deeply to be read", fix="simplify the file") from None


def _top_level_names(path: Path) -> set[str]:
    """What a module binds when it is run, also in an `if`, a `try` or a `with`."""
    names: set[str] = set()
    waiting: list[ast.AST] = [_parse_code(path)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, _DEFINITION):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            names |= {a.asname or a.name for a in node.names}
        elif isinstance(node, ast.Name):
            names.add(node.id)
        else:
            waiting += ast.iter_child_nodes(node)
    return names


def _imports(path: Path, relative: str, roots: dict[Path, str]) -> Iterator[tuple[str, Path]]:
    package = list(Path(relative).parent.parts)
    for node in ast.walk(_parse_code(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _resolve(alias.name.split("."), roots)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            parts = node.module.split(".")
            yield from _resolve(parts, roots)
            for alias in node.names:
                yield from _resolve([*parts, alias.name], roots)
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = path.parents[node.level - 1]
            prefix = "/".join(package[: len(package) - node.level + 1])
            parts = node.module.split(".") if node.module else []
            for tail in (parts, *([*parts, alias.name] for alias in node.names)):
                yield from _resolve(tail, {base: prefix})


def _resolve(parts: list[str], roots: dict[Path, str]) -> Iterator[tuple[str, Path]]:
    """Files that importing `parts` runs: each package's `__init__.py` on the way, and the module."""
    for root, prefix in roots.items():
        hits: list[tuple[str, Path]] = []
        for depth in range(1, len(parts) + 1):
            stem = root.joinpath(*parts[:depth])
            candidates = (stem / "__init__.py", stem.with_name(stem.name + ".py"))
            hits += [(str(Path(prefix) / c.relative_to(root)), c) for c in candidates if c.is_file()]
        if hits:
            yield from hits
            return


def _normal_code(sources: dict[str, bytes], target: str, symbol: str) -> str:
    """Hash of the code's meaning: comments and layout do not count, nor does the target's own name."""
    home = str(Path(target))
    definitions: dict[str, ast.AST] = {}
    statements: list[str] = []
    used, waiting = [], [symbol]
    module = ast.parse(sources[home])
    named = {n.id for n in ast.walk(module) if isinstance(n, ast.Name)}
    for node in module.body:
        if isinstance(node, _DEFINITION) and (node.name == symbol or not node.decorator_list):
            definitions[node.name] = node
        else:
            # Its decorator may register it: it counts, whoever names it.
            if isinstance(node, _DEFINITION) and node.name not in named:
                node.name = "_"
            statements.append(ast.dump(node))
            waiting += [n.id for n in ast.walk(node) if isinstance(n, ast.Name)]
    while waiting:
        node_ = definitions.pop(waiting.pop(), None)
        if node_ is None:
            continue
        waiting += [n.id for n in ast.walk(node_) if isinstance(n, ast.Name)]
        if getattr(node_, "name", None) == symbol:
            node_.name = "_"  # type: ignore[attr-defined]
        used.append(ast.dump(node_))
    others = {p: _sha(s) for p, s in sources.items() if p != home}
    return digest([used or symbol, statements, others])


def _normal_json(text: str) -> Any:
    """The value of a JSON text, or the text where it is none: running the arm says so."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
