"""Opening the sealed test set: the claim first, then the key, one pass, and a record without any row's text.

Runs only in the isolated process (`itera_nb.verdict.__main__`).
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout

from itera_nb.arms.runtime import RunnableArm
from itera_nb.arms.snapshot import check as check_snapshot
from itera_nb.exceptions import RecordError, StoppedError
from itera_nb.experiment import Experiment
from itera_nb.ledger import Record, digest
from itera_nb.scoring.attempts import Attempt, AttemptLog
from itera_nb.scoring.engine import RowGroup, run
from itera_nb.scoring.evidence import collect
from itera_nb.scoring.judge_check import (
    SECOND,
    TRIAL,
    WEIGHT,
    ask_model,
    choose,
    labels,
    second_model,
    with_labels,
)
from itera_nb.scoring.judging import Panel
from itera_nb.scoring.power import power_expected
from itera_nb.scoring.progress import progress_bar
from itera_nb.scoring.results import score_table, secondary_column
from itera_nb.scoring.runs import (
    fit_rows,
    judge_panel,
    resources_unchanged,
    runnable,
    strata_table,
    trial_seed,
)
from itera_nb.seal.parquet import AgeLines, commitment, read_sealed
from itera_nb.source.contamination import burn, figures, look
from itera_nb.source.parts import to_rows
from itera_nb.spec import ArmSpec, Spec
from itera_nb.stats.paired import Delta
from itera_nb.verdict import tickets
from itera_nb.verdict.bundle import pack
from itera_nb.verdict.money import money_left, require_money
from itera_nb.verdict.preflight import require_ready
from itera_nb.verdict.promises import batch_suffix
from itera_nb.verdict.record import Verdict
from itera_nb.verdict.rule import evaluate, retrospective
from itera_nb.verdict.second_opinion import second_judge
from itera_nb.verdict.voucher import VOUCHER, voucher

if TYPE_CHECKING:
    import pandas as pd

CLAIM_COMMAND = "ITERA_CLAIM_COMMAND"
"""Environment variable: a command that makes the claim known elsewhere before the rows are opened."""
PUBLISHED = ["id", "arm", "trial", "status", "score", "modes", "cost_usd", "latency_ms", "amortised"]
JUDGED = ["judged", "judge_calls", "judge_usd", "conflict"]


def open_and_decide(experiment: Experiment, nonce: str) -> dict[str, Any]:
    """Claim, open, score once, decide, record. A pass that a crash cut off is resumed, never repeated.

    The registered top-up is a second batch: only its rows are scored, and the rule sees both.

    Args:
        experiment: The experiment.
        nonce: Of the ticket (`itera_nb.verdict.tickets`) that the asking kernel holds.

    Raises:
        Refusal: If the ticket is not valid, anything that was locked has changed, or every sealed batch has
            had its one pass.
    """
    with _alone(experiment):
        return _open_and_decide(experiment, nonce)


@contextlib.contextmanager
def _alone(experiment: Experiment) -> Iterator[None]:
    """One verdict process at a time, known before anything is claimed; a dead one's lock is freed."""
    lock = FileLock(experiment.path("sealed", "verdict.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise StoppedError(
            "another process is in the middle of this pass", fix="wait for it, then: itera show"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _open_and_decide(experiment: Experiment, nonce: str) -> dict[str, Any]:
    require_ready(experiment)
    _require_ticket(experiment, nonce)
    state = experiment.state
    recipients = state.the("sealed").body["sealed"]["recipients"]
    # A local key is read after the claim; one from outside has to fit before anything is claimed.
    early = experiment.secret if experiment.custody.escrow or len(state.batches) > 1 else None
    left = money_left(experiment, AgeLines(recipients, early.identity) if early else None)
    if state.pass_open:
        if early and experiment.custody.escrow:
            _require_own_opening(experiment, early.identity)
        body: dict[str, Any] = {"count": len(state.all("resumed")) + 1}
        claim = experiment.record("resumed", body | {"ticket": _used(experiment, nonce)})
    else:
        require_money(experiment, left)
        scanned = figures(look(experiment, "verdict"))
        experiment.require("test_opened")
        body = {"ticket": tickets.use(experiment, nonce), "batch": len(state.all("test_opened")) + 1}
        body["scan"] = scanned
        if early and experiment.custody.escrow:
            body[VOUCHER] = voucher(early.identity, state.the("locked").hash, body)
        claim = experiment.record("test_opened", body)
    _publish_claim(experiment, "nothing was opened")
    secret = early or experiment.secret
    codec = AgeLines(recipients, secret.identity)
    results, rows = _with_earlier(experiment, *_score(experiment, secret.identity, codec, left))
    verdict = decide(experiment, results, rows)
    # With names of its own: until this verdict is recorded, the earlier one's files must be what it says.
    suffix = batch_suffix(len(state.batches))
    files = {"results": f"runs/test{suffix}.parquet", "rows": f"runs/test-rows{suffix}.parquet"}
    body = {
        "outcome": verdict.outcome,
        "arm": verdict.arm,
        "results": {"file": files["results"], "sha256": experiment.write_frame(files["results"], results)},
        "rows": {"file": files["rows"], "sha256": experiment.write_frame(files["rows"], rows)},
        "resumes": len(experiment.state.all("resumed")),
        "verdict": verdict.as_json(),
    }
    if experiment.custody.escrow:
        body[VOUCHER] = voucher(secret.identity, experiment.state.the("test_opened").hash, body)
    record = experiment.record("verdict", body)
    pack(experiment)
    # Before anyone sees it: who can cancel the job must not choose by the outcome.
    _publish_claim(experiment, "the verdict is recorded here and not shown")
    return {"claim": claim.seq, "record": record.seq}


def _require_own_opening(experiment: Experiment, identity: str) -> None:
    """Refuse to resume an opening that this key did not make: its scan would be anyone's word."""
    state = experiment.state
    opening = state.the("test_opened")
    if opening.body.get(VOUCHER) != voucher(identity, state.the("locked").hash, opening.body):
        raise RecordError(
            "the test set was not opened with this recipient's key, so this pass is not resumed with it",
            record=opening.seq,
            fix="resume with the key that opened it; if nobody did, the record was written by hand",
        )


def _publish_claim(experiment: Experiment, otherwise: str) -> None:
    """Run the custodian's command between claim and opening, and after the verdict; else nothing goes on."""
    command = os.environ.get(CLAIM_COMMAND)
    if not command:
        return
    done = subprocess.run(  # noqa: S603 - the custodian's command, from the custodian's environment
        shlex.split(command),
        cwd=experiment.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise StoppedError(
            f"the claim could not be published: {otherwise}\n{(done.stderr or done.stdout).strip()}",
            fix=f"see what {CLAIM_COMMAND} runs; an opening that is claimed elsewhere is not repeated",
        )


def _require_ticket(experiment: Experiment, nonce: str) -> None:
    """Before any key is read: a valid ticket, or the one with which this unfinished pass was opened."""
    if not _opened_with(experiment, nonce):
        tickets.require_valid(experiment, nonce)


def _used(experiment: Experiment, nonce: str) -> str:
    """The ticket that resumes a pass: the kernel that opened it needs no new one."""
    if _opened_with(experiment, nonce):
        return tickets.digest_of(nonce)
    return tickets.use(experiment, nonce)


def _opened_with(experiment: Experiment, nonce: str) -> bool:
    state = experiment.state
    return state.pass_open and state.the("test_opened").body["ticket"] == tickets.digest_of(nonce)


def _with_earlier(
    experiment: Experiment, results: pd.DataFrame, rows: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The published scores of the first batch before those of the second."""
    import pandas as pd

    first = experiment.state.last("verdict")
    if first is None:
        return results, rows

    def joined(part: str, later: pd.DataFrame) -> pd.DataFrame:
        earlier = experiment.read_frame(first.body[part]["file"], sha256=first.body[part]["sha256"])
        return pd.concat([earlier, later], ignore_index=True)

    return joined("results", results), joined("rows", rows)


def decide(experiment: Experiment, results: pd.DataFrame, rows: pd.DataFrame) -> Verdict:
    """The registered rule on published test results: a pure function of files that anyone can check."""
    spec, locked = experiment.spec, experiment.state.the("locked")
    modes = dict(experiment.state.the("metric_locked").body["modes"])
    evidence = collect(results, rows, spec, modes)
    dev = {line["arm"]: Delta(**line["dev"]) for line in locked.body["lines"] if line["dev"]}
    rng = np.random.default_rng(int(digest([experiment.genesis, "bootstrap"])[:16], 16))
    iterations = int(locked.body["dev_iterations"])
    second = second_judge(second_model(spec) or "", evidence, results, spec)
    found = evaluate(spec, evidence, modes, dev, rng, iterations=iterations, second=second)
    if spec.claim.seen:
        found = retrospective(found)
    foreseen = power_expected(experiment.state.the("metric_locked").body["power"])
    return replace(found, records=[replace(r, power_expected=foreseen) for r in found.records])


def _score(
    experiment: Experiment, identity: str, codec: AgeLines, budget_usd: float | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score every locked arm on every sealed row; returns published results and the rows' strata."""
    spec, locked = experiment.spec, experiment.state.the("locked")
    batches = experiment.state.batches
    sealed, suffix = batches[-1], batch_suffix(len(batches))
    arms = locked_arms(experiment, locked)
    trials = {line["arm"]: int(line["trials"]) for line in locked.body["lines"]}
    seal = sealed.body["sealed"]
    test = read_sealed(experiment.path("sealed", f"test{suffix}.parquet"), identity, sha256=seal["sha256"])
    if commitment(test, bytes.fromhex(seal["salt"])) != seal["commitment"]:
        raise RecordError("the sealed rows are not those that were committed to", record=sealed.seq)
    burn(experiment, test)
    rows, genesis = to_rows(test), experiment.genesis
    planned = sum(trials.values()) * len(rows)
    snapshot = experiment.path("snapshot")
    check_snapshot(snapshot, locked.body["files"])  # once more, right before it runs
    with AttemptLog(experiment.path("sealed", f"attempts{suffix}.age"), codec) as log:
        with progress_bar("test", planned) as step, resources_unchanged(arms):
            attempts = run(
                arms,
                [RowGroup(rows, fit_rows(experiment, "test"))],
                id_column=spec.source.id,
                trials=trials,
                log=log,
                settings=spec.run,
                models=spec.models,
                seed=lambda trial: trial_seed(genesis, trial),
                namespace="test",
                quiet=True,
                progress=step,
                budget_usd=budget_usd,
            )
        panel = judge_panel(experiment, snapshot, log, quiet=True, budget_usd=budget_usd)
        results = score_table(attempts, rows, spec, snapshot, quiet=True, panel=panel)
        if panel is not None:
            results = _with_second(experiment, attempts, results, rows, panel, f"test{suffix}")
    return results[_published(spec)], strata_table(experiment, rows)


def _with_second(
    experiment: Experiment,
    attempts: Sequence[Attempt],
    results: pd.DataFrame,
    rows: list[dict[str, Any]],
    panel: Panel,
    part: str,
) -> pd.DataFrame:
    """The results with the registered second model's labels on sampled rows; as they are without one."""
    spec = experiment.spec
    model = second_model(spec)
    if model is None:
        return results
    outputs = {(str(a.row_id), a.arm): a.output for a in attempts if a.trial == TRIAL and a.status == "ok"}
    asked = choose(results, outputs, rows, spec, inputs=panel.inputs, genesis=experiment.genesis, part=part)
    return with_labels(results, labels(asked, ask_model(asked, panel, model)))


def _published(spec: Spec) -> list[str]:
    """Columns that leave the process: figures and names of registered modes, nothing that quotes a row."""
    judged = [] if spec.judge is None else JUDGED
    second = [] if second_model(spec) is None else [SECOND, WEIGHT]
    return [*PUBLISHED, *judged, *second, *(secondary_column(m) for m in spec.metric.secondary)]


def locked_arms(experiment: Experiment, locked: Record) -> list[RunnableArm]:
    """The baseline, each line's end and the controls, from the snapshot taken at the lock."""
    specs = {line["arm"]: ArmSpec.model_validate(line["spec"]) for line in locked.body["lines"]}
    ready, _ = runnable(experiment, specs, experiment.path("snapshot"))
    return ready
