"""What the page says: every line of the conclusion in words; layout belongs to the templates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from itera_nb.exceptions import DataError
from itera_nb.report.reading import Arm, Node, Results, read
from itera_nb.report.wording import (
    NBSP,
    clean,
    count,
    interval,
    join,
    milliseconds,
    moment,
    percent,
    points,
    short_hash,
    shorten,
    signed,
    size,
    threshold,
    usd,
)

LITERAL_DIFFERS = (
    "The literal rule reads every slice's lower bound as a wall and any rise of the worst failure mode "
    "as a veto; the registered rule asks how probable a harmful loss is."
)


@dataclass(frozen=True, slots=True)
class KeyFigure:
    """One of the four figures under the banner."""

    label: str
    value: str
    note: str


@dataclass(frozen=True, slots=True)
class ArmLine:
    """One row of the two arms tables."""

    name: str
    role: str
    change: str
    where: str
    cost: str
    p95: str
    score: str
    weighted: str
    effect: str
    outcome: str
    reading: str


@dataclass(frozen=True, slots=True)
class Cell:
    """An effect with its interval, and the verdict's word for it."""

    effect: str
    level: str


@dataclass(frozen=True, slots=True)
class SliceLine:
    """One row of the slices table, one cell per candidate."""

    name: str
    n: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class ModeLine:
    """One row of the failure-modes table."""

    name: str
    weight: str
    before: str
    after: str
    change: Cell


