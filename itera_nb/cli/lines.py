"""One line a phase, read from the ledger: what `itera run` and `itera verdict` print."""

from __future__ import annotations

import os
from typing import Any

from itera_nb.exceptions import StoppedError, printable
from itera_nb.experiment import Experiment
from itera_nb.models.checks import models_of
from itera_nb.models.credentials import find_key, key_variable
from itera_nb.protocol import State, check
from itera_nb.report.judge_check import second_line
from itera_nb.report.judged import judge_notes, score_text
from itera_nb.report.leaks import burned_line, near_notes, source_line
from itera_nb.report.power import power_line
from itera_nb.report.wording import (
    changes_text,
    interval,
    milliseconds,
    percent,
    points,
    short_hash,
    size,
    usd,
)
from itera_nb.seal.anchors import trailer
from itera_nb.spec import Spec


def plan_head(experiment: Experiment) -> str:
    """Name, slices, rule and keys."""
    spec = experiment.spec
    rule = f"ship if ≥ +{spec.rule.min_effect}"
    if spec.rule.goal == "no_worse":
        rule = f"ship if > −{size(spec.rule.margin or 0)} pp"
    if spec.source.slices:
        rule += f", no slice −{size(spec.rule.max_slice_loss)} pp"
    head = f"{experiment.name}   {len(spec.candidates) + 1} arms   {spec.metric.scorer}   {rule}"
    return "\n".join([head, *_keys(spec)])


def _keys(spec: Spec) -> list[str]:
    lines = []
    for vendor in sorted({model.partition("/")[0] for model in models_of(spec)}):
        known = spec.models.get(vendor)
        try:
            where = find_key(vendor, known).source
        except StoppedError:
            where = "not found: set it before itera run"
        lines.append(f"keys   {key_variable(vendor, known)} {where}")
    return lines


def frame(experiment: Experiment) -> str:
    """Phase 0."""
    record = experiment.state.the("frame_locked")
    changes = changes_text(record.body["changes"])
    return f"0 frame    locked      {changes}          head {short_hash(record.hash)}"


def source(experiment: Experiment) -> str:
    """Phase 1."""
    record = experiment.state.the("sealed")
    counts, found = record.body["counts"], record.body["duplicates"]
    parts = "  ".join(f"{part} {counts[part]:,}" for part in ("train", "dev", "test"))
    twins = (
        f"{found['groups']} groups of duplicates kept together" if found["groups"] else "no duplicates across"
    )
    custody = experiment.custody
    key = f"to {custody.names}; no key is kept here" if custody.escrow else "local key"
    line = f"1 source   sealed      {parts} (encrypted, {key})   {twins}"
    state = experiment.state
    more = [*near_notes(found), source_line(state), burned_line(record.body)]
    return "\n           ".join([line, *(note for note in more if note)])


def metric(experiment: Experiment) -> str:
    """Phase 2."""
    record = experiment.state.the("metric_locked")
    modes = len(record.body["modes"])
    scored = f"{experiment.spec.metric.scorer}, {modes} failure modes"
    value = f"baseline on train {percent(record.body['baseline'])}"
    if experiment.spec.metric.pairwise:
        value = "preferences over the baseline"
    line = f"2 metric   locked      {scored}, {value}"
    return f"{line}\n           {power_line(record.body['power'])}"


def dev(experiment: Experiment) -> str:
    """Phase 3, dev scores."""
    record = experiment.state.scored("dev")
    assert record is not None
    arms = {name: record.body["arms"][name] for name in experiment.spec.arms}
    trials = max(len(x["trials"]) for x in arms.values())
    failed = sum(v for x in arms.values() for k, v in x["statuses"].items() if k != "ok")
    costs = [x["cost_usd"] for x in arms.values()]
    cost = "cost unknown" if None in costs else usd(sum(costs))
    units = f"{record.body['n']:,} rows × {len(arms)} arms × {trials} trials"
    reused = sum(x["reused"] for x in arms.values())
    again = f"   {reused:,} reused, at their first price and latency" if reused else ""
    head = f"  dev      {units}   {cost}   {failed} failed{again}"
    pairwise = experiment.spec.metric.pairwise
    scores = "   ".join(
        f"{arm} {score_text(x['mean'], pairwise=pairwise)} ± {size(x['sd'])}" for arm, x in arms.items()
    )
    wrong = "".join(
        f"\n           {arm} fails: {', '.join(f'{n} {kind}' for kind, n in x['errors'].items())}"
        for arm, x in arms.items()
        if x["errors"]
    )
    judged = "".join(f"\n           {note}" for note in judge_notes(record.body))
    floor = f"noise floor {_floor(experiment.state)}"
    return printable(f"{head}{wrong}\n           {scores}   (dev: not evidence)   {floor}{judged}")


