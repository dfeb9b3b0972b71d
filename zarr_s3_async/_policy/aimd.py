"""How many requests a bucket that throttles may have in flight: numbers in, a limit out. Pure.

Additive increase, multiplicative decrease (Chiu and Jain, 1989), as TCP does it: half after a refusal, and
one more after as many answers as are in flight.
"""

from __future__ import annotations

HOLD = 1.0
"""Seconds after a decrease in which further refusals say nothing new: they answer what was sent before it."""


class Aimd:
    """One bucket's limit, between 1 and `ceiling`."""

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
        """True where the limit no longer limits."""
        return self._exact >= self._ceiling

    def refused(self, now: float) -> int:
        """The server asked to slow down, at `now` seconds on any steady clock; the limit from here on."""
        if now >= self._held_until:
            self._exact = max(1.0, self._exact / 2)
            self._held_until = now + HOLD
        return self.limit

    def answered(self) -> int:
        """The server answered; the limit from here on."""
        self._exact = min(float(self._ceiling), self._exact + 1 / self._exact)
        return self.limit
