"""Dev rows that were read: how the effect on them compares with that on the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from itera_nb.protocol import State
from itera_nb.report.wording import points

LIKELY = 0.05


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
