"""`data.json` as typed values. A key that is missing or of the wrong type is named, with its path."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from itera_nb.exceptions import DataError
from itera_nb.report.wording import clean, level, percent, points, threshold


@dataclass(frozen=True, slots=True)
class Node:
    """A table of `data.json` and where it stands; text comes out cleaned (`wording.clean`)."""

    value: Mapping[str, Any]
    path: str = ""

    def at(self, key: str) -> str:
        """The path of `key`."""
        return f"{self.path}.{key}" if self.path else key

    def has(self, key: str) -> bool:
        """Whether `key` is there and not null."""
        return self.value.get(key) is not None

    def node(self, key: str, *, required: bool = True) -> Node:
        """The table under `key`; where it is not required, an absent one is empty."""
        found = self._get(key, dict, "a table") if required or self.has(key) else {}
        return Node(found, self.at(key))

    def nodes(self, key: str, *, required: bool = True) -> list[Node]:
        """The list of tables under `key`; where it is not required, an absent one is empty."""
        found = self._get(key, list, "a list of tables") if required or self.has(key) else []
        for i, item in enumerate(found):
            if not isinstance(item, dict):
                raise _wrong(f"{self.at(key)}[{i}]", "a table", item)
        return [Node(item, f"{self.at(key)}[{i}]") for i, item in enumerate(found)]

    def text(self, key: str, default: str | None = None) -> str:
        """The text under `key`; `default` stands in for an absent one."""
        if default is not None and not self.has(key):
            return default
        return clean(self._get(key, str, "text"))

    def texts(self, key: str, *, required: bool = True) -> list[str]:
        """The list of texts under `key`; where it is not required, an absent one is empty."""
        found = self._get(key, list, "a list of texts") if required or self.has(key) else []
        for i, item in enumerate(found):
            if not isinstance(item, str):
                raise _wrong(f"{self.at(key)}[{i}]", "text", item)
        return [clean(item) for item in found]

    def number(self, key: str) -> float:
        """The finite number under `key`."""
        return _number(self._get(key, object, "a number"), self.at(key))

    def optional(self, key: str) -> float | None:
        """The finite number under `key`, or None."""
        return self.number(key) if self.has(key) else None

    def numbers(self, key: str) -> list[float]:
        """The list of finite numbers under `key`."""
        found = self._get(key, list, "a list of numbers")
        return [_number(item, f"{self.at(key)}[{i}]") for i, item in enumerate(found)]

    def flag(self, key: str) -> bool:
        """The truth value under `key`, false where it is absent."""
        return bool(self._get(key, bool, "true or false")) if self.has(key) else False

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of this table."""
        return tuple(self.value)

    def _get(self, key: str, kind: type, expected: str) -> Any:
        if key not in self.value:
            raise DataError(f"data.json: {self.at(key)} is missing", fix=f"expected {expected}")
        if not isinstance(self.value[key], kind):
            raise _wrong(self.at(key), expected, self.value[key])
        return self.value[key]


