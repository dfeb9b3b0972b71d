"""Limiters that remember how much was held at once."""

from __future__ import annotations

import zarr_s3_async as zs
from zarr_s3_async._concurrency.limiter import Limiter


class WatchedLimiter(Limiter):
    """A limiter with the most that was ever held of it."""

    peak = 0

    def _take(self, weight: int) -> None:
        super()._take(weight)
        self.peak = max(self.peak, self.held)


def watch_leases(session: zs.Session) -> WatchedLimiter:
    """Let the session's byte leases be watched, from now on."""
    session._leases = watched = WatchedLimiter(session._leases.limit)
    return watched


def watch_requests(session: zs.Session) -> WatchedLimiter:
    """Let the session's request slots be watched; before its first store is made."""
    session._context.requests = watched = WatchedLimiter(session._context.requests.limit)
    return watched
