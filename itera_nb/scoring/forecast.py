"""What the whole experiment will probably cost, from one pilot row and the sizes of the train rows' prompts.

Rendering costs nothing, so input tokens are scaled by the rows' own prompts. Output tokens of an arm are
known from one call: they are taken to vary as the baseline's do on train, and never exceed `max_tokens`.
Prices are steady-state: what the first call writes to a prompt cache, later ones read.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scipy.special import stdtrit

from itera_nb.models.checks import unpriced
from itera_nb.models.pricing import price

from .results import CACHE_FIELDS, input_tokens, output_tokens

if TYPE_CHECKING:
    from itera_nb.experiment import Experiment
    from itera_nb.spec import ModelSpec

    from .attempts import Attempt

ROWS = 100
_MANY = 10
_EVEN = 0.5
ONE_CALL = 2.0
"""An arm's cost that is known from one call, without prompt sizes, is right within this factor."""


@dataclass(frozen=True, slots=True)
class Range:
    """USD as an estimate with the ends of its range."""

    usd: float
    low: float
    high: float

    def times(self, factor: float) -> Range:
        """The range of so many."""
        return Range(self.usd * factor, self.low * factor, self.high * factor)

    def plus(self, other: Range) -> Range:
        """Both together, at worst both at their ends."""
        return Range(self.usd + other.usd, self.low + other.low, self.high + other.high)


@dataclass(frozen=True, slots=True)
class Forecast:
    """USD of all calls on train, dev and test, and of one row by all arms in all trials; no iterations."""

    total: Range
    row_usd: float


@dataclass(frozen=True, slots=True)
class Varying:
    """The baseline's calls on train: mean cost of a row in USD, and how its outputs vary.

    `margin` is half the 95 % interval of that mean (USD), `spread` the coefficient of variation of output
    tokens, `ratio` their mean over those of the pilot row.
    """

    usd: float
    margin: float
    spread: float
    ratio: float

    @property
    def row(self) -> Range:
        """USD of one row: the mean with a 95 % t interval over rows."""
        return Range(self.usd, max(self.usd - self.margin, 0.0), self.usd + self.margin)


def varying(costs: Sequence[float], outputs: Sequence[float], at_pilot: float) -> Varying | None:
    """What the baseline's calls on train say; None where a cost is unknown or there are fewer than two rows.

    Args:
        costs: USD of one call on each row, the mean of its trials: trials of a row are not independent.
        outputs: Output tokens of every call.
        at_pilot: Mean output tokens on the pilot row.
    """
    if len(costs) < 2 or any(math.isnan(c) for c in costs):
        return None
    mean = statistics.fmean(outputs)
    spread = statistics.stdev(outputs) / mean if mean else 0.0
    margin = float(stdtrit(len(costs) - 1, 0.975)) * statistics.stdev(costs) / math.sqrt(len(costs))
    return Varying(statistics.fmean(costs), margin, spread, mean / at_pilot if mean and at_pilot else 1.0)


def prompt_range(
    attempt: Attempt,
    sizes: Sequence[int],
    own_size: int,
    max_tokens: int,
    known: Varying | None,
    *,
    batch: bool = False,
    models: Mapping[str, ModelSpec] | None = None,
) -> Range | None:
    """USD of one row of a prompt arm; None where its price is unknown.

    Args:
        attempt: Its call on the pilot row.
        sizes: Characters of its requests on train rows.
        own_size: Those of its request on the pilot row.
        max_tokens: The largest output that it may give.
        known: What the baseline's calls say, if it is a prompt arm too.
        batch: Whether the full run is priced at the vendor's batch rate.
        models: The experiment's `[models]`, for its own prices.
    """
    if attempt.cost_usd is None or not attempt.usage:
        return None
    usage = attempt.usage[-1]
    seen = float(output_tokens(usage))
    if known is None:
        outputs = (seen, seen, max(max_tokens, seen))
    else:
        ends, wide = (min(1.0, known.ratio), max(1.0, known.ratio)), 1 + known.spread
        outputs = (seen * known.ratio, seen * ends[0] / wide, seen * ends[1] * wide)
    mean = statistics.fmean(sizes) / own_size
    se = statistics.stdev(sizes) / own_size / math.sqrt(len(sizes)) if len(sizes) > 1 else 0.0
    inputs = (mean, max(mean - 2 * se, 0.0), mean + 2 * se)
    found = [
        price(scaled_usage(usage, factor, min(tokens, max_tokens), cold=cold, batch=batch), models=models)
        for factor, tokens, cold in zip(inputs, outputs, (False, False, True), strict=True)
    ]
    usd, low, high = (math.nan if p is None else p for p in found)
    return None if math.isnan(usd + low + high) else Range(usd, low, high)