@dataclass(frozen=True, slots=True)
class IterationLine:
    """One iteration: what was expected, what was changed, what came of it."""

    id: str
    hypothesis: str
    what: str
    result: str


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One line of the self-audit."""

    id: str
    text: str
    evidence: str


@dataclass(frozen=True, slots=True)
class Audit:
    """The self-audit, what is not met first."""

    unmet: tuple[AuditLine, ...]
    idle: tuple[AuditLine, ...]
    met: tuple[AuditLine, ...]
    summary: str


@dataclass(frozen=True, slots=True)
class Proof:
    """An arm's appendix: the figures that have no place on the page, and the literal rule's answer."""

    name: str
    figures: tuple[tuple[str, str], ...]
    slices: tuple[tuple[str, str, str], ...]
    literal: str
    reasons: tuple[str, ...]
    differs: str


@dataclass(frozen=True, slots=True)
class Story:
    """All that the page says, in its order."""

    outcome: str
    headline: str
    sentence: str
    do: str
    concluded: str
    figures: tuple[KeyFigure, ...]
    question: str
    rule: str
    locked: str
    arms: tuple[ArmLine, ...]
    metric: str
    severity_field: str
    confidence: str
    baseline: str
    candidates: tuple[str, ...]
    slices: tuple[SliceLine, ...]
    slices_say: str
    modes: tuple[ModeLine, ...]
    modes_of: str
    modes_say: str
    severity_say: str
    cost_say: str
    limits: tuple[str, ...]
    dev_say: str
    iterations: tuple[IterationLine, ...]
    test_next: str
    audit: Audit
    head: str
    seal: str
    version: str
    command: str
    proofs: tuple[Proof, ...]


def tell(data: Mapping[str, Any]) -> Story:
    """The story of one experiment.

    Raises:
        DataError: A key is missing or of the wrong type; the message names it.
    """
    results, root = read(data), Node(data)
    experiment, itera = root.node("experiment"), root.node("itera")
    records = itera.nodes("records")
    outcome = itera.text("outcome")
    lead = _lead(records, itera.text("arm", ""), outcome, itera)
    rule, record = itera.node("rule"), itera.node("record")
    modes = _modes(root, lead)
    return Story(
        outcome=outcome,
        headline=_after_outcome(itera.text("headline"), outcome),
        sentence=itera.text("sentence"),
        do=itera.text("do"),
        concluded=moment(experiment.text("concluded_at")),
        figures=_figures(results, experiment, itera, lead),
        question=results.question,
        rule=rule.text("sentence"),
        locked=moment(experiment.text("locked_at")),
        arms=tuple(_arm_line(root, results, node, records) for node in root.nodes("arms")),
        metric=results.metric,
        severity_field=root.node("severity").text("field") if root.has("severity") else "",
        confidence=results.confidence,
        baseline=results.baseline.name,
        candidates=tuple(_name(results, r.text("arm")) for r in records),
        slices=_slices(results, records),
        slices_say=_slices_say(results, lead),
        modes=modes,
        modes_of=_name(results, lead.text("arm")),
        modes_say=_modes_say(modes, lead),
        severity_say=_severity_say(lead.node("severity")) if lead.has("severity") else "",
        cost_say=_cost_say(results, lead, itera),
        limits=_limits(results, experiment, itera, lead),
        dev_say=" ".join([_dev_say(results, itera.node("dev"), lead), *_origins(itera)]),
        iterations=tuple(_iteration(node) for node in itera.nodes("iterations")),
        test_next=itera.text("test_next"),
        audit=_audit(itera.nodes("audit")),
        head=short_hash(record.text("head")),
        seal=short_hash(record.text("seal")),
        version=itera.text("version"),
        command=f"itera verify {experiment.text('folder')}",
        proofs=tuple(_proof(results, r) for r in records),
    )


def _lead(records: list[Node], arm: str, outcome: str, itera: Node) -> Node:
    """The record that the banner speaks of."""
    if not records:
        raise DataError(
            f"data.json: {itera.at('records')} is empty", fix="expected one record per candidate arm"
        )
    return next(
        (r for r in records if r.text("arm") == arm),
        next((r for r in records if r.text("outcome") == outcome), records[0]),
    )


def _after_outcome(headline: str, outcome: str) -> str:
    """The headline without the outcome word, which the page sets apart."""
    word, _, rest = headline.partition(" \u2014 ")
    return rest if rest and word.casefold() == outcome.casefold() else headline


def _name(results: Results, arm: str) -> str:
    return next((a.name for a in results.arms if a.id == arm), arm)


def _code(name: str) -> str:
    return "`" + name.replace("`", "'") + "`"


def _interval(node: Node) -> str:
    """An interval in points; a null end means that there were too few rows for one."""
    low, high = node.optional("low"), node.optional("high")
    return "[not known]" if low is None or high is None else interval(low, high)


def _effect(node: Node) -> str:
    return f"{points(node.number('estimate'))} {_interval(node)}" if node.has("estimate") else ""


def _figures(results: Results, experiment: Node, itera: Node, lead: Node) -> tuple[KeyFigure, ...]:
    trials = int(lead.number("trials"))
    times = f" \u00d7 {trials} trials" if trials > 1 else ""
    return (
        KeyFigure(
            "net win rate" if results.preference else "effect",
            f"{points(lead.number('estimate'))} points",
            f"{_interval(lead)}, {results.asked}",
        ),
        _worst_slice(results, lead),
        _price(lead),
        KeyFigure(
            "evidence",
            f"{count(results.n)} rows",
            f"sealed{times}, {_looks(itera)}, {moment(experiment.text('opened_at'))}",
        ),
    )


def _looks(itera: Node) -> str:
    """How often sealed rows were opened: once, or once more for the registered top-up."""
    return "opened once" if (itera.optional("looks") or 1) == 1 else "opened in two registered looks"


def _worst_slice(results: Results, lead: Node) -> KeyFigure:
    slices = [s for s in lead.nodes("slices") if s.text("level") != "not assessed" and s.has("estimate")]
    if not slices:
        return KeyFigure("worst slice", "none", "no slice could be assessed")
    flagged = [s for s in slices if s.text("level") == "flagged"]
    worst = min(flagged or slices, key=lambda s: s.number("estimate"))
    floor = results.max_slice_loss
    allowed = f"allowed {threshold(-floor)}: " if floor is not None else ""
    return KeyFigure(
        "worst slice",
        f"{shorten(results.named(worst.text('id')), 24)} {points(worst.number('estimate'))}",
        f"{_interval(worst)}, {allowed}{_level(worst)}",
    )


def _price(lead: Node) -> KeyFigure:
    cost, relative = lead.node("cost").optional("delta_per_1k_usd"), lead.node("cost").optional("relative")
    latency = lead.node("latency").optional("delta_p95_ms")
    share = f" ({signed(100 * relative, 0)}{NBSP}%)" if relative else ""
    value = "not known" if cost is None else usd(cost, sign=True)
    timing = "p95 not measured" if latency is None else f"p95 {milliseconds(latency, sign=True)}"
    return KeyFigure("cost, p95", value, f"per 1,000 rows{share}, {timing}")


def _level(node: Node) -> str:
    """The verdict's word for a slice: a regression is called by its name."""
    return node.text("regression", "") or node.text("level")


