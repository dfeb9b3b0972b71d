"""An adaptive limit on requests in flight to a bucket that throttles. Pure.

Additive increase per round trip, as in TCP, and a decrease to what the server has just served, as in TCP Westwood
(Mascolo et al., 2001): while a server throttles, the rate of its other answers is its limit, so the limit that fits
is known after one round trip. `docs/throttling.md` compares this law with others in a simulation.
"""

from __future__ import annotations

from collections import deque

_GROWTH = 0.3
"""Requests by which the limit grows in a round trip. One means three times as many refusals for the same goodput."""
_LEAST_DECREASE, _MOST_DECREASE = 0.8, 0.5
"""A refusal leaves so much of the limit at most, or the clients would never become equal, and so much at least, since
the measured rate is too low where the caller had nothing to ask."""
_MEASURED = 64
"""Answers over which the rate is measured: more adapt slowly, fewer are noise."""
_SMOOTHING = 0.1
"""Weight of the newest answer in the mean duration."""


class ThrottledWindow:
    """The limit of one bucket, between 1 and `ceiling`. Made when the bucket refuses for the first time.

    Args:
        ceiling: Requests in flight while the bucket does not throttle.
        now: Seconds on a monotonic clock, when it refused.
    """

    __slots__ = ("_answers", "_ceiling", "_decreased_at", "_duration", "_exact")

    def __init__(self, ceiling: int, now: float) -> None:
        self._ceiling = ceiling
        self._exact = max(1.0, ceiling * _MOST_DECREASE)
        self._decreased_at = now
        self._answers: deque[float] = deque(maxlen=_MEASURED)
        self._duration = 0.0

    def __repr__(self) -> str:
        return f"<ThrottledWindow {self.limit}/{self._ceiling}>"

    @property
    def limit(self) -> int:
        """Requests that may be in flight."""
        return int(self._exact)

    @property
    def recovered(self) -> bool:
        """True once the limit is back at the ceiling."""
        return self._exact >= self._ceiling

    def refused(self, now: float, sent: float) -> int:
        """Record that a request was throttled, and return the new limit.

        Args:
            now: Seconds, monotonic clock.
            sent: When the request was sent: what was sent before the last decrease says nothing about it.
        """
        if sent >= self._decreased_at:
            fitting = self._exact * _MOST_DECREASE
            if self._answers and now > self._answers[0]:
                fitting = len(self._answers) / (now - self._answers[0]) * self._duration
            self._exact = max(1.0, min(max(fitting, self._exact * _MOST_DECREASE), self._exact * _LEAST_DECREASE))
            self._decreased_at = now
        return self.limit

    def answered(self, now: float, sent: float) -> int:
        """Record any other response, and return the new limit."""
        duration = now - sent
        self._duration += (duration - self._duration) * (_SMOOTHING if self._answers else 1.0)
        self._answers.append(now)
        self._exact = min(float(self._ceiling), self._exact + _GROWTH / self._exact)
        return self.limit
