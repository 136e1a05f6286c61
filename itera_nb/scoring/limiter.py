"""How many calls a model gets at once: as many as it takes without complaint, never more than allowed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

START = 16
CUT = 0.8
GROWTH = 1.05
USED = 0.8
COOLDOWN_S = 15.0


class Limiter:
    """Calls in flight of one model.

    The limit doubles after every clean round (as many answers as the limit is) until the first rate limit,
    then grows by a twentieth a round; a round counts only if the limit was really used. A rate limit cuts it
    by a fifth, once in 15 s, in which time answers do not count; other failures start the round anew.
    It never exceeds `ceiling`, and stays there if it is not `adaptive`.
    """

    def __init__(
        self, ceiling: int, *, adaptive: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.ceiling = ceiling
        self.limit = min(START, ceiling) if adaptive else ceiling
        self.in_flight = 0
        self._adaptive = adaptive
        self._clock = clock
        self._limited = False
        self._cooled_at = -math.inf
        self._clean = self._most = 0

    @property
    def free(self) -> bool:
        """Whether another call may be sent."""
        return self.in_flight < self.limit

    def begin(self) -> None:
        """A call is sent."""
        self.in_flight += 1
        self._most = max(self._most, self.in_flight)

    def end(self) -> None:
        """A call ended, in whatever way."""
        self.in_flight -= 1

    def answered(self) -> bool:
        """A call brought an answer; whether the limit grew."""
        if not self._adaptive or self.limit == self.ceiling or self._clock() < self._cooled_at:
            return False
        self._clean += 1
        if self._clean < self.limit:
            return False
        used = self._most >= USED * self.limit
        if used:
            grown = max(self.limit + 1, round(self.limit * GROWTH)) if self._limited else 2 * self.limit
            self.limit = min(self.ceiling, grown)
        self._new_round()
        return used

    def rate_limited(self) -> bool:
        """A call was refused for its rate; whether the limit was cut."""
        now = self._clock()
        if not self._adaptive or now < self._cooled_at:
            return False
        before = self.limit
        self.limit = max(1, math.floor(before * CUT))
        self._limited = True
        self._cooled_at = now + COOLDOWN_S
        self._new_round()
        return self.limit < before

    def faltered(self) -> None:
        """A call failed in another way: no reason for less, but none for more."""
        self._new_round()

    def _new_round(self) -> None:
        self._clean, self._most = 0, self.in_flight
