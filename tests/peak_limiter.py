"""A limiter that records the maximum weight held at the same time."""

from __future__ import annotations

import zarr_s3_async as zs
from zarr_s3_async._concurrency.limiter import Limiter


class PeakLimiter(Limiter):
    """A limiter that records the maximum weight held."""

    peak = 0

    @property  # type: ignore[override]
    def held(self) -> int:
        return Limiter.held.__get__(self)  # type: ignore[attr-defined]

    @held.setter
    def held(self, value: int) -> None:
        Limiter.held.__set__(self, value)  # type: ignore[attr-defined]
        self.peak = max(self.peak, value)


def watch_leases(session: zs.Session) -> PeakLimiter:
    """Record the peak of the session's byte leases from now on."""
    session._leases = limiter = PeakLimiter(session._leases.limit)
    return limiter


def watch_requests(session: zs.Session) -> PeakLimiter:
    """Record the peak of the session's request slots; call it before the first store is created."""
    session._context.requests = limiter = PeakLimiter(session._context.requests.limit)
    return limiter
