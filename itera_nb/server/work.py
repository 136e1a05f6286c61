"""What a job does: the same functions as the command line, in a process of its own."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

from itera_nb.exceptions import IteraError, RecordError, Refusal
from itera_nb.spec import hide_keys

from . import jobs
from .actions import Refused


class Outcome(NamedTuple):
    """What came of a job: a sentence, something to look at (static HTML), and the page that was written."""

    message: str
    html: str | None = None
    page: Literal["conclusion.html"] | None = None


def work(folder: Path, action: str, id_: str) -> None:
    """Run one action of an experiment and keep the job's state file as things stand.

    The first byte on standard output says that the state is written; nothing else goes there.
    """
    # A server that was started in the background has SIGINT ignored, and its children inherit that.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    job = jobs.Job(id_, action, "running", jobs.now(), None, os.getpid())
    files = jobs.files(folder, id_)
    jobs.save(folder, job)
    _say_ready()
    try:
        found = _act(folder, action, files.progress)
        if found.html is not None:
            files.html.write_text(found.html, "utf-8")
        job = replace(job, state="done", message=found.message, page=found.page)
    except Refusal as refusal:
        job = replace(job, state="failed", message=refusal.what, refusal=Refused.of(refusal))
    except KeyboardInterrupt:
        job = replace(job, state="interrupted", message="stopped; what was finished is kept")
    except IteraError as error:
        job = replace(job, state="failed", message=_sentence(error))
    except BaseException as error:  # noqa: BLE001 - its text may quote a row, so only its type is kept
        job = replace(job, state="failed", message=f"unexpected {type(error).__name__}: run it in a terminal")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the end is written now, whoever is impatient
    jobs.save(folder, replace(job, message=hide_keys(job.message or ""), ended=jobs.now()))


def _say_ready() -> None:
    os.write(1, b".")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # the server may be gone by the next word
    os.close(nowhere)


def _act(folder: Path, action: str, progress: Path) -> Outcome:
    import itera_nb
    from itera_nb.scoring.progress import PROGRESS

    os.environ[PROGRESS] = str(progress)  # kernels and isolated processes inherit it
    exp = itera_nb.open(folder)
    experiment = exp.experiment
    if action == "pilot":
        return Outcome("the pilot is clean: look at its requests and outputs", html=exp.pilot().html)
    if action == "verify":
        return _verify(folder)
    from itera_nb.notebooks.drive import conclude, open_test, run_phase
    from itera_nb.report.record_line import record_line

    if action == "verdict":
        open_test(experiment, lambda _: None)
    elif action == "render":
        conclude(experiment)
    else:
        phase = action.removeprefix("run:")
        run_phase(experiment, phase)
        return Outcome(f"{phase} has run; last record: {record_line(experiment.state.records[-1])}")
    return Outcome(record_line(experiment.state.the("verdict")), page="conclusion.html")


def _verify(folder: Path) -> Outcome:
    from itera_nb.experiment import Experiment
    from itera_nb.report.tables import table
    from itera_nb.seal.custody import has_identity
    from itera_nb.verdict import bundle
    from itera_nb.verdict.verify import verify

    experiment = Experiment(folder)
    if experiment.custody.escrow and has_identity():
        experiment.isolated(bundle.MODULE)
    report = verify(experiment)
    rows = [["ok" if f.holds else "BAD", f.what, f.record or ""] for f in report.findings]
    shown = table(["", "check", "record"], rows, title="verify", notes=[f"level: {report.level}"])
    broken = [f for f in report.findings if not f.holds]
    if broken:
        raise RecordError(
            f"{len(broken)} of {len(rows)} checks do not hold: {broken[0].what}", fix="itera verify"
        )
    return Outcome(f"verified: {len(rows)} checks, {report.level}", html=shown.html)


def _sentence(error: IteraError) -> str:
    from itera_nb.notebooks.runner import CellError

    if isinstance(error, CellError):  # a user's own cell may raise anything, a row included
        where = ": ".join(error.what.split(": ", 2)[:2])
        return f"{where}\n{error.fix}"
    return f"{error.what}\n{error.fix}".strip()
