"""Where an arm wins and loses: groups of dev rows by declared columns, and by the words of their text.

Every group is formed without a look at the scores, so that its interval means what it says. Words are learned
and shown from train rows alone; a dev row is only assigned to the group whose words it shares.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from itera_nb.diagnosis.diffs import KINDS, LOSS, WIN, kind_codes
from itera_nb.exceptions import IteraError
from itera_nb.experiment import Experiment
from itera_nb.ledger import digest
from itera_nb.scoring.evidence import Comparison, Evidence, compare
from itera_nb.scoring.registered import dev_evidence
from itera_nb.scoring.runs import arm_inputs, part_rows
from itera_nb.source.slices import slice_id, text_of
from itera_nb.stats.multiplicity import adjusted_p
from itera_nb.stats.paired import Delta, cluster_codes, paired_delta, row_means

FEWEST_ROWS, MOST_GROUPS = 5, 200
"""Rows that a group needs to be shown, and groups of one column: the largest ones."""
DECILES = 10
FIT_ROWS, MOST_WORDS, MOST_TEXT_GROUPS, TERMS = 20_000, 20_000, 12, 6
UNKNOWN = "words that train does not have"


@dataclass(frozen=True, slots=True)
class Cluster:
    """A group of dev rows of one arm against the baseline.

    Attributes:
        arm: The arm.
        by: "slice", "column", "cluster", "severity", "failure mode" or "text".
        name: What the rows share.
        n: Rows.
        wins: Rows that the arm wins by half a score or more.
        losses: Rows that it loses so.
        effect: Net effect with its 95 % interval, alone and unadjusted; of a failure mode the change of its
            rate over all rows, where `n`, `wins` and `losses` are of the rows on which either side shows it.
        shown: Whether the effect differs from 0 with all groups of this arm looked at (Holm, alpha .05).
    """

    arm: str
    by: str
    name: str
    n: int
    wins: int
    losses: int
    effect: Delta
    shown: bool = False


@dataclass(frozen=True, slots=True)
class Clusters:
    """Every arm's groups; `missing` says why there are none by text, or is empty."""

    found: tuple[Cluster, ...]
    missing: str


@dataclass(frozen=True, slots=True)
class TextGroups:
    """Groups of texts: their distinctive words, and each text's group; the last group knows no word."""

    terms: tuple[tuple[str, ...], ...]
    codes: NDArray[np.intp]


def by_column(
    evidence: Evidence, arm: str, baseline: str, fail_below: float, columns: Mapping[str, Sequence[Any]]
) -> list[Cluster]:
    """Groups of n rows by slices, `columns` (n values each), cluster, deciles of severity and failure mode.

    In that order, groups of fewer than five rows left out, of each column at most the 200 largest.
    """
    sides = _Sides.of(evidence, arm, baseline, fail_below)
    pairs, kept = sides.compared.evidence, evidence.scored(arm, baseline)
    found = []
    for name, mask in pairs.slices.items():
        found += sides.groups("slice", [name], np.where(mask, 0, -1))
    for column, values in columns.items():
        codes, names = pd.factorize(np.asarray(values, dtype=object)[kept])
        found += sides.groups("column", [slice_id(column, value) for value in names], codes)
    if pairs.cluster is not None:
        # One cluster is one entity: within it only its own rows can vary.
        codes, names = pd.factorize(pairs.cluster)
        found += sides.groups("cluster", [f"cluster {value}" for value in names], codes, alone=True)
    if pairs.weights is not None:
        edges = np.unique(np.quantile(pairs.weights, np.linspace(0, 1, DECILES + 1)))
        codes = np.clip(np.searchsorted(edges, pairs.weights, side="right") - 1, 0, max(len(edges) - 2, 0))
        bounds = [f"severity {low:,.4g} to {high:,.4g}" for low, high in pairwise(edges)]
        found += sides.groups("severity", bounds or [f"severity {edges[0]:,.4g}"], codes)
    for mode in pairs.modes.get(arm, {}):
        found.append(sides.mode(mode, baseline))
    return found


def by_text(
    evidence: Evidence, arm: str, baseline: str, fail_below: float, groups: TextGroups
) -> list[Cluster]:
    """Groups of dev rows by their words; `groups.codes` holds the group of each of the evidence's rows."""
    sides = _Sides.of(evidence, arm, baseline, fail_below)
    names = [", ".join(terms) or UNKNOWN for terms in groups.terms]
    return sides.groups("text", names, groups.codes[evidence.scored(arm, baseline)])


