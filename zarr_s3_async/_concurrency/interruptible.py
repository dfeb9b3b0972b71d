"""Waits that are interrupted when their owner is closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from ..errors import session_closed


class Interruptible:
    """Code inside `interruptible` fails with `SessionClosed` as soon as this is closed, wherever it waits."""

    __slots__ = ("_empty", "_timers", "closed")

    def __init__(self) -> None:
        self._timers: dict[asyncio.Timeout, None] = {}  # in order: closing is the same each time
        self._empty: asyncio.Event | None = None
        self.closed: bool = False

    @asynccontextmanager
    async def interruptible(self) -> AsyncIterator[None]:
        """Run the body of `async with`; raise `SessionClosed` if this is closed before or during it."""
        if self.closed:
            raise session_closed()
        timer: asyncio.Timeout | None = None
        try:
            async with asyncio.timeout(None) as timer:
                self._timers[timer] = None
                yield
        except TimeoutError as error:
            if timer is None or not timer.expired():
                raise
            raise session_closed() from error
        finally:
            if timer is not None:
                self._timers.pop(timer, None)
            if self._empty is not None and not self._timers:
                self._empty.set()

    async def sleep(self, seconds: float) -> None:
        """Sleep for `seconds`; raise `SessionClosed` if this is closed meanwhile."""
        async with self.interruptible():
            await anyio.sleep(seconds)

    async def aclose(self) -> None:
        """Interrupt every body and return when all have ended. Idempotent."""
        self.closed = True
        now = asyncio.get_running_loop().time()
        for timer in self._timers:
            if not timer.expired():
                timer.reschedule(now)
        if self._timers:
            self._empty = self._empty or asyncio.Event()  # one for all who close at once
            await self._empty.wait()
