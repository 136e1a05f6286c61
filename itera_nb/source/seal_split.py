"""Sample, find duplicates, split and seal, in one go: the whole work of the isolated process of phase 1."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa

from itera_nb.exceptions import DataError
from itera_nb.seal.custody import Secret
from itera_nb.seal.parquet import Commitment, PartWriter
from itera_nb.source.audit import COUNT
from itera_nb.source.duplicates import DuplicateReport, units_of
from itera_nb.source.keys import check_ids, check_keys, derived_key, keyed_order
from itera_nb.source.relation import DuckDBRelation, declared_columns, require_columns
from itera_nb.source.sampling import Ask, Sample, SampleReport, draw_sample
from itera_nb.source.slices import slice_id
from itera_nb.source.split import (
    DEV,
    PARTS,
    TEST,
    Parts,
    RequirementResult,
    Split,
    seed_commitment,
    split_rows,
)
from itera_nb.spec import SourceSpec, SplitSpec

Watcher: TypeAlias = Callable[[pa.RecordBatch, Sequence[str]], None]
FOLD = "fold"
SALT_BYTES = 32


@dataclass(frozen=True, slots=True)
class SealPaths:
    """Where the three parts go."""

    train: Path
    dev: Path
    test: Path


@dataclass(frozen=True, slots=True)
class SealReport:
    """What sampling, splitting and sealing did: numbers, declared values, hashes; no row text, no row ids.

    `counts`, `slices` and `classes` are rows by part; `strata` are the sample's rows by declared columns, for
    the audit; `sha256` are the hashes of the three files; `sealed` is what the record says of the sealed one;
    `folds` is the number of dev folds or None; `asks` are the questions to answer before going on.
    """

    inputs: tuple[str, ...]
    counts: Mapping[str, int]
    slices: Mapping[str, Mapping[str, int]]
    classes: Mapping[str, Mapping[str, int]] | None
    strata: tuple[Mapping[str, Any], ...]
    sample: SampleReport
    duplicates: DuplicateReport
    requirements: tuple[RequirementResult, ...]
    folds: int | None
    sha256: Mapping[str, str]
    sealed: Mapping[str, Any]
    seed_commitment: str
    asks: tuple[Ask, ...]


@dataclass(frozen=True, slots=True)
class Draw:
    """The drawn rows' key columns (text), what was drawn, the input columns, the class label if there is one.

    `strata` are the drawn rows counted by slices, strata and class: text values and ``count``.
    """

    keys: pa.Table
    sample: Sample
    inputs: tuple[str, ...]
    label: str | None
    strata: tuple[dict[str, Any], ...]


def draw(
    relation: DuckDBRelation, source: SourceSpec, split: SplitSpec, seed: bytes, *, novelty: bool = False
) -> Draw:
    """Check the source's columns and keys, and draw the sample: the same rows for the same seed, each time.

    Raises:
        DataError: The source does not fit what is declared.
    """
    declared = declared_columns(source, split)
    require_columns(relation.columns, [source.id, *declared], "the source")
    inputs = tuple(source.inputs) or tuple(c for c in relation.columns if c not in {source.id, *declared})
    if not inputs or split.fractions[TEST] == 0:
        wrong = (
            "no column is left as input" if not inputs else "the test fraction is 0: nothing would be sealed"
        )
        raise DataError(wrong, fix="see [source] inputs and [split] in experiment.toml")
    keys = relation.keys(declared_columns(source.model_copy(update={"inputs": []}), split))
    check_ids(keys.column(source.id), source.id)
    order = keyed_order(derived_key(seed, "sample"), keys.column(source.id))
    label = check_keys(keys, order, source, split)
    sample = draw_sample(keys, order, source, novelty=novelty)
    keys = keys.filter(pa.array(sample.mask))
    return Draw(keys, sample, inputs, label, _strata(keys, _stratified(source, split, label)))


def seal_split(
    relation: DuckDBRelation,
    source: SourceSpec,
    split: SplitSpec,
    secret: Secret,
    paths: SealPaths,
    *,
    novelty: bool = False,
    recipients: Sequence[str] = (),
    watch: Watcher | None = None,
) -> SealReport:
    """Draw the sample, split it with duplicates and clusters together, write train, dev and sealed test.

    The parts hold the id (text, under its own name), the input columns (every undeclared column if
    `source.inputs` is empty) and all declared columns in their own types; dev also ``fold`` where there are
    folds. Test rows are encrypted as they are read and are never plain on disk. The three files appear only
    when all are complete.

    `recipients` stand in place of the experiment's own key (escrow); `watch` gets the test rows, block by
    block, and the columns that hold their text. The folders of `paths` exist.

    Raises:
        DataError: The source does not fit what is declared, or the split leaves a part empty.
    """
    drawn = draw(relation, source, split, secret.seed, novelty=novelty)
    keys, inputs, label, sample = drawn.keys, drawn.inputs, drawn.label, drawn.sample
    ids = keys.column(source.id)
    compared = [c for c in inputs if c != source.id] or [source.id]
    blocks = (batch.select(compared) for batch in relation.rows(ids, compared))
    clusters = keys.column(source.cluster) if source.cluster else None
    units = units_of(blocks, secret.seed, clusters)
    strata = _stratified(source, split, label)
    done = split_rows(keys, units.codes, split, secret.seed, id_column=source.id, strata=strata)

    columns = list(dict.fromkeys([*inputs, *declared_columns(source, split)]))
    collect = (lambda rows: watch(rows, compared)) if watch else (lambda _: None)
    sealed_to = tuple(recipients) or (secret.recipient,)
    files, sealed = _write(relation, ids, columns, done, paths, sealed_to, collect)
    unmet = [r for r in done.requirements if not r.met]
    return SealReport(
        inputs=inputs,
        counts={name: int((done.parts == part).sum()) for part, name in enumerate(PARTS)},
        slices=by_part(keys, source.slices, done.parts, named=True),
        classes=by_part(keys, [label], done.parts, named=False) if label else None,
        strata=drawn.strata,
        sample=sample.report,
        duplicates=units.report,
        requirements=done.requirements,
        folds=None if done.folds is None else int(done.folds.max()) + 1,
        sha256=files,
        sealed=sealed,
        seed_commitment=seed_commitment(secret.seed),
        asks=(*sample.report.asks, *(_ask(r) for r in unmet)),
    )


def _stratified(source: SourceSpec, split: SplitSpec, label: str | None) -> list[str]:
    return [*source.slices, *split.stratify, *([label] if label else [])]


class SealWriter(PartWriter):
    """Writes sealed rows; they are committed to, and shown to `watch`, block by block."""

    def __init__(
        self,
        path: Path,
        schema: pa.Schema,
        recipients: Sequence[str],
        watch: Callable[[pa.RecordBatch], None],
    ) -> None:
        super().__init__(path, schema, recipients)
        self._recipients, self._watch = list(recipients), watch
        self._salt = secrets.token_bytes(SALT_BYTES)
        self._promise = Commitment(self._salt, schema)

    def write(self, batch: pa.RecordBatch) -> None:
        """Add a block of rows."""
        self._promise.update(batch)
        self._watch(batch)
        super().write(batch)

    def seal(self) -> dict[str, Any]:
        """Complete the file: what a record says of it."""
        return {
            "sha256": self.finish().sha256,
            "commitment": self._promise.hexdigest(),
            "salt": self._salt.hex(),
            "recipients": self._recipients,
        }


def _write(
    relation: DuckDBRelation,
    ids: pa.ChunkedArray,
    columns: Sequence[str],
    split: Split,
    paths: SealPaths,
    recipients: Sequence[str],
    watch: Callable[[pa.RecordBatch], None],
) -> tuple[dict[str, str], dict[str, Any]]:
    """Stream every chosen row once, into the file of its part; the files' hashes, and what is sealed."""
    batches = relation.rows(ids, columns)
    first = next(batches)
    schema, with_folds = first.schema, first.schema
    if split.folds is not None:
        if FOLD in schema.names:
            raise DataError(
                f"the source has a column {FOLD!r}, the name of the dev folds", fix="rename that column"
            )
        with_folds = schema.append(pa.field(FOLD, pa.int8()))
    with (
        PartWriter(paths.train, schema) as train,
        PartWriter(paths.dev, with_folds) as dev,
        SealWriter(paths.test, schema, recipients, watch) as test,
    ):
        at = 0
        for batch in chain([first], batches):
            here = slice(at, at + batch.num_rows)
            rows = [batch.filter(pa.array(split.parts[here] == part)) for part in range(len(PARTS))]
            if split.folds is not None:
                folds = split.folds[here][split.parts[here] == DEV]
                rows[DEV] = rows[DEV].append_column(FOLD, pa.array(folds))
            for writer, chosen in zip((train, dev, test), rows, strict=True):
                writer.write(chosen)
            at += batch.num_rows
        files = {"train": train.finish().sha256, "dev": dev.finish().sha256}
        sealed = test.seal()
    return files | {"test": sealed["sha256"]}, sealed


