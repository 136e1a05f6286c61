"""The label audit: are the rows that every arm fails hard, or is their label wrong?

On generated data, whose labels a program made, it looks at every row that the baseline fails. A person fills
in a worksheet, or a second source of labels answers. Dev rows count as read before their text is written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from itera_nb.diagnosis.reveal import reveal
from itera_nb.exceptions import DataError, IteraError
from itera_nb.experiment import Experiment
from itera_nb.ledger import Record, digest
from itera_nb.scoring.evidence import Evidence, compare
from itera_nb.scoring.ratings import read_answers, to_csv
from itera_nb.scoring.registered import measure_baseline, part_results, registered_modes
from itera_nb.scoring.runs import arm_inputs, evidence_of, part_rows
from itera_nb.source.slices import text_of
from itera_nb.stats.agreement import wilson_interval
from itera_nb.stats.paired import row_means

if TYPE_CHECKING:
    import pandas as pd

WRONG, HARD, AMBIGUOUS = VERDICTS = ("label wrong", "hard", "ambiguous")
ANSWER, WHY = "verdict", "label audit"
SHEET, FILE = "runs/labels.csv", "runs/labels.parquet"
MOST_ROWS = 100
"""Rows of a worksheet; of more a sample is drawn."""
PERSON = "a person"


@dataclass(frozen=True, slots=True)
class Suspect:
    """A row whose label is asked about.

    Attributes:
        part: "train" or "dev".
        id: The row's id.
        code: Names it in the worksheet.
        shown: What a person reads: heading -> text; answers are not told apart by arm.
        label: The expected output.
        moves: The arms that answered otherwise than the baseline: their difference hangs on this label.
    """

    part: str
    id: str
    code: str
    shown: Mapping[str, str]
    label: Any
    moves: frozenset[str]


@dataclass(frozen=True, slots=True)
class Suspects:
    """Rows to ask about, all or a sample of those `found` to fail among `totals` rows of each part."""

    rows: tuple[Suspect, ...]
    found: dict[str, int]
    totals: dict[str, int]


@dataclass(frozen=True, slots=True)
class NoiseEffect:
    """What right labels could make of one arm's `measured` dev effect (fractions).

    `low` if each wrong label hid a loss, `high` if each hid a gain; `decides` whether the registered smallest
    effect lies between them.
    """

    measured: float
    low: float
    high: float
    decides: bool


@dataclass(frozen=True, slots=True)
class Noise:
    """What an audit found; shares are fractions.

    Attributes:
        by: "a person", or the column of the second source.
        asked: Rows with a verdict.
        found: Rows that fail, of which `asked` are all or a sample.
        verdicts: Verdict -> rows.
        rate: Share of the asked rows whose label is wrong, with its 95 % Wilson interval `low` to `high` for
            rows of this kind; None where no row was asked about.
        ceiling: About the best dev score that an arm which is always right could have with these labels.
        effects: Candidate -> what right labels could make of its dev effect.
    """

    by: str
    asked: int
    found: int
    verdicts: dict[str, int]
    rate: float | None
    low: float | None
    high: float | None
    ceiling: float
    effects: dict[str, NoiseEffect]


@dataclass(frozen=True, slots=True)
class LabelAudit:
    """Where the audit stands.

    Attributes:
        suspects: What is asked about.
        unread: Dev rows among them that nobody has read.
        answered: Rows with a verdict in the worksheet; None without a worksheet.
        record: The ledger's record, once every row has a verdict.
    """

    suspects: Suspects
    unread: int
    answered: int | None
    record: Record | None


def standing(experiment: Experiment) -> LabelAudit:
    """Where the audit stands; a worksheet in which every row has a verdict is recorded.

    Raises:
        Refusal: SG10, before dev is scored.
        IteraError: The rows have no labels, or the metric does not say who fails.
        DataError: The worksheet cannot be read.
    """
    suspects = find_suspects(experiment)
    record, path, answered = experiment.state.last("labels_audited"), experiment.path(SHEET), None
    if record is None and path.is_file():
        said = _read(path.read_bytes(), suspects.rows)
        answered = len(said)
        if answered == len(suspects.rows):
            record = _finish(experiment, suspects, said, PERSON)
    seen = experiment.state.revealed
    unread = sum(row.part == "dev" and row.id not in seen for row in suspects.rows)
    return LabelAudit(suspects, unread, answered, record)


def write_sheet(experiment: Experiment) -> LabelAudit:
    """Write the worksheet, or add what it lacks; its dev rows count as read from then on.

    Raises:
        Refusal: SG10, before dev is scored; SG02, once the test set was opened.
        DataError: The worksheet that is there cannot be read.
    """
    experiment.require("labels_audited")
    rows, path = find_suspects(experiment).rows, experiment.path(SHEET)
    old = path.read_bytes() if path.is_file() else b""
    whole = bool(old) and all(row.code.encode() in old for row in rows)
    if not whole and not experiment.state.has("labels_audited"):
        said = _read(old, rows) if old else {}
        if dev := [row.id for row in rows if row.part == "dev"]:
            reveal(experiment, dev, WHY)
        experiment.write_text(SHEET, to_csv(rows, said, answer=ANSWER))
    return standing(experiment)


def audit_by(experiment: Experiment, column: str) -> LabelAudit:
    """Compare the labels with those of a second source, a column of the rows; no text is shown to anyone.

    An equal label is right, another one wrong, a missing one ambiguous. Every row that fails is asked about.

    Raises:
        DataError: There is no such column, or it is the label itself.
    """
    if experiment.state.has("labels_audited"):
        return standing(experiment)
    experiment.require("labels_audited")
    rows = {part: _by_id(experiment, part) for part in ("train", "dev")}
    everything = [row for part in rows.values() for row in part.values()]
    if column == experiment.spec.source.expected or any(column not in row for row in everything):
        raise DataError(
            f"{column!r} is no second source of labels", fix="name a column that every row has, not the label"
        )
    suspects = find_suspects(experiment, most=None)
    said = {row.code: _second(row.label, rows[row.part][row.id][column]) for row in suspects.rows}
    return LabelAudit(suspects, 0, None, _finish(experiment, suspects, said, column))


def require_audit(experiment: Experiment) -> None:
    """Before the lock, generated data need their audit, or a reason why there is none.

    Raises:
        Refusal: SG30, until either is given.
    """
    spec = experiment.spec
    if not spec.source.generated or spec.source.expected is None or spec.metric.pairwise:
        return
    audit = standing(experiment)
    if audit.record is not None:
        return
    if not audit.suspects.rows:
        _finish(experiment, audit.suspects, {}, PERSON)
        return
    failing = sum(audit.suspects.found.values())
    experiment.ask(
        "SG30",
        f"the baseline fails {failing:,} generated rows; nobody checked their labels.",
        why="a generator's mistake looks like a model's failure.",
        remedy="check them: itera labels --sheet",
    )


def find_suspects(experiment: Experiment, most: int | None = MOST_ROWS) -> Suspects:
    """Train and dev rows that the baseline and every candidate fail; of generated data, the baseline alone.

    Of more than `most` a sample is drawn, by the experiment's seed.

    Raises:
        Refusal: SG10, before dev is scored.
        IteraError: The rows have no labels, or the metric does not say who fails.
    """
    spec = experiment.spec
    if spec.source.expected is None or spec.metric.pairwise:
        what = "a preference does not say who fails" if spec.metric.pairwise else "the rows have no labels"
        raise IteraError(f"no labels to audit: {what}", fix="look at the rows: exp.inspect()")
    if experiment.state.scored("dev") is None:
        experiment.require("labels_audited")
    rows: list[Suspect] = []
    found, totals = dict[str, int](), dict[str, int]()
    for part in ("train", "dev"):
        results = _results(experiment, part)
        if results is not None:
            failing = _failing(experiment, part, results)
            found[part], totals[part] = len(failing), len(part_rows(experiment, part))
            rows += failing
    if most is not None and len(rows) > most:
        rng = np.random.default_rng(int(digest([experiment.genesis, WHY])[:8], 16))
        rows = [rows[i] for i in np.sort(rng.choice(len(rows), most, replace=False))]
    return Suspects(tuple(rows), found, totals)


def _results(experiment: Experiment, part: str) -> pd.DataFrame | None:
    """Results with outputs; of train those of every arm, or of generated data the baseline's at least."""
    if part == "dev" or experiment.state.scored(part) is not None:
        return part_results(experiment, part)
    return measure_baseline(experiment).results if experiment.spec.source.generated else None


