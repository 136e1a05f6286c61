"""Does a verified conclusion in this repository ship exactly the content of a file?"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from itera_nb.exceptions import IteraError
from itera_nb.experiment import Experiment
from itera_nb.seal.custody import IDENTITY, has_identity
from itera_nb.seal.git import root_of
from itera_nb.spec import ArmSpec
from itera_nb.verdict.verify import verify

SKIPPED = {"node_modules", "__pycache__", "runs", "snapshot", "sealed", "data"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What one conclusion says about the file's content.

    Attributes:
        folder: The experiment's folder.
        arm: The arm whose file it is.
        outcome: The verdict on that arm: "ship", "scope", "kill", "inconclusive" or "retrospective".
        winner: Whether the conclusion names this arm.
        broken: What does not match the record; "" where everything verifies.
        custody: Who could open the test rows.
    """

    folder: Path
    arm: str
    outcome: str
    winner: bool
    broken: str
    custody: str

    @property
    def ships(self) -> bool:
        """Whether a verified conclusion ships this content."""
        return self.winner and self.outcome == "ship" and not self.broken


def answers(path: Path) -> list[Answer]:
    """What every conclusion of the file's repository says of its content; those that ship it come first.

    The content is compared byte for byte with the files that each locked arm names: its prompt, system
    prompt, tools, few-shot file, schema, or the file of its target. With a recipient's key in the environment
    nothing counts but verdicts that were made with one.

    Raises:
        IteraError: There is no such file, or it lies in no git repository.
    """
    if not path.is_file():
        raise IteraError(
            f"there is no file {path}", fix="itera verify --ships PATH, relative to where you are"
        )
    root = root_of(path.resolve().parent)
    if root is None:
        raise IteraError(f"{path} is in no git repository", fix="run it in a clone of the repository")
    wanted = hashlib.sha256(path.read_bytes()).hexdigest()
    found = [answer for folder in experiments(root) for answer in _of(folder, wanted)]
    return sorted(found, key=lambda a: (not a.ships, a.outcome != "ship", str(a.folder)))


def experiments(root: Path) -> Iterator[Path]:
    """Every folder below `root` with an experiment's toml and ledger, hidden folders left out."""
    for place, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if f not in SKIPPED and not f.startswith("."))
        if "experiment.toml" in files and "ledger.jsonl" in files:
            yield Path(place)


def _of(folder: Path, wanted: str) -> Iterator[Answer]:
    experiment = Experiment(folder)
    try:
        records = experiment.ledger.path.read_bytes()
    except OSError:
        return
    if wanted.encode() not in records or b'"type":"verdict"' not in records:
        return
    try:
        report, state = verify(experiment), experiment.state
    except IteraError as error:
        yield Answer(folder, "?", "unknown", winner=False, broken=error.what, custody="unknown")
        return
    bad = [f.what for f in report.findings if not f.holds]
    if has_identity() and not report.vouched:
        bad.append(f"no recipient whose key is in {IDENTITY} vouches for the verdict")
    broken = bad[0] if bad else ""
    verdict, locked = state.the("verdict").body, state.the("locked").body
    outcomes = {r["arm"]: str(r["outcome"]) for r in verdict["verdict"]["records"]}
    for line in locked["lines"]:
        files = {file for file in _files(ArmSpec.model_validate(line["spec"])) if file is not None}
        if line["arm"] in outcomes and wanted in {locked["files"].get(file) for file in files}:
            winner = verdict["arm"] == line["arm"]
            yield Answer(folder, line["arm"], outcomes[line["arm"]], winner, broken, experiment.custody.words)


def _files(arm: ArmSpec) -> Iterator[str | None]:
    yield from (arm.prompt, arm.system, arm.tools)
    yield arm.few_shot if isinstance(arm.few_shot, str) else None
    yield str(arm.parse["schema"]) if arm.parse and "schema" in arm.parse else None
    yield arm.target.rpartition(":")[0] if arm.target else None
    yield from arm.command if isinstance(arm.command, list) else ()
