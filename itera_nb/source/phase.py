"""Phase 1 in its two halves: what the isolated process does, and what asks for it and reads its records."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from itera_nb.exceptions import DataError
from itera_nb.experiment import GITIGNORE, Experiment
from itera_nb.ledger import Record
from itera_nb.protocol import ASKED_WHY
from itera_nb.seal.custody import SEED_FILE, seal_seed
from itera_nb.seal.recipients import find, read
from itera_nb.source import evict, extension
from itera_nb.source.audit import DistributionAudit, audit_distribution
from itera_nb.source.contamination import Watch, look, write_index
from itera_nb.source.relation import DuckDBRelation, open_source
from itera_nb.source.reseal import finish, reseal
from itera_nb.source.seal_split import SealPaths, draw, seal_split


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
        experiment.ask(ask["safeguard"], ask["sentence"], ASKED_WHY[ask["safeguard"]])
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
    elif record.type == "resealed":
        finish(experiment)  # a killed one may have left the files under their next names
    experiment.forget_secret()  # the process that sealed has done it, unless it was killed
    for ask in record.body["asks"]:
        if ask["safeguard"] == "SG13":
            experiment.ask("SG13", ask["sentence"], ASKED_WHY["SG13"])
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


def work(experiment: Experiment, command: str, *arguments: str) -> Any:
    """What the isolated process does: preview, sample, seal, extend, scan, reseal or evict.

    No answer holds a row's text, and only a scan names rows.
    """
    if arguments:
        return _on_sealed(experiment, command, arguments[0], list(arguments[1:]))
    relation = open_source(experiment.spec.source, experiment.spec.split, experiment.folder)
    if command == "preview":
        return asdict(relation.describe())
    if command == "sample":
        return _sample(experiment, relation)
    return _seal(experiment, relation)


def _on_sealed(experiment: Experiment, command: str, how: str, names: list[str]) -> Any:
    if command == "scan":
        return look(experiment, how, names)
    if command == "reseal":
        return reseal(experiment, names, how).seq
    if command == "extend":
        return extension.extend(experiment, how)
    return evict.restore(experiment) if how == "restore" else evict.evict(experiment, how)


def _sample(experiment: Experiment, relation: DuckDBRelation) -> int:
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


def _seal(experiment: Experiment, relation: DuckDBRelation) -> int:
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
    file = find(experiment.folder)  # without a recipients file custody is local
    secret, recipients = experiment.secret, read(file) if file else ()
    watch = Watch(spec.source.id)
    report = seal_split(
        relation,
        spec.source,
        spec.split,
        secret,
        paths,
        novelty=spec.frame.novelty,
        recipients=[r.key for r in recipients],
        watch=watch.add,
    )
    index, scan = write_index(
        experiment, watch, [paths.train, paths.dev], report.sealed["recipients"], own_key=not recipients
    )
    files = {**report.sha256, "scan": scan}
    if recipients:
        files["seed"] = experiment.write_bytes(SEED_FILE, seal_seed(secret, recipients))
        _commit_sealed(experiment)
    figures = asdict(report)
    body = {key: figures[key] for key in figures if key not in {"strata", "sample", "sha256"}} | {
        "files": files,
        "custody": {
            "mode": "escrow" if recipients else "local",
            "recipients": [asdict(r) for r in recipients],
        },
        "exposed": evict.exposed(experiment),
        "burned": watch.burned(experiment),
    }
    record = experiment.record("sealed", body)
    experiment.forget_secret()
    look(experiment, "sealing", index=index)
    return record.seq


def _commit_sealed(experiment: Experiment) -> None:
    """Let git take `sealed/`: under escrow it is what the custodian opens."""
    path = experiment.path(".gitignore")
    lines = (path.read_text("utf-8") if path.is_file() else GITIGNORE).splitlines(keepends=True)
    experiment.write_text(".gitignore", "".join(line for line in lines if line.strip() != "sealed/"))