def text_groups(train: Sequence[str], texts: Sequence[str], seed: int) -> TextGroups:
    """Learn words and groups from `train`, and assign `texts` to them (TF-IDF and k-means of scikit-learn).

    The number of groups grows with the cube root of the train rows, from 2 to 12. No word is shown or looked
    up that `train` does not have. `seed`: of the starting centres and, above 20,000 train texts, of a sample.

    Raises:
        IteraError: scikit-learn is not installed, or the train texts share no words.
    """
    try:
        from sklearn.cluster import KMeans
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ImportError:
        raise IteraError("groups by text need scikit-learn", fix='pip install "itera-nb[diagnose]"') from None
    sample = list(train)
    if len(sample) > FIT_ROWS:
        chosen = np.random.default_rng(seed).choice(len(sample), FIT_ROWS, replace=False)
        sample = [sample[i] for i in np.sort(chosen)]
    words = TfidfVectorizer(
        max_features=MOST_WORDS, min_df=2, max_df=0.5, sublinear_tf=True, dtype=np.float32
    )
    try:
        known = words.fit_transform(sample)
    except ValueError:  # an empty vocabulary
        raise IteraError(
            f"{len(sample):,} train texts share no words to group rows by", fix="look at the declared columns"
        ) from None
    known = known[known.getnnz(axis=1) > 0]
    count = int(np.clip(round(np.cbrt(known.shape[0])), 2, min(MOST_TEXT_GROUPS, known.shape[0])))
    model = KMeans(count, n_init=4, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer different texts than groups: some stay empty
        model.fit(known)
    apart = model.cluster_centers_ - np.asarray(known.mean(axis=0))
    names = words.get_feature_names_out()
    first = np.argsort(-apart, axis=1, kind="stable")[:, :TERMS]
    terms = [tuple(str(names[i]) for i in at if row[i] > 0) for at, row in zip(first, apart, strict=True)]
    table = words.transform(texts)
    codes = np.asarray(model.predict(table), dtype=np.intp)
    codes[table.getnnz(axis=1) == 0] = count
    return TextGroups((*terms, ()), codes)


@dataclass(frozen=True)
class _Sides:
    """Both sides of one comparison, ready to be summed up by group."""

    compared: Comparison
    graded: bool
    kinds: NDArray[np.int8]
    cluster: NDArray[np.intp] | None

    @classmethod
    def of(cls, evidence: Evidence, arm: str, baseline: str, fail_below: float) -> _Sides:
        compared = compare(evidence, arm, baseline, 0.05)
        pairs = compared.evidence
        kinds = kind_codes(pairs.scores[arm], pairs.scores[baseline], fail_below, pairwise=pairs.pairwise)
        cluster = None if pairs.cluster is None else cluster_codes(pairs.cluster)
        return cls(compared, evidence.graded, kinds, cluster)

    def groups(
        self, by: str, names: Sequence[str], codes: NDArray[Any], *, alone: bool = False
    ) -> list[Cluster]:
        """The largest groups of a column, in the order of their size; a code below 0 is of no group."""
        sizes = np.bincount(codes[codes >= 0], minlength=len(names))
        largest = np.argsort(-sizes, kind="stable")[:MOST_GROUPS]
        order = np.argsort(codes, kind="stable")
        starts = np.searchsorted(codes[order], np.arange(len(names) + 1))
        return [
            self._cluster(by, names[code], order[starts[code] : starts[code + 1]], alone=alone)
            for code in largest
            if sizes[code] >= FEWEST_ROWS
        ]

    def _cluster(self, by: str, name: str, rows: NDArray[np.intp], *, alone: bool) -> Cluster:
        cluster = None if alone or self.cluster is None else self.cluster[rows]
        effect = paired_delta(self.compared.d[rows], cluster, graded=self.graded, binary=self.compared.binary)
        return Cluster(self.compared.arm, by, name, len(rows), *self._counts(rows), effect)

    def mode(self, mode: str, baseline: str) -> Cluster:
        """The change of one failure mode's rate."""
        modes, arm = self.compared.evidence.modes, self.compared.arm
        one, two = (row_means(modes[side][mode]) for side in (arm, baseline))
        shown = np.flatnonzero(one + two > 0)
        effect = paired_delta(one - two, self.cluster, graded=self.graded)
        return Cluster(arm, "failure mode", mode, shown.size, *self._counts(shown), effect)

    def _counts(self, rows: NDArray[np.intp]) -> tuple[int, int]:
        found = np.bincount(self.kinds[rows], minlength=len(KINDS))
        return int(found[KINDS.index(WIN)]), int(found[KINDS.index(LOSS)])


def find_clusters(experiment: Experiment) -> Clusters:
    """Every candidate's groups on dev.

    Declared columns are the slices, the strata and required conditions of the split, the cluster, severity
    and the failure modes. Without scikit-learn, or words that train rows share, there are no groups by text.
    """
    spec, evidence = experiment.spec, dev_evidence(experiment)
    rows = part_rows(experiment, "dev")
    declared = [*spec.split.stratify, *(r.column for r in spec.split.require)]
    columns = {c: [row[c] for row in rows] for c in dict.fromkeys(declared) if c not in spec.source.slices}
    groups, missing = _groups(experiment, rows)
    found = []
    for arm in spec.candidates:
        mine = by_column(evidence, arm, spec.baseline, spec.metric.fail_below, columns)
        if groups is not None:
            mine += by_text(evidence, arm, spec.baseline, spec.metric.fail_below, groups)
        found += with_holm(mine)
    return Clusters(tuple(found), missing)


def _groups(experiment: Experiment, rows: Sequence[Mapping[str, Any]]) -> tuple[TextGroups | None, str]:
    inputs = arm_inputs(experiment)
    train, dev = (
        [" ".join(text_of(row[column]) for column in inputs) for row in part]
        for part in (part_rows(experiment, "train"), rows)
    )
    try:
        return text_groups(train, dev, int(digest([experiment.genesis, "clusters"])[:8], 16)), ""
    except IteraError as error:
        return None, f"{error.what}; {error.fix}"


def with_holm(found: Sequence[Cluster]) -> list[Cluster]:
    """One arm's groups, each told whether its effect is shown although all of them were looked at."""
    p = [min(1.0, 2 * min(c.effect.p_greater(), c.effect.p_less())) for c in found]
    return [replace(c, shown=bool(q < 0.05)) for c, q in zip(found, adjusted_p(p), strict=True)]
