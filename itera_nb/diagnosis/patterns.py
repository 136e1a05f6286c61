"""The four patterns of the method, each with its evidence and what follows from it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from itera_nb.scoring.evidence import Comparison, Evidence, compare
from itera_nb.spec import Spec
from itera_nb.stats import overfit
from itera_nb.stats.decision import effect_text
from itera_nb.stats.noise import rerun_noise
from itera_nb.stats.paired import Delta, cluster_codes, row_means
from itera_nb.stats.slices import slice_deltas

FEWEST_SEEN = 10


@dataclass(frozen=True, slots=True)
class SeenContrast:
    """Effects (fractions) on `rows` read dev rows and on others; `p` one-sided, of more on those read."""

    rows: int
    read: float
    others: float
    p: float


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern of one arm: `found` or not (None: it cannot be tested), the figures, and what follows."""

    arm: str
    name: str
    found: bool | None
    evidence: str
    follows: str


NAMES = {
    "wins on some, loses on others": "refine, or scope the claim",
    "both fail on the same rows": "audit the labels of those rows: exp.labels()",
    "small uniform gain": "more rows or trials before believing it",
    "gain concentrated in rows already read": "expect the test to regress; do not tune further on these rows",
}
"""What follows from each pattern."""


def find_patterns(
    spec: Spec, evidence: Evidence, arm: str, *, alpha: float, revealed: Collection[str]
) -> list[Pattern]:
    """The four patterns of one arm on dev rows, in the order of `NAMES`."""
    compared = compare(evidence, arm, spec.baseline, alpha)
    pairs = compared.evidence
    parts = slice_deltas(
        compared.d,
        pairs.slices,
        pairs.cluster,
        alpha=alpha,
        graded=evidence.graded,
        binary=compared.binary,
    )
    found = (
        _mixed(parts),
        _both_fail(spec, pairs, arm),
        _uniform(pairs, arm, spec.baseline, compared.delta, parts),
        _seen(compared, spec.baseline, revealed),
    )
    return [
        Pattern(arm, name, *said, follows) for (name, follows), said in zip(NAMES.items(), found, strict=True)
    ]


def _mixed(parts: dict[str, Delta]) -> tuple[bool, str]:
    wins = [f"{name} {effect_text(x)}" for name, x in parts.items() if x.low > 0]
    losses = [f"{name} {effect_text(x)}" for name, x in parts.items() if x.high < 0]
    text = f"gains: {', '.join(wins) or 'none shown'}; losses: {', '.join(losses) or 'none shown'}"
    return bool(wins and losses), text


def _both_fail(spec: Spec, evidence: Evidence, arm: str) -> tuple[bool | None, str]:
    if evidence.pairwise:
        return None, "a preference does not say whether an output fails"
    base, other = (row_means(evidence.scores[name]) < spec.metric.fail_below for name in (spec.baseline, arm))
    failed, share = float(base.mean()), float((base & other).mean())
    text = f"{share:.1%} of the rows fail in both; the baseline fails on {failed:.1%}"
    return failed > 0 and share > failed / 2, text


def _uniform(
    evidence: Evidence, arm: str, baseline: str, delta: Delta, parts: dict[str, Delta]
) -> tuple[bool, str]:
    one, two = evidence.scores[arm], evidence.scores[baseline]
    floor = rerun_noise(one, two).se if evidence.repeated(arm, baseline) else 0.0
    apart = any(x.low > delta.estimate or x.high < delta.estimate for x in parts.values())
    small = 0 < delta.estimate < max(2 * floor, delta.estimate - delta.low)
    return small and not apart, f"{effect_text(delta)}; twice the re-run noise is {200 * floor:.1f} pp"


def _seen(compared: Comparison, baseline: str, revealed: Collection[str]) -> tuple[bool | None, str]:
    found = seen_contrast(compared, baseline, revealed)
    if found is None:
        read = len(set(compared.evidence.ids) & set(revealed))
        return None if read else False, f"{read} dev rows were read: too few to compare"
    return found.p < 0.05, f"read rows {100 * found.read:+.1f} pp, others {100 * found.others:+.1f} pp"


def seen_contrast(compared: Comparison, baseline: str, revealed: Collection[str]) -> SeenContrast | None:
    """One arm's effect on the dev rows that were read against the others; None with too few of either.

    People read what fails, and only there is something to gain: the contrast is over the rows on which the
    baseline has less than the full score (of preferences: over all).
    """
    pairs, d = compared.evidence, compared.d
    room = np.ones(d.size, dtype=np.bool_) if pairs.pairwise else row_means(pairs.scores[baseline]) < 1
    d, mask = d[room], np.isin(np.asarray(pairs.ids)[room], list(revealed))
    cluster = None if pairs.cluster is None else cluster_codes(pairs.cluster)[room]
    sides = [(d[side], None if cluster is None else cluster[side]) for side in (mask, ~mask)]
    units = [values.size if labels is None else np.unique(labels).size for values, labels in sides]
    if min(mask.sum(), (~mask).sum()) < FEWEST_SEEN or min(units) < 2:
        return None
    (one, one_cluster), (two, two_cluster) = sides
    p = overfit.welch(one, two, one_cluster, two_cluster).p_one_sided
    return SeenContrast(int(mask.sum()), float(one.mean()), float(two.mean()), p)
