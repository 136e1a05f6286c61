"""Auditing a judge without an experiment: it rates a file of outputs, and others rate a sample of them."""

from __future__ import annotations

import hashlib
import math
import secrets
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from itera_nb.exceptions import DataError, IteraError, StoppedError
from itera_nb.metrics.judge import Case, Judge
from itera_nb.retrospective.judge_report import Corrected, JudgeReport
from itera_nb.retrospective.reading import Cell, listed, present_ids, score_of, text_cell
from itera_nb.scoring.attempts import AttemptLog
from itera_nb.scoring.budget import BudgetReachedError
from itera_nb.scoring.judge_check import HUMAN, NONE, Asked, ask_model, rated, rating_items, rng_of
from itera_nb.scoring.judging import Panel, judge_rows
from itera_nb.scoring.planting import plant_after
from itera_nb.scoring.ratings import from_csv, to_csv, value_of
from itera_nb.source.relation import DuckDBRelation, require_columns
from itera_nb.spec import ModelSpec, RunSpec
from itera_nb.stats.agreement import ppi_mean
from itera_nb.stats.paired import Floats
from itera_nb.stats.second_opinion import FEWEST_ROWS, Sample, draw_sample, paired_opinion, single_opinion
from itera_nb.verdict.record import SecondOpinionRecord
from itera_nb.verdict.second_opinion import opinion_record

_WORST = ("restart", "unclear", "trusted")
_ARM = "output"


@dataclass(frozen=True, slots=True)
class Question:
    """What is audited, and how.

    Args:
        file: CSV, TSV, Parquet or JSON lines with one output a line.
        rubric: The rubric's file.
        model: The judge as `vendor/name`.
        id: The column that names a line.
        output: The column of the outputs.
        against: A second column of outputs: the judge then compares the two.
        inputs: Columns that are shown with an output.
        expected: The column of a reference answer.
        human: A column of human labels.
        second: A model as `vendor/name`, "human" (a worksheet) or "none".
        rows: Judge only so many lines, drawn at random; all if None.
        second_rows: Lines that the second opinion is asked about.
        planted: Outputs that are judged again with an instruction hidden in them.
        scale: The judge's highest score.
        good_from: The score (fraction) from which on an output is good.
        budget_usd: USD that all calls of this audit may cost together, without those of others in the log.
        models: How vendors are reached.
        state: The folder of the log; made where it is missing.
        sheet: Where the worksheet of `second = "human"` is.
    """

    file: Path
    rubric: Path
    model: str
    id: str
    output: str
    against: str | None = None
    inputs: tuple[str, ...] = ()
    expected: str | None = None
    human: str | None = None
    second: str = NONE
    rows: int | None = None
    second_rows: int = FEWEST_ROWS
    planted: int = 10
    scale: int = 10
    good_from: float = 0.5
    budget_usd: float | None = None
    models: Mapping[str, ModelSpec] = field(default_factory=dict)
    state: Path = Path(".itera/judge-check")
    sheet: Path = Path("ratings.csv")


@dataclass(frozen=True, slots=True)
class _Lines:
    """The lines that are judged: ids, what is shown, and human labels (NaN for none)."""

    ids: list[str]
    cases: list[Case]
    human: Floats


def audit_judge(question: Question) -> JudgeReport:
    """Judge the outputs, ask the second opinion, and say what can be concluded; finished calls are kept.

    Raises:
        DataError: The file, a column, an id or a label does not fit.
        IteraError: The options do not fit each other.
        StoppedError: Credentials, budget or an interrupt; run it again to go on.
    """
    try:
        return _audit(question)
    except BudgetReachedError as error:
        fix = "give more with --budget, then run the same command again: no call is repeated"
        raise StoppedError(error.what, fix=fix) from None


