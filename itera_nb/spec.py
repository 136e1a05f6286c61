"""What a person registers: `experiment.toml` and the iteration files, validated with positions.

Values are resolved here (presets, inherited arm keys, percentages), so that the rest of the package never
guesses a default.
"""

from __future__ import annotations

import contextlib
import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    RootModel,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from itera_nb.exceptions import Mistake, SpecError

Kind: TypeAlias = Literal["python", "prompt", "http", "command", "recorded"]
Fraction: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Key: TypeAlias = tuple[str | int, ...]
"""A key of the file and the tables it stands in, from the outside in."""
Fault: TypeAlias = tuple[Key, str]
M = TypeVar("M", bound=BaseModel)
PRICES = "prices.toml"
_KEY = re.compile(r"\b(?:sk-|sk_live_|gsk_|xai-|AIza|AKIA|ghp_|hf_)[A-Za-z0-9_-]{16,}")
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


class _Prices(RootModel[dict[ModelName, PriceSpec]]):
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


def load_spec(path: Path) -> Spec:
    """Read and validate an `experiment.toml`.

    Raises:
        SpecError: With every mistake found, each at its line.
    """
    return parse_spec(read_toml(path), path)


def parse_spec(text: str, path: Path) -> Spec:
    """Validate `text` as if it stood in the `experiment.toml` at `path`.

    Raises:
        SpecError: With every mistake found, each at its line.
    """
    raw = _parse(text, path)
    faults = [*_arm_structure(raw)]
    try:
        spec = Spec.model_validate(raw)
    except ValidationError as error:
        faults += _explain(error, raw, Spec)
    if faults:
        raise _error(path, text, faults)
    spec = _resolved(spec, path.parent / PRICES)
    if faults := [*_meaning(spec), *_not_yet(spec)]:
        raise _error(path, text, faults)
    return spec


def _resolved(spec: Spec, prices: Path) -> Spec:
    """With what arms inherit, the preset of the split, and the prices of models."""
    every = spec.arms | spec.screen
    preset = spec.split.preset or ("iterate" if spec.iterate else "confirm")
    return spec.model_copy(
        update={
            "arms": {name: _inherited(spec.arms, name) for name in spec.arms},
            "screen": {name: _inherited(every, name) for name in spec.screen},
            "split": spec.split.model_copy(update={"preset": preset}),
            "models": _with_prices(spec.models, prices),
        }
    )


def _with_prices(models: dict[str, ModelSpec], path: Path) -> dict[str, ModelSpec]:
    """`[models]` with what stands in `prices.toml`, if there is one."""
    if not path.exists():
        return models
    merged = dict(models)
    for name, prices in _validated(_Prices, read_toml(path), path, keys=PriceSpec).root.items():
        vendor, _, model = name.partition("/")
        known = merged.get(vendor, ModelSpec())
        merged[vendor] = known.model_copy(update={"prices": known.prices | {model: prices}})
    return merged


def load_iteration(path: Path) -> IterationSpec:
    """Read and validate one iteration file.

    Raises:
        SpecError: With every mistake found, each at its line.
    """
    return parse_iteration(read_toml(path), path)


def parse_iteration(text: str, path: Path) -> IterationSpec:
    """Validate `text` as if it stood in the iteration file at `path`.

    Raises:
        SpecError: With every mistake found, each at its line.
    """
    return _validated(IterationSpec, text, path, keys=IterationSpec)


def _validated(model: type[M], text: str, path: Path, *, keys: type[BaseModel]) -> M:
    raw = _parse(text, path)
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise _error(path, text, _explain(error, raw, keys)) from None


def looks_like_a_key(line: str) -> bool:
    """Whether a line holds what a vendor's key looks like; such a line is never shown."""
    return _KEY.search(line) is not None


def hide_keys(text: str) -> str:
    """The text with whatever looks like a vendor's key taken out."""
    return _KEY.sub("[key]", text)


