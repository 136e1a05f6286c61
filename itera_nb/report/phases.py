"""What each phase cell shows: the results of the rooms above as small tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from itera_nb.arms.lock import ArmChange
from itera_nb.diagnosis.clusters import Cluster, Clusters
from itera_nb.diagnosis.judgement import Change
from itera_nb.diagnosis.loop import IterationResult
from itera_nb.diagnosis.patterns import Pattern
from itera_nb.experiment import Experiment
from itera_nb.ledger import Record
from itera_nb.protocol import State
from itera_nb.report.judged import PAIRWISE, judge_notes, score_text
from itera_nb.report.leaks import burned_line, near_notes, source_line
from itera_nb.report.power import picture, power_view
from itera_nb.report.tables import message, stacked, table
from itera_nb.report.view import View
from itera_nb.report.wording import interval, percent, points, size, usd
from itera_nb.scoring.evidence import Evidence, compare
from itera_nb.scoring.plan import Plan, Scenario
from itera_nb.scoring.registered import Baseline, Screened
from itera_nb.scoring.runs import Scored
from itera_nb.source.audit import DistributionAudit
from itera_nb.spec import Spec, is_pairwise
from itera_nb.stats.decision import effect_text
from itera_nb.stats.noise import rerun_noise


def frame(experiment: Experiment) -> View:
    """The registered frame and rule."""
    from itera_nb.report.banner import rule_sentence

    spec = experiment.spec
    tau = spec.rule.min_effect
    rows: list[list[str | None]] = [
        ["question", spec.frame.question],
        ["hypothesis", spec.frame.hypothesis],
        ["rule", rule_sentence(spec, tau.value) + (" (relative to the baseline)" if tau.relative else "")],
        ["expected effect", _expected(spec)],
        ["baseline", f"{spec.baseline}  {spec.arms[spec.baseline].ref}"],
        *([f"arm {name}", spec.arms[name].change] for name in (*spec.candidates, *spec.controls)),
        ["split", f"{spec.split.preset} {'/'.join(f'{100 * x:.0f}' for x in spec.split.fractions)}"],
        ["trials", str(spec.run.trials)],
        ["budget", "none" if spec.run.budget_usd is None else usd(spec.run.budget_usd)],
    ]
    locked = experiment.state.last("frame_locked")
    note = f"locked by record {locked.seq}" if locked else "not locked yet"
    return table(["", "as registered"], rows, title=experiment.name, notes=[note])


def quick_power(spec: Spec, found: Scenario) -> View:
    """The odds of the chosen split as it stands in a form."""
    if not found.test_rows:
        return message("power: this split seals no test rows")
    rows = [
        [
            f"truth {points(truth)} pp" if truth else "truth 0",
            *(f"{100 * share:.0f}" for share in (odds.ship + odds.scope, odds.kill, odds.inconclusive)),
        ]
        for truth, odds in found.odds.items()
    ]
    notes = [f"split {found.name}, {spec.trials} trials, first look; the whole picture: exp.plan()"]
    title = f"power of {found.test_rows:,} test rows, in percent"
    return table(["", "ship", "kill", "inconclusive"], rows, title=title, notes=notes)


def _expected(spec: Spec) -> str:
    smallest = spec.rule.min_effect
    if spec.frame.expected_effect is not None:
        return f"{points(spec.frame.expected_effect)} points"
    relative = " of the baseline" if smallest.relative else ""
    return (
        f"{points(2 * smallest.value)} points{relative} (a guess: twice the smallest effect worth acting on)"
    )


def changes(found: Sequence[ArmChange]) -> View:
    """What each arm changes, computed."""
    rows = [
        [
            c.arm,
            ", ".join(c.components) or "nothing",
            c.spec.change or "",
            c.spec.bundle or ("control" if c.spec.negative_control else ""),
        ]
        for c in found
    ]
    return table(["arm", "components that differ", "said", ""], rows)


def frame_locked(record: Record) -> View:
    """The frame's lock."""
    return message(f"frame locked: record {record.seq}, frame hash {record.body['frame_hash'][:12]}")


