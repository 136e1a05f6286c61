"""`itera new`: a complete experiment folder from a data file and two arms."""

from __future__ import annotations

import os
import re
import runpy
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import tomlkit

from itera_nb.arms.manifest import code_closure, command_files, command_words
from itera_nb.exceptions import ArmError, DataError, IteraError
from itera_nb.experiment import GITATTRIBUTES, GITIGNORE, Experiment
from itera_nb.notebooks.runner import instantiate
from itera_nb.seal.heads import of_folder
from itera_nb.source.relation import DuckDBRelation, SourceInfo
from itera_nb.spec import NAME, ArmSpec, parse_effect

EXPERIMENTS = Path("docs/experiments")
COMMAND = "exec:"
EXAMPLE = "sentiment"
DEFAULT_QUESTION = "Should {arms} replace {baseline}?"
DEFAULT_HYPOTHESIS = "{arms} answers more rows correctly than {baseline}, and loses on no slice."


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a new experiment is made of.

    Attributes:
        name: Lower-case letters, digits and dashes.
        data: CSV, Parquet or JSON lines file, with one row a line.
        baseline: Today's behaviour: a prompt file, `path/file.py:function`, an endpoint's address, or
            `exec: COMMAND`.
        arms: One to three candidates, each in one of these forms.
        expected: The label column.
        id: The id column; found if there is exactly one that fits.
        min_effect: "5pp", a fraction, or "10%" of the baseline.
        model: `vendor/model`, for prompt arms.
        base: The folder that relative paths of files start from.
    """

    name: str
    data: Path
    baseline: str
    arms: Sequence[str]
    expected: str
    id: str | None = None
    inputs: Sequence[str] = ()
    slices: Sequence[str] = ()
    cluster: str | None = None
    min_effect: str = "5pp"
    model: str | None = None
    question: str | None = None
    hypothesis: str | None = None
    ref: str | None = None
    under: Path = field(default=EXPERIMENTS)
    base: Path = field(default=Path())


def new(wanted: Wanted) -> Experiment:
    """Write the folder `docs/experiments/YYYY-MM-DD-NAME/`; nothing is written if anything is wrong.

    Raises:
        IteraError: If the name is taken or not a name.
        DataError: If the data file or a column is not as said.
        ArmError: If an arm's file is missing.
        SpecError: If a name or sentence is not one that `experiment.toml` takes.
    """
    if not NAME.fullmatch(wanted.name):
        raise IteraError(
            f"{wanted.name!r} is not a name for an experiment",
            fix="use lower-case letters, digits and dashes, at most 64: support-fees",
        )
    folder = wanted.under / f"{date.today():%Y-%m-%d}-{wanted.name}"  # noqa: DTZ011 - the user's own day
    if folder.exists():
        raise IteraError(f"{folder} exists already", fix="choose another name, or go on there: itera status")
    if of_folder(folder) is not None:
        raise IteraError(
            f"{folder} held an experiment that was deleted; its name cannot start anew",
            fix="choose another name, or put the folder back",
        )
    arms = _arms(wanted)
    files = _files(arms)
    text = _toml(wanted, folder, arms, _columns(wanted))
    folder.mkdir(parents=True)
    try:
        return _write(folder, text, files)
    except BaseException:
        shutil.rmtree(folder)
        raise


def new_demo(under: Path, cache: Path) -> Experiment:
    """The sentiment example as a fresh experiment below `under`, not run; its data are put into `cache`.

    Raises:
        IteraError: If its arms' libraries are not installed, or this installation carries no example.
    """
    _require_demo_arms()
    source = _example()
    parquet = runpy.run_path(str(source / "prepare.py"))["prepare"](cache)
    folder = _fresh(under)
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("prepare.py", "__pycache__"))
    _point_at(folder / "experiment.toml", parquet)
    experiment = Experiment(folder)
    instantiate(experiment)
    return experiment


def _require_demo_arms() -> None:
    missing = [name for name in ("sklearn", "vaderSentiment") if find_spec(name) is None]
    if missing:
        raise IteraError(f"the demo's arms need {' and '.join(missing)}", fix="pip install 'itera-nb[demo]'")


def _example() -> Path:
    """The example's folder: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).resolve().parent
    for folder in (package.parent / "examples" / EXAMPLE, package / "_data" / "examples" / EXAMPLE):
        if (folder / "experiment.toml").is_file():
            return folder
    raise IteraError(
        "this installation carries no example", fix="install itera-nb from its wheel or a checkout"
    )