def _audit(question: Question) -> JudgeReport:
    _check(question)
    seed = _seed(question.state)
    lines = _read(question, seed)
    pairwise = question.against is not None
    judge = Judge(
        rubric=_rubric(question.rubric),
        model=question.model,
        scale=question.scale,
        pairwise=pairwise,
        seed=seed,
    )
    with AttemptLog(question.state / "attempts.jsonl") as log:
        paid: dict[str, float | None] = {}
        panel = Panel(judge, log, RunSpec(), question.models, budget_usd=question.budget_usd, counted=paid)
        judged = judge_rows(lines.cases, panel)
        first = np.array([j.value for j in judged], dtype=np.float64)
        asked, sample = _sample(question, lines, first, seed)
        opinions, sheet, human = _opinions(question, panel, lines, first, asked, sample, seed)
        scored = list(zip(lines.cases, first.tolist(), strict=True))
        planted = plant_after(scored, panel, question.good_from, question.planted)
    known = first[np.isfinite(first)]
    return JudgeReport(
        judge=question.model,
        pairwise=pairwise,
        rows=len(judged),
        missing=len(judged) - known.size,
        reasons=dict(Counter(j.missing for j in judged if j.missing).most_common(3)),
        mean=float(known.mean()) if known.size else None,
        opinions=opinions,
        sheet=sheet,
        planted=planted,
        conflicts=sum(j.conflict for j in judged) if pairwise else None,
        corrected=None if human is None else _corrected(first, human),
        level=min((x.level for x in opinions.values()), key=_WORST.index, default="unclear"),
        spent_usd=sum(usd or 0.0 for usd in paid.values()),
        unknown_prices=sum(usd is None for usd in paid.values()),
    )


def _check(question: Question) -> None:
    for name, model in (("--model", question.model), ("--second", question.second)):
        if not all(model.partition("/")) and not (name == "--second" and model in {HUMAN, NONE}):
            raise IteraError(
                f"{name} {model!r} is no model", fix=f"{name} vendor/model, for example openai/gpt-5.5"
            )
    if question.second == question.model:
        raise IteraError("a judge cannot check itself", fix="--second VENDOR/MODEL of another family")


def _seed(state: Path) -> str:
    """A secret of this folder, from which labels and tags are derived: who wrote the rows cannot know it."""
    state.mkdir(parents=True, exist_ok=True)
    if not (state / ".gitignore").exists():
        (state / ".gitignore").write_text("*\n", "utf-8")
    path = state / "seed"
    path.touch(mode=0o600)  # before it holds anything
    if not path.read_text("utf-8").strip():
        path.write_text(secrets.token_hex(16), "utf-8")
    return path.read_text("utf-8").strip()