def plan(spec: Spec, made: Plan) -> View:
    """Odds of each outcome, per split, at each true effect; and against the number of rows."""
    headers = ["", "test rows", *(f"truth {points(t)} pp" if t else "truth 0" for t in made.truths)]
    headers += ["cost", "time"]
    rows = [[*_scenario(made, s), *_price(made, s)] for s in made.scenarios]
    origin = "measured on dev" if made.seen.measured else "a guess until dev is scored"
    thumb = "; ".join(
        f"{size(t.effect)} pp: {t.rows} rows, real power {100 * t.power:.0f} %" for t in made.thumb
    )
    notes = [
        "each cell in percent; the rest of a cell is inconclusive",
        f"discordance {percent(made.seen.discordance)} ({origin}); {made.rows:,} rows in all",
        *(
            f"{name}: {rows_:,} test rows; a loss below {size(harm)} points will probably not be noticed"
            for name, (rows_, harm) in made.slices.items()
            if rows_
        ),
        "rows or trials, at the expected effect: "
        + ", ".join(f"{t.test_rows:,} rows × {t.trials} ship {100 * t.ship:.0f}" for t in made.trade),
        f"the circulating rule of thumb at this split ({thumb})",
    ]
    if spec.rule.goal == "better" and made.seen.expected <= made.seen.min_effect:
        notes.append("warning: the expected effect is not above min_effect: power cannot exceed 50 %")
    shown = table(headers, rows, title="what this many rows can decide", notes=notes)
    return View(html=shown.html + picture(made.curve), text=shown.text)


def _price(made: Plan, scenario: Scenario) -> tuple[str, str]:
    """USD and minutes of the test rows at the pilot's prices and latencies."""
    price = "after the pilot" if made.row_usd is None else usd(made.row_usd * scenario.test_rows)
    if made.row_seconds is None:
        return price, "after the pilot"
    minutes = made.row_seconds * scenario.test_rows / 60
    return price, f"~{minutes:,.0f} min" if minutes >= 1 else "under a minute"


def _scenario(made: Plan, scenario: Scenario) -> list[str]:
    cells = []
    for truth in made.truths:
        odds = scenario.odds[truth]
        parts = [f"ship {100 * (odds.ship + odds.scope):.0f}"]
        if truth < round(made.seen.min_effect, 4):
            parts.insert(0, f"kill {100 * odds.kill:.0f}")
        cells.append(" ".join(parts))
    return [("> " if scenario.chosen else "  ") + scenario.name, f"{scenario.test_rows:,}", *cells]


def preview(found: dict[str, Any]) -> View:
    """Columns of the source; no values."""
    rows = [[c["name"], c["type"], f"{c['nulls']:,}", f"{c['distinct']:,}"] for c in found["columns"]]
    notes = [f"{found['rows']:,} rows; no values are shown, since any row may become a test row"]
    return table(["column", "type", "missing", "distinct (about)"], rows, notes=notes)


def sampled(record: Record) -> View:
    """The sample and its caps."""
    report = record.body["report"]
    notes = [
        f"{record.body['rows']:,} of {report['source_rows']:,} rows are in the sample (record {record.seq})"
    ]
    if report["entities"]:
        dropped = report["over_cap"] + report["over_share"]
        notes.append(
            f"caps dropped {dropped:,} rows ({percent(report['dropped_share'])}) of {report['capped']:,} of "
            f"{report['entities']:,} entities; the largest holds {percent(report['largest_after'])}"
        )
    return message(*notes)


def distribution(found: DistributionAudit, record: Record | None) -> View:
    """The distribution audit."""
    notes = list(found.sentences)
    if record is None:
        notes.append('not passed: accept it with a reason, exp.source.accept("why"), or mend the source')
    return message(f"distribution audit: {found.status.replace('_', ' ')}", *notes)


