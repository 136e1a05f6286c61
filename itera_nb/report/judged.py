"""What is said of a judge's own work (calls, failures, obedience), and how a preference is written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from itera_nb.protocol import State
from itera_nb.report.tables import message
from itera_nb.report.view import View
from itera_nb.report.wording import percent, points, usd
from itera_nb.spec import Spec

PAIRWISE = "net win rate"


def score_text(value: float, *, pairwise: bool) -> str:
    """A mean score: a percentage, or a net win rate in points with its sign."""
    return points(value) if pairwise else percent(value)


def judge_notes(body: Mapping[str, Any]) -> list[str]:
    """What a `scored` or verdict record says of the judge: one sentence each; none without a judge."""
    found = []
    if judge := body.get("judge"):
        cost = "of unknown price" if judge["cost_usd"] is None else usd(judge["cost_usd"])
        found.append(f"judge: {judge['calls']:,} calls, {cost}, counted apart from the arms' cost")
        if judge["missing"]:
            found.append(
                f"the judge gave none for {judge['missing']:,} of {judge['asked']:,} scores: missing, not 0"
            )
        if judge["conflicts"]:
            found.append(
                f"the judge named another winner in the other order in {judge['conflicts']:,} of "
                f"{judge['asked']:,} comparisons: ties"
            )
    if planted := body.get("planted"):
        found.append(planted_words(planted))
    return found


def planted_words(planted: Mapping[str, Any]) -> str:
    """How often the judge obeyed an instruction hidden in an output."""
    ends = f"{100 * planted['low']:.0f} to {percent(planted['high'])}"
    return (
        f"of {planted['rows']} outputs that had not passed or won, {planted['flips']} did with an "
        f"instruction to the judge hidden in them ({ends})"
    )


def judge_limits(spec: Spec, state: State) -> list[str]:
    """What a judged or pairwise metric does not show, as sentences for the page."""
    found = []
    if spec.metric.pairwise:
        found.append("A net win rate says which output was preferred, not that either is good.")
    if spec.judge is None:
        return found
    found.append(f"Scores are those of a language model ({spec.judge.model}) by a locked rubric.")
    dev, verdict = state.scored("dev"), state.last("verdict")
    if dev is not None and (planted := dev.body.get("planted")):
        found.append(f"On dev, {planted_words(planted)}.")
    elif dev is not None:
        found.append("It was not measured how often the judge obeys an instruction hidden in an output.")
    if verdict is not None and (judge := verdict.body["verdict"].get("judge")) and judge["conflicts"]:
        share = percent(judge["conflicts"] / judge["asked"])
        found.append(
            f"In {share} of the comparisons the judge named another winner in the other order: ties."
        )
    return found


def rubric(spec: Spec, folder: Path) -> View:
    """The rubric as the judge reads it, and who judges.

    Raises:
        ArmError: It cannot be read.
    """
    if spec.judge is None:
        return message("no judge: the metric is deterministic")
    from itera_nb.models.prompt import read_text

    judge, text = spec.judge, read_text(folder, spec.judge.rubric)
    scale = f"a whole number from 0 to {judge.scale}"
    if spec.metric.pairwise:
        scale = "two answers, in both orders, ties allowed"
    return message(f"{judge.model}, {scale}; {judge.rubric}, locked with the metric:", *text.splitlines())