def _arm_line(root: Node, results: Results, node: Node, records: list[Node]) -> ArmLine:
    arm = next(a for a in results.arms if a.id == node.text("id"))
    record = next((r for r in records if r.text("arm") == arm.id), None)
    weighted = root.node("severity").node("test_set_weighted_accuracy") if root.has("severity") else None
    cost = "free" if arm.cost == 0 else "not known" if arm.cost is None else usd(arm.cost)
    return ArmLine(
        name=arm.name,
        role="today" if arm.baseline else "A/A control" if arm.control else "",
        change=node.text("change", "") if not arm.baseline else "",
        where=node.text("ref", "") or node.text("where", ""),
        cost=cost,
        p95=""
        if arm.p95 is None
        else milliseconds(arm.p95) + (", amortised" if node.flag("amortised") else ""),
        score=_scores(results, arm, node),
        weighted=results.score(weighted.number(arm.id)) if weighted and weighted.has(arm.id) else "",
        effect=f"{points(arm.effect.estimate)} {interval(arm.effect.low, arm.effect.high)}"
        if arm.effect
        else "",
        outcome="baseline" if arm.baseline else record.text("outcome") if record else "control",
        reading=_reading(results, record) if record else _control(arm) if arm.control else "",
    )


def _scores(results: Results, arm: Arm, node: Node) -> str:
    """The primary score, and the secondary ones beside it; of a preference wins, ties and losses."""
    shown = [results.score(arm.score)]
    if arm.baseline and results.preference:
        shown = ["compared with"]
    elif shares := results.preference.get(arm.id):
        shown = [f"{percent(shares.won)} won, {percent(shares.tied)} tied, {percent(shares.lost)} lost"]
    if node.has("secondary"):
        found = node.node("secondary")
        shown += [f"{clean(name)} {found.number(name):.3f}" for name in found.keys]
    return "; ".join(shown)


def _control(arm: Arm) -> str:
    if arm.effect and (arm.effect.low > 0 or arm.effect.high < 0):
        return "Differs from the baseline although nothing was changed: suspect the harness."
    return "No difference shown, as expected."


def _reading(results: Results, record: Node) -> str:
    """What an outcome does and does not say; the record's own sentence where no interval explains it."""
    outcome, tau = record.text("outcome"), record.number("tau")
    explained = results.min_effect >= 0 and all(record.has(k) for k in ("estimate", "low", "high"))
    if outcome == "scope" and record.has("scope_effect"):
        names = join([results.named(i) for i in record.texts("scope")])
        return f"Shown on {names}: {_effect(record.node('scope_effect'))}."
    if explained:
        low, high = record.number("low"), record.number("high")
        passed = low > 0 and record.number("estimate") >= tau - 1e-12
        if outcome == "ship" and passed:
            return f"A gain is shown, reaches the {threshold(tau)} needed, and no slice is flagged."
        if outcome == "kill" and high < tau:
            shown = f"A gain of {threshold(tau)} is ruled out; a smaller one is not."
            return f"A loss of at least {size(high)} points is shown." if high < 0 else shown
        if outcome == "inconclusive" and high >= tau and not passed:
            return _ruled_out(record, low, high)
    return record.text("sentence")


def _ruled_out(record: Node, low: float, high: float) -> str:
    loss = f"a loss beyond {size(low)}" if low < 0 else "any loss"
    said = f"Ruled out: {loss} and a gain beyond {size(high)}."
    if (needed := record.optional("n_needed")) and needed > record.number("n"):
        return f"{said} Needed: about {count(needed)} rows; there were {count(record.number('n'))}."
    return said


def _slices(results: Results, records: list[Node]) -> tuple[SliceLine, ...]:
    found = [{s.text("id"): s for s in record.nodes("slices")} for record in records]
    return tuple(
        SliceLine(
            part.name,
            "" if part.n is None else count(part.n),
            tuple(
                Cell(_effect(of[part.id]), _level(of[part.id])) if part.id in of else Cell("", "not assessed")
                for of in found
            ),
        )
        for part in results.slices
    )


