"""How the check of a judge reads: agreement as a table, one line for a terminal, sentences for the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from itera_nb.models.family import family
from itera_nb.protocol import State
from itera_nb.report.tables import message, stacked, table
from itera_nb.report.view import View
from itera_nb.report.wording import NBSP, join
from itera_nb.scoring.judge_check import HUMAN, NONE
from itera_nb.scoring.ratings import wanted
from itera_nb.spec import Spec
from itera_nb.stats.second_opinion import FEWEST_ROWS, SUPPORTED_ABOVE
from itera_nb.verdict.dev_check import SHEET, JudgeCheck, Worksheet
from itera_nb.verdict.record import SecondOpinionRecord

READINGS = {
    "trusted": "the judge is supported",
    "unclear": "not shown: the judge may be right, these rows cannot tell",
    "restart": "not supported: mend the rubric or change the judge, and lock the metric again",
}
NOBODY = 'nobody checked the judge: second = "none" is registered'


def check_view(spec: Spec, check: JudgeCheck, sheet: Worksheet | None = None) -> View:
    """What the 3-run cell shows."""
    if check.second == NONE:
        return message(NOBODY)
    if not check.arms and sheet is None:
        return message(f"no label of {who(check.second)} was given before the test set was opened")
    shown = [agreement_table(check.arms.values(), list(check.arms))] if check.arms else []
    notes = [*notes_of(spec, check), *(_open_notes(spec, sheet) if sheet and sheet.open else [])]
    return stacked(*shown, message(*notes))


def agreement_table(found: Iterable[SecondOpinionRecord], names: Sequence[str]) -> View:
    """One line per comparison."""
    headers = ["", "rows", "same preference", "at least", "AC1", "kappa", "alpha", "4 of 5", "reading"]
    rows = [
        [
            name,
            str(x.rows),
            "" if x.agreeing is None else f"{x.agreeing} of {x.discordant}",
            share(x.direction_low),
            coefficient(x),
            number(x.kappa),
            number(x.alpha),
            {True: "holds", False: "fails", None: ""}[x.rule_of_thumb],
            x.level,
        ]
        for name, x in zip(names, found, strict=True)
    ]
    # Without a comparison there is no preference to agree on.
    kept = [i for i, _ in enumerate(headers) if i == 0 or any(row[i] for row in rows)]
    shown = [[row[i] for i in kept] for row in rows]
    return table([headers[i] for i in kept], shown, title="against a second opinion, blind")


def notes_of(spec: Spec, check: JudgeCheck) -> list[str]:
    """What the table means, what would change, and what weakens the check."""
    asked, answered = check.labels
    notes = [f"{who(check.second)}: {answered} of {asked} labels, on dev rows, blind and in random order"]
    if check.level:
        notes.append(f"{check.level}: {READINGS[check.level]}")
    flipped = [arm for arm, x in check.arms.items() if x.flipped]
    if flipped:
        would = join([f"{arm} {check.arms[arm].outcome}" for arm in flipped])
        notes.append(
            f"with these labels the rule would say otherwise on dev ({would}): it rests on who judges"
        )
    notes += cautions(spec)
    notes.append(
        f"trusted: AC1 at least 0.6 and the same preference above {SUPPORTED_ABOVE:.0%} shown, on "
        f"{FEWEST_ROWS} rows or more; 4 of 5 is the circulating rule of thumb"
    )
    return notes


def cautions(spec: Spec) -> list[str]:
    """Families that favour their own: the second judge's, and those of judged arms."""
    if spec.judge is None:
        return []
    own, second, notes = family(spec.judge.model), spec.judge.second, []
    if second not in {HUMAN, NONE} and family(second) == own:
        notes.append(f"{second} is of the judge's own family ({own}): its agreement proves little")
    kin = [name for name, arm in spec.arms.items() if arm.model and family(arm.model) == own]
    if kin and len(kin) < len(spec.arms):
        notes.append(f"the judge is of the family of {join(kin)} ({own}) and may favour it")
    return notes


def check_line(spec: Spec, check: JudgeCheck) -> str:
    """The check in one line of `itera run`."""
    if check.second == NONE:
        return f"  judge    {NOBODY}"
    asked, answered = check.labels
    if not asked:
        return f"  judge    no label of {who(check.second)} was given before the test set was opened"
    if check.record is None:
        return (
            f"  judge    {answered} of {asked} ratings: fill {SHEET}, or itera rate   "
            "(the verdict does not wait for it)"
        )
    arms = "   ".join(f"{arm} {brief(x)}" for arm, x in check.arms.items())
    weak = "   same family" if any("own family" in c for c in cautions(spec)) else ""
    return f"  judge    {check.level or 'no labels'}   {who(check.second)}: {arms}{weak}"


