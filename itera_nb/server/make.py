"""What requests change outside of jobs, in a process of its own: new experiments, a person's answers."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from itera_nb.exceptions import DataError

URLS = ("http://", "https://")
OPTIONAL = ("id", "cluster", "min_effect", "model", "question", "hypothesis", "ref")


def make(request: dict[str, Any]) -> str:
    """Write the folder that a request asks for, and return its path.

    Args:
        request: The body of `POST /itera/experiments`, with `under` and `root` as absolute paths.

    Raises:
        IteraError: What is wrong with it; nothing is written.
    """
    from itera_nb.arms.manifest import command_words
    from itera_nb.scaffold import COMMAND, Wanted, new, new_demo
    from itera_nb.spec import ArmSpec

    root, under = Path(request["root"]), Path(request["under"])
    if request.get("demo") is True:
        return str(new_demo(under, root / ".cache" / "itera-demo").folder)
    data, baseline, arms = _text(request, "data"), _text(request, "baseline"), _texts(request, "arms")
    _require_inside(root, data)
    for given in (baseline, *arms):
        if given.startswith(COMMAND):
            for word in command_words(ArmSpec(command=given.removeprefix(COMMAND)))[1:]:
                _require_inside(root, word)
        elif not given.startswith(URLS):
            _require_inside(root, given.partition(":")[0])
    wanted = Wanted(
        name=_text(request, "name"),
        data=Path(data),
        baseline=baseline,
        arms=arms,
        expected=_text(request, "expected"),
        inputs=_texts(request, "inputs"),
        slices=_texts(request, "slices"),
        under=under,
        base=root,
        **{name: _text(request, name) for name in OPTIONAL if request.get(name)},
    )
    return str(new(wanted).folder)


def answer(request: dict[str, Any]) -> str:
    """Record a person's reason where a safeguard asks for one; returns what was recorded, in words.

    Args:
        request: `folder` (absolute), `safeguard` and `why`.

    Raises:
        Refusal: If this safeguard does not ask.
    """
    from itera_nb.experiment import Experiment
    from itera_nb.session import Session

    session = Session(Experiment(request["folder"]))
    return session.accept(_text(request, "safeguard"), _text(request, "why")).text


def _text(request: dict[str, Any], name: str) -> str:
    value = request.get(name)
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise DataError(f"{name} is missing or not a text", fix="see /itera/openapi.json")
    return value.strip()


def _texts(request: dict[str, Any], name: str) -> tuple[str, ...]:
    value = request.get(name) or []
    if not isinstance(value, list) or not all(isinstance(x, str) and "\0" not in x for x in value):
        raise DataError(f"{name} is not a list of texts", fix="see /itera/openapi.json")
    return tuple(value)


def _require_inside(root: Path, path: str) -> None:
    """One answer for what lies outside and for what is not there.

    Raises:
        DataError: If a file that is named does not lie below the root.
    """
    up = ".." in PurePosixPath(path).parts
    if up or path.startswith(("/", "~")) or not (root / path).resolve().is_relative_to(root):
        raise DataError(
            f"there is no file {path} below the server's root folder",
            fix="put it there, and name it from there",
        )
