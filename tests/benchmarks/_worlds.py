"""Simulated experiments with a known truth, and the output that the benchmarks of the statistics share.

The data model is written out in docs/statistics.md, "How the simulations are made". It is built here from row
outcomes, apart from `itera_nb.stats.simulate`, so that the two can be compared.
"""

import json
import math
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import special

from itera_nb.stats.decision import Rule, decide
from itera_nb.stats.paired import paired_delta
from itera_nb.stats.slices import judge_slices, scope, slice_deltas

DOCS = Path(__file__).parents[2] / "docs"
_FLOOR = 1e-12


@dataclass(frozen=True, slots=True)
class World:
    """One kind of experiment; `effects` holds the true effect of each of its equally large slices.

    `common` is what rows of a cluster share: "outcomes" or "kinds" (see `draw`).
    """

    rows: int
    discordance: float
    effects: tuple[float, ...] = (0.0,)
    trials: int = 1
    cluster_size: int = 1
    icc: float = 0.2
    common: str = "outcomes"

    @property
    def slice_of_row(self):
        """Slice number of every row: contiguous blocks, so that clusters lie within a slice."""
        return np.arange(self.rows) * len(self.effects) // self.rows

    @property
    def truth(self):
        """The true effect over all rows."""
        return float(np.asarray(self.effects)[self.slice_of_row].mean())

    @property
    def cluster(self):
        """Cluster label of every row, or None."""
        return np.arange(self.rows) // self.cluster_size if self.cluster_size > 1 else None

    @property
    def unstable(self):
        """Share of rows on which both arms succeed with a common chance; a third of them differ in a run."""
        return float(np.interp(self.discordance, [0, 0.05, 0.15, 0.30], [0, 0.05, 0.20, 0.40]))


@dataclass(frozen=True, slots=True)
class Scores:
    """0/1 scores: `base` draws x rows x trials, `arms` draws x arms x rows x trials."""

    base: np.ndarray
    arms: np.ndarray

    def differences(self, arm=0):
        """Row-mean differences of one arm, draws x rows; equal means give exactly 0."""
        trials = self.base.shape[2]
        assert trials == self.arms.shape[3]
        return (self.arms[:, arm].sum(2, dtype=np.int16) - self.base.sum(2, dtype=np.int16)) / trials


def draw(world, draws, rng, *, arms=1, base_trials=None):
    """Scores of `draws` experiments; several arms share the baseline and are independent given it.

    With clusters a row is its cluster's common row with chance sqrt(ICC). What is then common is either the
    outcomes, so that the differences of two rows of a cluster correlate with exactly the ICC, or only the
    kind of row, so that re-run noise stays the row's own and the correlation is a little lower.
    """
    base_trials = base_trials or world.trials
    effects = np.asarray(world.effects, dtype=np.float32)[world.slice_of_row]
    kinds = _kinds(world, effects, draws, rng, arms)
    if world.cluster_size > 1:
        first = np.arange(0, world.rows, world.cluster_size)
        common = _kinds(world, effects[first], draws, rng, arms)
        shared = rng.random((draws, world.rows), dtype=np.float32) < math.sqrt(world.icc)
        if world.common == "kinds":
            kinds = _Kinds(
                *(_mix(shared, getattr(common, x), getattr(kinds, x), world) for x in _Kinds.__slots__)
            )
    outcomes = _outcomes(kinds, base_trials, world.trials, rng)
    if world.cluster_size > 1 and world.common == "outcomes":
        outcomes = _mix(shared, _outcomes(common, base_trials, world.trials, rng), outcomes, world)
    base, rest = outcomes[:, :, :base_trials], outcomes[:, :, base_trials:]
    rest = rest.reshape(draws, world.rows, arms, world.trials).transpose(0, 2, 1, 3)
    return Scores(base, rest)


@dataclass(frozen=True, slots=True)
class _Kinds:
    """What a row is, before any run: stable outcomes of the baseline and each arm, or a common chance."""

    unstable: np.ndarray
    chance: np.ndarray
    fixed: np.ndarray
    flips: np.ndarray


def _mix(shared, common, own, world):
    mask = shared if own.ndim == 2 else shared[:, :, None]
    return np.where(mask, common[:, world.cluster], own)


def _kinds(world, effects, draws, rng, arms):
    u = world.unstable
    stable = np.maximum(world.discordance - u / 3, np.abs(effects))
    gain, loss, both = (stable + effects) / 2, (stable - effects) / 2, 1 - u - stable
    right, wrong = loss + 0.7 * both, gain + 0.3 * both  # the baseline's stable outcome
    shape = (draws, effects.size)

    def random(*more):
        return rng.random((*shape, *more), dtype=np.float32)

    fixed = random() < right / (right + wrong)
    flips = random(arms) < np.where(fixed, loss / right, gain / wrong)[:, :, None]
    return _Kinds(random() < u, random(), fixed, flips)


def _outcomes(kinds, base_trials, trials, rng):
    """Outcomes of independent runs: draws x rows x (baseline trials, then the trials of every arm)."""
    stable = np.concatenate([kinds.fixed[:, :, None], kinds.fixed[:, :, None] ^ kinds.flips], axis=2)
    out = np.repeat(stable, [base_trials, *(trials,) * kinds.flips.shape[2]], axis=2)
    where = np.nonzero(kinds.unstable)
    again = rng.random((where[0].size, out.shape[2]), dtype=np.float32)
    out[where] = again < kinds.chance[where][:, None]
    return out


