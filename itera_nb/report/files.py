"""Writing the conclusion: data.json, the charts, conclusion.md, and the record of their hashes."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from itera_nb.experiment import Experiment
from itera_nb.ledger import Record
from itera_nb.report.charts import write_charts
from itera_nb.report.conclusion import conclusion_md
from itera_nb.report.data_json import build
from itera_nb.report.render import render_html

DATA, PAGE, HTML = "data.json", "conclusion.md", "conclusion.html"


def conclude(experiment: Experiment) -> Record:
    """Write the conclusion's files and record their hashes; files that are as recorded are left alone.

    Raises:
        Refusal: Before there is a verdict.
    """
    experiment.require("concluded")
    done, verdict = experiment.state.last("concluded"), experiment.state.the("verdict")
    if done is not None and done.seq > verdict.seq and _as_recorded(experiment, done):
        return done
    data = build(experiment)
    written = {
        DATA: experiment.write_json(DATA, data),
        PAGE: experiment.write_text(PAGE, conclusion_md(data)),
    }
    with tempfile.TemporaryDirectory() as folder:
        for chart in write_charts(data, Path(folder)):
            name = f"charts/{chart.name}"
            written[name] = experiment.write_bytes(name, chart.read_bytes())
    return experiment.record("concluded", {"files": dict(sorted(written.items()))})


def _as_recorded(experiment: Experiment, done: Record) -> bool:
    def hash_of(name: str) -> str | None:
        path = experiment.path(name)
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None

    kept = {name: sha256 for name, sha256 in done.body["files"].items() if name != HTML}
    return all(hash_of(name) == sha256 for name, sha256 in kept.items())


def render(experiment: Experiment, notebook: Path) -> Path:
    """Write `conclusion.html` from the executed verdict notebook and record its hash beside the others."""
    done = experiment.state.the("concluded")
    page = experiment.path(HTML)
    render_html(notebook, page)
    files = done.body["files"] | {HTML: hashlib.sha256(page.read_bytes()).hexdigest()}
    if files != done.body["files"]:
        experiment.record("concluded", {"files": files})
    return page
