"""What no single field can say: which arms there must be, and what sections need of each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .mistakes import Fault, nearest
from .sections import (
    COUNTED,
    HEADER,
    JUDGED,
    MAX_CANDIDATES,
    NAME,
    RECORDED,
    URL,
    ArmSpec,
    Spec,
    is_pairwise,
)

NEEDS = {
    "python": ("target",),
    "prompt": ("prompt", "model"),
    "http": ("url",),
    "command": ("command",),
    "recorded": ("file",),
}


def arm_structure(raw: Mapping[str, Any]) -> Iterator[Fault]:
    """Names of arms, and whom they inherit from; a screened arm may inherit from a registered one."""
    arms, screen = raw.get("arms"), raw.get("screen")
    if not isinstance(arms, dict):
        return
    yield from _lineage("arms", arms, arms)
    if isinstance(screen, dict):
        yield from _lineage("screen", screen, arms | screen)


def _lineage(section: str, named: Mapping[str, Any], arms: Mapping[str, Any]) -> Iterator[Fault]:
    for name, arm in named.items():
        if not NAME.fullmatch(name):
            yield (section, name), "a name is lower-case letters, digits and dashes"
        seen, parent = {name}, arm.get("from") if isinstance(arm, dict) else None
        while isinstance(parent, str):
            if parent not in arms:
                if len(seen) == 1:  # else the arm between says it
                    yield (section, name, "from"), f"no arm {parent!r}{nearest(parent, arms)}"
                break
            if parent in seen:
                yield (section, name, "from"), "arms inherit in a circle"
                break
            seen.add(parent)
            parent = arms[parent].get("from") if isinstance(arms[parent], dict) else None


def meaning(spec: Spec) -> Iterator[Fault]:
    """Which arms there must be, what their kinds need, and what sections need of each other."""
    baselines = [name for name, arm in spec.arms.items() if arm.baseline]
    if len(baselines) != 1:
        found = ", ".join(baselines) or "none"
        yield ("arms",), f"exactly one arm has `baseline = true`, found {found}"
        return
    if not 1 <= len(spec.candidates) <= MAX_CANDIDATES:
        found = f"1 to 3 arms beside the baseline, found {len(spec.candidates)}"
        if spec.candidates:
            found += " (SG08); move the others to [screen.NAME] and choose on train: itera screen"
        yield ("arms",), found
    for name, arm in spec.arms.items():
        for key, message in _arm_needs(arm):
            yield ("arms", name, *key), message
        if arm.few_shot is not None and spec.source.expected is None:
            yield ("arms", name, "few_shot"), "examples need a label column: [source] expected"
    yield from _source_meaning(spec)
    yield from _judge_meaning(spec)
    yield from _recorded_meaning(spec)
    yield from _iterate_meaning(spec)
    yield from _screen_meaning(spec)


def _source_meaning(spec: Spec) -> Iterator[Fault]:
    source, scorer = spec.source, spec.metric.scorer
    if source.expected is None and ".py:" not in scorer and scorer not in {*JUDGED, RECORDED}:
        yield ("source", "expected"), f"the scorer {scorer!r} needs a label column"
    if source.expected in source.inputs:
        message = f"{source.expected!r} is the label: an arm that sees it answers from it (SG01)"
        yield ("source", "inputs"), message
    if source.severity_cap is not None and source.severity is None:
        yield ("source", "severity_cap"), "needs `severity`"


def _judge_meaning(spec: Spec) -> Iterator[Fault]:
    """What the scorer and `[judge]` need of each other."""
    scorer, judge = spec.metric.scorer, spec.judge
    at = ("metric", "scorer")
    if scorer in COUNTED:
        yield at, f"{scorer!r} counts: it can only be a secondary metric"
    if scorer in JUDGED and judge is None:
        yield at, f'the scorer "{scorer}" needs a [judge] with a rubric and a model'
    if judge is not None and scorer not in JUDGED:
        yield ("judge",), f'the scorer {scorer!r} asks no judge; use scorer = "judge" or "preference"'
    if judge is not None and judge.second not in {"none", "human"}:
        if not all(judge.second.partition("/")):
            wanted = 'expected "vendor/model" of another family, "human" or "none"'
            yield ("judge", "second"), f"{wanted} (got {judge.second!r})"
        elif judge.second == judge.model:
            yield ("judge", "second"), "a judge cannot check itself: name a model of another family"
    for name in spec.metric.secondary:
        if name in JUDGED or is_pairwise(name):
            yield ("metric", "secondary"), f"{name!r} can only be the primary scorer"
    if spec.metric.pairwise and spec.rule.min_effect.relative:
        message = 'a net win rate is not relative to a value of the baseline: write 0.05 or "5pp"'
        yield ("rule", "min_effect"), message


def _recorded_meaning(spec: Spec) -> Iterator[Fault]:
    """What recorded results need of the other sections."""
    recorded = {name: arm for name, arm in spec.arms.items() if arm.kind == "recorded"}
    for name, arm in recorded.items():
        if arm.trial is None and spec.run.trials != 1:
            message = f"arm {name!r} has no `trial` column, so it holds one trial: say trials = 1"
            yield ("run", "trials"), message
    if recorded and not spec.claim.seen:
        message = (
            f"arm {next(iter(recorded))!r} is older than this frame: say seen = true, and the outcome is "
            "retrospective, never ship; or compare without a folder: itera compare A.csv B.csv"
        )
        yield ("claim", "seen"), message
    scored = [arm.score is not None for arm in spec.arms.values()]
    if any(scored) != (spec.metric.scorer == RECORDED) or any(scored) != all(scored):
        message = f'where arms have a `score` column all of them do, and the scorer is "{RECORDED}" (SG18)'
        yield ("metric", "scorer"), message
    if any(scored) and spec.metric.secondary:
        yield ("metric", "secondary"), "scores taken as they are leave no output for a second scorer"


def _iterate_meaning(spec: Spec) -> Iterator[Fault]:
    """What a proposer that is paid needs."""
    iterate = spec.iterate
    if iterate is None or iterate.proposer != "claude":
        return
    if iterate.model is None:
        yield ("iterate", "model"), 'expected "vendor/model": who proposes'
    if iterate.budget_usd is None:
        yield ("iterate", "budget_usd"), "a proposer that is paid needs a budget in USD"


def _screen_meaning(spec: Spec) -> Iterator[Fault]:
    """What arms that are only screened on train need."""
    for name, arm in spec.screen.items():
        if name in spec.arms:
            yield ("screen", name), "an arm of that name is registered"
        if arm.baseline or arm.negative_control:
            yield ("screen", name), "a screened arm is a candidate: no baseline, no negative control"
        for key, message in _arm_needs(arm):
            yield ("screen", name, *key), message


def _arm_needs(arm: ArmSpec) -> Iterator[Fault]:
    if arm.kind is None:
        yield ("kind",), "expected python, prompt, http, command or recorded"
        return
    for needed in NEEDS[arm.kind]:
        if getattr(arm, needed) is None:
            yield (needed,), f"an arm of kind {arm.kind} needs this key"
    if arm.kind == "http" and arm.url and not URL.fullmatch(arm.url):
        yield ("url",), "expected http:// or https://, without a user or password"
    for header, value in arm.headers.items():
        if not HEADER.fullmatch(value):
            message = 'a value comes from the environment: "env:NAME" or "Bearer env:NAME"'
            yield ("headers", header), message
    if arm.kind == "recorded" and (arm.output is None) == (arm.score is None):
        message = "name the column of outputs, or of scores that are taken as they are: one of the two"
        yield ("output",), message
    if arm.baseline and not arm.ref:
        yield ("ref",), "where today's behaviour stands, for example src/app.py:42"
    if not arm.baseline and not arm.change:
        yield ("change",), "say in a few words what differs from the baseline"


def not_yet(spec: Spec) -> Iterator[Fault]:
    """Keys whose shape is settled but which this version cannot run: said at once, not half-way."""
    later = "is understood but not available in this version"
    if spec.split.preset == "none":
        instead = "results that nothing can seal are compared without a folder: itera compare A.csv B.csv"
        yield ("split", "preset"), f"{later}; {instead}"
    if spec.source.media:
        yield ("source", "media"), later
    if spec.report.examples:
        yield ("report", "examples"), later
