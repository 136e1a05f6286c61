"""What a person registers: `experiment.toml` and the iteration files, validated with positions.

Values are resolved here (presets, inherited arm keys, percentages), so that the rest of the package never
guesses a default.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from .meaning import arm_structure, meaning, not_yet
from .mistakes import error_at, explained, hide_keys, looks_like_a_key, parse_toml, read_toml
from .sections import (
    FRACTIONS,
    JUDGED,
    MAX_CANDIDATES,
    NAME,
    RECORDED,
    ArmSpec,
    Effect,
    IterationSpec,
    JudgeSpec,
    LiftedSpec,
    MetricSpec,
    ModelSpec,
    ModeSpec,
    Prices,
    PriceSpec,
    Requirement,
    RuleSpec,
    RunSpec,
    SourceSpec,
    Spec,
    SplitSpec,
    is_pairwise,
    parse_effect,
)

__all__ = [
    "FRACTIONS",
    "JUDGED",
    "MAX_CANDIDATES",
    "NAME",
    "PRICES",
    "RECORDED",
    "ArmSpec",
    "Effect",
    "IterationSpec",
    "JudgeSpec",
    "LiftedSpec",
    "MetricSpec",
    "ModeSpec",
    "ModelSpec",
    "PriceSpec",
    "Requirement",
    "RuleSpec",
    "RunSpec",
    "SourceSpec",
    "Spec",
    "SplitSpec",
    "hide_keys",
    "is_pairwise",
    "load_iteration",
    "load_spec",
    "looks_like_a_key",
    "parse_effect",
    "parse_iteration",
    "parse_spec",
    "read_toml",
]

M = TypeVar("M", bound=BaseModel)
PRICES = "prices.toml"


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
    raw = parse_toml(text, path)
    faults = [*arm_structure(raw)]
    try:
        spec = Spec.model_validate(raw)
    except ValidationError as error:
        faults += explained(error, raw, Spec)
    if faults:
        raise error_at(path, text, faults)
    spec = _resolved(spec, path.parent / PRICES)
    if faults := [*meaning(spec), *not_yet(spec)]:
        raise error_at(path, text, faults)
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
    for name, prices in _validated(Prices, read_toml(path), path, keys=PriceSpec).root.items():
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
    raw = parse_toml(text, path)
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise error_at(path, text, explained(error, raw, keys)) from None


def _inherited(arms: Mapping[str, ArmSpec], name: str) -> ArmSpec:
    arm = arms[name]
    return arm if arm.from_ is None else arm.inherit(_inherited(arms, arm.from_))