def sealed(record: Record, state: State) -> View:
    """Counts per slice, duplicates, the seal, and what is known of leaks."""
    body = record.body
    rows = [["all", *(body["counts"][p] for p in ("train", "dev", "test"))]]
    rows += [[name, *(parts[p] for p in ("train", "dev", "test"))] for name, parts in body["slices"].items()]
    found = body["duplicates"]
    notes = [
        f"sealed: record {record.seq}, sha256 {body['sealed']['sha256'][:12]}",
        f"seed commitment {body['seed_commitment'][:12]}",
        f"{found['rows']:,} duplicate rows in {found['groups']:,} groups, each kept on one side",
        *near_notes(found),
        *(line for line in (source_line(state), burned_line(body)) if line),
    ]
    if body["folds"]:
        notes.append(f"fewer than 50 rows: dev is scored in {body['folds']} folds")
    return table(["rows", "train", "dev", "test"], rows, notes=notes)


def baseline(spec: Spec, measured: Baseline, n: int) -> View:
    """The scorer on the baseline's train outputs."""
    by_id = {str(row[spec.source.id]): row for row in measured.rows}
    first = measured.results[measured.results["trial"] == 0].head(n)
    inputs = [c for c in (spec.source.inputs or list(measured.rows[0])) if c in measured.rows[0]][:2]
    rows = [
        [
            *(by_id[str(line["id"])][c] for c in inputs),
            by_id[str(line["id"])].get(spec.source.expected or ""),
            line["output"],
            f"{line['score']:.2f}",
            ", ".join(line["modes"]),
        ]
        for line in first.to_dict("records")
    ]
    body = measured.record.body
    floor = f", re-run noise {size(body['noise_floor'])} points" if body["noise_floor"] is not None else ""
    value = f"baseline on train: {percent(body['value'])} of {body['n']:,} rows{floor}"
    if spec.metric.pairwise:
        value = f"the baseline stands at 0; compared with itself on {body['n']:,} train rows{floor}"
    notes = [f"{value} (record {measured.record.seq})", *judge_notes(body)]
    headers = [*inputs, "expected", "output", "score", "failure modes"]
    if "reason" in first:
        headers.append("the judge's reason")
        rows = [[*row, reason] for row, reason in zip(rows, first["reason"], strict=True)]
    return table(headers, rows, notes=notes)


def failure_modes(measured: Baseline) -> View:
    """The failure modes and the baseline's rate on train."""
    if not measured.modes:
        return message("no failure modes are registered")
    total = len(measured.results)
    rows = [
        [mode, f"{weight:g}", percent(sum(mode in m for m in measured.results["modes"]) / total)]
        for mode, weight in measured.modes.items()
    ]
    return table(["failure mode", "weight", "baseline on train"], rows)


def metric_locked(record: Record) -> View:
    """The metric's lock, and the power of the sealed rows as it was then."""
    shown = power_view(record.body["power"])
    pairwise = is_pairwise(record.body["values"]["metric"]["scorer"])
    value = "0, as preferences have it" if pairwise else percent(record.body["baseline"])
    done = message(
        f"metric, rule and experiment.toml locked: record {record.seq}, sha256 {record.body['toml'][:12]}",
        f"{len(record.body['modes'])} failure modes; baseline on train {value}",
    )
    return stacked(shown, done)


def scores(spec: Spec, part: str, scored: Scored) -> View:
    """Means and trials of each arm."""
    rows = []
    for arm in spec.arms:
        x = scored.record.body["arms"][arm]
        bad = {k: v for k, v in x["statuses"].items() if k != "ok"}
        kinds = f" ({', '.join(f'{n} {kind}' for kind, n in x['errors'].items())})" if x["errors"] else ""
        failed = (", ".join(f"{v} {k}" for k, v in bad.items()) or "0") + kinds
        mark = " (baseline)" if arm == spec.baseline else ""
        mean = score_text(x["mean"], pairwise=spec.metric.pairwise)
        figures = [mean, f"± {size(x['sd'])}", len(x["trials"]), failed, x["unscored"]]
        rows.append([arm + mark, *figures, *(f"{x['secondary'][m]:.3f}" for m in spec.metric.secondary)])
    note = "free to read" if part == "train" else "dev: not evidence"
    notes = [f"{scored.record.body['n']:,} {part} rows ({note}); record {scored.record.seq}"]
    if reused := sum(x["reused"] for x in scored.record.body["arms"].values()):
        notes.append(f"{reused:,} answers are an earlier run's, at their first price and latency")
    notes += judge_notes(scored.record.body)
    headers = [
        "arm",
        PAIRWISE if spec.metric.pairwise else "mean",
        "over trials",
        "trials",
        "failed calls",
        "no score",
        *spec.metric.secondary,
    ]
    return table(headers, rows, notes=notes)


