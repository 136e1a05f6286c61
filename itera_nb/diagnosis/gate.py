"""The generalisation gate: what a change did on rows that contain what it added, and on the others."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itera_nb.diagnosis.conditions import Condition
from itera_nb.protocol import MAX_SPRINTS
from itera_nb.scoring.evidence import Comparison, Evidence, compare
from itera_nb.stats import overfit
from itera_nb.stats.decision import effect_text
from itera_nb.stats.paired import Delta, Floats, cluster_codes, paired_delta, row_means

UNIVERSAL, HARDCODE, CANT_TELL = CLASSES = ("universal", "hardcode", "cant_tell")
KEEP, UPGRADE, LIFT_OUT, DELETE = ACTIONS = ("keep", "upgrade", "lift_out", "delete")
NEXT_SPRINT, LOCK, KILL = "next sprint", "lock", "kill"
SUSPECTED = "hardcode suspected"
SHOWN = 5
FEWEST_DROPPED = 2
BITS_A_CHARACTER = 6
"""Of printed data, as in base64."""


@dataclass(frozen=True, slots=True)
class Figure:
    """An effect on n rows (fraction) and its interval."""

    n: int
    estimate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class GateEvidence:
    """What was measured of one change against what it was built on, on dev; effects are fractions.

    Attributes:
        literals: What the change added and what tells rows apart.
        touched: Dev rows that contain one of them.
        verdict: "hardcode suspected", "survives", "unclear" or "not testable", from the rows touched.
        top_cluster_share: Share of the gain held by the cluster (else slice) that gains most, or None.
        effect: On all dev rows.
        unseen: On the dev rows whose text nobody was shown.
        without_top: Effect without the cluster or slice that gains most, or None.
        conditions: Conditions on literals that the change added, in words.
        proposed: The class that these figures suggest; a person or a judge decides.
        why: The reasons for it.
    """

    literals: list[str]
    touched: int
    effect_touched: float | None
    effect_untouched: float | None
    verdict: str
    top_cluster_share: float | None
    sentence: str
    effect: Figure
    unseen: Figure | None
    without_top: float | None
    conditions: list[str]
    proposed: str
    why: list[str]


def measure(
    evidence: Evidence,
    arm: str,
    parent: str,
    touched: NDArray[np.bool_],
    literals: Sequence[str],
    conditions: Sequence[Condition] = (),
    revealed: Collection[str] = (),
    hidden: int = 0,
) -> GateEvidence:
    """The gate's figures for one change.

    Args:
        evidence: Dev scores.
        arm: The change's id.
        parent: What it is measured against.
        touched: n-mask of the rows that contain what it added.
        literals: What it added.
        conditions: Conditions on literals that it added.
        revealed: Ids of the rows that a person had read before the change was scored.
        hidden: Characters of the numbers that it added, and of the codes that no row contains.
    """
    compared = compare(evidence, arm, parent, 0.05)
    pairs, d, graded = compared.evidence, compared.d, evidence.graded
    touched = touched[evidence.scored(arm, parent)]
    seen = np.isin(np.asarray(pairs.ids), list(revealed))
    found = overfit.touched_gate(d, touched, pairs.cluster, graded=graded)
    # People read what fails, and only there is something to gain: read rows are compared with their like.
    room = np.ones(d.size, dtype=np.bool_) if pairs.pairwise else row_means(pairs.scores[parent]) < 1
    own = None if pairs.cluster is None else cluster_codes(pairs.cluster)
    read = overfit.touched_gate(d[room], seen[room], None if own is None else own[room], graded=graded)
    top = _top_group(compared)
    unseen: Delta | None = compared.delta
    if seen.any():
        unread = None if own is None else own[~seen]
        unseen = None if seen.all() else paired_delta(d[~seen], unread, graded=graded)
    against = ["contain what it added"] if _stands_on(found, d, touched) else []
    against += ["were read"] if _stands_on(read, d[room], seen[room]) else []
    doubts = list(_doubts(compared.delta, found, top, bool(conditions)))
    if not doubts and BITS_A_CHARACTER * hidden >= _bits_to_name(d):
        doubts = ["the numbers and codes that it added suffice to name the rows that it wins"]
    class_, why = _propose(against, doubts)
    return GateEvidence(
        list(literals),
        int(touched.sum()),
        found.touched.estimate if found.touched else None,
        found.untouched.estimate if found.untouched else None,
        found.verdict,
        top.share if top else None,
        "; ".join(_sentence(literals, touched, found, unseen, int(seen.sum()), top, conditions)),
        _figure(compared.delta),
        _figure(unseen) if unseen else None,
        top.without if top else None,
        [str(condition) for condition in conditions],
        class_,
        why,
    )


def _bits_to_name(d: NDArray[np.float64]) -> float:
    """Bits that tell the rows that gain from any other choice of as many: log2 of n over k."""
    n, k = d.size, int((d > 0).sum())
    return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(2)


def _figure(delta: Delta) -> Figure:
    return Figure(delta.n, delta.estimate, delta.low, delta.high)


@dataclass(frozen=True, slots=True)
class _Top:
    """The cluster or slice that gains most: its share of the gain, the effect without it (fractions)."""

    name: str
    share: float
    without: float
    carried: bool


def _top_group(compared: Comparison) -> _Top | None:
    """By the declared cluster, else by each slice column; one that carries the gain comes first."""
    d, total, tops = compared.d, float(compared.d.sum()), []
    for name, labels in _groupings(compared.evidence):
        if total <= 0 or np.unique(labels).size < 2:
            continue
        found = overfit.cluster_gate(d, labels)
        share, rows = found.top_gain_share or 0.0, found.top_row_share
        lost = not found.passed and name == "cluster"
        without = total * (1 - share) / (d.size * (1 - rows))
        tops.append(_Top(name, share, without, lost or (share > 0.5 and rows < 0.2)))
    return max(tops, key=lambda top: (top.carried, top.share), default=None)


def _groupings(evidence: Evidence) -> Iterator[tuple[str, NDArray[Any]]]:
    if evidence.cluster is not None:
        yield "cluster", evidence.cluster
        return
    labels: dict[str, NDArray[np.intp]] = {}
    for number, (name, members) in enumerate(evidence.slices.items(), start=1):
        column = name.partition("=")[0]
        labels.setdefault(column, np.zeros(members.size, dtype=np.intp))[members] = number
    yield from labels.items()


def _sentence(
    literals: Sequence[str],
    touched: NDArray[np.bool_],
    found: overfit.TouchedGate,
    unseen: Delta | None,
    seen: int,
    top: _Top | None,
    conditions: Sequence[Condition],
) -> Iterator[str]:
    yield f"added literals: {_few([repr(x) for x in literals])}"
    yield f"{int(touched.sum())} of {touched.size} dev rows contain one"
    if found.touched is not None:
        yield f"gain {effect_text(found.touched)} on those"
    if found.untouched is not None:
        yield f"{effect_text(found.untouched)} on the others"
    if top is not None:
        yield f"{100 * top.without:+.1f} pp without the {top.name} that gains most"
    if seen and unseen is not None:
        yield f"{effect_text(unseen)} on the {unseen.n} rows that nobody read"
    if conditions:
        yield f"conditions on literals: {_few([str(c) for c in conditions])}"


def _few(words: Sequence[str]) -> str:
    more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return (", ".join(words[:SHOWN]) or "none") + more


def _propose(against: list[str], doubts: list[str]) -> tuple[str, list[str]]:
    """The class that the figures suggest, and why; universal only where nothing speaks against it."""
    if against:
        return HARDCODE, [f"the gain stands on the rows that {where}" for where in against]
    if doubts:
        return CANT_TELL, doubts
    return UNIVERSAL, ["the gain is shown on rows that do not contain what it added"]


def _stands_on(found: overfit.TouchedGate, d: Floats, mask: NDArray[np.bool_]) -> bool:
    """Whether the gain stands on the rows of a mask; too few to be tested, by an exact count of wins."""
    if found.verdict == "not testable":
        return overfit.concentrated(d, mask)
    return found.verdict == SUSPECTED


def _doubts(whole: Delta, found: overfit.TouchedGate, top: _Top | None, conditional: bool) -> Iterator[str]:
    """What speaks against a universal mechanism without showing a hardcode."""
    outside = found.untouched if found.touched else whole
    if outside is None or outside.low <= 0:
        yield "no gain is shown on rows that do not contain what it added"
    elif found.p_one_sided is not None and found.p_one_sided < 0.05 and conditional:
        yield "it decides by literals and gains more on the rows that contain them: two changes in one"
    if top is not None and top.carried:
        yield f"one {top.name} carries the gain"


def decide(class_: str, action: str, measured: GateEvidence, evidence: str | None) -> bool:
    """Whether a change may be locked: a universal mechanism, with its reason where the figures object.

    Raises:
        ValueError: If a change is called universal against the figures without a written reason, or a
            hardcode is to be kept.
    """
    if class_ not in CLASSES or action not in ACTIONS:
        raise ValueError(f"a class is one of {', '.join(CLASSES)}; an action one of {', '.join(ACTIONS)}")
    if class_ != UNIVERSAL and action == KEEP:
        raise ValueError(f"a change classed {class_} is upgraded, lifted out or deleted, not kept")
    if against_the_figures(class_, measured) and not (evidence or "").strip():
        raise ValueError("a change called universal against the measured evidence needs a written reason")
    return class_ == UNIVERSAL and action == KEEP


def against_the_figures(class_: str | None, measured: GateEvidence) -> bool:
    """Whether a change is called universal although the figures suggest a hardcode."""
    return class_ == UNIVERSAL and (measured.proposed == HARDCODE or measured.verdict == SUSPECTED)


@dataclass(frozen=True, slots=True)
class Saturation:
    """What is left to explain on n dev rows: those that an arm fails on and whose label is right.

    `saturated`: winning every `explainable` one would gain less than the smallest effect worth acting on.
    """

    n: int
    failing: int
    explainable: int
    saturated: bool


def saturation(
    evidence: Evidence, arm: str, *, fail_below: float, smallest: float, excused: Collection[str] = ()
) -> Saturation | None:
    """What an arm's dev failures (scores below `fail_below`) leave to explain; None for preferences.

    `smallest` is the effect worth acting on (fraction), `excused` are ids of rows whose label is not right.
    """
    if evidence.pairwise:
        return None
    means = row_means(evidence.scores[arm])
    failing = means < fail_below
    left = failing & ~np.isin(np.asarray(evidence.ids), list(excused))
    room = float((1 - means[left]).sum()) / len(evidence.ids)
    return Saturation(len(evidence.ids), int(failing.sum()), int(left.sum()), room < smallest)


@dataclass(frozen=True, slots=True)
class LineOutcome:
    """What follows for one arm's line: "next sprint", "lock" or "kill", and why."""

    arm: str
    outcome: str
    why: str


def line_outcome(
    arm: str, actions: Sequence[str], sprint: int, left: Saturation | None, *, new: int
) -> LineOutcome:
    """What gate number `sprint` leaves of a registered arm's line.

    `actions` were taken on the line's changes in all its gates, oldest first; the last `new` in this one.
    """
    dropped = sum(action in {DELETE, LIFT_OUT} for action in actions)
    if dropped >= FEWEST_DROPPED and 2 * dropped > len(actions):
        return LineOutcome(arm, KILL, f"{dropped} of {len(actions)} changes were hardcodes")
    if sprint >= MAX_SPRINTS:
        return LineOutcome(arm, LOCK, f"{sprint} sprints are over")
    if left is not None and left.saturated:
        why = f"saturated: {left.explainable} of {left.n} dev rows are left to explain, too few to matter"
        return LineOutcome(arm, LOCK, why)
    if not {KEEP, UPGRADE} & set(actions[len(actions) - new :]):
        return LineOutcome(arm, LOCK, "no change of this sprint goes on")
    why = "failures are left to explain"
    return LineOutcome(arm, NEXT_SPRINT, why if left is None else f"{left.explainable} of {left.n} {why}")