def _fresh(under: Path) -> Path:
    """A folder that does not exist and never held an experiment: each demo is one of its own."""
    name = f"{date.today():%Y-%m-%d}-{EXAMPLE}"  # noqa: DTZ011 - the user's own day
    names = (name, *(f"{name}-{i}" for i in range(2, 1000)))
    return next(f for n in names if not (f := under / n).exists() and of_folder(f) is None)


def _point_at(toml: Path, parquet: Path) -> None:
    relative = os.path.relpath(parquet.resolve(), toml.parent.resolve())
    text, found = re.subn(r"(?m)^uri\s*=.*$", lambda _: f'uri      = "{relative}"', toml.read_text("utf-8"))
    assert found == 1, "the example's experiment.toml has one uri line"
    toml.write_text(text, "utf-8")


def _write(folder: Path, text: str, files: Mapping[str, Path]) -> Experiment:
    (folder / "experiment.toml").write_text(text, "utf-8")
    (folder / ".gitignore").write_text(GITIGNORE, "utf-8")
    (folder / ".gitattributes").write_text(GITATTRIBUTES, "utf-8")
    for relative, file in files.items():
        target = folder / "arms" / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    experiment = Experiment(folder)
    _ = experiment.spec
    instantiate(experiment)
    return experiment


@dataclass(frozen=True, slots=True)
class _Arm:
    """An arm as it was given.

    Attributes:
        name: Its name, not yet unique.
        keys: What stands in `[arms.NAME]`.
        files: Path below `arms/` -> file.
        ref: Where it stands now: a file, or an address.
        said: What it is in a few words.
    """

    name: str
    keys: dict[str, Any]
    files: dict[str, Path]
    ref: Path | str
    said: str


def _arms(wanted: Wanted) -> list[_Arm]:
    if not 1 <= len(wanted.arms) <= 3:
        raise ArmError(
            f"1 to 3 arms beside the baseline, got {len(wanted.arms)}", fix="--arm FILE, up to three"
        )
    found: list[_Arm] = []
    alike = len({given.rpartition(":")[2] for given in (wanted.baseline, *wanted.arms)}) == 1
    for given in (wanted.baseline, *wanted.arms):
        arm = _arm(given, wanted, alike=alike)
        slug = re.sub(r"[^a-z0-9]+", "-", arm.name.lower()).strip("-")[:56] or "arm"
        taken = {other.name for other in found}
        unique = next(n for n in (slug, *(f"{slug}-{i}" for i in range(2, 9))) if n not in taken)
        found.append(replace(arm, name=unique))
    return found


def _arm(given: str, wanted: Wanted, *, alike: bool) -> _Arm:
    if given.startswith(("http://", "https://")):
        return _Arm(urlsplit(given).path or given, {"kind": "http", "url": given}, {}, given, given)
    if given.startswith(COMMAND):
        return _command(given.removeprefix(COMMAND), wanted.base)
    path, _, symbol = given.partition(":")
    source = wanted.base / path
    if not source.is_file():
        raise ArmError(
            f"there is no file {path}",
            fix="give a prompt file, path/file.py:function, an address, or 'exec: COMMAND'",
        )
    said, file = f"{source.name} {symbol}".strip(), f"arms/{source.name}"
    if source.suffix == ".py":
        if not symbol:
            raise ArmError(f"{path} is code: which function?", fix=f"write {path}:function")
        files, _ = code_closure(source.parent, f"{source.name}:{symbol}", [])
        keys = {"kind": "python", "target": f"{file}:{symbol}", "cost": "free"}
        return _Arm(source.stem if alike else symbol, keys, files, source, said)
    if wanted.model is None:
        raise ArmError(f"{path} is a prompt: for which model?", fix="--model anthropic/MODEL")
    keys = {"kind": "prompt", "prompt": file, "model": wanted.model}
    return _Arm(source.stem, keys, {source.name: source}, source, said)


def _command(text: str, base: Path) -> _Arm:
    """A command whose files are copied to `arms/` and named there."""
    files: dict[str, Path] = {}
    words: list[str] = []
    for word in command_words(ArmSpec(command=text.strip())):
        source = base / word
        if words and source.is_file():
            files |= command_files(source.parent, [source.name], [])
            word = f"arms/{source.name}"  # noqa: PLW2901 - the same word, where it will stand
        words.append(word)
    first = next(iter(files.values()), None)
    keys = {"kind": "command", "command": words, "cost": "free"}
    return _Arm(first.stem if first else words[0], keys, files, first or text.strip(), text.strip())


