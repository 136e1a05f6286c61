"""The sections of `experiment.toml` and of an iteration file: each key, its type and its default."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    RootModel,
    field_validator,
    model_validator,
)

Kind: TypeAlias = Literal["python", "prompt", "http", "command", "recorded"]
Fraction: TypeAlias = Annotated[float, Field(ge=0, le=1)]
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
URL = re.compile(r"https?://[^/?#@\s]+(?:[/?#]\S*)?")
HEADER = re.compile(r"(?:[A-Za-z][A-Za-z-]* )?env:[A-Za-z_][A-Za-z0-9_]*")
EFFECT = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(pp|%)\s*")
MAX_CANDIDATES = 3
JUDGED = {"judge", "preference"}
COUNTED = {"words"}
RECORDED = "recorded"
"""The scorer of recorded arms whose files hold scores: taken as they are."""
NOT_INHERITED = {"baseline", "ref", "change", "bundle", "negative_control", "from_"}


def _vendor_and_model(name: str) -> str:
    if not all(name.partition("/")):
        raise ValueError('expected "vendor/model"')
    return name


ModelName: TypeAlias = Annotated[str, AfterValidator(_vendor_and_model)]


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, populate_by_name=True, allow_inf_nan=False
    )


class Effect(_Section):
    """An effect size: a fraction (0.05 = 5 percentage points) or relative to the baseline's value."""

    value: float
    relative: bool = False

    def absolute(self, baseline: float) -> float:
        """The effect as a fraction, given the baseline's value (a fraction)."""
        return self.value * baseline if self.relative else self.value

    def __str__(self) -> str:
        return f"{100 * self.value:g}" + ("% of the baseline" if self.relative else " pp")


def parse_effect(value: object) -> object:
    """Read 0.05, "5pp" (absolute) or "10%" (relative to the baseline) as an `Effect`."""
    if isinstance(value, Effect):
        return value
    relative = False
    if isinstance(value, str) and (match := EFFECT.fullmatch(value)):
        value, relative = float(match[1]) / 100, match[2] == "%"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError('expected a fraction such as 0.05, "5pp", or "10%" of the baseline')  # noqa: TRY004
    if not 0 < value < (float("inf") if relative else 1):
        raise ValueError("expected a fraction between 0 and 1: 0.05 is five percentage points")
    return Effect(value=float(value), relative=relative)


class Frame(_Section):
    """`[frame]`: the question, in words that end in ship, scope or kill."""

    question: str = Field(min_length=8)
    hypothesis: str = Field(min_length=8)
    expected_effect: Fraction | None = None
    parent: str | None = None
    novelty: bool = False
    limitations: list[str] = []


class ArmSpec(_Section):
    """`[arms.NAME]`: one way of producing an output; keys not given are those of `from`."""

    from_: str | None = Field(default=None, alias="from")
    baseline: bool = False
    negative_control: bool = False
    kind: Kind | None = None
    target: str | None = None
    prompt: str | None = None
    model: str | None = None
    system: str | None = None
    params: dict[str, Any] = {}
    tools: str | None = None
    few_shot: str | Annotated[int, Field(ge=1)] | None = None
    parse: dict[str, Any] | None = None
    file: str | None = None
    output: str | None = None
    score: str | None = None
    trial: str | None = None
    cost_usd: str | None = None
    latency_ms: str | None = None
    url: str | None = None
    headers: dict[str, str] = {}
    command: str | list[str] | None = None
    env: list[str] = []
    cost: Literal["free"] | None = None
    timeout_s: float | None = Field(default=None, gt=0)
    batch_size: int | None = Field(default=None, ge=1)
    max_concurrency: int | None = Field(default=None, ge=1)
    ref: str | None = None
    change: str | None = None
    bundle: str | None = None

    def inherit(self, parent: ArmSpec) -> ArmSpec:
        """This arm with every key that it does not give taken from `parent`."""
        taken = {k: getattr(parent, k) for k in parent.model_fields_set - NOT_INHERITED}
        own = {k: getattr(self, k) for k in self.model_fields_set}
        return ArmSpec(**taken | own)


class SourceSpec(_Section):
    """`[source]`: where the rows come from and what their columns mean."""

    uri: str
    id: str
    inputs: list[str] = []
    expected: str | None = None
    slices: list[str] = []
    cluster: str | None = None
    cap_by: str | None = None
    cap: int = Field(default=3, ge=1)
    max_entity_share: Fraction = 1 / 3
    severity: str | None = None
    severity_cap: float | None = Field(default=None, gt=0)
    production_counts: str | None = None
    generated: bool = False
    sample: int | None = Field(default=None, ge=1)
    media: list[str] = []


class Requirement(_Section):
    """`[[split.require]]`: at least `count` rows with `column == value` in every part."""

    column: str
    value: str
    count: int = Field(ge=1)


