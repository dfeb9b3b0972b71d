"""Limiters that record the maximum that was held at once."""

from __future__ import annotations

import zarr_s3_async as zs
from zarr_s3_async._concurrency.limiter import Limiter


class PeakLimiter(Limiter):
    """A limiter with the maximum that was ever held."""

    peak = 0

    @property  # type: ignore[override]
    def held(self) -> int:
        return Limiter.held.__get__(self)  # type: ignore[attr-defined]

    @held.setter
    def held(self, value: int) -> None:
        Limiter.held.__set__(self, value)  # type: ignore[attr-defined]
        self.peak = max(self.peak, value)


def watch_leases(session: zs.Session) -> PeakLimiter:
    """Let the session's byte leases be recorded from now on."""
    session._leases = limiter = PeakLimiter(session._leases.limit)
    return limiter


def watch_requests(session: zs.Session) -> PeakLimiter:
    """Let the session's request slots be recorded; call it before the first store is made."""
    session._context.requests = limiter = PeakLimiter(session._context.requests.limit)
    return limiter
