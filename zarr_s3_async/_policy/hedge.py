"""When a slow read is asked a second time: a percentile of the recent ones, under a budget. Pure.

The budget matters more than the percentile: when everything is slow, asking everything twice makes it slower.
Source: Dean and Barroso, "The Tail at Scale" (2013), hedged requests.
"""

from __future__ import annotations

from collections import deque

from ..config import HedgePolicy

_WINDOW = 256
_LEAST = 32
"""Reads to have seen before the first hedge."""
_FRESHEN = 16
"""Reads between two looks at the percentile: sorting the window costs more than a read should."""
_SAVINGS = 8.0
"""Hedges that a quiet time may save up."""


class HedgePace:
    """Tells one bucket's reads how long to wait before they ask again."""

    __slots__ = ("_delay", "_earned", "_percentile", "_recent", "_share", "_unseen")

    def __init__(self, policy: HedgePolicy) -> None:
        self._percentile = policy.percentile
        self._share = policy.max_share
        self._recent: deque[float] = deque(maxlen=_WINDOW)
        self._unseen = 0
        self._delay: float | None = None
        self._earned = 1.0

    def __repr__(self) -> str:
        delay = "not yet" if self._delay is None else f"after {self._delay:.3g} s"
        return f"<HedgePace {delay}, {self._earned:.2g} hedges left>"

    @property
    def delay(self) -> float | None:
        """Seconds after which a read is slow; None where too few were seen to tell."""
        return self._delay

    def observe(self, seconds: float) -> None:
        """A read took so long. It also earns its share of a hedge."""
        self._recent.append(seconds)
        self._earned = min(_SAVINGS, self._earned + self._share)
        self._unseen += 1
        if self._unseen >= _FRESHEN and len(self._recent) >= _LEAST:
            self._unseen = 0
            ordered = sorted(self._recent)
            self._delay = ordered[min(len(ordered) - 1, int(self._percentile * len(ordered)))]

    def spend(self) -> bool:
        """Take one hedge; False where the budget has none."""
        if self._earned < 1.0:
            return False
        self._earned -= 1.0
        return True