def _floor(state: State) -> str:
    measured = state.last("baseline_measured")
    floor = measured.body["noise_floor"] if measured else None
    return "unknown" if floor is None else f"{size(floor)} points"


def diagnose(experiment: Experiment) -> str:
    """Phase 4."""
    state = experiment.state
    iterations, gates = state.all("iteration_registered"), state.all("gate")
    if not iterations:
        return "4 diagnose locked      no iteration registered; gate not needed"
    judged = [c for g in gates for c in g.body["changes"]]
    words = "; ".join(f"{c['id']} {c['class']} -> {'kept' if c['kept'] else c['action']}" for c in judged)
    return f"4 diagnose locked      {len(iterations)} iteration(s), {len(gates)} gate(s): {words}"


def verdict(experiment: Experiment) -> str:
    """Phase 5: one block an arm, then where the conclusion is."""
    record = experiment.state.the("verdict")
    found = record.body["verdict"]
    lines: list[str] = []
    for arm in found["records"]:
        lines += _arm(experiment.spec, found, arm)
    lines += [f"  {note}" for note in judge_notes(found)]
    if check("extended", experiment.state) is None:
        lines.append(_top_up(experiment))
    done = experiment.state.last("concluded")
    head = short_hash(record.hash)
    written = sorted(done.body["files"]) if done else []
    files = "  ".join([*(f for f in written if "/" not in f), "charts/"])
    where = os.path.relpath(experiment.path("conclusion.html"))
    told = [*lines, f"{files}    record head {head}", f"open {where}", anchor_hint(experiment)]
    return printable("\n".join(told))  # slices are named by values of the rows


def anchor_hint(experiment: Experiment) -> str:
    """How the record's head gets where deleting this folder does not reach it."""
    return f"anchor it in git:  itera anchor   ({trailer(experiment.state.records)[:40]}…)"


def _top_up(experiment: Experiment) -> str:
    rows = experiment.state.batches[0].body["counts"]["test"]
    return f"  next    {rows:,} new rows as the one registered top-up:  itera extend --from FILE"


def _arm(spec: Spec, found: dict[str, Any], arm: dict[str, Any]) -> list[str]:
    base, own = found["arms"][spec.baseline], found["arms"][arm["arm"]]
    means = f"{spec.baseline} {percent(base['mean'])}  {arm['arm']} {percent(own['mean'])}"
    if shares := own.get("preference"):
        means = "  ".join(f"{word} {percent(share)}" for word, share in shares.items())
    head = (
        f"{arm['outcome'].upper()} {arm['arm']}   {points(arm['estimate'])} pp "
        f"{interval(arm['low'], arm['high'])}  {means}   {arm['n']:,} rows × {arm['trials']} trials"
    )
    lines = [head, f"  why     {arm['sentence']}"]
    slices = "   ".join(
        f"{s['id']} {points(s['estimate'])} {interval(s['low'], s['high'])} {s['level']}"
        for s in arm["slices"]
    )
    if slices:
        lines.append(f"  slices  {slices}")
    modes = "  ".join(
        f"{m['id']} {m['baseline_count']:.0f} → {m['arm_count']:.0f}" for m in arm["failure_modes"]
    )
    if modes:
        lines.append(f"  modes   {modes}")
    late = arm["latency"]["delta_p95_ms"]
    cost = arm["cost"]["delta_per_1k_usd"]
    price = "cost unknown" if cost is None else f"cost {usd(cost, sign=True)} per 1,000"
    lines.append(f"  price   {price}" + ("" if late is None else f"     p95 {milliseconds(late, sign=True)}"))
    if second := arm.get("second_opinion"):
        lines.append(f"  judges  {second_line(second)}")
    if arm["literal"]["outcome"] != arm["outcome"]:
        reasons = ", ".join(arm["literal"]["reasons"]) or "every condition holds"
        lines.append(f"  literal rule of the method: {arm['literal']['outcome']} ({reasons})")
    return lines