def _slices_say(results: Results, lead: Node) -> str:
    named = [(results.named(s.text("id")), s.text("level")) for s in lead.nodes("slices")]
    flagged = [name for name, level in named if level == "flagged"]
    if flagged:
        verb = "is" if len(flagged) == 1 else "are"
        return f"{join(flagged)} {verb} flagged: a loss beyond the allowed one is not ruled out."
    unresolved = [name for name, level in named if level == "unresolved"]
    if unresolved:
        return (
            f"No slice is flagged; {join(unresolved)} {'is' if len(unresolved) == 1 else 'are'} unresolved."
        )
    if named and all(level == "not assessed" for _, level in named):
        return "No slice could be assessed."
    return "Every assessed slice is cleared." if named else "No slices were registered."


def _modes(root: Node, lead: Node) -> tuple[ModeLine, ...]:
    """The failure modes of the lead arm, the worst first."""
    categories = root.node("failure_modes").nodes("categories")
    names = {c.text("id"): c.text("name", c.text("id")) for c in categories}
    modes = sorted(lead.nodes("failure_modes"), key=lambda m: -m.number("weight"))
    return tuple(
        ModeLine(
            names.get(m.text("id"), m.text("id")),
            f"{m.number('weight'):g}",
            count(m.number("baseline_count")),
            count(m.number("arm_count")),
            Cell(_effect(m), m.text("level")),
        )
        for m in modes
    )


def _modes_say(modes: tuple[ModeLine, ...], lead: Node) -> str:
    if not modes:
        return ""
    worst = max(lead.nodes("failure_modes"), key=lambda m: m.number("weight"))
    what = "is not shown to have changed"
    if worst.text("level") == "flagged":
        what = "is likely to have grown by more than is allowed"
    elif worst.number("low") > 0:
        what = "grew, within what is allowed"
    elif worst.number("high") < 0:
        what = "became rarer"
    return f"The worst failure mode, {modes[0].name}, {what}."


def _severity_say(severity: Node) -> str:
    ranking = "the ranking disagrees" if severity.flag("disagrees") else "same ranking"
    note = severity.text("note", "") or ranking
    return f"Weighted by {_code(severity.text('field'))} the effect is {_effect(severity)}: {note}."


def _cost_say(results: Results, lead: Node, itera: Node) -> str:
    arm, cost, latency = lead.text("arm"), lead.node("cost"), lead.node("latency")
    money, time = cost.optional("delta_per_1k_usd"), latency.optional("delta_p95_ms")
    price = "cost not known" if money is None else f"{usd(money, sign=True)} per 1,000 rows"
    if cost.has("low_per_1k_usd") and cost.has("high_per_1k_usd"):
        ends = [usd(cost.number(f"{end}_per_1k_usd"), sign=True) for end in ("low", "high")]
        price += f" [{', '.join(ends)}]"
    timing = "p95 not measured" if time is None else f"p95 {milliseconds(time, sign=True)}"
    if latency.has("low_ms") and latency.has("high_ms"):
        ends = [milliseconds(latency.number(f"{end}_ms"), sign=True) for end in ("low", "high")]
        timing += f" [{', '.join(ends)}]"
    start = f"{_code(_name(results, arm))} against {_code(results.baseline.name)}: {price}, {timing}."
    if cost.has("note"):
        start += f" {cost.text('note').rstrip('.')}."
    if not itera.has("pareto") or not itera.node("pareto").has(arm):
        return start
    share = itera.node("pareto").node(arm)
    if share.number("dominated") >= 0.95:
        worse = 100 * share.number("dominated")
        return f"{start} In {worse:.0f} % of resamples another arm is both cheaper and better."
    alone = 100 * share.number("on_frontier")
    return f"{start} In {alone:.0f} % of resamples no other arm is both cheaper and better."


