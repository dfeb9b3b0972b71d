"""Request slots: a limit for the session and, within it, an adaptive limit for each bucket that throttles.

A bucket that does not throttle has no limit of its own, and costs only a lookup in an empty table.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import monotonic

from ..._concurrency.limiter import Limiter
from ..._policy.window import ThrottledWindow
from ..base import RequestLimiter


class Share:
    """The limit of a throttled bucket on requests in flight."""

    __slots__ = ("limiter", "window")

    def __init__(self, ceiling: int, now: float) -> None:
        self.window: ThrottledWindow = ThrottledWindow(ceiling, now)
        self.limiter: Limiter = Limiter(self.window.limit)


class Slots:
    """Acquired once per HTTP attempt. Waiting for a bucket's share holds no slot, so it does not slow other buckets."""

    __slots__ = ("clock", "session", "shares")

    def __init__(self, session: RequestLimiter, clock: Callable[[], float] = monotonic) -> None:
        self.session: RequestLimiter = session
        """The session's limit."""
        self.clock: Callable[[], float] = clock
        """Seconds, monotonic."""
        self.shares: dict[str, Share] = {}
        """Shares of the buckets that throttle."""

    def __repr__(self) -> str:
        shares = ", ".join(f"{bucket}: {share.limiter!r}" for bucket, share in self.shares.items())
        return f"<Slots {self.session!r} {{{shares}}}>"

    async def acquire(self, bucket: str) -> Share | None:
        """Acquire a slot. Pass the result to `release`."""
        share = self.shares.get(bucket)
        if share is None:
            await self.session.acquire()
            return None
        # The bucket's share first: waiting for it while holding a slot of the session would block other buckets.
        await share.limiter.acquire()
        try:
            await self.session.acquire()
        except BaseException:
            share.limiter.release()
            raise
        return share

    def try_acquire(self, bucket: str) -> Callable[[], None] | None:
        """Acquire a slot without waiting, and return the function that releases it; None if there is none."""
        share = self.shares.get(bucket)
        if share is not None and not share.limiter.try_acquire():
            return None
        if self.session.try_acquire():
            return partial(self.release, share)
        if share is not None:
            share.limiter.release()
        return None

    def release(self, share: Share | None) -> None:
        """Release a slot."""
        self.session.release()
        if share is not None:
            share.limiter.release()

    def refused(self, bucket: str, sent: float | None) -> None:
        """Record a throttled response: reduce the bucket's share, or create one.

        Args:
            bucket: The bucket that throttles.
            sent: When the request was sent; None: before the bucket had a share, so the response does not reduce it.
        """
        share = self.shares.get(bucket)
        if share is None:
            # A new window already halves the limit (`ThrottledWindow`), so `refused` need not be called too.
            self.shares[bucket] = Share(self.session.limit, self.clock())
        elif sent is not None:
            share.limiter.limit = share.window.refused(self.clock(), sent)

    def answered(self, bucket: str, sent: float | None) -> None:
        """Record a response: grow the bucket's share, and remove it once it has recovered."""
        share = self.shares.get(bucket)
        if share is None or sent is None:
            return
        share.limiter.limit = share.window.answered(self.clock(), sent)
        # Without a share, requests to this bucket cost nothing again.
        if share.window.recovered:
            del self.shares[bucket]
