"""The room of request slots: so many for the session and, under them, a share for each bucket that throttles.

A bucket that does not throttle has no share, and costs nothing here but a look into an empty table.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import monotonic

from ..._concurrency.limiter import Limiter
from ..._policy.aimd import Aimd
from ..base import RequestLimiter


class Share:
    """What a throttled bucket may have in flight."""

    __slots__ = ("aimd", "limiter")

    def __init__(self, ceiling: int) -> None:
        self.aimd: Aimd = Aimd(ceiling)
        self.limiter: Limiter = Limiter(ceiling)


class Slots:
    """Taken once per HTTP attempt. Who waits for a bucket's share holds no slot: it slows no other bucket."""

    __slots__ = ("_clock", "session", "shares")

    def __init__(self, session: RequestLimiter, clock: Callable[[], float] = monotonic) -> None:
        self.session: RequestLimiter = session
        """The session's own limit."""
        self._clock = clock
        self.shares: dict[str, Share] = {}
        """Of the buckets that throttle."""

    def __repr__(self) -> str:
        shares = ", ".join(f"{bucket}: {share.limiter!r}" for bucket, share in self.shares.items())
        return f"<Slots {self.session!r} {{{shares}}}>"

    async def acquire(self, bucket: str) -> Share | None:
        """Take a slot. What is returned goes back to `release`."""
        share = self.shares.get(bucket)
        if share is None:
            await self.session.acquire()
            return None
        await share.limiter.acquire()
        try:
            await self.session.acquire()
        except BaseException:
            share.limiter.release()
            raise
        return share

    def try_acquire(self, bucket: str) -> Callable[[], None] | None:
        """Take a slot that nobody waits for, and return what gives it back; None where there is none."""
        share = self.shares.get(bucket)
        if share is not None and not share.limiter.try_acquire():
            return None
        if self.session.try_acquire():
            return partial(self.release, share)
        if share is not None:
            share.limiter.release()
        return None

    def release(self, share: Share | None) -> None:
        """Give a slot back."""
        self.session.release()
        if share is not None:
            share.limiter.release()

    def refused(self, bucket: str) -> None:
        """The bucket asked to slow down: its share shrinks, or it gets one."""
        share = self.shares.get(bucket)
        if share is None:
            share = self.shares[bucket] = Share(self.session.limit)
        share.limiter.limit = share.aimd.refused(self._clock())

    def answered(self, bucket: str) -> None:
        """The bucket answered: its share, if it has one, grows until it has none any more."""
        share = self.shares.get(bucket)
        if share is None:
            return
        share.limiter.limit = share.aimd.answered()
        if share.aimd.recovered:
            del self.shares[bucket]
