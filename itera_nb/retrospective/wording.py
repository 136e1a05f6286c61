"""A comparison as a table of at most 100 columns, and sentences below it."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

from itera_nb.report.tables import table
from itera_nb.report.view import View
from itera_nb.report.wording import NBSP, count, interval, level, points, shorten, size
from itera_nb.retrospective.reading import listed, shown
from itera_nb.retrospective.report import NEVER_SHIP, ComparisonReport, SliceEffect

WIDTH = 100
_LABEL = 12
_NAME = 24
_RIGHT = {1, 2, 3, 4}  # columns of figures, so that their points stand below each other


def view(report: ComparisonReport) -> View:
    """The table: all rows first, then each slice."""
    header = ["", "rows", "baseline", "arm", "effect", f"{level(report.alpha)} interval", "level"]
    lines = [_line("all rows", report, ""), *(_line(shown(s.id), s, s.level) for s in report.slices)]
    cells = [line[: None if report.slices else 6] for line in (header, *lines)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells = [[c.rjust(widths[i]) if i in _RIGHT else c for i, c in enumerate(line)] for line in cells]
    notes = [_wrapped(label, text) for label, text in _notes(report)]
    return table(cells[0], cells[1:], title=_title(report), notes=notes)


def _line(name: str, of: ComparisonReport | SliceEffect, judged: str) -> list[str]:
    scores = (f"{100 * x:.1f}" for x in (of.baseline_score, of.arm_score))
    return [
        shorten(name, 28),
        count(of.n),
        *scores,
        points(of.estimate),
        interval(of.low, of.high),
        judged,
    ]


def _title(report: ComparisonReport) -> str:
    trials = " and ".join(str(t) for t in dict.fromkeys(report.trials))
    units = f"{count(report.n)} paired rows" + ("" if trials == "1" else f" × {trials} trials")
    part = "   (not on every slice)" if report.scope else ""
    return (
        f"{report.outcome}   {points(report.estimate)} pp {interval(report.low, report.high)}{part}\n"
        f"{_name(report.arm)} against {_name(report.baseline)}   {units}   scores in %, effects in points"
    )


def _name(arm: str) -> str:
    return shorten(shown(arm), _NAME)


def _wrapped(label: str, text: str) -> str:
    # An interval and a number with its unit stay on one line.
    whole = re.sub(r"(?<=,) (?=[+\N{MINUS SIGN}\d.]+\])| (?=(?:pp|%)(?:\W|$))", NBSP, text)
    lines = textwrap.fill(
        whole,
        WIDTH,
        initial_indent=label.ljust(_LABEL),
        subsequent_indent=" " * _LABEL,
        break_on_hyphens=False,
    )
    return lines.replace(NBSP, " ")


def _notes(report: ComparisonReport) -> Iterator[tuple[str, str]]:
    yield "why", report.sentence
    yield "never ship", NEVER_SHIP
    yield (
        "intervals",
        "are for rows like these, not for a change of traffic or of a model behind an arm",
    )
    yield "rows", _rows(report)
    yield "power", _power(report)
    if max(report.trials) > 1:
        yield "re-runs", _reruns(report)
    yield from _absent(report)
    for part in report.slices:
        if part.wording == "regression":
            yield "flagged", f"{shown(part.id)}: a loss beyond {size(report.max_slice_loss)} pp is shown"
        elif part.level == "flagged":
            yield "flagged", f"{shown(part.id)} may lose more than {size(report.max_slice_loss)} pp"
    if len(report.columns.slices) > 1:
        yield "slices", "those of different columns overlap: they are not independent"
    if report.columns.found:
        taken = " and ".join(
            f"{getattr(report.columns, role)!r} as the {role}" for role in report.columns.found
        )
        yield "columns", f"took {shown(taken)}; --id and --score name others"
    for caution in report.warnings:
        yield "caution", caution


def _rows(report: ComparisonReport) -> str:
    right = "alone is right" if report.trials == (1, 1) and not report.graded else "is ahead"
    ahead, behind, tied = (count(x) for x in (report.arm_ahead, report.baseline_ahead, report.tied))
    together = "" if report.columns.cluster is None else f"; {count(report.clusters)} clusters"
    both = f"{_name(report.arm)} {right} on {ahead}, {_name(report.baseline)} on {behind}"
    return f"{both}, equal on {tied}{together}"


def _power(report: ComparisonReport) -> str:
    if report.goal == "no_worse":
        shows, planned = f"no loss beyond {size(report.margin or 0.0)} pp", "if both are equally good"
    else:
        shows, planned = "a gain", f"for a true {points(report.planned_effect)} pp (twice the smallest gain)"
    truth = f"80 % of cases if the truth is {points(report.detectable)} pp"
    chance = f"{count(report.n)} such rows show {shows} in {truth}"
    needed = f"; {planned} that takes {count(report.rows_needed)} rows" if report.rows_needed else ""
    return f"{chance}{needed}"


def _reruns(report: ComparisonReport) -> str:
    if report.rerun_se is None or report.rerun_share is None:
        return "one side has a single trial, so its re-run noise is not known"
    if report.rerun_se == 0:
        return "identical; which rows were drawn is the only uncertainty"
    helps = "more trials help" if report.rerun_share > 0.3 else "more rows help, not more trials"
    moved = f"move the effect by {size(report.rerun_se)} pp (standard error)"
    return f"{moved}, {report.rerun_share:.0%} of its variance: {helps}"


def _absent(report: ComparisonReport) -> Iterator[tuple[str, str]]:
    apart = report.unpaired
    for arm, number, ids in (
        (report.baseline, apart.baseline_only, apart.baseline_ids),
        (report.arm, apart.arm_only, apart.arm_ids),
    ):
        if number:
            yield "unpaired", f"{count(number)} only in {_name(arm)}, left out: {listed(ids, number)}"
    if any(report.missing):
        base, arm_ = (count(x) for x in report.missing)
        side = f"{base} of {_name(report.baseline)}, {arm_} of {_name(report.arm)}"
        yield (
            "missing",
            f"scores of paired rows: {side}; missing, not 0: {count(report.n)} rows have one on both sides",
        )
    if report.worst and report.best:
        worst, best = (f"{points(b.estimate)} {interval(b.low, b.high)}" for b in (report.worst, report.best))
        must = (
            "a good outcome has to hold at the worst"
            if report.worst_must_pass
            else "too few to change the outcome"
        )
        yield "bounds", f"if all that is absent went against the arm {worst}, for it {best}: {must}"