def _rubric(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise IteraError(f"there is no rubric {path}", fix="--rubric FILE: what is good, in words") from None
    except UnicodeDecodeError:
        raise IteraError(f"the rubric {path} is not UTF-8", fix="save it as UTF-8 text") from None


def _read(question: Question, seed: str) -> _Lines:
    if not question.file.is_file():
        raise DataError(
            f"{question.file} does not exist or is not a file", fix="itera judge-check outputs.csv"
        )
    columns = DuckDBRelation(question.file, None).columns
    optional = [question.against, question.expected, question.human]
    wanted = list(dict.fromkeys([question.output, *question.inputs, *(c for c in optional if c)]))
    require_columns(columns, [question.id, *wanted], str(question.file))
    relation = DuckDBRelation(question.file, question.id, text=columns)
    keys = relation.keys([]).column(question.id)
    ids = _ids(question, keys.to_pylist())
    cells: dict[str, list[Cell]] = {c: [] for c in wanted}
    # Not their keys: of a text of more than a few words that is a hash.
    for batch in relation.rows(keys, wanted):
        for column in wanted:
            cells[column] += map(text_cell, batch.column(column).to_pylist())
    chosen = _chosen(question, ids, seed)
    human = _human(question, cells, ids)
    return _Lines([ids[i] for i in chosen], [_case(question, cells, i) for i in chosen], human[chosen])


def _ids(question: Question, cells: Sequence[Cell]) -> list[str]:
    ids = present_ids(cells, question.id, str(question.file))
    twice = [i for i, lines in Counter(ids).items() if lines > 1]
    if twice:
        raise DataError(
            f"{question.file}: {len(twice)} ids stand on more than one line ({listed(twice)})",
            fix="--id, the column that names a line",
        )
    return ids


def _chosen(question: Question, ids: Sequence[str], seed: str) -> list[int]:
    """All lines, or a random sample that stays the same while the file does."""
    if question.rows is None or question.rows >= len(ids):
        return list(range(len(ids)))
    of = hashlib.sha256("\0".join(ids).encode()).hexdigest()
    return sorted(rng_of(seed, of, "lines").permutation(len(ids))[: question.rows].tolist())


def _case(question: Question, cells: Mapping[str, Sequence[Cell]], i: int) -> Case:
    return Case(
        {column: cells[column][i] or "" for column in question.inputs},
        cells[question.output][i] or "",
        (cells[question.against][i] or "") if question.against else None,
        cells[question.expected][i] if question.expected else None,
    )


def _human(question: Question, cells: Mapping[str, Sequence[Cell]], ids: Sequence[str]) -> Floats:
    """Human labels as fractions, or 1 and -1 for the better one; NaN where there is none."""
    if question.human is None:
        return np.full(len(ids), np.nan)
    given = [(c or "").strip() for c in cells[question.human]]
    read = _label_reader(question, given)
    found = [math.nan if not text or text == "?" else read(text) for text in given]
    wrong = [row for row, value in zip(ids, found, strict=True) if value is None]
    if wrong:
        form = (
            "A (the output), B or tie" if question.against else f"0/1, yes/no, 0..1, or 0..{question.scale}"
        )
        raise DataError(
            f"{question.file}: {len(wrong)} labels of column {question.human!r} cannot be read "
            f"(first ids: {listed(wrong)})",
            fix=f"human labels are {form}",
        )
    return np.array(found, dtype=np.float64)


def _label_reader(question: Question, given: Sequence[str]) -> Callable[[str], float | None]:
    """How this column's labels are read: preferences, fractions, or scores on the judge's scale."""
    if question.against is not None:
        return lambda text: value_of(text, question.scale, pairwise=True)
    if all(score_of(text) is not None for text in given if text != "?"):
        return score_of
    return lambda text: value_of(text, question.scale, pairwise=False)


def _sample(question: Question, lines: _Lines, first: Floats, seed: str) -> tuple[list[Asked], Sample]:
    """What the second opinion is asked: of comparisons those with a winner first, else random lines."""
    discordant = (np.nan_to_num(first) != 0) & (question.against is not None)
    drawn = draw_sample(discordant, question.second_rows, rng_of(seed, "second"), usable=np.isfinite(first))
    asked = [
        Asked(lines.ids[i], _ARM, lines.cases[i], float(w))
        for i, w in zip(drawn.index, drawn.weight, strict=True)
    ]
    return asked, drawn


def _opinions(
    question: Question,
    panel: Panel,
    lines: _Lines,
    first: Floats,
    asked: list[Asked],
    drawn: Sample,
    seed: str,
) -> tuple[dict[str, SecondOpinionRecord], tuple[str, int] | None, Floats | None]:
    """Every second opinion, what a worksheet still waits for, and human labels of random lines if any."""
    found: dict[str, SecondOpinionRecord] = {}
    sheet: tuple[str, int] | None = None
    random: Floats | None = None
    if question.second == HUMAN:
        labels, left = _rate(question, asked, seed)
        sheet = (str(question.sheet), left) if left else None
        if np.isfinite(labels).any():
            found[f"a person ({question.sheet.name})"] = _opinion(question, HUMAN, first, labels, drawn)
        if question.against is None:  # of comparisons the lines were chosen by what the judge said
            random = np.full(first.size, np.nan)
            random[drawn.index] = labels
    elif question.second != NONE:
        labels = np.array(ask_model(asked, panel, question.second), dtype=np.float64)
        found[question.second] = _opinion(question, question.second, first, labels, drawn)
    if question.human is not None:
        everywhere = Sample(np.arange(first.size), np.ones(first.size))
        name = f"a person (column {question.human})"
        found[name] = _opinion(question, HUMAN, first, lines.human, everywhere)
        random = lines.human
    return found, sheet, random


def _opinion(
    question: Question, by: str, first: Floats, labels: Floats, drawn: Sample
) -> SecondOpinionRecord:
    own = first[drawn.index]
    if question.against is not None:
        return opinion_record(by, paired_opinion(own, labels, drawn.weight))
    return opinion_record(by, single_opinion(own, labels, drawn.weight, good_from=question.good_from))


def _rate(question: Question, asked: list[Asked], seed: str) -> tuple[Floats, int]:
    """A person's labels of what was asked, and how many outputs wait for one; a missing worksheet is made."""
    items = rating_items(asked, seed)
    if not question.sheet.is_file():
        question.sheet.write_text(to_csv(items), "utf-8", newline="")
    said = from_csv(question.sheet.read_bytes(), items, question.scale)
    labels = np.array(rated(asked, said, seed, question.scale), dtype=np.float64)
    return labels, sum(item.code not in said for item in items)


def _corrected(first: Floats, human: Floats) -> Corrected | None:
    both, others = np.isfinite(first) & np.isfinite(human), np.isfinite(first) & ~np.isfinite(human)
    if both.sum() < FEWEST_ROWS or others.sum() < 2:
        return None
    found = ppi_mean(human[both], first[both], first[others])
    return Corrected(
        estimate=found.estimate,
        low=found.low,
        high=found.high,
        labelled=int(both.sum()),
        others=int(others.sum()),
        human_only=float(human[both].mean()),
        judge=float(first[np.isfinite(first)].mean()),
    )
