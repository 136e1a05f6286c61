"""What is said of dev rows: their labels, when those are audited, and those of them that a person read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from itera_nb.diagnosis.label_noise import ANSWER, SHEET, VERDICTS, WRONG, LabelAudit
from itera_nb.protocol import State
from itera_nb.report.tables import message
from itera_nb.report.view import View
from itera_nb.report.wording import percent, points

LIKELY = 0.05


def labels_view(audit: LabelAudit) -> View:
    """What was found; or what there is to ask about, and how to go on."""
    if audit.record is not None:
        lines = [*noise_sentences(audit.record.body), f"record {audit.record.seq}"]
        return message(*lines, title="label audit")
    suspects = audit.suspects
    found = ", ".join(f"{n:,} of {suspects.totals[part]:,} {part} rows" for part, n in suspects.found.items())
    if not suspects.rows:
        return message(f"nothing to audit: {found} fail everywhere", title="label audit")
    sampled = f"; {len(suspects.rows):,} of them, drawn by the seed" if _sampled(audit) else ""
    lines = [f"{found} fail: hard rows, or wrong labels?{sampled}"]
    if audit.answered is None:
        lines.append(
            f"a worksheet for a person: itera labels --sheet   ({audit.unread:,} dev rows will count as read)"
        )
        lines.append("labels of a second source: itera labels --second COLUMN   (nobody reads a row)")
    else:
        lines.append(
            f"{SHEET}: {audit.answered:,} of {len(suspects.rows):,} rows have a {ANSWER} "
            f"({', '.join(VERDICTS)}); fill it in, then: itera labels"
        )
    return message(*lines, title="label audit")


def _sampled(audit: LabelAudit) -> bool:
    return len(audit.suspects.rows) < sum(audit.suspects.found.values())


def noise_sentences(body: Mapping[str, Any]) -> list[str]:
    """The rate, the ceiling, and each arm's bounds; empty where no row was asked about."""
    if not body["asked"]:
        return ["No row of the kind that is audited fails."]
    which = "rows that the baseline fails" if body["generated"] else "rows that every arm fails"
    sample = f", drawn from {body['found']:,}," if body["found"] > body["asked"] else ""
    wrong, unclear = body["verdicts"][WRONG], body["verdicts"]["ambiguous"]
    rate = f"{percent(body['rate'])} [{percent(body['low'])}, {percent(body['high'])}]"
    said = (
        f"Labels audited by {body['by']}: {wrong} of {body['asked']:,} {which}{sample} have a wrong label "
        f"({rate}), {unclear} an ambiguous one; "
        f"no arm can score above about {percent(body['ceiling'])} on dev."
    )
    return [said, *(_bounds(arm, effect) for arm, effect in body["effects"].items() if wrong)]


def _bounds(arm: str, effect: Mapping[str, Any]) -> str:
    if effect["low"] == effect["high"]:
        return f"Wrong labels do not touch the dev effect of `{arm}`: it answers them as the baseline does."
    within = f"between {points(effect['low'])} and {points(effect['high'])}"
    decides = "; the labels could decide it" if effect["decides"] else ""
    return (
        f"With right labels the dev effect of `{arm}`, {points(effect['measured'])}, lies {within}{decides}."
    )


def label_limits(state: State) -> list[str]:
    """What the audit of the labels means for the conclusion; empty without one."""
    record = state.last("labels_audited")
    return [] if record is None or not record.body["asked"] else noise_sentences(record.body)


def label_evidence(state: State, *, generated: bool) -> tuple[bool | None, str]:
    """Whether SG30 is met, and why; None where it asks for nothing."""
    if record := state.last("labels_audited"):
        return True, noise_sentences(record.body)[0]
    if not generated:
        return None, "the data are not generated, and no label audit was made"
    accepted = state.answer("SG30")
    why = f"; accepted: {accepted.body['why']}" if accepted else ""
    return False, f"generated data without a label-noise audit{why}"


def seen_words(seen: Mapping[str, Any]) -> str:
    """The contrast of one arm in a few words."""
    read, others = points(seen["read"]), points(seen["others"])
    return f"{read} on {seen['rows']:,} dev rows that were read, {others} on the others"


def seen_limits(state: State) -> list[str]:
    """A warning for each locked arm that gains more on the dev rows that were read before the lock."""
    locked = state.last("locked")
    lines = locked.body["lines"] if locked else []
    return [
        f"`{x['head']}` gains {seen_words(x['seen'])}: it may be tuned to what was read."
        for x in lines
        if x.get("seen") and x["seen"]["p"] < LIKELY
    ]
