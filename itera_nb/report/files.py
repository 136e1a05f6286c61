"""Writing the conclusion: data.json, the charts, conclusion.md, and the record of their hashes."""

from __future__ import annotations

import hashlib
from pathlib import Path

from itera_nb.exceptions import IteraError
from itera_nb.experiment import Experiment
from itera_nb.ledger import Record
from itera_nb.report.charts import pictures
from itera_nb.report.conclusion import conclusion_md
from itera_nb.report.data_json import build
from itera_nb.report.render import render_html

DATA, PAGE, HTML = "data.json", "conclusion.md", "conclusion.html"


def conclude(experiment: Experiment) -> Record:
    """Write the conclusion's files and record their hashes; what is as recorded is left alone.

    Raises:
        Refusal: Before there is a verdict.
        IteraError: There is none yet, and this is not where the test set was opened: a record would fork.
    """
    experiment.require("concluded")
    done = _concluded(experiment)
    if done is not None and (_as_recorded(experiment, done) or not experiment.opened_here):
        return done
    if not experiment.opened_here:
        raise IteraError(
            "the conclusion is not written yet", fix="itera verdict, where the test set was opened"
        )
    data = build(experiment)
    written = {
        DATA: experiment.write_json(DATA, data),
        PAGE: experiment.write_text(PAGE, conclusion_md(data)),
    }
    for name, picture in pictures(data).items():
        written[f"charts/{name}"] = experiment.write_bytes(f"charts/{name}", picture)
    if done is not None and written == _lasting(done):
        return done
    return experiment.record("concluded", {"files": dict(sorted(written.items()))})


def _concluded(experiment: Experiment) -> Record | None:
    """The conclusion of the latest verdict, if it is recorded."""
    done, verdict = experiment.state.last("concluded"), experiment.state.the("verdict")
    return done if done is not None and done.seq > verdict.seq else None


def _lasting(done: Record) -> dict[str, str]:
    """The recorded files without the page, which is rendered again where it is missing."""
    return {name: sha256 for name, sha256 in done.body["files"].items() if name != HTML}


def _as_recorded(experiment: Experiment, done: Record) -> bool:
    def hash_of(name: str) -> str | None:
        path = experiment.path(name)
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None

    return all(hash_of(name) == sha256 for name, sha256 in _lasting(done).items())


def render(experiment: Experiment, notebook: Path) -> Path:
    """Write `conclusion.html` from the executed verdict notebook, and record its hash where it was opened."""
    done = experiment.state.the("concluded")
    page = experiment.path(HTML)
    render_html(notebook, page)
    files = done.body["files"] | {HTML: hashlib.sha256(page.read_bytes()).hexdigest()}
    if files != done.body["files"] and experiment.opened_here:
        experiment.record("concluded", {"files": files})
    return page