def read_toml(path: Path) -> str:
    """The text of a toml file, without a byte order mark.

    Raises:
        SpecError: If it is not there, or is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise SpecError(path, [Mistake(0, "file", f"not found in {path.parent}")]) from None
    except UnicodeDecodeError as error:
        raise SpecError(path, [Mistake(0, "file", f"is not UTF-8 (byte {error.start})")]) from None


def _parse(text: str, path: Path) -> dict[str, Any]:
    message = "looks like a key: keep it in the environment or .env, and withdraw this one"
    lines = enumerate(text.split("\n"), 1)
    if found := [Mistake(number, "secret", message) for number, line in lines if looks_like_a_key(line)]:
        raise SpecError(path, found)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        match = re.search(r"at line (\d+)", str(error))
        line = int(match[1]) if match else text.count("\n") + 1
        raise SpecError(path, [Mistake(line, "toml", str(error))]) from None


# where a mistake stands -------------------------------------------------------------------------------------


def _error(path: Path, text: str, faults: Iterable[Fault]) -> SpecError:
    prefixes = list(_prefixes(text))
    return SpecError(
        path, [Mistake(_line(prefixes, at), ".".join(map(str, at)) or "file", said) for at, said in faults]
    )


def _prefixes(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """What the first lines of a file say, where they parse: neither tomllib nor tomlkit keeps positions."""
    lines = text.replace("\r\n", "\n").split("\n")  # a TOML line: not what splitlines() takes for one
    for number in range(1, len(lines) + 1):
        with contextlib.suppress(tomllib.TOMLDecodeError):
            yield number, tomllib.loads("\n".join(lines[:number]))


def _line(prefixes: Sequence[tuple[int, dict[str, Any]]], at: Key) -> int:
    """The 1-based line of a key, or of the nearest table above it that exists."""
    for depth in range(len(at), 0, -1):
        for number, parsed in prefixes:
            if _holds(parsed, at[:depth]):
                return number
    return 1


def _holds(parsed: Any, path: Sequence[Any]) -> bool:
    for key in path:
        if (isinstance(parsed, dict) and key in parsed) or (
            isinstance(parsed, list) and isinstance(key, int) and key < len(parsed)
        ):
            parsed = parsed[key]
        else:
            return False
    return True


# what pydantic found, in our words --------------------------------------------------------------------------


def _explain(error: ValidationError, raw: Mapping[str, Any], model: type[BaseModel]) -> Iterator[Fault]:
    for detail in error.errors():
        loc: Key = ()
        for part in detail["loc"]:
            # Union members and function wrappers stand in pydantic's `loc` though the file has no such key.
            if _holds(raw, (*loc, part)):
                loc = (*loc, part)
        last = detail["loc"][-1:]
        missing = detail["type"] in {"missing", "extra_forbidden"} and loc[-1:] != last
        yield (*loc, *last) if missing else loc, _words(detail, model)


def _words(detail: ErrorDetails, model: type[BaseModel]) -> str:
    if detail["type"] == "extra_forbidden":
        known = _known_keys(model, detail["loc"][:-1])
        every = f"; known keys: {', '.join(sorted(known))}"
        return f"unknown key{_nearest(detail['loc'][-1], known) or every}"
    if detail["type"] == "missing":
        return "this key is required"
    message = detail["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    got = detail["input"]
    shown = f" (got {got!r})" if isinstance(got, str | int | float | bool) else ""
    return f"{message}{shown}"


def _nearest(name: object, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f'; did you mean "{near[0]}"?' if near else ""


def _known_keys(model: type[BaseModel], loc: Key) -> list[str]:
    current: Any = model
    named = False  # the next part is a name that the user chose (an arm's), not a key
    for part in loc:
        fields = getattr(current, "model_fields", None)
        if named:
            named = False
        elif fields and part in fields:
            current = fields[part].annotation
            named = getattr(current, "__origin__", None) is dict
            inner = [a for a in (current, *getattr(current, "__args__", ())) if hasattr(a, "model_fields")]
            current = inner[0] if inner else current
    fields = getattr(current, "model_fields", {})
    return [field.alias or name for name, field in fields.items()]


# what no single field can say -------------------------------------------------------------------------------


def _arm_structure(raw: Mapping[str, Any]) -> Iterator[Fault]:
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
                    yield (section, name, "from"), f"no arm {parent!r}{_nearest(parent, arms)}"
                break
            if parent in seen:
                yield (section, name, "from"), "arms inherit in a circle"
                break
            seen.add(parent)
            parent = arms[parent].get("from") if isinstance(arms[parent], dict) else None


def _inherited(arms: Mapping[str, ArmSpec], name: str) -> ArmSpec:
    arm = arms[name]
    return arm if arm.from_ is None else arm.inherit(_inherited(arms, arm.from_))


NEEDS = {
    "python": ("target",),
    "prompt": ("prompt", "model"),
    "http": ("url",),
    "command": ("command",),
    "recorded": ("file",),
}


def _meaning(spec: Spec) -> Iterator[Fault]:
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


def _not_yet(spec: Spec) -> Iterator[Fault]:
    """Keys whose shape is settled but which this version cannot run: said at once, not half-way."""
    later = "is understood but not available in this version"
    if spec.split.preset == "none":
        instead = "results that nothing can seal are compared without a folder: itera compare A.csv B.csv"
        yield ("split", "preset"), f"{later}; {instead}"
    if spec.source.media:
        yield ("source", "media"), later
    if spec.report.examples:
        yield ("report", "examples"), later