FRACTIONS = {"iterate": (0.30, 0.50, 0.20), "confirm": (0.10, 0.20, 0.70), "none": (0.0, 1.0, 0.0)}


class SplitSpec(_Section):
    """`[split]`: train / dev / test fractions, strata and required counts."""

    preset: Literal["iterate", "confirm", "none"] | None = None
    train: Fraction | None = None
    dev: Fraction | None = None
    test: Fraction | None = None
    stratify: list[str] = []
    require: list[Requirement] = []
    folds: int = Field(default=5, ge=2)

    @model_validator(mode="after")
    def _sum_to_one(self) -> SplitSpec:
        given = [x for x in (self.train, self.dev, self.test) if x is not None]
        if given and (len(given) != 3 or abs(sum(given) - 1) > 1e-9):
            raise ValueError("train, dev and test are given together and add up to 1")
        return self

    @property
    def fractions(self) -> tuple[float, float, float]:
        """Train, dev and test fractions."""
        if self.train is not None and self.dev is not None and self.test is not None:
            return self.train, self.dev, self.test
        return FRACTIONS[self.preset or "confirm"]


class ModeSpec(_Section):
    """A failure mode as a predicate: a failed row whose columns (and `output`) equal those given."""

    weight: float = Field(default=1.0, ge=0)
    when: dict[str, str | int | float | bool] = {}


def _read_modes(value: object) -> object:
    """`name = 2.0` is a weight; `name = { expected = "a", output = "b", weight = 2.0 }` a predicate."""
    if not isinstance(value, dict):
        return value
    modes: dict[str, object] = {}
    for name, mode in value.items():
        if isinstance(mode, dict):
            when = {k: v for k, v in mode.items() if k != "weight"}
            modes[name] = {"when": when} | ({"weight": mode["weight"]} if "weight" in mode else {})
        elif isinstance(mode, int | float) and not isinstance(mode, bool):
            modes[name] = {"weight": mode}
        else:
            modes[name] = mode
    return modes


class MetricSpec(_Section):
    """`[metric]`: one primary scorer, at most two secondaries, the failure modes with their weights."""

    scorer: str = "exact"
    secondary: list[str] = Field(default=[], max_length=2)
    tolerance: float = Field(default=0.0, ge=0)
    relative_tolerance: float = Field(default=0.0, ge=0)
    ignore_case: bool = False
    fail_below: Fraction = 0.5
    failure_modes: Annotated[dict[str, ModeSpec] | str | None, BeforeValidator(_read_modes)] = None

    @property
    def pairwise(self) -> bool:
        """Whether an arm's output is compared with the baseline's: the score is a preference, -1 to 1."""
        return is_pairwise(self.scorer)


def is_pairwise(scorer: str) -> bool:
    """Whether a scorer compares two outputs: `preference`, or a function named `prefer` or `prefer_...`."""
    name = scorer.rpartition(":")[2]
    return scorer == "preference" or (":" in scorer and (name == "prefer" or name.startswith("prefer_")))


class JudgeSpec(_Section):
    """`[judge]`: the model that scores open-ended output.

    `scale` is the highest score that it gives, `planted` the number of dev rows on which it is asked again
    with an instruction hidden in the output, `second` and `rows` how it is checked.
    """

    rubric: str
    model: ModelName
    params: dict[str, Any] = {}
    scale: int = Field(default=10, ge=1, le=100)
    planted: int = Field(default=10, ge=0)
    second: str = "none"
    rows: int = Field(default=30, ge=5)


class RuleSpec(_Section):
    """`[rule]`: the registered ship rule."""

    goal: Literal["better", "no_worse"] = "better"
    min_effect: Annotated[Effect, BeforeValidator(parse_effect)] = Effect(value=0.05)
    max_slice_loss: Fraction = 0.02
    margin: Fraction | None = None
    min_saving: Fraction | None = None
    max_cost_increase: float | None = Field(default=None, ge=0)
    max_latency_p95_increase_ms: float | None = Field(default=None, ge=0)
    max_worst_mode_increase: Fraction = 0.02
    proof: Literal["shown", "above_min", "literal"] = "shown"
    slice_rule: Literal["posterior", "raw_point", "harm_test", "literal"] = "posterior"
    extension: Literal["once", "none"] = "once"
    choose: Literal["best_if_shown_else_cheapest"] = "best_if_shown_else_cheapest"

    @model_validator(mode="after")
    def _no_worse_is_whole(self) -> RuleSpec:
        if self.goal == "no_worse" and not self.margin:
            raise ValueError('goal = "no_worse" needs `margin`: the loss that is still acceptable (0.03)')
        if self.goal == "no_worse" and self.min_saving is None:
            raise ValueError('goal = "no_worse" needs `min_saving`: the reason to ship (0.5 = half price)')
        return self


