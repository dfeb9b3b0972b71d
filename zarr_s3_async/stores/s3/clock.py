"""The room of S3's time: this machine's clock, corrected by what a server said when it refused a signature for it."""

from __future__ import annotations

from collections.abc import Callable
from time import time

from ..._policy.backoff import parse_http_date


class Clock:
    """Seconds since the epoch as one endpoint counts them. Call it."""

    __slots__ = ("_now", "offset")

    def __init__(self, now: Callable[[], float] = time) -> None:
        self._now = now
        self.offset = 0.0
        """Seconds that the endpoint's clock is ahead."""

    def __call__(self) -> float:
        return self._now() + self.offset

    def __repr__(self) -> str:
        return f"<Clock {self.offset:+g} s>"

    def learn(self, date: str | None) -> bool:
        """Correct it by an answer's `Date`; False where that is not one."""
        told = parse_http_date(date)
        if told is None:
            return False
        self.offset = told - self._now()
        return True
