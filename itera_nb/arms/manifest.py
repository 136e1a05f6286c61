"""What an arm is made of, and what it changes against another: computed from files, never taken on trust."""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from itera_nb.exceptions import ArmError
from itera_nb.ledger import digest
from itera_nb.spec import ArmSpec, Spec


@dataclass(frozen=True, slots=True)
class Manifest:
    """The components of one arm.

    Attributes:
        components: Component name -> hash of its exact content.
        normalised: Component name -> hash with white space, comments and names of no effect removed.
        files: Snapshot-relative path -> file on disk, for everything that the arm needs to run.
    """

    arm: str
    components: dict[str, str]
    normalised: dict[str, str]
    files: dict[str, Path]

    @property
    def digest(self) -> str:
        """Hash of the exact content of all components."""
        return digest(self.components)

    def changes(self, reference: Manifest) -> list[str]:
        """Names of the components in which this arm differs from `reference`."""
        names = sorted(self.normalised.keys() | reference.normalised.keys())
        return [n for n in names if self.normalised.get(n) != reference.normalised.get(n)]


def build(spec: Spec, name: str, arm: ArmSpec, folder: Path) -> Manifest:
    """The manifest of one arm.

    Raises:
        ArmError: If a file that the arm names is missing, unreadable or shadows the standard library.
    """
    exact: dict[str, str] = {}
    normal: dict[str, str] = {}
    files: dict[str, Path] = {}
    if arm.kind == "python":
        assert arm.target is not None
        closure, symbol = code_closure(folder, arm.target, spec.run.pythonpath)
        files |= closure
        sources = {path: file.read_bytes() for path, file in closure.items()}
        exact["implementation"] = digest([symbol, {p: _sha(s) for p, s in sources.items()}])
        normal["implementation"] = _normal_code(sources, arm.target.rpartition(":")[0], symbol)
    if arm.kind == "prompt":
        assert arm.prompt is not None
        for component, file in (("template", arm.prompt), ("system", arm.system)):
            if file is None:
                continue
            text = file
            if component == "template" or file.endswith(".md"):
                files[file] = inside(folder, file, name)
                text = files[file].read_text("utf-8")
            exact[component], normal[component] = _sha(text.encode()), digest(" ".join(text.split()))
        exact["model"] = normal["model"] = digest(arm.model)
        exact["parse"] = normal["parse"] = digest(arm.parse)
    for key, value in arm.params.items():
        exact[f"params.{key}"] = normal[f"params.{key}"] = digest(value)
    for key, relative in spec.resources.items():
        exact[f"resources.{key}"] = normal[f"resources.{key}"] = hash_file(folder / relative)
    return Manifest(name, exact, normal, files)


def inside(folder: Path, relative: str, owner: str) -> Path:
    """A file that an arm names, which must exist inside the experiment folder.

    Raises:
        ArmError: If it does not.
    """
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
    """SHA-256 of a file.

    Raises:
        ArmError: If it cannot be read.
    """
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
    if symbol not in _top_level_names(start):
        raise ArmError(
            f"{file} does not define {symbol!r}", fix=f"define it, or correct the target {target!r}"
        )
    return dict(sorted(found.items())), symbol


def _module(path: Path, folder: Path) -> str:
    """The top-level module or package of `folder` that a file belongs to, or "" for a file elsewhere."""
    return path.relative_to(folder).with_suffix("").parts[0] if path.is_relative_to(folder) else ""


def _parse_code(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes())
    except SyntaxError as error:
        raise ArmError(f"{path.name}:{error.lineno}: {error.msg}", fix="correct the file") from None


def _top_level_names(path: Path) -> set[str]:
    names: set[str] = set()
    for node in _parse_code(path).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.ImportFrom | ast.Import):
            names |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
            names |= {
                a.asname or a.name for n in ast.walk(node) if isinstance(n, ast.ImportFrom) for a in n.names
            }
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
    for node in ast.parse(sources[home]).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            definitions[node.name] = node
        else:
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


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
