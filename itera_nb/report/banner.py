"""The answer in words: headline, sentence, what to do, what is not shown, what to test next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from itera_nb.experiment import Experiment
from itera_nb.report.judge_check import limit_sentences
from itera_nb.report.judged import PAIRWISE, judge_limits
from itera_nb.report.labels import label_limits, seen_limits
from itera_nb.report.leaks import leak_sentences
from itera_nb.report.wording import interval, percent, points, size
from itera_nb.spec import Spec

TOP_UP = " One registered top-up of as many new rows is allowed: `itera extend --from FILE`."


@dataclass(frozen=True, slots=True)
class Banner:
    """The first three things a reviewer reads."""

    headline: str
    sentence: str
    do: str


def banner(spec: Spec, verdict: dict[str, Any], *, extendable: bool) -> Banner:
    """The banner over all arms; `extendable`: the one registered top-up is still to be had."""
    records = verdict["records"]
    outcome, base = verdict["outcome"], spec.baseline
    unit = f"points of {PAIRWISE}" if spec.metric.pairwise else "points"
    lead = next((r for r in records if r["arm"] == verdict["arm"]), None)
    if outcome == "ship" and lead:
        also = f" ({verdict['chosen_because']})" if verdict["chosen_because"] else ""
        return Banner(
            f"SHIP \u2014 `{lead['arm']}` instead of `{base}`{also}",
            f"{_effect(lead)} {unit}: {_in_words(lead)}",
            f"Replace `{base}` by `{lead['arm']}`.",
        )
    if outcome == "scope" and lead:
        kept = ", ".join(lead["scope"])
        left = ", ".join(s["id"] for s in lead["slices"] if s["id"] not in lead["scope"])
        return Banner(
            f"SCOPE \u2014 `{lead['arm']}` for {kept}; keep `{base}` for {left}",
            f"{_effect(lead)} {unit} overall; {_effect(lead['scope_effect'])} on {kept}.",
            f"Put `{lead['arm']}` behind a switch. Do not replace `{base}` everywhere.",
        )
    said = " ".join(f"`{r['arm']}`: {_effect(r)} {unit}, {_in_words(r)}{_losses(r)}" for r in records)
    names = ", ".join(f"`{r['arm']}`" for r in records)
    if outcome == "retrospective":
        return Banner(
            f"RETROSPECTIVE \u2014 {names} against `{base}`",
            f"{said} These results existed before the question was locked.",
            "Take it as a reason to ask again on rows that no arm has answered yet, not as a reason to ship.",
        )
    if outcome == "kill":
        return Banner(f"KILL \u2014 {names}: keep `{base}`", said, f"Keep `{base}`. Do not ship {names}.")
    needed = [r["n_needed"] for r in records if r["outcome"] == "inconclusive" and more_rows(r)]
    need = f" {max(needed):,} test rows would have 80 % power at the expected effect." if needed else ""
    undecided = ", ".join(f"`{r['arm']}`" for r in records if r["outcome"] == "inconclusive")
    return Banner(
        f"INCONCLUSIVE \u2014 {undecided}: keep `{base}` for now",
        f"{said} {_ruled_out(next(r for r in records if r['outcome'] == 'inconclusive'))}",
        f"Keep `{base}` for now.{need}{TOP_UP if extendable else ''}",
    )


def more_rows(record: dict[str, Any]) -> bool:
    """Whether more rows than there were are needed to see the expected effect."""
    return bool(record["n_needed"]) and record["n_needed"] > record["n"]


def rule_sentence(spec: Spec, tau: float) -> str:
    """The registered rule as the sentence that the conclusion quotes."""
    rule, of = spec.rule, f" of {PAIRWISE}" if spec.metric.pairwise else ""
    if rule.goal == "no_worse":
        saving = f", at least {percent(rule.min_saving)} cheaper" if rule.min_saving else ""
        gain = f"Shown to lose less than {_points(rule.margin or 0)}{of} on sealed rows{saving}"
    elif rule.proof == "above_min":
        gain = f"Shown to gain more than {_points(tau)}{of} on sealed rows"
    elif rule.proof == "literal":
        gain = f"The method's literal rule: at least {_points(tau)}{of} gained, twice the re-run noise"
    else:
        gain = f"At least {_points(tau)}{of} gained on sealed rows, with a gain shown"
    if not spec.source.slices:
        return f"{gain}."
    return f"{gain}; no {' or '.join(spec.source.slices)} may lose more than {_points(rule.max_slice_loss)}."


def limits(experiment: Experiment) -> list[str]:
    """What this does not show beyond what the record itself says: suspect controls, touches of the seal."""
    state = experiment.state
    record = state.the("verdict")
    found = _controls(record.body["verdict"]["controls"])
    if touches := len(state.all("seal_touched")):
        found.append(f"The sealed file was touched {touches} time(s) outside the verdict; nothing was read.")
    judged = [*judge_limits(experiment.spec, state), *limit_sentences(experiment.spec, state)]
    return [*found, *judged, *leak_sentences(state), *seen_limits(state), *label_limits(state)]


def test_next(verdict: dict[str, Any]) -> str:
    """One sentence, and never "more iterations"."""
    records = verdict["records"]
    flagged = [(r, s) for r in records for s in r["slices"] if s["level"] == "flagged"]
    if flagged and verdict["outcome"] != "ship":
        record, worst = min(flagged, key=lambda x: x[1]["estimate"])
        return f"Does the loss of `{record['arm']}` on {worst['id']} remain on rows from another period?"
    if verdict["outcome"] == "ship":
        return "Does the gain remain on next month's rows, sealed before anyone reads them?"
    if verdict["outcome"] == "inconclusive":
        return "Does the effect show on a larger sealed set of the newest rows?"
    if verdict["outcome"] == "retrospective":
        return "Does it hold on rows that are sealed before the arms answer them?"
    return "Which kind of row fails in both arms, and are those labels right?"


def _effect(effect: dict[str, Any]) -> str:
    return f"{points(effect['estimate'])} {interval(effect['low'], effect['high'])}"


def _points(effect: float) -> str:
    return f"{size(effect)} points"


def _in_words(record: dict[str, Any]) -> str:
    words = {
        "shown": "a gain is shown and no slice is flagged.",
        "no_worse_shown": "no worse by more than the margin, and the reason to ship was reached.",
        "literal_rule": "by the method's literal rule.",
        "not_worth_it": f"a gain of {_points(record['tau'])} or more is ruled out.",
        "harmful": "shown to be worse.",
        "not_shown": "not shown to help, not shown useless.",
        "second_judge": str(record["sentence"]),
        "min_effect_not_reached": f"a gain is shown, but not one of {_points(record['tau'])}.",
    }
    sentence = str(record["sentence"])
    return words.get(record["reason"], sentence.partition(": ")[2] or sentence)


def _losses(record: dict[str, Any]) -> str:
    """Slices that an arm is shown to lose on, which an overall figure would average away."""
    shown = [
        f"{s['id']} ({points(s['estimate'])})" for s in record["slices"] if s["regression"] == "regression"
    ]
    return f" It loses on {', '.join(shown)}." if shown else ""


def _ruled_out(record: dict[str, Any]) -> str:
    loss = f"a loss beyond {_points(-record['low'])}" if record["low"] < 0 else "any loss"
    return f"Ruled out: {loss}, a gain beyond {_points(max(record['high'], 0.0))}."


def _controls(controls: list[dict[str, Any]]) -> list[str]:
    found = []
    for control in controls:
        if control["differs"]:
            found.append(
                f"The negative control `{control['arm']}` differs from the baseline: the harness is suspect."
            )
        elif not control["equivalent"]:
            found.append(
                f"The negative control `{control['arm']}` is not shown to be equivalent to the baseline."
            )
    return found