class RunSpec(_Section):
    """`[run]`: trials, money, time, and where production code lies."""

    trials: Annotated[int, Field(ge=1)] | Literal["auto"] = 3
    budget_usd: float | None = Field(default=None, ge=0)
    batch: bool = False
    pythonpath: list[str] = []
    max_concurrency: int = Field(default=16, ge=1)
    adaptive: bool = True
    timeout_s: float = Field(default=60.0, gt=0)


class IterateSpec(_Section):
    """`[iterate]`: who proposes iterations, and within what budget (USD, and a number of iterations).

    `claude` asks `model`; what stands in the queue goes first. `judge` is a model that classes changes at the
    gate, blind; without it a person does.
    """

    proposer: Literal["queue", "claude"] = "queue"
    queue: str = "iterations/queue"
    model: ModelName | None = None
    budget_usd: float | None = Field(default=None, ge=0)
    iterations: Annotated[int, Field(ge=1)] | None = None
    judge: ModelName | None = None


class PriceSpec(_Section):
    """`["VENDOR/MODEL"]` in `prices.toml`: USD per million tokens; what is not given is unknown, not free.

    `batch` is the factor of the batch API (0.5 = half price).
    """

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cache_read: float | None = Field(default=None, ge=0)
    cache_write: float | None = Field(default=None, ge=0)
    cache_write_1h: float | None = Field(default=None, ge=0)
    batch: float | None = Field(default=None, ge=0)


class ModelSpec(_Section):
    """`[models.VENDOR]`: how a vendor is reached; a key never stands here, only the variable's name.

    `prices` are those of `prices.toml`, by the model's name without its vendor.
    """

    api_key_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    base_url: str | None = Field(default=None, pattern=r"^https?://")
    prices: dict[str, PriceSpec] = {}

    @field_validator("api_key_env")
    @classmethod
    def _is_a_vendors(cls, name: str | None) -> str | None:
        if name is not None and name.upper().startswith("ITERA_"):
            raise ValueError("itera's own variables are no vendor's key: it would be sent to base_url")
        return name


class Prices(RootModel[dict[ModelName, PriceSpec]]):
    """A whole `prices.toml`."""


class ReportSpec(_Section):
    """`[report]`: what the conclusion may show."""

    examples: bool = False


class ClaimSpec(_Section):
    """`[claim]`: whether results had been seen before the frame was locked."""

    seen: bool = False


class Spec(_Section):
    """A whole `experiment.toml`, resolved."""

    frame: Frame
    arms: dict[str, ArmSpec]
    source: SourceSpec
    split: SplitSpec = SplitSpec()
    metric: MetricSpec = MetricSpec()
    judge: JudgeSpec | None = None
    rule: RuleSpec = RuleSpec()
    run: RunSpec = RunSpec()
    iterate: IterateSpec | None = None
    screen: dict[str, ArmSpec] = {}
    resources: dict[str, str] = {}
    models: dict[str, ModelSpec] = {}
    report: ReportSpec = ReportSpec()
    claim: ClaimSpec = ClaimSpec()

    @cached_property
    def baseline(self) -> str:
        """Name of the baseline arm."""
        return next(name for name, arm in self.arms.items() if arm.baseline)

    @cached_property
    def candidates(self) -> tuple[str, ...]:
        """Names of the arms that could ship, in the order of the file."""
        return tuple(n for n, a in self.arms.items() if not a.baseline and not a.negative_control)

    @cached_property
    def controls(self) -> tuple[str, ...]:
        """Names of the negative controls: expected to show no difference, never shipped."""
        return tuple(n for n, a in self.arms.items() if a.negative_control)

    @property
    def trials(self) -> int:
        """Planned trials of each row; `auto` plans three and the pilot may find one enough."""
        return 3 if self.run.trials == "auto" else self.run.trials

    def expected_effect(self, smallest: float) -> float:
        """The registered expected effect (a fraction), or the guess of twice the `smallest` worth having."""
        registered = self.frame.expected_effect
        return 2 * smallest if registered is None else registered


class LiftedSpec(_Section):
    """`[lifted]`: the table that a hardcode became, and its test, a file of functions `test_...`."""

    table: str
    test: str


class IterationSpec(_Section):
    """An iteration: hypothesis and one change, registered before its score can exist.

    `class`, `evidence` and `action` are the gate's judgement; `by` says who made it, where no person did.
    """

    name: str = Field(pattern=f"^{NAME.pattern}$")
    hypothesis: str = Field(min_length=8)
    parent: str
    change: ArmSpec
    what: str = Field(min_length=3)
    predicted_effect: float = Field(ge=-1, le=1)
    predicted_rows: dict[str, str] = {}
    class_: Literal["universal", "hardcode", "cant_tell"] | None = Field(default=None, alias="class")
    evidence: str | None = None
    action: Literal["keep", "upgrade", "lift_out", "delete"] | None = None
    by: str | None = None
    lifted: LiftedSpec | None = None