def _number(value: object, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _wrong(path, "a finite number", value)
    return float(value)


def _wrong(path: str, expected: str, got: object) -> DataError:
    shown = got if isinstance(got, bool | int | float | None) else type(got).__name__
    return DataError(f"data.json: {path}: expected {expected}, got {shown}", fix=f"correct {path}")


@dataclass(frozen=True, slots=True)
class Effect:
    """A difference to the baseline with its interval (fractions)."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Arm:
    """One arm: its measured cost and latency, and its scores on the sealed rows (fractions)."""

    id: str
    name: str
    baseline: bool
    control: bool
    cost: float | None
    p50: float | None
    p95: float | None
    score: float
    trials: tuple[float, ...]
    cost_bounds: tuple[float, float] | None
    effect: Effect | None
    slices: dict[str, Effect]
    harmed: frozenset[str]


@dataclass(frozen=True, slots=True)
class Slice:
    """A registered part of the rows; `n` sealed rows where the file says so."""

    id: str
    name: str
    n: int | None


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares of an arm's comparisons with the baseline (fractions); what is left of 1 has no answer."""

    won: float
    tied: float
    lost: float


@dataclass(frozen=True, slots=True)
class Results:
    """What the published schema holds, checked. Effects and scores are fractions."""

    question: str
    metric: str
    min_effect: float  # negative where the rule asks for "no worse than": the loss that is allowed
    max_slice_loss: float | None
    confidence: str
    n: int
    arms: tuple[Arm, ...]
    slices: tuple[Slice, ...]
    dev: dict[str, tuple[float, ...]]
    head: str
    banner: str
    preference: dict[str, Shares]

    @property
    def baseline(self) -> Arm:
        """The arm that all others are compared with."""
        return next(arm for arm in self.arms if arm.baseline)

    @property
    def candidates(self) -> tuple[Arm, ...]:
        """The arms that could ship."""
        return tuple(arm for arm in self.arms if arm.effect and not arm.baseline and not arm.control)

    @property
    def lead(self) -> Arm | None:
        """The candidate that the page speaks of: the verdict's, else the one with the largest effect."""
        named = [arm for arm in self.candidates if arm.id == self.banner]
        return max(
            named or self.candidates, key=lambda arm: arm.effect.estimate if arm.effect else 0.0, default=None
        )

    @property
    def needed(self) -> float:
        """The score that a candidate had to reach."""
        return self.baseline.score + self.min_effect

    @property
    def asked(self) -> str:
        """What the rule asks of the effect: "needed +5", or "allowed -3" where it asks for no worse."""
        return f"{'needed' if self.min_effect >= 0 else 'allowed'} {threshold(self.min_effect)}"

    @property
    def billed(self) -> bool:
        """Whether any arm is known to cost something."""
        return any(arm.cost for arm in self.arms)

    @property
    def timed(self) -> bool:
        """Whether any arm's p95 latency is known."""
        return any(arm.p95 is not None for arm in self.arms)

    @property
    def graded(self) -> bool:
        """Whether the metric is a graded measure (nDCG, MRR, MAP) rather than a share of rows."""
        return self.metric.lower().startswith(("ndcg", "mrr", "map"))

    def score(self, value: float) -> str:
        """A score as its readers write it: "72.3 %", "0.537" if graded, "+8.6" for a preference."""
        if self.preference:
            return points(value)
        return f"{value:.3f}" if self.graded else percent(value)

    def named(self, slice_id: str) -> str:
        """The name of a slice."""
        return next((s.name for s in self.slices if s.id == slice_id), slice_id)


def read(data: Mapping[str, Any]) -> Results:
    """Check the published part of `data.json`; the `itera` part may be absent.

    Raises:
        DataError: A published key is missing, of the wrong type, or names an arm or slice that is not there.
    """
    if not isinstance(data, Mapping):
        raise _wrong("the file", "a table", data)
    root = Node(data)
    experiment, itera = root.node("experiment"), root.node("itera", required=False)
    for key in ("name", "question", "threshold_rule"):
        experiment.text(key)
    experiment.number("trials_per_arm")
    _check_rest(root)
    slices = tuple(Slice(s.text("id"), s.text("name"), _whole(s.optional("n"))) for s in root.nodes("slices"))
    rule = itera.node("rule", required=False)
    alpha = rule.optional("alpha")
    margin = rule.optional("margin") if rule.text("goal", "better") == "no_worse" else None
    return Results(
        question=experiment.text("question"),
        metric=experiment.text("metric"),
        min_effect=experiment.number("threshold_pct") / 100 if margin is None else -margin,
        max_slice_loss=rule.optional("max_slice_loss"),
        confidence=level(0.05 if alpha is None else alpha),
        n=int(experiment.number("test_set_n")),
        arms=_arms(root, itera, {s.id for s in slices}),
        slices=slices,
        dev=_dev(itera),
        head=itera.node("record", required=False).text("head", ""),
        banner=itera.text("arm", ""),
        preference=_preference(itera),
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _check_rest(root: Node) -> None:
    """Published keys that no chart draws; a file without them is not what it claims to be."""
    verdict, modes = root.node("verdict"), root.node("failure_modes")
    verdict.texts("killed")
    verdict.text("winner", "")
    verdict.text("rationale")
    for category in modes.nodes("categories"):
        category.text("id")
        category.number("severity_weight")
    modes.node("test_set_counts")
    if root.has("severity"):
        root.node("severity").node("test_set_weighted_accuracy")


def _arms(root: Node, itera: Node, slice_ids: set[str]) -> tuple[Arm, ...]:
    nodes, effects = root.nodes("arms"), root.node("effect_sizes")
    ids = [node.text("id") for node in nodes]
    if not ids:
        raise DataError("data.json: arms is empty", fix="expected a baseline and at least one arm")
    for key in effects.keys:
        if clean(key) not in ids:
            raise DataError(
                f"data.json: effect_sizes.{clean(key)}: no such arm", fix=f"arms: {', '.join(ids)}"
            )
    if len(set(ids)) < len(ids):
        raise DataError(
            f"data.json: arms: an id stands twice ({', '.join(ids)})", fix="give each arm its own id"
        )
    flagged = [node.text("id") for node in nodes if node.flag("baseline")]
    without = [i for i in ids if i not in map(clean, effects.keys)]
    baseline = (flagged or without or ids)[0]
    harmed, costs = _harmed(itera), _cost_bounds(itera)
    return tuple(_arm(root, node, effects, baseline, slice_ids, harmed, costs) for node in nodes)


def _arm(
    root: Node,
    node: Node,
    effects: Node,
    baseline: str,
    slice_ids: set[str],
    harmed: dict[str, frozenset[str]],
    costs: dict[str, tuple[float, float]],
) -> Arm:
    raw, arm = node.value["id"], node.text("id")
    per_slice: dict[str, Effect] = {}
    aggregate: Effect | None = None
    if effects.has(raw) and arm != baseline:
        aggregate = _effect(effects.node(raw).node("aggregate"))
        table = effects.node(raw).node("per_slice")
        for key in table.keys:
            if clean(key) not in slice_ids:
                raise DataError(f"data.json: {table.at(clean(key))}: no such slice", fix="add it to slices")
            if effect := _effect(table.node(key)):
                per_slice[clean(key)] = effect
    shown = frozenset(s for s, e in per_slice.items() if e.high < 0)
    trials = root.node("variance_trials")
    root.node("test_set_per_slice").node(raw)
    return Arm(
        id=arm,
        name=node.text("name"),
        baseline=arm == baseline,
        control=node.flag("negative_control"),
        cost=node.optional("cost_per_1k_usd"),
        p50=node.optional("latency_p50_ms"),
        p95=node.optional("latency_p95_ms"),
        score=root.node("test_set_aggregate").number(raw),
        trials=tuple(trials.numbers(raw)),
        cost_bounds=costs.get(arm),
        effect=aggregate,
        slices=per_slice,
        harmed=harmed.get(arm, shown),
    )


def _effect(node: Node) -> Effect | None:
    """An effect; none where a figure is null: too few rows for an interval."""
    keys = ("delta", "ci_low", "ci_high")
    found = [node.optional(k) if k in node.value else node.number(k) for k in keys]
    delta, low, high = found
    return None if delta is None or low is None or high is None else Effect(delta, low, high)


def _harmed(itera: Node) -> dict[str, frozenset[str]]:
    """The slices that the verdict flagged, per arm."""
    return {
        record.text("arm"): frozenset(
            s.text("id")
            for s in record.nodes("slices")
            if s.has("regression") or s.text("level") == "flagged"
        )
        for record in itera.nodes("records", required=False)
    }


def _cost_bounds(itera: Node) -> dict[str, tuple[float, float]]:
    """Per arm, the interval of its cost difference to the baseline, USD per 1,000 rows."""
    found = {}
    for record in itera.nodes("records", required=False):
        low, high = (record.node("cost").optional(f"{end}_per_1k_usd") for end in ("low", "high"))
        if low is not None and high is not None:
            found[record.text("arm")] = (low, high)
    return found


def _preference(itera: Node) -> dict[str, Shares]:
    """Wins, ties and losses of each candidate; empty where scores are no preferences."""
    table = itera.node("preference", required=False)
    found = {clean(arm): table.node(arm) for arm in table.keys}
    return {arm: Shares(x.number("won"), x.number("tied"), x.number("lost")) for arm, x in found.items()}


def _dev(itera: Node) -> dict[str, tuple[float, ...]]:
    if not itera.has("dev"):
        return {}
    trials = itera.node("dev").node("trials")
    return {clean(arm): tuple(scores) for arm in trials.keys if (scores := trials.numbers(arm))}