def verdict(d, slice_of_row, rule, *, cluster=None, binary=False, saving=None):
    """Outcome of one arm by the functions that the verdict uses: aggregate, then slices for a pass."""
    decision = decide(paired_delta(d, cluster, alpha=rule.alpha, binary=binary), rule, reason_to_ship=saving)
    if decision.outcome != "pass":
        return decision.outcome
    members = {str(s): slice_of_row == s for s in range(int(slice_of_row.max()) + 1)}
    judged = judge_slices(slice_deltas(d, members, cluster, alpha=rule.alpha, binary=binary))
    found = scope(d, members, judged, rule, cluster, binary=binary, reason_to_ship=saving)
    return found.outcome


def outcomes(world, draws, rng, rule=None, *, more_rows=0, saving=None):
    """Share of each outcome over `draws` experiments; `more_rows` is a top-up after an inconclusive look."""
    rule = rule or Rule()
    extra = replace(world, rows=more_rows) if more_rows else None
    found = Counter()
    for size in blocks(draws, world.rows + more_rows, world.trials):
        first = draw(world, size, rng).differences()
        second = draw(extra, size, rng).differences() if extra else None
        for i, d in enumerate(first):
            options = {"cluster": world.cluster, "binary": world.trials == 1, "saving": saving}
            outcome = verdict(d, world.slice_of_row, rule, **options)
            if extra and outcome == "inconclusive":
                rows = np.concatenate([world.slice_of_row, extra.slice_of_row])
                if world.cluster is not None:
                    options["cluster"] = np.concatenate([world.cluster, extra.cluster + world.rows])
                outcome = verdict(np.concatenate([d, second[i]]), rows, rule, **options)
            found[outcome] += 1
    return {name: found[name] / draws for name in ("ship", "scope", "kill", "inconclusive")}


def blocks(draws, rows, trials=1, cells=12_000_000):
    """Sizes of the blocks in which `draws` experiments are simulated with bounded memory."""
    size = max(cells // (rows * trials * 2), 1)
    return [min(size, draws - i) for i in range(0, draws, size)]


@dataclass(frozen=True, slots=True)
class Intervals:
    """Two-sided intervals of many experiments at once."""

    low: np.ndarray
    high: np.ndarray

    def covers(self, truth):
        """Whether each interval holds the true effect."""
        return (self.low <= truth + _FLOOR) & (self.high >= truth - _FLOOR)


def recommended(d, world, *, alpha=0.05, pseudo=1.0):
    """The interval of `itera_nb.stats.paired.paired_delta` for draws x rows differences, written again.

    `pseudo` is the size of the pseudo-rows, one or one a draw.
    """
    n = world.rows
    centre = d.sum(1) / (n + 2)
    sums, sizes = cluster_sums(d, world.cluster_size)
    residual = sums - sizes * centre[:, None]
    k = 1.0 if world.trials == world.cluster_size == 1 else (sizes.size + 2) / (sizes.size + 1)
    variance = ((residual**2).sum(1) + (pseudo - centre) ** 2 + (pseudo + centre) ** 2) * k / (n + 2) ** 2
    half = special.stdtrit(n**2 / float(sizes @ sizes) + 1, 1 - alpha / 2) * np.sqrt(variance)
    return Intervals(np.maximum(centre - half, -1), np.minimum(centre + half, 1))


def row_t(d, *, alpha=0.05):
    """Paired t interval on row means: rows taken as independent."""
    n = d.shape[1]
    return around(d.mean(1), special.stdtrit(n - 1, 1 - alpha / 2) * d.std(1, ddof=1) / np.sqrt(n))


def cluster_t(d, size, *, alpha=0.05):
    """Cluster-robust t interval without pseudo-rows, G - 1 degrees of freedom."""
    mean = d.mean(1)
    sums, sizes = cluster_sums(d, size)
    g = sizes.size
    se = np.sqrt(((sums - sizes * mean[:, None]) ** 2).sum(1) * g / (g - 1)) / d.shape[1]
    return around(mean, special.stdtrit(g - 1, 1 - alpha / 2) * se)


def cluster_sums(d, size):
    """Sums of the differences of each cluster (draws x clusters) and the clusters' sizes."""
    first = np.arange(0, d.shape[1], size)
    sums = d if size == 1 else np.add.reduceat(d, first, axis=1)
    return sums, np.diff(np.append(first, d.shape[1])).astype(float)


def around(centre, half):
    """Symmetric intervals."""
    return Intervals(centre - half, centre + half)


@dataclass(slots=True)
class Report:
    """Prints one JSON line a figure and remembers whether all were within their limits."""

    ok: bool = True

    def figure(self, name, value, unit, limit="", ok=True, **more):
        """Print one figure; `limit` is text, empty for a figure that is only shown."""
        self.ok &= bool(ok)
        value = round(float(value), 5)
        line = {"name": name, "value": value, "unit": unit, "limit": limit, "ok": bool(ok)}
        print(json.dumps(line | more), flush=True)


def percent(share, digits=1):
    """A share as it stands in the tables."""
    return f"{100 * share:.{digits}f}"


def table(head, lines):
    """A Markdown table; the first column is text."""
    rule = "|" + "|".join("---" if i == 0 else "--:" for i in range(len(head))) + "|"
    return "\n".join(["| " + " | ".join(head) + " |", rule, *("| " + " | ".join(x) + " |" for x in lines)])


def write_section(name, text):
    """Replace one generated section of docs/calibration.md, or append it where it is missing."""
    path = DOCS / "calibration.md"
    old = path.read_text("utf-8") if path.exists() else ""
    begin, end = f"<!-- {name}: generated -->\n", f"<!-- end of {name} -->\n"
    new = f"{begin}{text.strip()}\n{end}"
    if begin in old and end in old:
        before, rest = old.split(begin, 1)
        new = before + new + rest.split(end, 1)[1]
    else:
        new = old + ("\n" if old else "") + new
    path.write_text(new, "utf-8")
