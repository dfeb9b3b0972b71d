"""An adaptive limit on requests in flight to a bucket that throttles. Pure.

Additive increase, multiplicative decrease (Chiu and Jain, 1989), as in TCP: the limit is halved when the server
throttles, and grows by one after as many responses as there are requests in flight.
"""

from __future__ import annotations

HOLD = 1.0
"""Seconds after a decrease in which further throttling is ignored: those requests were sent before it."""


class Aimd:
    """The limit of one bucket, between 1 and `ceiling`."""

    __slots__ = ("_ceiling", "_exact", "_held_until")

    def __init__(self, ceiling: int) -> None:
        self._ceiling = ceiling
        self._exact = float(ceiling)
        self._held_until = float("-inf")

    def __repr__(self) -> str:
        return f"<Aimd {self.limit}/{self._ceiling}>"

    @property
    def limit(self) -> int:
        """Requests that may be in flight."""
        return int(self._exact)

    @property
    def recovered(self) -> bool:
        """True once the limit is back at the ceiling."""
        return self._exact >= self._ceiling

    def refused(self, now: float) -> int:
        """Record a throttled response at `now` (seconds, monotonic clock) and return the new limit."""
        # One burst of throttled responses is one signal: without the hold, 64 of them would halve the limit 64 times.
        if now >= self._held_until:
            self._exact = max(1.0, self._exact / 2)
            self._held_until = now + HOLD
        return self.limit

    def answered(self) -> int:
        """Record a response and return the new limit."""
        # 1/limit per response is one more after a full round of `limit` responses.
        self._exact = min(float(self._ceiling), self._exact + 1 / self._exact)
        return self.limit
