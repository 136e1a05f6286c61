"""What `itera_nb.open()` returns: one thin method a notebook cell, over the rooms above.

Notebooks, the command line and the server all use it, so there is one behaviour. Every method that does
something is idempotent: a finished step is shown again, spends nothing and refuses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING

from itera_nb.arms.lock import amend, arm_changes, lock_frame, manifests, require_unchanged
from itera_nb.diagnosis import autonomy, label_noise, loop
from itera_nb.diagnosis.clusters import find_clusters
from itera_nb.diagnosis.diffs import part_differences
from itera_nb.diagnosis.judgement import close_sprint
from itera_nb.diagnosis.sprint import queued
from itera_nb.exceptions import IteraError, Refusal
from itera_nb.experiment import Experiment
from itera_nb.kernel.guard import executed_cells, watch
from itera_nb.kernel.parameters import check_executed
from itera_nb.kernel.ticket import require_nonce
from itera_nb.metrics.scorers import built_in, is_own
from itera_nb.models.checks import require_models
from itera_nb.models.credentials import load_dotenv, refuse_keys
from itera_nb.protocol import ASKING, SAFEGUARDS, check
from itera_nb.report import phases, tables
from itera_nb.report.checklist import checklist, what_next
from itera_nb.report.conclusion import section
from itera_nb.report.data_json import build
from itera_nb.report.frame_md import write_frame
from itera_nb.report.judge_check import check_view
from itera_nb.report.judged import rubric
from itera_nb.report.labels import labels_view
from itera_nb.report.leaks import reseal_text, scan_text
from itera_nb.report.pilot import pilot_view
from itera_nb.report.standing import standing, stepper
from itera_nb.report.view import View
from itera_nb.scoring import registered
from itera_nb.scoring.judge_check import HUMAN
from itera_nb.scoring.pilot import run_pilot
from itera_nb.scoring.plan import make_plan
from itera_nb.scoring.progress import relay
from itera_nb.scoring.registered import screen
from itera_nb.scoring.runs import part_rows
from itera_nb.source import phase
from itera_nb.source.contamination import require_key
from itera_nb.spec import JUDGED
from itera_nb.verdict.bundle import pack
from itera_nb.verdict.dev_check import check_judge, worksheet
from itera_nb.verdict.preflight import conditions, phase_conditions, require_ready
from itera_nb.widgets import inspection, live
from itera_nb.widgets.frame_form import frame_form
from itera_nb.widgets.gate_checklist import gate_form
from itera_nb.widgets.live import checklist_view

if TYPE_CHECKING:
    import pandas as pd

    from itera_nb.diagnosis.proposer import Proposer


def open(folder: str | Path = ".") -> Session:  # noqa: A001 - reads as itera_nb.open(folder)
    """Open the experiment in `folder`, or in the folder above when called from its notebooks.

    Keys in its `.env` are put into this process's environment.

    Raises:
        IteraError: If there is no experiment, or a key stands in one of its files.
        RecordError: If its ledger was edited, cut or replaced.
    """
    path = Path(folder).resolve()
    if not (path / "experiment.toml").is_file() and (path.parent / "experiment.toml").is_file():
        path = path.parent
    experiment = Experiment(path)
    load_dotenv(path, (model.api_key_env for model in experiment.spec.models.values() if model.api_key_env))
    refuse_keys(path)
    _ = experiment.state
    check_executed(executed_cells())
    watch(path)
    return Session(experiment)


class _Room:
    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment

    def _unchanged(self) -> None:
        require_unchanged(self.experiment)


class Session(_Room):
    """An experiment as a person works with it."""

    def __init__(self, experiment: Experiment) -> None:
        super().__init__(experiment)
        self.frame = _Frame(experiment)
        self.arms = _Arms(experiment)
        self.source = _Source(experiment)
        self.split = _Split(experiment)
        self.train = _Train(experiment)
        self.metric = _Metric(experiment)
        self.judge = _Judge(experiment)

    # any time ----------------------------------------------------------------------------------------------

    def status(self) -> View:
        """The phases, what is done and locked, who may act, the seal, and the next command."""
        return stepper(self.experiment.name, standing(self.experiment.state))

    def next(self) -> View:
        """What may happen now, and why the rest may not."""
        return checklist_view(f"next {self.experiment.folder}", lambda: what_next(self.experiment.state))

    def plan(self) -> View:
        """Odds of each outcome at several true effects, for both split presets."""
        return phases.plan(self.experiment.spec, make_plan(self.experiment))

    def accept(self, safeguard: str, why: str) -> View:
        """Answer a safeguard's question with a reason, which the conclusion prints.

        Raises:
            Refusal: If this safeguard does not ask.
        """
        if safeguard == "SG11":
            return self.source.accept(why)
        if safeguard not in ASKING:
            self.experiment.refuse(
                Refusal(
                    safeguard,
                    f"{SAFEGUARDS.get(safeguard, 'it is not a safeguard')}: that is not a question.",
                    why="some things cannot be excused with a reason.",
                    instead=f"the safeguards that ask: {', '.join(sorted(ASKING))}",
                )
            )
        if not why.strip():
            raise IteraError("a reason is a sentence, not an empty text", fix=f'{safeguard}="why"')
        self.experiment.record("accepted", {"safeguard": safeguard, "why": why})
        return tables.message(f"{safeguard} accepted: {why}")

    def amend(self, why: str) -> View:
        """Record for good what differs from the lock, and why; whether results had been seen is filled in."""
        record = amend(self.experiment, why)
        changed = "; ".join(record.body["changed"])
        return tables.message(f"amended ({record.body['seen']}): {changed}", f"why: {why}")

    def scan(self, *paths: str | Path) -> View:
        """Look for sealed rows in the project, its git history and `paths`: files and ids, never text.

        Raises:
            Refusal: SG03 under escrow, where only the custodian can look.
        """
        require_key(self.experiment)
        more = [str(Path(path).resolve()) for path in paths]
        found = self.experiment.isolated("itera_nb.source", "scan", "scan", *more, progress=relay)
        return tables.message(*scan_text(found).split("\n"))

    def reseal(self, ids: Sequence[str] = (), why: str = "") -> View:
        """Move leaked rows from test to dev: those a scan found, and `ids`; seal fresh ones.

        Raises:
            Refusal: SG02 once the test set is open.
            IteraError: No row is known to have leaked, or ids without a reason.
        """
        if ids and not why.strip():
            raise IteraError("rows that are named need a reason", fix='itera reseal --ids ID --why "…"')
        self.experiment.require("resealed")
        self.experiment.isolated("itera_nb.source", "reseal", why, *ids)
        return tables.message(*reseal_text(self.experiment.state.the("resealed")).split("\n"))

    def evict(self, how: str = "seal") -> View:
        """Take the raw source away: "seal" it by the test rows, or "remove" it; "restore" it later."""
        answer = self.experiment.isolated("itera_nb.source", "evict", how)
        if how == "restore":
            return tables.message(f"the raw source is back: {answer}")
        body = self.experiment.state.the("evicted").body
        return tables.message(
            f"the raw source {body['file']} is {'sealed' if how == 'seal' else 'removed'} (record {answer})",
            "copies elsewhere, and in git, stay as they are: itera scan names them",
            "itera reseal can now move rows out of the test set, but draw no fresh ones",
        )

    # 3-run -------------------------------------------------------------------------------------------------

    def pilot(self) -> View:
        """Every request and output of one train row, in full, with cost, tokens and latency."""
        self._unchanged()
        return pilot_view(self.experiment.spec, run_pilot(self.experiment))

    def run(
        self, part: str = "dev", *, trials: int | None = None, scheduler: str | Executor | None = None
    ) -> View:
        """Score every registered arm on train or dev; finished units are not repeated.

        Args:
            part: "train" or "dev".
            trials: Trials on train; dev has the registered ones.
            scheduler: Where python arms run instead of this computer: the address of a Dask scheduler
                (`tcp://host:8786`), or a `concurrent.futures` executor.
        """
        self._unchanged()
        scored = registered.score_registered(self.experiment, part, trials=trials, cluster=scheduler)
        return phases.scores(self.experiment.spec, part, scored)

    def screen(self) -> View:
        """Score the arms of [screen] beside the registered ones on train, to choose at most three."""
        self._unchanged()
        return phases.screened(self.experiment.spec, *screen(self.experiment))

    def noise(self) -> View:
        """The noise floor: what changes when nothing is changed."""
        return phases.noise(self.experiment.spec, registered.dev_evidence(self.experiment))

    def cost(self) -> View:
        """Steady-state cost and latency of each arm on dev."""
        registered.dev_evidence(self.experiment)
        return phases.cost(self.experiment.spec, self.experiment.state.scored("dev"))

    # 4-diagnose --------------------------------------------------------------------------------------------

    def patterns(self) -> View:
        """The four patterns of the method, each with its evidence."""
        return phases.patterns(loop.patterns(self.experiment))

    def inspect(self, part: str = "dev") -> View:
        """The baseline beside each arm, row by row: train is open, the text of dev rows is behind a reveal.

        Raises:
            Refusal: SG01, for anything but train and dev.
        """
        return inspection.inspect(self.experiment, part)

    def reveal(self, ids: str | Iterable[str], why: str) -> View:
        """Show the text of these dev rows, once it is recorded that they were read, and why.

        Raises:
            IteraError: Without a reason, without a row, or with an id that is of no dev row.
        """
        return inspection.revealed(self.experiment, [ids] if isinstance(ids, str) else list(ids), why)

    def clusters(self) -> View:
        """Where each arm wins and loses on dev: by declared columns, and by words that train rows share."""
        return phases.clusters(find_clusters(self.experiment))

    def diffs(self, part: str = "dev") -> pd.DataFrame:
        """Every row of train or dev against the baseline as a table of figures, without any row text.

        Returns:
            For each arm and row the columns of `itera_nb.diagnosis.diffs.row_differences`.
        """
        return part_differences(self.experiment, part)

    def labels(self, *, sheet: bool = False, second: str | None = None) -> View:
        """Whether rows that every arm fails are hard or wrongly labelled; read back and recorded when done.

        Args:
            sheet: Write runs/labels.csv for a person; its dev rows count as read.
            second: A column with another source's labels, in place of a person.

        Raises:
            Refusal: SG10, before dev is scored; SG02, once the test set was opened.
            IteraError: The rows have no labels, or the worksheet cannot be read.
        """
        if second is not None:
            return labels_view(label_noise.audit_by(self.experiment, second))
        found = label_noise.write_sheet if sheet else label_noise.standing
        return labels_view(found(self.experiment))

    def failures(self, arm: str | None = None, n: int = 20) -> View:
        """The first train rows that an arm (by default each in turn) fails, in full: free to read."""
        return inspection.failures(self.experiment, arm, n)

    def iterate(self, proposer: Proposer | None = None) -> View:
        """Register and score what the queue holds or the proposer proposes, or show those that ran.

        Args:
            proposer: Who is asked once the queue is empty, in place of the registered one.
        """
        self._unchanged()
        found = autonomy.iterate(self.experiment, proposer)
        waiting = [name for name, _ in queued(self.experiment)]
        refusal = check("iteration_registered", self.experiment.state)
        return phases.iterations(found, waiting, refusal.what if refusal else "")

    def gate(self) -> View:
        """Judge every change of the open sprint by its class and measured evidence; a form for a person."""
        self._unchanged()
        if live.attended() and self.experiment.state.ungated:
            return gate_form(self.experiment)
        return phases.gates(close_sprint(self.experiment))

    def lock(self) -> View:
        """Freeze what goes to the test: each line's latest gate-passed iteration, with all its files."""
        self._unchanged()
        record = loop.lock(self.experiment)
        pack(self.experiment)
        return phases.locked(record)

    # 5-verdict ---------------------------------------------------------------------------------------------

    def preflight(self, phase: str = "5-verdict") -> View:
        """Every condition of the opening, ticked; or another phase's events, and what they wait for."""
        experiment = self.experiment
        if phase != "5-verdict":
            key = f"{phase} {experiment.folder}"
            return checklist_view(key, lambda: checklist(phase_conditions(experiment.state, phase)))
        if experiment.state.decided:
            return tables.message("the test set was opened; what follows is its record")
        return checklist_view(None, lambda: checklist(conditions(experiment)))

    def verdict(self) -> View:
        """Open the sealed test set, once, and decide; afterwards show the record."""
        state = self.experiment.state
        if not state.decided:
            if check("test_opened", state) is None:
                require_models(self.experiment.spec)  # a missing key is better known before the one opening
            require_ready(self.experiment)
            nonce = require_nonce(self.experiment)
            self.experiment.isolated("itera_nb.verdict", progress=relay, handed=nonce)
        return self._section("verdict")

    def extend(self, file: str | Path) -> View:
        """Seal the registered top-up from a file with new rows, after an inconclusive verdict; once.

        Raises:
            Refusal: SG02 unless it was registered, and the verdict is inconclusive, and this is the first.
            DataError: If the file has too few new rows.
        """
        self._unchanged()
        record = phase.extend(self.experiment, str(Path(file).resolve()))
        return tables.message(
            f"{record.body['count']:,} new rows sealed (record {record.seq}); open them, once: exp.verdict()"
        )

    def forest(self) -> View:
        """Effects with intervals, aggregate and slices."""
        return self._section("forest")

    def slices(self) -> View:
        """Slices, failure modes and severity."""
        return self._section("slices")

    def cost_accuracy(self) -> View:
        """Cost against accuracy."""
        return self._section("cost_accuracy")

    def conclusion(self) -> View:
        """Write the conclusion's files and show the rest of the page."""
        from itera_nb.report.files import conclude

        conclude(self.experiment)
        return self._section("conclusion")

    def _section(self, name: str) -> View:
        self.experiment.require("concluded")
        return section(build(self.experiment), name)  # type: ignore[arg-type]


