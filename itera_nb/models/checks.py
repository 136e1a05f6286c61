"""Whether an experiment's models can be called, found out before the first call that costs anything."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from itera_nb.exceptions import ArmError, StoppedError

from .client import CallError
from .credentials import find_key
from .pricing import price

if TYPE_CHECKING:
    from itera_nb.spec import ModelSpec, Spec

TIMEOUT_S = 20.0
Trouble: TypeAlias = Literal["", "missing", "refused", "unreachable"]
_PER_MILLION = 1_000_000
_PRICED_AT = 1000


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """What is known of one model without paying."""

    model: str  # `vendor/name`
    used_by: tuple[str, ...]  # arms and judges that call it
    key: str  # where its key stands, in words; never the key
    state: str  # what its API said, in words
    # Why no call would succeed: something is missing here, the vendor refuses, or is not there
    trouble: Trouble = ""
    fix: str = ""
    input_usd: float | None = None  # USD per million input tokens of a short prompt; `None` if unknown
    output_usd: float | None = None  # USD per million output tokens; `None` if unknown


def models_of(spec: Spec) -> dict[str, tuple[str, ...]]:
    """The models that an experiment calls: `vendor/name` -> what calls it."""
    users = [(arm.model, name) for name, arm in spec.arms.items() if arm.kind == "prompt"]
    if spec.judge is not None:
        second = spec.judge.second if "/" in spec.judge.second else None
        users += [(spec.judge.model, "judge"), (second, "second judge")]
    if spec.iterate is not None:
        proposer = spec.iterate.model if spec.iterate.proposer == "claude" else None
        users += [(proposer, "proposer"), (spec.iterate.judge, "gate")]
    found: dict[str, tuple[str, ...]] = {}
    for model, user in users:
        if model:
            found[model] = (*found.get(model, ()), user)
    return found


def unpriced(spec: Spec) -> dict[str, tuple[str, ...]]:
    """Models whose price neither the list nor `prices.toml` knows: `vendor/name` -> what calls it.

    Arms that are registered as free do not count.
    """
    free = {name for name, arm in spec.arms.items() if arm.cost == "free"}
    paid = {model: tuple(u for u in users if u not in free) for model, users in models_of(spec).items()}
    return {model: users for model, users in paid.items() if users and None in _prices(model, spec.models)}


def check_models(spec: Spec) -> list[ModelCheck]:
    """Every model's key, API, existence and price; looks models up, which costs nothing.

    Blocks up to `TIMEOUT_S` seconds; may be called where an event loop runs.
    """
    users = models_of(spec)
    if not users:
        return []
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, _check_all(users, spec.models)).result()


def require_models(spec: Spec) -> None:
    """Stop now where a call would stop later.

    Raises:
        StoppedError: A key or a model is missing, refused or out of reach; with what to do.
    """
    if bad := [found for found in check_models(spec) if found.trouble]:
        what = "; ".join(dict.fromkeys(f"{found.model}: {found.state}" for found in bad))
        raise StoppedError(what, fix="; ".join(dict.fromkeys(found.fix for found in bad)))


async def _check_all(
    users: Mapping[str, tuple[str, ...]], models: Mapping[str, ModelSpec]
) -> list[ModelCheck]:
    return list(await asyncio.gather(*(_check(model, names, models) for model, names in users.items())))


async def _check(model: str, users: tuple[str, ...], models: Mapping[str, ModelSpec]) -> ModelCheck:
    from .sdk import open_client

    vendor, _, name = model.partition("/")
    key = "-"
    try:
        key = find_key(vendor, models.get(vendor)).source
        async with open_client(vendor, models.get(vendor)) as client:
            there = await client.knows(name, timeout_s=TIMEOUT_S)
    except StoppedError as error:
        refused: Trouble = "missing" if key == "-" else "refused"
        return ModelCheck(model, users, "not found" if key == "-" else key, error.what, refused, error.fix)
    except ArmError as error:
        return ModelCheck(model, users, key, error.what, "missing", error.fix)
    except CallError as error:
        if error.trouble in {"connection", "late"}:
            fix = f"check the network and [models.{vendor}] base_url, then run the same command again"
            return ModelCheck(model, users, key, f"out of reach ({error.error_type})", "unreachable", fix)
        there, busy = None, f"reached, but it says {error.error_type}"
    else:
        busy = "reached; it does not tell which models there are"
    if there is False:
        fix = "correct `model` in experiment.toml"
        return ModelCheck(model, users, key, f"there is no model {name}", "refused", fix)
    state = "key accepted, model there" if there else busy
    input_usd, output_usd = _prices(model, models)
    return ModelCheck(model, users, key, state, input_usd=input_usd, output_usd=output_usd)


def _prices(model: str, models: Mapping[str, ModelSpec]) -> list[float | None]:
    """USD per million input and output tokens of a short prompt."""
    usages = (
        {"input_tokens": _PRICED_AT, "output_tokens": 0},
        {"input_tokens": 0, "output_tokens": _PRICED_AT},
    )
    costs = [price(usage, model=model, models=models) for usage in usages]
    return [None if cost is None else cost * _PER_MILLION / _PRICED_AT for cost in costs]
