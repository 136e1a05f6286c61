"""What requests change outside of jobs, in a process of its own: new experiments, a person's answers."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from itera_nb.exceptions import DataError

URLS = ("http://", "https://")


def make(request: dict[str, Any]) -> str:
    """Write the folder that a request asks for, and return its path.

    Args:
        request: The body of `POST /itera/experiments`, with `under` and `root` as absolute paths.

    Raises:
        IteraError: What is wrong with it; nothing is written.
    """
    from itera_nb.scaffold import COMMAND, Wanted, new, new_demo

    root, under = Path(request["root"]), Path(request["under"])
    if request.get("demo") is True:
        return str(new_demo(under, root / ".cache" / "itera-demo").folder)
    arms = _texts(request, "arms")
    baseline = _text(request, "baseline")
    for given in (_text(request, "data"), baseline, *arms):
        if not given.startswith(URLS):
            words = given.removeprefix(COMMAND).split()[1:] if given.startswith(COMMAND) else [given]
            _require_inside(root, words)
    wanted = Wanted(
        name=_text(request, "name"),
        data=Path(_text(request, "data")),
        baseline=baseline,
        arms=arms,
        expected=_text(request, "expected"),
        id=_text_or_none(request, "id"),
        inputs=_texts(request, "inputs"),
        slices=_texts(request, "slices"),
        cluster=_text_or_none(request, "cluster"),
        min_effect=_text_or_none(request, "min_effect") or "5pp",
        model=_text_or_none(request, "model"),
        question=_text_or_none(request, "question"),
        hypothesis=_text_or_none(request, "hypothesis"),
        ref=_text_or_none(request, "ref"),
        under=under,
        base=root,
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


def _text_or_none(request: dict[str, Any], name: str) -> str | None:
    return _text(request, name) if request.get(name) else None


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


def _require_inside(root: Path, words: list[str]) -> None:
    """One answer for what lies outside and for what is not there.

    Raises:
        DataError: If a file that is named does not lie below the root.
    """
    for word in words:
        path = word.partition(":")[0]
        up = ".." in PurePosixPath(path).parts
        if up or path.startswith(("/", "~")) or not (root / path).resolve().is_relative_to(root):
            raise DataError(
                f"there is no file {word} below the server's root folder",
                fix="put it there, and name it from there",
            )