def _failing(experiment: Experiment, part: str, results: pd.DataFrame) -> list[Suspect]:
    spec, rows = experiment.spec, _by_id(experiment, part)
    arms = [a for a in (spec.baseline, *spec.candidates) if (results["arm"] == a).any()]
    results = results[results["arm"].isin(arms)]
    evidence = evidence_of(experiment, results, part, registered_modes(experiment))
    looked = [spec.baseline] if spec.source.generated else arms
    failing = np.logical_and.reduce([row_means(evidence.scores[a]) < spec.metric.fail_below for a in looked])
    answers: dict[str, dict[str, list[str]]] = {evidence.ids[i]: {} for i in np.flatnonzero(failing)}
    some = results[results["id"].isin(answers)]
    for row, arm, output in zip(some["id"], some["arm"], some["output"], strict=True):
        answers[row].setdefault(arm, []).append(output)
    return [_suspect(experiment, part, row, rows[row], said) for row, said in answers.items()]


def _suspect(
    experiment: Experiment, part: str, name: str, row: Mapping[str, Any], answers: Mapping[str, list[str]]
) -> Suspect:
    base, label = sorted(answers[experiment.spec.baseline]), row[str(experiment.spec.source.expected)]
    distinct = sorted({text_of(json.loads(x)) for outputs in answers.values() for x in outputs})
    shown = {
        "part": part,
        "row": name,
        **{f"input: {column}": text_of(row[column]) for column in arm_inputs(experiment)},
        "label": text_of(label),
        "answers": "\n".join(distinct),
    }
    moves = frozenset(arm for arm, outputs in answers.items() if sorted(outputs) != base)
    return Suspect(part, name, digest([experiment.genesis, WHY, part, name])[:12], shown, label, moves)