def screened(spec: Spec, found: Sequence[Screened], record: Record) -> View:
    """Means of the screened arms on train, in the order of the file."""
    rows = [
        [
            s.arm,
            "registered" if s.registered else "screened",
            score_text(s.mean, pairwise=spec.metric.pairwise),
            " to ".join(score_text(end, pairwise=spec.metric.pairwise) for end in (s.low, s.high)),
        ]
        for s in found
    ]
    notes = [
        f"{record.body['n']:,} train rows, one trial: train is no evidence (record {record.seq})",
        'move at most three to [arms]; once that is locked: itera amend --why "chosen on train"',
    ]
    return table(["arm", "", "mean on train", "95 % interval"], rows, notes=notes)


def noise(spec: Spec, evidence: Evidence) -> View:
    """The noise floor, and each arm's re-run noise."""
    rows = []
    base = evidence.scores[spec.baseline]
    for arm, y in evidence.scores.items():
        if min(y.shape[1], base.shape[1]) < 2:
            rows.append([arm, "one trial: no re-run noise can be measured"])
            continue
        found = rerun_noise(y, base)
        says = "re-runs identical; row sampling is the only uncertainty" if found.deterministic else ""
        rows.append([arm, f"{size(found.se)} points {says}"])
    controls = {arm: compare(evidence, arm, spec.baseline, 0.05).delta for arm in spec.controls}
    notes = [
        f"{arm}, a negative control, differs by {effect_text(delta)}: expected is no difference"
        for arm, delta in controls.items()
    ]
    return table(["arm against baseline", "standard error from re-runs alone"], rows, notes=notes)


def cost(spec: Spec, record: Record | None) -> View:
    """Cost and latency of each arm on dev."""
    assert record is not None
    rows = []
    for arm in spec.arms:
        x = record.body["arms"][arm]
        price = "unknown" if x["cost_per_1k_usd"] is None else usd(x["cost_per_1k_usd"])
        late = [("" if v is None else f"{v:,.1f} ms") for v in (x["latency_p50_ms"], x["latency_p95_ms"])]
        rows.append([arm, price, *late, "a chunk's time divided by its rows" if x["amortised"] else ""])
    return table(["arm", "per 1,000 rows", "p50", "p95", ""], rows, notes=[f"baseline: {spec.baseline}"])


def patterns(found: Sequence[Pattern]) -> View:
    """The four patterns of each arm."""
    words = {True: "yes", False: "no", None: "cannot tell"}
    rows = [[p.arm, p.name, words[p.found], p.evidence, p.follows if p.found else ""] for p in found]
    return table(["arm", "pattern", "found", "evidence", "what follows"], rows)


MOST_CLUSTERS = 12


def clusters(found: Clusters) -> View:
    """Where each arm wins and loses: groups by declared columns, then by the words that train rows share."""
    views = []
    for arm in dict.fromkeys(c.arm for c in found.found):
        mine = [c for c in found.found if c.arm == arm]
        for title, kinds in (("declared columns", None), ("text", "text"), ("failure modes", "failure mode")):
            some = [c for c in mine if (c.by == kinds if kinds else c.by not in {"text", "failure mode"})]
            if some:
                views.append(_clusters(f"{arm}: by {title}", some))
        views.append(
            message(
                f"{len(mine)} groups of {arm} were looked at: by chance alone about {len(mine) / 20:.1f} "
                "intervals would leave out 0; * = it is not 0 although all were looked at (Holm)"
            )
        )
    if found.missing:
        views.append(message(found.missing))
    return stacked(*views, between="\n\n")


