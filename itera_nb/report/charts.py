"""The three charts. Each says its finding in words above the picture and stays readable in grey."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from statistics import fmean, stdev
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import blended_transform_factory

from itera_nb.report.reading import Arm, Effect, Results, Slice, read
from itera_nb.report.wording import (
    count,
    interval,
    milliseconds,
    points,
    shorten,
    signed,
    size,
    threshold,
    usd,
)

WIDTH = 5.6  # inches: one column of a document
DPI = 200
INK, MUTED, FAINT = "#1b1f24", "#5c636b", "#c9ced4"
HARM = "#c1121f"
_WIDE_FONTS = ("Noto Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans Arabic", "Noto Sans Hebrew")


def arm_bar(data: Mapping[str, Any]) -> Figure:
    """Mean score of each arm on the sealed rows, with the spread of its trials and the line it had to reach.

    Where dev scores are in the file they stand below, paler: they were open to tuning and are no evidence.
    Of a preference each arm's wins, ties and losses against the baseline are shown instead.

    Raises:
        DataError: A published key is missing or wrong.
    """
    results = read(data)
    if results.preference:
        return _preference_bar(results)
    arms = sorted(results.arms, key=lambda arm: (not arm.baseline, arm.control))
    with _style():
        figure = _figure(0.85 + (0.46 if results.dev else 0.42) * len(arms), _bar_title(results))
        axes = figure.add_subplot()
        for i, arm in enumerate(arms):
            dev = results.dev.get(arm.id)
            y = i - (0.17 if dev else 0)
            _bar(axes, y, arm.score, arm.trials, _colour(results, arm), results.score(arm.score))
            if dev:
                label = f"dev {results.score(fmean(dev))}"
                _bar(axes, i + 0.2, fmean(dev), dev, FAINT, label, minor=True)
        axes.set_yticks(range(len(arms)), [_arm_label(arm) for arm in arms])
        axes.set_ylim(len(arms) - 0.4, -0.8)
        top = max(results.needed, *(a.score for a in arms), *(fmean(d) for d in results.dev.values()))
        axes.set_xlim(0, top * 1.04 or 1)
        axes.axvline(results.needed, color=INK, linestyle=(0, (4, 2)), linewidth=1.1)
        needed = f"needed {results.score(results.needed)} "
        axes.text(results.needed, -0.48, needed, ha="right", va="bottom", color=INK, fontsize=7.5)
        metric = shorten(results.metric, 30)
        axes.set_xlabel(_literal(f"{metric} on {count(results.n)} sealed rows, mean ± sd of trials"))
        axes.xaxis.set_major_formatter(_score_ticks(results))
        axes.grid(visible=False, axis="y")
    return figure


def _preference_bar(results: Results) -> Figure:
    """Wins, ties and losses of each arm as one bar of the whole; losses are hatched to be told in grey."""
    arms = [arm for arm in results.arms if arm.id in results.preference and not arm.baseline]
    with _style():
        figure = _figure(0.95 + 0.42 * len(arms), _bar_title(results))
        axes = figure.add_subplot()
        for y, arm in enumerate(arms):
            shares, left = results.preference[arm.id], 0.0
            parts = (
                ("won", shares.won, _colour(results, arm), None),
                ("tied", shares.tied, FAINT, None),
                ("lost", shares.lost, "white", "///"),
            )
            for word, share, colour, hatch in parts:
                axes.barh(
                    y, share, left=left, height=0.42, color=colour, hatch=hatch, edgecolor=INK, linewidth=0.6
                )
                if share > 0.12:
                    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.2}
                    text = f"{word} {100 * share:.0f} %"
                    axes.text(left + share / 2, y, text, ha="center", va="center", fontsize=7.5, bbox=box)
                left += share
            _beside(axes, y, f"net {points(arm.score)}", color=INK, bold=True)
        axes.set_yticks(range(len(arms)), [_arm_label(arm) for arm in arms])
        axes.set_ylim(len(arms) - 0.4, -0.6)
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(lambda x, _: f"{100 * x:.0f} %")
        today = _literal(shorten(results.baseline.name, 28))
        axes.set_xlabel(f"comparisons with {today} on {count(results.n)} sealed rows; {results.asked} net")
        axes.grid(visible=False, axis="y")
    return figure


def forest_plot(data: Mapping[str, Any]) -> Figure:
    """Effect of each candidate on all sealed rows and on each slice, with the needed effect and the floor.

    Raises:
        DataError: A published key is missing or wrong.
    """
    results = read(data)
    slices = sorted(results.slices, key=lambda s: -_estimate(results.lead, s.id))
    with _style():
        figure = _figure(1.25 + 0.27 * (len(slices) + 1.4), _forest_title(results))
        arms = results.candidates
        panels = figure.subplots(1, max(1, len(arms)), sharey=True, sharex=True, squeeze=False)[0]
        for axes, arm in zip(panels, arms, strict=False):
            _forest_panel(axes, results, arm, slices, numbers=len(arms) == 1)
            if len(arms) > 1:
                axes.set_title(_literal(shorten(arm.name, 24)), fontsize=8.5, loc="left", color=INK)
        labels = [f"all {count(results.n)} rows", *(_slice_label(s) for s in slices)]
        panels[0].set_yticks([0, *(1.4 + i for i in range(len(slices)))], labels)
        panels[0].get_yticklabels()[0].set_fontweight("bold")
        panels[0].set_ylim(1.4 + len(slices) - 0.4, -0.95)
        metric, today = shorten(results.metric, 24), shorten(results.baseline.name, 28)
        label = _literal(f"difference in {metric} to {today}, points")
        figure.supxlabel(label, fontsize=8, color=MUTED)
    return figure


def cost_vs_accuracy(data: Mapping[str, Any]) -> Figure:
    """Score against price; against latency where nothing is billed; scores alone where neither is known.

    Bars are intervals of the difference to the baseline; those along latency run from p50 to p95.

    Raises:
        DataError: A published key is missing or wrong.
    """
    results = read(data)
    with _style():
        figure = _figure(2.5, _cost_title(results))
        axes = figure.add_subplot()
        if results.billed:
            _scatter(axes, results, "USD per 1,000 rows, steady state", latency=False)
        elif results.timed:
            _scatter(axes, results, "latency per row in ms: tick at p50, point at p95", latency=True)
        else:
            _strip(axes, results)
        axes.set_ylabel(_literal(shorten(results.metric, 24)))
        axes.yaxis.set_major_formatter(_score_ticks(results))
    return figure


CHARTS: dict[str, Callable[[Mapping[str, Any]], Figure]] = {
    "arm-bar": arm_bar,
    "forest-plot": forest_plot,
    "cost-vs-accuracy": cost_vs_accuracy,
}


def alt_text(data: Mapping[str, Any], name: str) -> str:
    """The finding of a chart in words: its title, for readers who do not see it.

    Raises:
        DataError: A published key is missing or wrong.
    """
    titles = {"arm-bar": _bar_title, "forest-plot": _forest_title, "cost-vs-accuracy": _cost_title}
    return titles[name](read(data))


def png(figure: Figure, head: str = "") -> bytes:
    """A figure as PNG, byte for byte reproducible; `head` is kept in its text chunk `itera-record`."""
    buffer = BytesIO()
    with _style():
        metadata = {"Software": None} | ({"itera-record": head} if head.isascii() and head else {})
        figure.savefig(buffer, format="png", dpi=DPI, metadata=metadata)
    return buffer.getvalue()


def pictures(data: Mapping[str, Any]) -> dict[str, bytes]:
    """`arm-bar.png`, `forest-plot.png` and `cost-vs-accuracy.png`, all of them or none.

    Raises:
        DataError: A published key is missing or wrong.
    """
    head = read(data).head
    return {f"{name}.png": png(draw(data), head) for name, draw in CHARTS.items()}


@contextmanager
def _style() -> Iterator[None]:
    """Seaborn's whitegrid on matplotlib's defaults: no user setting changes a recorded picture."""
    import seaborn as sns

    settings = {
        "font.family": list(_fonts()[0]),
        "font.size": 8,
        "axes.edgecolor": FAINT,
        "axes.labelcolor": MUTED,
        "axes.labelsize": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": "#e9ecef",
        "grid.linewidth": 0.7,
        "text.color": INK,
        "xtick.color": MUTED,
        "ytick.color": INK,
        "xtick.labelsize": 7.5,
        "ytick.labelsize": 8,
        "lines.solid_capstyle": "butt",
        "text.usetex": False,
        "text.parse_math": True,
    }
    with mpl.rc_context():
        mpl.rcParams.update({k: v for k, v in mpl.rcParamsDefault.items() if k != "backend"})
        mpl.rcParams.update(sns.axes_style("whitegrid") | settings)
        yield


@cache
def _fonts() -> tuple[tuple[str, ...], frozenset[int]]:
    """Matplotlib's own font, then installed ones with more scripts; and the code points that they draw."""
    from matplotlib import font_manager

    installed = {font.name: font.fname for font in font_manager.fontManager.ttflist}
    families = ("DejaVu Sans", *(name for name in _WIDE_FONTS if name in installed))
    drawn = frozenset(c for f in families for c in font_manager.get_font(installed[f]).get_charmap())
    return families, drawn