def brief(x: SecondOpinionRecord) -> str:
    """Agreement in a few words."""
    side = "" if x.agreeing is None else f"{x.agreeing} of {x.discordant} same preference, "
    return f"{side}AC1 {coefficient(x) or 'unknown'}"


def second_line(found: dict[str, Any]) -> str:
    """A second judge's labels on sealed rows, in one line of `itera verdict`."""
    x = SecondOpinionRecord(**found)
    flip = f"   with its labels: {x.outcome}" if x.flipped else ""
    return f"{who(x.by)} {x.level}, {brief(x)}, {x.rows} rows{flip}"


def limit_sentences(spec: Spec, state: State) -> list[str]:
    """What the page says of the judge's check: on the sealed rows, else on dev, else that there was none."""
    if spec.judge is None:
        return []
    dev, test = _opinions(state)
    where, found = ("sealed", test) if test else ("dev", dev)
    said = [_sentence(arm, x, where) for arm, x in found.items()]
    unchecked = f"{NOBODY[0].upper()}{NOBODY[1:]}." if spec.judge.second == NONE else ""
    late = f"The judge was not checked: {who(spec.judge.second)} gave no label." if not said else ""
    return [*(said or [unchecked or late]), *(f"{c[0].upper()}{c[1:]}." for c in cautions(spec))]


def _opinions(state: State) -> tuple[dict[str, SecondOpinionRecord], dict[str, SecondOpinionRecord]]:
    """What a second opinion made of each arm: on dev rows, and on sealed ones."""
    checked, record = state.last("judge_checked"), state.last("verdict")
    dev = checked.body["arms"] if checked else {}
    records = record.body["verdict"]["records"] if record else []
    test = {r["arm"]: r["second_opinion"] for r in records if r.get("second_opinion")}
    opinions = [{arm: SecondOpinionRecord(**x) for arm, x in found.items()} for found in (dev, test)]
    return opinions[0], opinions[1]


def _sentence(arm: str, x: SecondOpinionRecord, where: str) -> str:
    flip = f"; with those labels the rule says {x.outcome} there" if x.flipped else ""
    return (
        f"Of `{arm}`, {who(x.by)} rated {x.rows} {where} rows blind: {brief(x)}; {READINGS[x.level]}{flip}."
    )


def audit_answer(spec: Spec, state: State) -> tuple[bool | None, str]:
    """Whether the judge stood its check, with the evidence; None without a judge."""
    if spec.judge is None:
        return None, "no judge: the metric is deterministic"
    dev, test = _opinions(state)
    if not dev and not test:
        nobody = spec.judge.second == NONE
        return False, f"labels are blind; {NOBODY if nobody else f'{who(spec.judge.second)} gave no label'}"
    kin = any("own family" in c for c in cautions(spec))
    levels = [x.level for x in (*dev.values(), *test.values())]
    thumb = [x.rule_of_thumb for x in (*dev.values(), *test.values()) if x.rule_of_thumb is not None]
    flipped = any(x.flipped for x in test.values())
    parts = [
        f"{where}, {arm}: {x.level}, {brief(x)}"
        for where, found in (("dev", dev), ("test", test))
        for arm, x in found.items()
    ]
    words = f"labels are blind; {who(spec.judge.second)}; {'; '.join(parts)}"
    words += f"; 4 of 5 {'holds' if all(thumb) else 'fails'}" if thumb else ""
    words += "; of the judge's own family" if kin else ""
    return "restart" not in levels and "trusted" in levels and not flipped and not kin, words


def who(second: str) -> str:
    """The second opinion's name."""
    return "a person" if second == HUMAN else second


def coefficient(x: SecondOpinionRecord) -> str:
    """AC1 with its interval."""
    if x.ac1 is None or x.ac1_low is None or x.ac1_high is None:
        return ""
    return f"{x.ac1:.2f} [{x.ac1_low:.2f}, {x.ac1_high:.2f}]"


def number(value: float | None) -> str:
    """A coefficient; empty where it is undefined."""
    return "" if value is None else f"{value:.2f}"


def share(value: float | None) -> str:
    """A bound in whole percent; empty where there is none."""
    return "" if value is None else f"{100 * value:.0f}{NBSP}%"


def _open_notes(spec: Spec, sheet: Worksheet) -> list[str]:
    assert spec.judge is not None
    rows = len({one.row_id for one in sheet.asked})
    how = f"fill the column 'rating' of {SHEET}, or answer one by one: itera rate"
    return [
        f"{len(sheet.open)} of {len(sheet.items)} are not rated yet: {how}",
        f"a rating is {wanted(sheet.items, spec.judge.scale)}; which arm wrote what is not in the file",
        f"the {rows} dev rows in it count as read by a person",
    ]
