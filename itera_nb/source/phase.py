"""Phase 1 in its two halves: what the isolated process does, and what asks for it and reads its records."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from itera_nb.experiment import Experiment
from itera_nb.ledger import Record
from itera_nb.source.audit import DistributionAudit, audit_distribution

SG12_WHY = "a cap that drops much of the data asks about rows that production does not send in that mix."
SG13_WHY = "a test set without the hard rows cannot see what the experiment is about."


def sample(experiment: Experiment) -> Record:
    """Fix the sample in the isolated process, and answer its question if a cap drops much.

    Raises:
        Refusal: SG07 before the frame is locked, SG12 where a cap asks.
        DataError: If the source does not fit its declaration.
    """
    record = experiment.state.last("sampled")
    if record is None:
        experiment.require("sampled")
        experiment.isolated("itera_nb.source", "sample")
        record = experiment.state.the("sampled")
    for ask in record.body["asks"]:
        experiment.ask(ask["safeguard"], ask["sentence"], SG12_WHY)
    return record


def audit(experiment: Experiment) -> tuple[DistributionAudit, Record | None]:
    """Compare the sample with production's counts; a pass is recorded, a failure waits for a reason."""
    spec, state = experiment.spec, experiment.state
    sampled = sample(experiment)
    path = spec.source.production_counts
    found = audit_distribution(sampled.body["strata"], experiment.outside(path) if path else None)
    if state.audit is None and found.status != "failed":
        body = {"status": found.status, "sentences": list(found.sentences)}
        experiment.record("audit_passed", body)
    return found, experiment.state.audit


def accept_audit(experiment: Experiment, why: str) -> Record:
    """Accept a failed distribution audit with a reason that the conclusion prints."""
    found, record = audit(experiment)
    if record is not None:
        return record
    body = {"status": found.status, "sentences": list(found.sentences), "why": why}
    return experiment.record("audit_accepted", body)


def seal(experiment: Experiment) -> Record:
    """Split and seal in the isolated process, and answer its question if required rows are missing.

    Raises:
        Refusal: SG13 where the split asks, or what `sample` refuses.
    """
    record = experiment.state.last("sealed")
    if record is None:
        experiment.require("sealed")
        sample(experiment)
        experiment.isolated("itera_nb.source", "seal")
        record = experiment.state.the("sealed")
    for ask in record.body["asks"]:
        if ask["safeguard"] == "SG13":
            experiment.ask("SG13", ask["sentence"], SG13_WHY)
    return record


def extend(experiment: Experiment, file: str) -> Record:
    """Seal the registered top-up from `file` (a path), in the isolated process.

    Raises:
        Refusal: SG02 unless the verdict is inconclusive, the top-up was registered, and it is the first.
        DataError: If the file has too few new rows.
    """
    experiment.require("extended")
    experiment.isolated("itera_nb.source", "extend", file)
    return experiment.state.all("extended")[-1]


def work(experiment: Experiment, command: str, file: str | None = None) -> Any:
    """What the isolated process does: preview, sample, seal or extend. No answer holds a row's text or id."""
    from itera_nb.source.relation import open_source

    spec = experiment.spec
    source = spec.source.model_copy(update={"uri": file}) if file else spec.source
    relation = open_source(source, spec.split, experiment.folder)
    if command == "extend":
        return _extend(experiment, relation)
    if command == "preview":
        return asdict(relation.describe())
    if command == "sample":
        return _sample(experiment, relation)
    return _seal(experiment, relation)


def _sample(experiment: Experiment, relation: Any) -> int:
    from itera_nb.source.seal_split import draw

    experiment.require("sampled")
    spec = experiment.spec
    drawn = draw(relation, spec.source, spec.split, experiment.secret.seed, novelty=spec.frame.novelty)
    report = asdict(drawn.sample.report)
    body = {
        "values": experiment.registered(("source", "split")),
        "fingerprint": relation.fingerprint(),
        "rows": report["rows"],
        "report": {k: v for k, v in report.items() if k != "asks"},
        "strata": [dict(s) for s in drawn.strata],
        "asks": list(report["asks"]),
    }
    return experiment.record("sampled", body).seq


def _seal(experiment: Experiment, relation: Any) -> int:
    from itera_nb.exceptions import DataError
    from itera_nb.source.seal_split import SealPaths, seal_split

    experiment.require("sealed")
    spec, sampled = experiment.spec, experiment.state.the("sampled")
    if relation.fingerprint() != sampled.body["fingerprint"]:
        raise DataError(
            "the source changed between sampling and sealing", fix="put back the file that was sampled"
        )
    for folder in ("data", "sealed"):
        experiment.path(folder).mkdir(exist_ok=True)
    paths = SealPaths(
        experiment.path("data", "train.parquet"),
        experiment.path("data", "dev.parquet"),
        experiment.path("sealed", "test.parquet"),
    )
    report = seal_split(
        relation, spec.source, spec.split, experiment.secret, paths, novelty=spec.frame.novelty
    ).to_json()
    sealed = {
        "sha256": report["sha256"]["test"],
        "commitment": report["commitment"],
        "salt": report["salt"],
        "recipients": list(report["recipients"]),
    }
    kept = (
        "inputs",
        "counts",
        "slices",
        "classes",
        "duplicates",
        "requirements",
        "folds",
        "seed_commitment",
        "asks",
    )
    body = {key: report[key] for key in kept} | {"sealed": sealed, "files": report["sha256"]}
    return experiment.record("sealed", body).seq


def _extend(experiment: Experiment, relation: Any) -> int:
    import pyarrow.parquet as pq

    from itera_nb.seal.parquet import read_sealed
    from itera_nb.source.extension import seal_extension

    spec, sealed = experiment.spec, experiment.state.the("sealed")
    secret = experiment.secret
    tuned = [pq.read_table(experiment.path("data", f"{part}.parquet")) for part in ("train", "dev")]
    first = read_sealed(
        experiment.path("sealed", "test.parquet"), secret.identity, sha256=sealed.body["sealed"]["sha256"]
    )
    report = seal_extension(
        relation,
        spec.source,
        spec.split,
        secret,
        experiment.path("sealed", "test-2.parquet"),
        known=[*tuned, first],
        tuned=tuned,
        inputs=sealed.body["inputs"],
        count=sealed.body["counts"]["test"],
    ).to_json()
    seal_keys = ("sha256", "commitment", "salt", "recipients")
    body = {
        "count": report["count"],
        "slices": report["slices"],
        "left_out": report["known"],
        "fingerprint": relation.fingerprint(),
        "sealed": {key: report[key] for key in seal_keys} | {"recipients": list(report["recipients"])},
    }
    return experiment.record("extended", body).seq