def by_part(
    keys: pa.Table, columns: Sequence[str], parts: Parts, *, named: bool
) -> dict[str, dict[str, int]]:
    """Rows of every value of every column in each part."""
    counts: dict[str, dict[str, int]] = {}
    for column in columns:
        texts = keys.column(column).fill_null("")
        pairs = (
            pa.table({"value": texts, "part": parts})
            .group_by(["value", "part"])
            .aggregate([([], "count_all")])
        )
        for row in sorted(pairs.to_pylist(), key=lambda r: str(r["value"])):
            name = slice_id(column, row["value"]) if named else row["value"]
            counts.setdefault(name, dict.fromkeys(PARTS, 0))[PARTS[row["part"]]] = row["count_all"]
    return counts


def _strata(keys: pa.Table, columns: Sequence[str]) -> tuple[dict[str, Any], ...]:
    unique = [c for c in dict.fromkeys(columns) if c != COUNT]  # production's counts cannot name it either
    if not unique:
        return ()
    texts = pa.table({c: keys.column(c).fill_null("") for c in unique})
    counted = texts.group_by(unique).aggregate([([], "count_all")]).rename_columns([*unique, COUNT])
    return tuple(counted.sort_by([(c, "ascending") for c in unique]).to_pylist())


def _ask(unmet: RequirementResult) -> Ask:
    return Ask(
        "SG13",
        f"{slice_id(unmet.column, unmet.value)} has {unmet.train} rows in train, {unmet.dev} in dev and "
        f"{unmet.test} in test; {unmet.count} are required in each",
    )
