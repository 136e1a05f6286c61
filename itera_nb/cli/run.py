"""`itera plan`, `screen`, `run`, `verdict`, `extend`, `amend`: the phases, headless."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

import itera_nb
from itera_nb.cli import FOLDER, OUTCOME_CODES
from itera_nb.cli.seal import RECIPIENT, choose_custody
from itera_nb.exceptions import IteraError, Refusal
from itera_nb.experiment import Experiment
from itera_nb.protocol import JUDGED_BY_A_PERSON, SAFEGUARDS

if TYPE_CHECKING:
    from itera_nb.session import Session


@click.command()
@FOLDER
def plan(folder: Path) -> None:
    """Odds of each outcome, for both split presets, before a cent is spent."""
    from itera_nb.cli.lines import plan_head

    exp = itera_nb.open(folder)
    click.echo(plan_head(exp.experiment))
    click.echo(exp.plan().text)
    if not exp.experiment.state.has("frame_locked"):
        click.echo("nothing is locked yet.  Lock frame, rule and split?  itera run")


@click.command()
@FOLDER
def screen(folder: Path) -> None:
    """Score every arm of [screen] and of [arms] on train, once each, in the order of the file.

    Move at most three of them to [arms], then: itera amend --why "chosen on train".
    """
    click.echo(itera_nb.open(folder).screen().text)


@click.command()
@FOLDER
@click.option("--yes", is_flag=True, help="Answer the pilot's one question with yes.")
@click.option(
    "--unattended",
    is_flag=True,
    help="Nobody is there: no question; a change that is not shown to be universal is deleted.",
)
@click.option("--show-pilot", is_flag=True, help="Show the pilot's requests and outputs in full.")
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Run python arms on a Dask cluster (tcp://host:8786); sealed rows never go there.",
)
@click.option(
    "--accept", "accepts", multiple=True, metavar='SGnn="why"', help="Answer a safeguard's question."
)
@RECIPIENT
def run(
    folder: Path,
    *,
    yes: bool,
    unattended: bool,
    show_pilot: bool,
    scheduler: str | None,
    accepts: tuple[str, ...],
    recipients: tuple[str, ...],
) -> None:
    """Phases 0-4 headless: progress, resumable; shows frame and pilot, and asks once."""
    from itera_nb.scoring.cluster import SCHEDULER

    if scheduler:
        os.environ[SCHEDULER] = scheduler  # the notebooks' kernels inherit it
        click.get_current_context().call_on_close(lambda: os.environ.pop(SCHEDULER, None))
    exp = itera_nb.open(folder)
    experiment = exp.experiment
    for given in accepts:
        safeguard, separator, why = given.partition("=")
        if not separator or not why.strip():
            raise IteraError(
                f"--accept {given}: a reason is missing", fix='for example --accept SG12="caps are policy"'
            )
        click.echo(exp.accept(safeguard.strip(), why.strip()).text)
    choose_custody(experiment, recipients)
    with _waiting():
        _phases(exp, yes=yes, unattended=unattended, show_pilot=show_pilot)


@contextmanager
def _waiting() -> Iterator[None]:
    """Say in one line that a person is needed, before the refusal says why."""
    try:
        yield
    except Refusal as refusal:
        if refusal.safeguard in JUDGED_BY_A_PERSON:
            first = refusal.instead.partition("\n")[0]
            click.echo(
                f"waiting for you: {refusal.safeguard} {SAFEGUARDS.get(refusal.safeguard, '')}: {first}"
            )
        raise


def _phases(exp: Session, *, yes: bool, unattended: bool, show_pilot: bool) -> None:
    from itera_nb.cli import lines
    from itera_nb.notebooks.drive import run_phase

    experiment = exp.experiment
    for phase, line in (("0-frame", lines.frame), ("1-source", lines.source), ("2-metric", lines.metric)):
        run_phase(experiment, phase)
        click.echo(line(experiment))
    _pilot(exp, yes=yes or unattended, in_full=show_pilot)
    run_phase(experiment, "3-run")
    click.echo(lines.dev(experiment))
    if experiment.spec.judge is not None:
        from itera_nb.report.judge_check import check_line
        from itera_nb.verdict.dev_check import check_judge

        click.echo(check_line(experiment.spec, check_judge(experiment)))
    run_phase(experiment, "4-diagnose", unattended=unattended)
    click.echo(lines.diagnose(experiment))
    done, custody = experiment.state.has("verdict"), experiment.custody
    ready = "ready. The sealed test opens once: itera verdict"
    if custody.escrow:
        ready = f"ready. Only {custody.names} can open the sealed test: commit, push, docs/how-to/custody.md"
    click.echo("the test set was opened: itera show" if done else ready)
    click.echo(lines.anchor_hint(experiment))


def _pilot(exp: Session, *, yes: bool, in_full: bool) -> None:
    """Run and show the pilot; before anything ran in full, ask once about it and about its price."""
    from itera_nb.arms.lock import require_unchanged
    from itera_nb.report.pilot import forecast_line, pilot_line, pilot_view
    from itera_nb.scoring.forecast import crosses_budget
    from itera_nb.scoring.pilot import run_pilot

    experiment = exp.experiment
    require_unchanged(experiment)
    found = run_pilot(experiment)
    if in_full:
        click.echo(pilot_view(experiment.spec, found).text)
    click.echo(f"{pilot_line(experiment.spec, found)}\n           {forecast_line(experiment.spec, found)}")
    if yes or experiment.state.scored("dev") is not None:
        return
    if not sys.stdin.isatty():
        raise IteraError(
            "the pilot's outputs want a look before the full run",
            fix="itera run --yes   (in full first: itera run --show-pilot)",
        )
    if not click.confirm("Looks right?", default=True):
        raise IteraError("stopped after the pilot", fix="mend the arm, then: itera run")
    if crosses_budget(experiment):
        why = click.prompt(
            "It may cross the budget. Why go on? (the sealed pass asks again; empty: stop)",
            default="",
            show_default=False,
        )
        if not why.strip():
            raise IteraError(
                "stopped before the budget", fix="raise budget_usd with itera amend, or use fewer rows"
            )
        exp.accept("budget", why)


@click.command()
@FOLDER
def verdict(folder: Path) -> int:
    """Open the sealed test set, once, decide, and write the conclusion."""
    return _open(itera_nb.open(folder).experiment)


@click.command()
@FOLDER
@click.option("--from", "file", required=True, type=click.Path(path_type=Path), help="A file with new rows.")
def extend(folder: Path, file: Path) -> int:
    """Seal the one registered top-up after an inconclusive verdict, open it, and decide on all rows."""
    from itera_nb.verdict import bundle

    if not file.is_file():
        raise IteraError(f"there is no file {file}", fix="--from FILE, relative to where you are")
    exp = itera_nb.open(folder)
    bundle.fetch(exp.experiment)
    state = exp.experiment.state
    if len(state.batches) == len(state.all("test_opened")):  # else it is sealed and only wants its pass
        click.echo(exp.extend(file).text)
    return _open(exp.experiment)


def _open(experiment: Experiment) -> int:
    from itera_nb.cli import lines
    from itera_nb.notebooks.drive import open_test

    open_test(experiment, click.echo)
    click.echo(lines.verdict(experiment))
    return OUTCOME_CODES[experiment.state.the("verdict").body["outcome"]]


@click.command()
@FOLDER
@click.option("--why", required=True, help="The reason, which the conclusion prints.")
def amend(folder: Path, why: str) -> None:
    """Record a change of something locked: allowed before the test is opened, permanent, and printed."""
    click.echo(itera_nb.open(folder).amend(why).text)