def _files(arms: Sequence[_Arm]) -> dict[str, Path]:
    """Path below `arms/` -> file, for every arm and the local modules that it imports.

    Raises:
        ArmError: If two different files would get one name.
    """
    files: dict[str, Path] = {}
    for arm in arms:
        for relative, file in arm.files.items():
            if files.setdefault(relative, file).resolve() != file.resolve():
                raise ArmError(f"two different files are called {relative}", fix="rename one of them")
    return files


def _columns(wanted: Wanted) -> tuple[str, list[str]]:
    """The id column and the input columns.

    Raises:
        DataError: If a named column is absent, or no column identifies the rows.
    """
    data = wanted.base / wanted.data
    if not data.is_file():
        raise DataError(f"there is no file {wanted.data}", fix="--data FILE, relative to where you are")
    found = DuckDBRelation(data.resolve(), None).describe()
    names = [column.name for column in found.columns]
    for column in (wanted.expected, wanted.id, wanted.cluster, *wanted.slices, *wanted.inputs):
        if column is not None and column not in names:
            raise DataError(
                f"{wanted.data.name} has no column {column!r}", fix=f"its columns: {', '.join(names)}"
            )
    identifier = wanted.id or _identifier(found, wanted.expected)
    taken = {identifier, wanted.expected, *wanted.slices, wanted.cluster}
    inputs = list(wanted.inputs) or [name for name in names if name not in taken]
    if not inputs:
        raise DataError("no column is left for the arms to see", fix="--input COLUMN")
    return identifier, inputs


def _identifier(found: SourceInfo, expected: str) -> str:
    # Distinct counts are approximate, so a name that says so decides among the near-unique columns.
    unique = [c.name for c in found.columns if not c.nulls and c.distinct >= 0.8 * found.rows]
    likely = [c for c in unique if c != expected and re.search(r"(^|_)(id|key|uuid)$", c.lower())]
    if len(likely) != 1:
        every = ", ".join(column.name for column in found.columns)
        raise DataError("which column identifies a row?", fix=f"--id COLUMN, one of: {every}")
    return likely[0]


def _toml(wanted: Wanted, folder: Path, given: list[_Arm], columns: tuple[str, list[str]]) -> str:
    baseline, *candidates = given
    words = {"arms": " or ".join(arm.name for arm in candidates), "baseline": baseline.name}
    ref = baseline.ref if isinstance(baseline.ref, str) else os.path.relpath(baseline.ref, folder)
    arms: dict[str, Any] = {baseline.name: {"baseline": True, **baseline.keys, "ref": wanted.ref or ref}}
    for arm in candidates:
        own = {key: value for key, value in arm.keys.items() if value != baseline.keys.get(key)}
        same_kind = arm.keys["kind"] == baseline.keys["kind"]
        arms[arm.name] = {**({"from": baseline.name, **own} if same_kind else arm.keys), "change": arm.said}
    source = {
        "uri": os.path.relpath(wanted.base / wanted.data, folder),
        "id": columns[0],
        "inputs": columns[1],
        "expected": wanted.expected,
        "slices": list(wanted.slices),
        "cluster": wanted.cluster,
    }
    document = tomlkit.document()
    note = "The only file you edit, beside arms/. Paths are relative to it; keys never stand here."
    document.add(tomlkit.comment(note))
    tables: dict[str, Any] = {
        "frame": {
            "question": wanted.question or DEFAULT_QUESTION.format(**words),
            "hypothesis": wanted.hypothesis or DEFAULT_HYPOTHESIS.format(**words),
        },
        "arms": arms,
        "source": {key: value for key, value in source.items() if value},
        "metric": {"scorer": "exact"},
        "rule": {"min_effect": _effect(wanted.min_effect)},
        "run": {"trials": 3},
    }
    for name, values in tables.items():
        document.add(name, tomlkit.item(values))
    return str(tomlkit.dumps(document))


def _effect(text: str) -> float | str:
    try:
        value: float | str = float(text)
    except ValueError:
        value = text
    try:
        parse_effect(value)
    except ValueError as error:
        raise IteraError(f"--min-effect {text}: {error}", fix="for example --min-effect 5pp") from None
    return value