def _clusters(title: str, found: Sequence[Cluster]) -> View:
    """The groups that move the whole most, gains and losses; a failure mode's figure is that of its rate."""
    largest = sorted(found, key=lambda c: -abs(c.effect.estimate * c.n))[:MOST_CLUSTERS]
    rows = [
        [c.name, f"{c.n:,}", c.wins, c.losses, effect_text(c.effect) + (" *" if c.shown else "")]
        for c in largest
    ]
    notes = [f"{len(found) - len(rows):,} smaller ones are not shown"] if len(found) > len(rows) else []
    if found[0].by == "text":
        notes.append("the words are those of train rows; dev rows are only assigned to them")
    what = "rows with it, change of its rate" if found[0].by == "failure mode" else "net effect"
    return table(["rows that share", "dev rows", "wins", "losses", what], rows, title=title, notes=notes)


def iterations(found: Sequence[IterationResult], waiting: Sequence[str] = (), why: str = "") -> View:
    """Each iteration with its prediction and outcome; what waits in the queue, and why."""
    if not found:
        return message("no iteration registered; a gate is not needed")
    rows = [
        [
            r.record.body["id"],
            r.record.body["parent"],
            r.record.body["what"],
            points(r.record.body["predicted_effect"]),
            f"{points(r.effect.estimate)} {interval(r.effect.low, r.effect.high)}",
            f"{points(r.overall.estimate)} {interval(r.overall.low, r.overall.high)}",
            r.outcome,
            _reach(r),
        ]
        for r in found
    ]
    headers = [
        "iteration",
        "parent",
        "the one change",
        "predicted",
        "on the predicted rows",
        "on all rows",
        "",
        "the change was in play on",
    ]
    notes = ["effects on dev against the parent, in points"]
    if waiting:
        notes.append(f"waiting in the queue: {', '.join(waiting)}; {why}")
    return table(headers, rows, notes=notes)


def _reach(result: IterationResult) -> str:
    """On how many of the rows to be won the change ran or was sent."""
    reach = result.reach
    if reach.ran is None:
        return f"not known: {reach.note}"
    never = result.outcome == "falsified" and not reach.ran
    says = ": the mechanism is elsewhere" if never else ""
    return f"{reach.ran:,} of {reach.rows:,} rows that the parent fails on{says}"


def open_sprint(changes: Sequence[Change]) -> View:
    """The open sprint: what was measured of each change, and how its file judges it."""
    rows = []
    for change in changes:
        wanted, measured = change.wanted, change.measured
        answers = [wanted.class_, wanted.action, wanted.evidence]
        proposed = f"{measured.proposed.replace('_', ' ')}: {'; '.join(measured.why)}"
        figures = [measured.verdict, measured.sentence, proposed]
        rows.append([change.id, *figures, *(a or "not said yet" for a in answers)])
    headers = ["iteration", "measured", "figures", "the figures suggest", "class", "action", "reason"]
    return table(headers, rows, notes=["not recorded yet"])


def gates(record: Record | None) -> View:
    """The last gate."""
    if record is None:
        return message("no gate needed: no iteration was made")
    rows = [
        [
            c["id"],
            c["class"],
            c["action"],
            c["measured"]["verdict"],
            c["measured"]["sentence"],
            ("against the figures: " if c["against"] else "") + c["evidence"],
            c["by"],
        ]
        for c in record.body["changes"]
    ]
    headers = ["iteration", "class", "action", "measured", "figures", "reason", "judged by"]
    lines = [f"{x['arm']}: {x['outcome']}, {x['why']}" for x in record.body["lines"]]
    return table(headers, rows, notes=[f"sprint {record.body['sprint']}: {record.body['outcome']}", *lines])


def locked(record: Record) -> View:
    """What goes to the test."""
    rows = [[x["arm"], x["head"], x["digest"][:12], x["trials"]] for x in record.body["lines"]]
    notes = [f"locked: record {record.seq}. The sealed test opens once: itera verdict"]
    return table(["arm", "what is locked", "digest", "trials"], rows, notes=notes)
