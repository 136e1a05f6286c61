"""Money: nothing starts that could cross the budget."""

from __future__ import annotations

import threading

from itera_nb.exceptions import StoppedError


class BudgetReachedError(StoppedError):
    """The next call could cross the budget; calls in flight are awaited, not cut."""


class Budget:
    """Spent and reserved USD of a run, shared by threads.

    Before a call its largest possible price is reserved, afterwards what it did cost is settled. A call of
    unknown price reserves nothing: it is counted and reported, never taken as free. A limit of `None` never
    stops.
    """

    def __init__(self, limit_usd: float | None, spent_usd: float = 0.0) -> None:
        self.limit_usd = limit_usd
        self.spent_usd = spent_usd
        self._reserved = 0.0
        self._in_flight = 0
        self._lock = threading.Lock()

    def reserve(self, bound_usd: float) -> bool | None:
        """Reserve a call's largest price.

        Returns:
            True: start it. None: wait for calls in flight, whose reservations may exceed their prices.
            False: the budget is used up.
        """
        with self._lock:
            if self.limit_usd is None or self.spent_usd + self._reserved + bound_usd <= self.limit_usd:
                self._reserved += bound_usd
                self._in_flight += 1
                return True
            return None if self._in_flight else False

    def settle(self, bound_usd: float, cost_usd: float | None) -> None:
        """End a reservation with the real cost in USD (`None`: unknown)."""
        with self._lock:
            self._reserved -= bound_usd
            self._in_flight -= 1
            self.spent_usd += cost_usd or 0.0