def _by_id(experiment: Experiment, part: str) -> dict[str, dict[str, Any]]:
    return {str(row[experiment.spec.source.id]): row for row in part_rows(experiment, part)}


def _second(label: Any, other: Any) -> str:
    if text_of(other).strip() in {"", "nan"}:
        return AMBIGUOUS
    return HARD if other == label or text_of(other) == text_of(label) else WRONG


def _read(data: bytes, rows: Sequence[Suspect]) -> dict[str, str]:
    codes, wanted = {row.code for row in rows}, f"one of: {', '.join(VERDICTS)}"
    said = read_answers(data, codes, lambda x: _verdict(x) in VERDICTS, answer=ANSWER, wanted=wanted)
    return {code: _verdict(answer) for code, answer in said.items()}


def _verdict(answer: str) -> str:
    return answer.strip().removeprefix("'").casefold().replace("_", " ")


def _finish(experiment: Experiment, suspects: Suspects, said: Mapping[str, str], by: str) -> Record:
    import pandas as pd

    noise = estimate(experiment, suspects, said, by)
    table = pd.DataFrame(
        [(row.part, row.id, said[row.code]) for row in suspects.rows],
        columns=pd.Index(["part", "id", "verdict"]),
    )
    kept = {"file": FILE, "sha256": experiment.write_frame(FILE, table)}
    generated = experiment.spec.source.generated
    return experiment.record("labels_audited", {**asdict(noise), "generated": generated, **kept})


def estimate(experiment: Experiment, suspects: Suspects, said: Mapping[str, str], by: str) -> Noise:
    """The noise rate with its interval, and what right labels could make of each dev effect.

    With a right label a row's difference may be anything from -1 to 1, unless arm and baseline gave the same
    answer: then it stays 0. Rows of a sample stand for all that fail.
    """
    verdicts = {verdict: sum(x == verdict for x in said.values()) for verdict in VERDICTS}
    asked, wrong = len(suspects.rows), verdicts[WRONG]
    interval = wilson_interval(wrong, asked) if asked else None
    dev = [row for row in suspects.rows if row.part == "dev"]
    mislabelled = [row for row in dev if said[row.code] == WRONG]
    share = suspects.found.get("dev", 0) / len(dev) if dev else 0.0
    spec = experiment.spec
    results = part_results(experiment, "dev", readable=False)
    evidence = evidence_of(experiment, results, "dev", registered_modes(experiment))
    tau = spec.rule.min_effect.absolute(float(np.nanmean(row_means(evidence.scores[spec.baseline]))))
    effects = {
        arm: _effect(evidence, arm, spec.baseline, [r.id for r in mislabelled if arm in r.moves], share, tau)
        for arm in spec.candidates
    }
    return Noise(
        by=by,
        asked=asked,
        found=sum(suspects.found.values()),
        verdicts=verdicts,
        rate=wrong / asked if asked else None,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        ceiling=1 - share * len(mislabelled) / suspects.totals["dev"],
        effects=effects,
    )


def _effect(
    evidence: Evidence, arm: str, baseline: str, rows: Sequence[str], share: float, tau: float
) -> NoiseEffect:
    """Bounds of an arm's effect if each of these rows' differences, times `share` rows, could be anything."""
    compared = compare(evidence, arm, baseline, 0.05)
    d = compared.d[np.isin(np.asarray(compared.evidence.ids), list(rows))]
    measured, n = compared.delta.estimate, compared.d.size
    low = max(measured - share * float((1 + d).sum()) / n, -1.0)
    high = min(measured + share * float((1 - d).sum()) / n, 1.0)
    return NoiseEffect(measured, low, high, low < tau <= high and low < high)
