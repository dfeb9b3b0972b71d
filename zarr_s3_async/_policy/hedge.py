"""When to hedge a slow read: after a percentile of recent latencies, under a budget. Pure.

The budget matters more than the percentile: when everything is slow, duplicating every request makes it slower.
Source: Dean and Barroso, "The Tail at Scale" (2013), hedged requests.
"""

from __future__ import annotations

from collections import deque

from ..config import HedgePolicy

_WINDOW = 256
_LEAST = 32
"""Reads observed before the first hedge."""
_FRESHEN = 16
"""Reads between two updates of the percentile: sorting the window for every read would cost too much."""
_SAVINGS = 8.0
"""Maximum number of unused hedges that accumulate."""


class HedgePace:
    """How long reads of one bucket wait before they send a hedge."""

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
        """Seconds after which a read counts as slow; None until enough reads were observed."""
        return self._delay

    def observe(self, seconds: float) -> None:
        """Record the latency of a read, which also earns a fraction of a hedge."""
        self._recent.append(seconds)
        # Capped, so that a long quiet period does not pay for a storm of hedges later.
        self._earned = min(_SAVINGS, self._earned + self._share)
        self._unseen += 1
        if self._unseen >= _FRESHEN and len(self._recent) >= _LEAST:
            self._unseen = 0
            ordered = sorted(self._recent)
            self._delay = ordered[min(len(ordered) - 1, int(self._percentile * len(ordered)))]

    def spend(self) -> bool:
        """Take one hedge from the budget; False if there is none."""
        if self._earned < 1.0:
            return False
        self._earned -= 1.0
        return True