class _Frame(_Room):
    def form(self) -> View:
        """The registered frame and rule as experiment.toml says them; a form for them until the lock."""
        return frame_form(self.experiment, self.lock)

    def lock(self) -> View:
        """Lock question, arms and rule before any row is drawn."""
        metric = self.experiment.spec.metric
        for name in (metric.scorer, *metric.secondary):
            if not is_own(name) and name not in JUDGED:
                built_in(name, metric)
        record = lock_frame(self.experiment)
        write_frame(self.experiment)
        return phases.frame_locked(record)


class _Arms(_Room):
    def changes(self) -> View:
        """What each arm changes against the baseline, computed from its files."""
        return phases.changes(arm_changes(self.experiment.spec, manifests(self.experiment)))


class _Source(_Room):
    def preview(self) -> View:
        """Columns, types and counts; no rows, since any of them may become a test row."""
        if evicted := self.experiment.state.last("evicted"):
            return tables.message(f"the raw source was taken away (record {evicted.seq})")
        return phases.preview(self.experiment.isolated("itera_nb.source", "preview"))

    def sample(self) -> View:
        """Fix the sample: caps, and what they dropped."""
        self._unchanged()
        return phases.sampled(phase.sample(self.experiment))

    def audit(self) -> View:
        """The sample against production's counts."""
        return phases.distribution(*phase.audit(self.experiment))

    def accept(self, why: str) -> View:
        """Accept a failed distribution audit with a reason that the conclusion prints."""
        record = phase.accept_audit(self.experiment, why)
        return tables.message(f"distribution audit: {record.type.replace('_', ' ')}", why)


