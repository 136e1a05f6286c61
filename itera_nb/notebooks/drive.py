"""Phases headless from end to end: what `itera run`, `itera verdict` and the panel's jobs all do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from itera_nb.diagnosis.autonomy import diagnose
from itera_nb.experiment import Experiment
from itera_nb.protocol import next_phase
from itera_nb.report.files import render
from itera_nb.scoring.package import VERDICT
from itera_nb.verdict import bundle
from itera_nb.verdict.money import money_left, require_money
from itera_nb.verdict.preflight import require_ready

from .runner import execute

DIAGNOSE = "4-diagnose"


def run_phase(experiment: Experiment, phase: str, *, unattended: bool = False) -> Path:
    """Execute one of the phases 0-4; before the arms are locked, every iteration and its gate.

    `unattended`, what would need a person's word is decided against the change.

    Raises:
        Refusal, IteraError: What stopped it.
    """
    if phase == DIAGNOSE:
        diagnose(experiment, unattended=unattended)
    return execute(experiment, phase)


def open_test(experiment: Experiment, say: Callable[[str], None]) -> Path:
    """Check everything, open the sealed test set, once, decide, and write the conclusion; returns the page.

    Where the verdict is recorded and its conclusion is not, only the pages are written. `say` is told in one
    line what is about to be opened.

    Raises:
        Refusal: What stands against it; nothing is opened.
    """
    state = experiment.state
    if state.decided and next_phase(state) is not None:  # what decided was ended before it wrote the pages
        bundle.pack(experiment)
        return conclude(experiment)
    bundle.fetch(experiment)
    require_ready(experiment)
    state = experiment.state
    batch = state.batches[-1].body
    rows = batch["counts"]["test"] if "counts" in batch else batch["count"]
    proviso = ""
    if not state.pass_open:
        if len(state.batches) == 1:
            require_money(experiment, money_left(experiment))
        elif experiment.spec.run.budget_usd is not None:  # what the first pass did cost is sealed
            proviso = ", if the budget allows it"
    say(f"opening {rows:,} sealed rows, once{proviso}.")
    return conclude(experiment)


def conclude(experiment: Experiment) -> Path:
    """Execute the verdict notebook and render it as `conclusion.html`; returns the page."""
    return render(experiment, execute(experiment, VERDICT))