def one_call_range(cost_usd: float) -> Range:
    """USD of one row of an arm of which one call is known, and nothing of what moves its price."""
    return Range(cost_usd, cost_usd / ONE_CALL, cost_usd * ONE_CALL)


def call_range(costs: Sequence[float]) -> Range | None:
    """USD of one call of the judge, from those that were made; None where none was, or a price is unknown."""
    if not costs or any(math.isnan(c) for c in costs):
        return None
    mean = statistics.fmean(costs)
    if len(costs) < _MANY:
        return one_call_range(mean)
    return Range(mean, min(costs), max(costs))


def judged_range(call: Range, trials: Sequence[int], *, pairwise: bool, fresh: float | None) -> Range:
    """USD that a judge costs for one row: equal questions are one call, and nobody knows yet how many are.

    At the low end all outputs of a row are equal (one question, or none where two are compared), at the high
    end none. Between lie, for trials of an arm, `fresh`, and for different arms one half.

    Args:
        call: USD of one call.
        trials: Trials of each arm, the baseline's first.
        pairwise: Whether the others' outputs are compared with the baseline's, in both orders.
        fresh: The share of the baseline's repeated outputs on train that said something new; None if unknown.
    """
    new = _EVEN if fresh is None else fresh
    if pairwise:
        new = 1 - (1 - new) ** 2  # one of the two outputs says something new
        most = 2.0 * sum(trials[1:])
        return Range(call.usd * 2 * _EVEN * sum(1 + new * (n - 1) for n in trials[1:]), 0.0, call.high * most)
    first, *others = (1 + new * (n - 1) for n in trials)
    return Range(call.usd * (first + _EVEN * sum(others)), call.low, call.high * sum(trials))


def crosses_budget(experiment: Experiment) -> dict[str, float] | None:
    """The pilot's forecast where it may cross the registered budget, and nobody has accepted that."""
    pilot, budget = experiment.state.last("pilot_passed"), experiment.spec.run.budget_usd
    forecast: dict[str, float] | None = pilot.body["forecast"] if pilot else None
    if forecast is None or budget is None or forecast["high"] <= budget:
        return None
    return forecast if experiment.state.answer("budget") is None else None


def require_budget(experiment: Experiment) -> None:
    """Ask before the full run where its upper end crosses the registered budget.

    Raises:
        Refusal: Nobody has accepted that yet.
    """
    if forecast := crosses_budget(experiment):
        experiment.ask(
            "budget",
            f"the experiment may cost ${forecast['high']:,.2f} (about ${forecast['usd']:,.2f}), "
            f"more than budget_usd = {experiment.spec.run.budget_usd:g}.",
            "a run that stops at its budget has paid for rows that decide nothing; this answer is for train "
            "and dev: you are asked again before the test set opens, if dev's prices say so.",
        )


def require_prices(experiment: Experiment) -> None:
    """Ask before the first paid call where a budget is registered and a model's price is unknown.

    Raises:
        Refusal: Nobody has accepted that yet.
    """
    if experiment.spec.run.budget_usd is None:
        return
    if found := unpriced(experiment.spec):
        named = "; ".join(f"{model} ({', '.join(users)})" for model, users in found.items())
        experiment.ask(
            "budget",
            f"there is no price of {named}: budget_usd = {experiment.spec.run.budget_usd:g} cannot stop it.",
            "calls of unknown price are counted and never added up.",
            remedy="give its prices in prices.toml",
        )


def scaled_usage(
    usage: Mapping[str, Any], factor: float, outputs: float, *, cold: bool, batch: bool
) -> dict[str, Any]:
    """A call's usage with `factor` times its input; the cached part stays, read or (`cold`) written."""
    kept = {k: v for k, v in usage.items() if k in {"model", "speed", "service_tier", "inference_geo"}}
    if batch:
        kept["service_tier"] = "batch"
    total, tokens = round(factor * input_tokens(usage)), max(round(outputs), 1)
    if "prompt_tokens" in usage:
        return kept | {"prompt_tokens": total, "completion_tokens": tokens}
    cached = min(sum(int(usage.get(name) or 0) for name in CACHE_FIELDS), total)
    wrote = cold and bool(usage.get(CACHE_FIELDS[0]))
    cache = {CACHE_FIELDS[0] if wrote else CACHE_FIELDS[1]: cached} if cached else {}
    return kept | {"input_tokens": total - cached, "output_tokens": tokens} | cache