def _limits(results: Results, experiment: Node, itera: Node, lead: Node) -> tuple[str, ...]:
    lines = [
        *experiment.texts("limitations", required=False),
        *itera.texts("limits"),
        *lead.texts("warnings", required=False),
    ]
    hidden = [
        f"{results.named(s.text('id'))} {size(min(0.0, s.number('low')))}"
        for s in lead.nodes("slices")
        if s.text("level") == "unresolved" and s.has("low")
    ]
    if hidden:
        lines.append(f"Unresolved slices could hide a loss of this many points: {', '.join(hidden)}.")
    missing = lead.node("missing")
    if failed := missing.number("failed_calls"):
        lines.append(f"{count(failed)} calls failed and count as failures.")
    if unscored := missing.number("unscored") + (missing.optional("baseline_unscored") or 0):
        worst = f"; at worst the effect is {points(missing.number('worst'))}" if missing.has("worst") else ""
        kept = ": missing, not 0"
        if missing.has("rows"):
            kept += f"; {count(lead.number('n'))} scored of {count(missing.number('rows'))} rows"
        lines.append(f"{count(unscored)} outputs could not be scored{kept}{worst}.")
    lines += [line for line in (_sampled(experiment), _held(itera.text("custody"))) if line]
    if resumes := int(itera.number("resumes")):
        times = "once" if resumes == 1 else f"{resumes} times"
        lines.append(f"The pass was resumed {times} after a crash; finished rows were kept.")
    lines += [f"Accepted, {a.text('safeguard')}: {a.text('why')}." for a in itera.nodes("accepted")]
    for a in itera.nodes("amended"):
        seen = "after results had been seen" if a.flag("seen") else "before any result was seen"
        lines.append(f"Amended {seen}: {a.text('what')} ({a.text('why')}).")
    return tuple(dict.fromkeys(line[:-1] if line.endswith("..") else line for line in lines))


def _sampled(experiment: Node) -> str:
    """What was not shown of the sample; empty where its counts match production's."""
    counts = experiment.text("production_counts", "not checked")
    if counts == "not checked":
        return "Production counts were not given, so it was not checked that the sample mirrors production."
    return "" if counts == "passed" else f"Sample against production counts: {counts}."


def _held(custody: str) -> str:
    """Who could open the sealed rows."""
    if custody.startswith("local"):
        return f"Whoever ran this also held the key of the sealed rows: {custody} custody."
    if custody.startswith("escrow"):
        return f"The sealed rows could be opened by their recipients alone: {custody}."
    return ""


def _dev_say(results: Results, dev: Node, lead: Node) -> str:
    floor = dev.optional("noise_floor")
    noise = f"noise floor {size(floor)} points" if floor else "the baseline's re-runs are identical"
    if floor is None:
        noise = "re-run noise was not measured: one trial"
    read_rows = f"rows read by a person: {count(dev.number('revealed'))}"
    drawn = "" if results.preference else "pale bars, "
    rows = f"Dev scores ({drawn}{count(dev.number('n'))} rows)"
    line = f"{rows} were open to tuning and are no evidence; {noise}; {read_rows}."
    if not lead.has("overfit"):
        return line
    fit = lead.node("overfit")
    ends = fit.optional("dev_low"), fit.optional("dev_high")
    known = "[not known]" if None in ends else interval(fit.number("dev_low"), fit.number("dev_high"))
    effect = f"{points(fit.number('dev_estimate'))} {known}"
    gap = fit.number("gap")
    moved = f"{size(gap)} points {'lower' if gap > 0 else 'higher'} on the sealed rows"
    alarm = fit.text("alarm")
    means = "within what sampling explains" if alarm == "none" else f"overfit {alarm}"
    return f"{line} Dev effect {effect}: {moved}, {means.replace('overfit alarm', 'an overfit alarm')}."


def _origins(itera: Node) -> Iterator[str]:
    """From how many arms these were chosen, and what a proposer did and cost."""
    if screened := itera.optional("screened"):
        yield f"The arms were chosen from {count(screened)} on train."
    for node in itera.nodes("proposals") if itera.has("proposals") else ():
        refused = node.number("refused")
        cost = usd(node.number("cost_usd")) if node.has("cost_usd") else "an unknown price"
        yield (
            f"{count(node.number('iterations'))} iteration(s) were proposed by "
            f"{node.text('proposer')} for {cost}"
            + (f"; {count(refused)} more answer(s) became none." if refused else ".")
        )