def _literal(text: str) -> str:
    """`text` so that nothing in it is read as a formula, and no character is missing from the fonts."""
    drawn = _fonts()[1]
    return "".join(c if ord(c) in drawn or c == "\n" else "\u25a1" for c in text).replace("$", r"\$")


def _figure(height: float, title: str) -> Figure:
    lines = textwrap.wrap(title, 68)
    figure = Figure(figsize=(WIDTH, height + 0.17 * len(lines)), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    figure.suptitle(
        _literal("\n".join(lines)), x=0.012, ha="left", fontsize=9.5, fontweight="bold", color=INK
    )
    return figure


def _colour(results: Results, arm: Arm) -> str:
    import seaborn as sns

    if arm.baseline or arm.control:
        return "#9aa1a9"
    palette = sns.color_palette("colorblind").as_hex()
    shades = {a.id: palette[2 * i % 6] for i, a in enumerate(results.candidates)}
    return str(shades.get(arm.id, palette[0]))


def _arm_label(arm: Arm) -> str:
    note = "\n(today)" if arm.baseline else "\n(A/A control)" if arm.control else ""
    return _literal(shorten(arm.name, 22)) + note


def _slice_label(part: Slice) -> str:
    return _literal(shorten(part.name, 24)) + (f"  n={count(part.n)}" if part.n is not None else "")


def _estimate(arm: Arm | None, slice_id: str) -> float:
    effect = arm.slices.get(slice_id) if arm else None
    return effect.estimate if effect else 0.0


def _gain(effect: Effect) -> str:
    """An effect in a verb: what is shown is stated, what is not is called so."""
    if effect.low > 0:
        return f"gains {size(effect.estimate)} points"
    if effect.high < 0:
        return f"loses {size(effect.estimate)} points"
    return f"is not shown to differ ({points(effect.estimate)} points)"


def _forest_title(results: Results) -> str:
    lead = results.lead
    if lead is None or lead.effect is None:
        return "No arm was compared with the baseline"
    start = f"{shorten(lead.name, 32)} {_gain(lead.effect)}"
    harmed = sorted((s for s in results.slices if s.id in lead.harmed), key=lambda s: _estimate(lead, s.id))
    if not harmed:
        return f"{start}; no slice is flagged" if lead.slices else start
    worst, loss = shorten(harmed[0].name, 32), _estimate(lead, harmed[0].id)
    if lead.effect.high < 0:
        return f"{start}, most on {worst} ({size(loss)})"
    shown = lead.slices.get(harmed[0].id)
    verb = f"loses {size(loss)}" if shown is not None and shown.high < 0 else "may lose"
    more = f" and {len(harmed) - 1} more" if len(harmed) > 1 else ""
    return f"{start}, {'but ' if lead.effect.low > 0 else ''}{verb} on {worst}{more}"


def _bar_title(results: Results) -> str:
    needed = results.score(results.needed)
    best = max(results.candidates, key=lambda arm: arm.score, default=None)
    if best is None:
        return f"{shorten(results.baseline.name, 32)} scores {results.score(results.baseline.score)}"
    name, score = shorten(best.name, 32), results.score(best.score)
    if shares := results.preference.get(best.id):
        won, lost = f"{100 * shares.won:.0f} %", f"{100 * shares.lost:.0f} %"
        return f"{name} wins {won} and loses {lost}: net {score}, {results.asked}"
    if best.score >= results.needed - 1e-12:
        return f"{name} scores {score} where {needed} was needed"
    if len(results.candidates) > 1:
        return f"No arm reaches the {needed} needed; {name} comes closest with {score}"
    return f"{name} scores {score}, short of the {needed} needed"


def _cost_title(results: Results) -> str:
    lead, today = results.lead, results.baseline
    if lead is None or lead.effect is None:
        return "Score and cost of each arm"
    start = f"{shorten(lead.name, 32)} {_gain(lead.effect)}"
    if results.billed:
        if lead.cost is None or today.cost is None:
            return f"{start}; what it costs is not known"
        change = lead.cost - today.cost
        if change == 0:
            return f"{start} at the same cost"
        relative = f" ({signed(100 * change / today.cost, 0)} %)" if today.cost else ""
        return f"{start} and {'costs' if change > 0 else 'saves'} {usd(abs(change))} per 1,000 rows{relative}"
    why = "No arm is billed" if all(a.cost == 0 for a in results.arms) else "Costs are not known"
    if results.timed and lead.p95 is not None and today.p95 is not None:
        return f"{why}: {start}, {milliseconds(lead.p95 - today.p95, sign=True)} at p95"
    return f"{why}{'' if results.timed else ', latency was not measured'}: {start}"


def _bar(
    axes: Axes,
    y: float,
    mean: float,
    trials: Sequence[float],
    colour: str,
    text: str,
    *,
    minor: bool = False,
) -> None:
    """One bar from zero, the spread of its trials, and its value in a column of its own."""
    spread = stdev(trials) if len(trials) > 1 else 0.0
    edge, height = (MUTED, 0.2) if minor else (INK, 0.34)
    axes.barh(y, mean, height=height, color=colour, edgecolor=edge, linewidth=0.6, zorder=2)
    if spread:
        axes.errorbar(mean, y, xerr=spread, fmt="none", ecolor=INK, elinewidth=1.2, capsize=3, zorder=3)
    _beside(
        axes,
        y,
        text + (f" ± {100 * spread:.1f}" if len(trials) > 1 else ""),
        color=MUTED if minor else INK,
        bold=not minor,
    )


def _beside(axes: Axes, y: float, text: str, *, color: str, bold: bool) -> None:
    """Write a row's figures right of the picture, where no line crosses them."""
    axes.text(
        1.02,
        y,
        text,
        transform=blended_transform_factory(axes.transAxes, axes.transData),
        va="center",
        fontsize=7.5,
        color=color,
        fontweight="bold" if bold else "normal",
    )


def _score_ticks(results: Results) -> Callable[[float, float], str]:
    if results.preference:
        return lambda x, _: signed(100 * x, 0)
    return lambda x, _: f"{x:.3g}" if results.graded else f"{100 * x:.3g} %"


def _forest_panel(axes: Axes, results: Results, arm: Arm, slices: Sequence[Slice], *, numbers: bool) -> None:
    bottom = 1.4 + len(slices) - 0.5
    axes.axvline(0, color=INK, linewidth=0.9, zorder=1)
    _limit(axes, 100 * results.min_effect, (-0.45, 0.5), results.asked)
    if results.max_slice_loss is not None and slices:
        floor = -results.max_slice_loss
        _limit(axes, 100 * floor, (0.8, bottom), f"floor {threshold(floor)}", dotted=True)
    if numbers:
        for i, part in enumerate(slices):
            if part.id not in arm.slices:
                _beside(axes, 1.4 + i, "not assessed", color=MUTED, bold=False)
    rows: list[tuple[float, Effect, str]] = [(0.0, arm.effect, "")] if arm.effect else []
    rows += [(1.4 + i, arm.slices[s.id], s.id) for i, s in enumerate(slices) if s.id in arm.slices]
    for y, effect, key in rows:
        harmed = effect.high < 0 if y == 0 else key in arm.harmed
        colour = HARM if harmed else _colour(results, arm)
        marker = "D" if y == 0 else "X" if harmed else "o"
        low, mid, high = 100 * effect.low, 100 * effect.estimate, 100 * effect.high
        axes.plot([low, high], [y, y], color=colour, linewidth=3.2 if y == 0 else 2.0, zorder=3)
        large = 8.5 if marker == "X" else 6.5
        axes.plot(mid, y, marker=marker, color=colour, markersize=large, markeredgecolor="white", zorder=4)
        if numbers:
            text = f"{points(effect.estimate)}  {interval(effect.low, effect.high)}"
            _beside(axes, y, text, color=HARM if harmed else INK, bold=harmed or y == 0)
    axes.axhline(0.7, color=FAINT, linewidth=0.8)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_formatter(lambda x, _: signed(x, 0))
    axes.margins(x=0.08)


def _limit(axes: Axes, x: float, rows: tuple[float, float], label: str, *, dotted: bool = False) -> None:
    """A registered limit, drawn only beside the rows that it applies to."""
    style = (0, (1, 1.5)) if dotted else (0, (4, 2))
    axes.add_line(Line2D([x, x], list(rows), color=INK, linewidth=1.3, linestyle=style, zorder=2))
    axes.update_datalim([(x, rows[0])])
    axes.annotate(
        label,
        (x, rows[0]),
        xytext=(-3, 0) if dotted else (0, 1),
        textcoords="offset points",
        ha="right" if dotted else "center",
        va="top" if dotted else "bottom",
        fontsize=7,
        color=MUTED,
        zorder=5,
    )


_HOW = "bars: interval of the difference to the baseline"


def _scatter(axes: Axes, results: Results, label: str, *, latency: bool) -> None:
    known = [(arm, x) for arm in results.arms if (x := arm.p95 if latency else arm.cost) is not None]
    values = [x for _, x in known]
    if wide := min(values) > 0 and max(values) > 20 * min(values):
        axes.set_xscale("log")
    placed: list[float] = []
    for arm, x in sorted(known, key=lambda pair: -pair[0].score):
        near = any(abs(x - other) < 0.12 * max(values) for other in placed)
        _point(axes, results, arm, x, below=near)
        placed.append(x)
        if arm.cost_bounds and not latency:
            ends = [(results.baseline.cost or 0.0) + bound for bound in arm.cost_bounds]
            axes.plot(ends, [arm.score] * 2, color=_colour(results, arm), linewidth=1.6, zorder=2)
        if latency and arm.p50 is not None:
            colour = _colour(results, arm)
            axes.plot([arm.p50, x], [arm.score] * 2, color=colour, linewidth=1.6, zorder=2)
            axes.plot(arm.p50, arm.score, marker="|", color=colour, markersize=9, zorder=2)
    unknown = [_literal(shorten(arm.name, 20)) for arm in results.arms if all(arm is not k for k, _ in known)]
    axes.set_xlabel(
        label
        + (f" (not known: {', '.join(unknown)})" if unknown else "")
        + f"\n{'vertical ' if latency else ''}{_HOW}"
    )
    axes.margins(x=0.2, y=0.2)
    if not wide:  # from zero, or a difference of one per cent would look like all the difference
        axes.set_xlim(0, 1.2 * max(values) or 1)


def _strip(axes: Axes, results: Results) -> None:
    for i, arm in enumerate(results.arms):
        _point(axes, results, arm, i, below=False)
    axes.set_xticks([])
    axes.set_xlabel(f"cost and latency are not known\n{_HOW}")
    axes.margins(x=0.3, y=0.2)


def _point(axes: Axes, results: Results, arm: Arm, x: float, *, below: bool) -> None:
    """A score with the interval of its difference to the baseline: what separates arms on the same rows."""
    colour, base = _colour(results, arm), results.baseline.score
    ends = [arm.score, arm.score]
    if arm.effect:
        ends = [base + arm.effect.low, base + arm.effect.high]
        axes.plot([x, x], ends, color=colour, linewidth=2, zorder=2)
    marker = "s" if arm.baseline else "v" if arm.control else "o"
    axes.plot(x, arm.score, marker=marker, color=colour, markersize=7.5, markeredgecolor=INK, zorder=3)
    axes.annotate(
        f"{_literal(shorten(arm.name, 22))}  {results.score(arm.score)}",
        (x, ends[0] if below else ends[1]),
        xytext=(0, -6 if below else 6),
        textcoords="offset points",
        ha="center",
        va="top" if below else "bottom",
        fontsize=7.5,
        zorder=4,
    )