class _Split(_Room):
    def seal(self) -> View:
        """Split, and seal the test rows before anyone has seen them."""
        self._unchanged()
        return phases.sealed(phase.seal(self.experiment), self.experiment.state)


class _Train(_Room):
    def head(self, n: int = 5) -> View:
        """The first train rows, which may be read."""
        rows = part_rows(self.experiment, "train")[:n]
        headers = list(rows[0]) if rows else []
        return tables.table(headers, [[row[h] for h in headers] for row in rows], title="train rows")


class _Metric(_Room):
    def try_on(self, n: int = 5) -> View:
        """The scorer on the baseline's train outputs, and the baseline's value."""
        self._unchanged()
        return phases.baseline(self.experiment.spec, registered.measure_baseline(self.experiment), n)

    def failure_modes(self) -> View:
        """The registered failure modes and how often the baseline shows them on train."""
        return phases.failure_modes(registered.measure_baseline(self.experiment))

    def lock(self) -> View:
        """Lock scorer, failure modes, severity and rule before any candidate runs."""
        self._unchanged()
        return phases.metric_locked(registered.lock_metric(self.experiment))


class _Judge(_Room):
    def rubric(self) -> View:
        """The judge's rubric, if the metric has one."""
        return rubric(self.experiment.spec, self.experiment.folder)

    def check(self) -> View:
        """Agreement of the registered second judge, or of a person's blind ratings, on sampled dev rows."""
        experiment = self.experiment
        if experiment.spec.judge is None:
            return tables.message("no judge to check: the metric is deterministic")
        self._unchanged()
        found = check_judge(experiment)
        wanted = found.second == HUMAN and found.record is None and not experiment.state.has("test_opened")
        return check_view(experiment.spec, found, worksheet(experiment) if wanted else None)