def _iteration(node: Node) -> IterationLine:
    result = (
        f"dev {points(node.number('dev_effect'))} {interval(node.number('dev_low'), node.number('dev_high'))}"
    )
    if node.has("predicted_rows") and node.node("predicted_rows").keys:
        rows = node.node("predicted_rows")
        named = ", ".join(f"{clean(key)}={rows.text(key)}" for key in rows.keys)
        result += f" on its predicted rows ({named}), {points(node.number('dev_overall'))} on all"
    predicted = threshold(node.number("predicted_effect"))
    evidence = f" ({node.text('evidence')})" if node.has("evidence") else ""
    if node.has("against_the_figures") and node.flag("against_the_figures"):
        evidence = f" against the figures{evidence}"
    if node.has("judged_by") and node.text("judged_by") != "a person":
        evidence += f" by {node.text('judged_by')}"
    gate = f"{node.text('class', 'not classed').replace('_', ' ')}{evidence}, {node.text('gate')}"
    return IterationLine(
        node.text("id"),
        node.text("hypothesis"),
        node.text("what"),
        f"{result}, predicted {predicted}: {node.text('outcome')}{_in_play(node)}; gate: {gate}.",
    )


def _in_play(node: Node) -> str:
    """On how many of the rows to be won the change ran or was sent; silent where that is not known."""
    if not node.has("reach") or not node.node("reach").has("ran"):
        return ""
    ran, rows = (count(node.node("reach").number(key)) for key in ("ran", "rows"))
    return f", in play on {ran} of {rows} failing rows"


def _audit(nodes: list[Node]) -> Audit:
    def lines(status: str) -> tuple[AuditLine, ...]:
        return tuple(
            AuditLine(n.text("id"), n.text("text"), n.text("evidence", ""))
            for n in nodes
            if n.text("status") == status
        )

    met, idle = lines("met"), lines("not applicable")
    unmet = tuple(
        AuditLine(n.text("id"), n.text("text"), n.text("evidence", "") or "no evidence")
        for n in nodes
        if n.text("status") not in {"met", "not applicable"}
    )
    rest = f", {len(idle)} not applicable" if idle else ""
    return Audit(unmet, idle, met, f"{len(met)} of {len(met) + len(unmet)} met{rest}")


def _proof(results: Results, record: Node) -> Proof:
    appendix, noise = record.node("appendix"), record.node("noise")
    figures = [
        ("rows, clusters, trials", ", ".join(count(record.number(k)) for k in ("n", "clusters", "trials")))
    ]
    if record.has("b") and record.has("c"):
        figures.append(
            ("discordant pairs won, lost", f"{count(record.number('b'))}, {count(record.number('c'))}")
        )
    freedom = f"{record.number('df'):.1f}" if record.has("df") else "unbounded"
    figures.append(("degrees of freedom, two-sided \u03b1", f"{freedom}, {record.number('alpha'):g}"))
    for label, node, key in (("Holm-adjusted p", record, "holm_p"), ("McNemar mid-p", appendix, "midp")):
        if node.has(key):
            figures.append((label, _p(node.number(key))))
    for label, key in (("Newcombe interval", "newcombe"), ("Tango interval", "tango")):
        if appendix.has(key):
            low, high = appendix.numbers(key)
            figures.append((label, interval(low, high)))
    if noise.has("rerun_share"):
        figures.append(("re-run share of the variance", percent(noise.number("rerun_share"))))
    if record.has("power_expected"):
        figures.append(("power at the registered expected effect", percent(record.number("power_expected"))))
    literal = record.node("literal")
    same = literal.text("outcome") == record.text("outcome")
    return Proof(
        _name(results, record.text("arm")),
        tuple(figures),
        tuple(
            (results.named(s.text("id")), points(s.number("shrunk")), percent(s.number("p_harm")))
            for s in record.nodes("slices")
            if s.has("shrunk") and s.has("p_harm")
        ),
        literal.text("outcome"),
        tuple(literal.texts("reasons")),
        "" if same else LITERAL_DIFFERS,
    )


def _p(value: float) -> str:
    return "< .0001" if value < 1e-4 else f"{value:.4f}".lstrip("0")
