"""Work that ends early: when its owner is closed, or when something else happens first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from ..errors import session_closed
from .blocking import wait_despite_cancellation


class Interruptible:
    """Code inside `interruptible` fails with `SessionClosed` as soon as this is closed, wherever it waits."""

    __slots__ = ("_empty", "_timers", "closed")

    def __init__(self) -> None:
        # A dict as an ordered set: a set would end the bodies in an order that differs from run to run.
        self._timers: dict[asyncio.Timeout, None] = {}
        self._empty: asyncio.Event | None = None
        self.closed: bool = False

    @asynccontextmanager
    async def interruptible(self) -> AsyncIterator[None]:
        """Run the body of `async with`; raise `SessionClosed` if this is closed before or during it."""
        if self.closed:
            raise session_closed()
        timer: asyncio.Timeout | None = None
        try:
            # A timeout scope without a deadline; `aclose` sets one in the past. Unlike `task.cancel()`, its expiry
            # cannot be mistaken for a cancellation from outside.
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
            await asyncio.sleep(seconds)

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


async def run_until(work: Callable[[], Awaitable[None]], stop: Callable[[], Awaitable[object]]) -> bool:
    """Run `work` in the calling task; cancel it, and return when it has ended, once `stop` returns.

    Args:
        work: What to run. What it raises is raised here, as it is.
        stop: Runs concurrently in a task of its own, and is cancelled when the work ends. It must not raise.

    Returns:
        True where the work was completed.
    """
    from anyio import CancelScope  # 1 ms of import, for handlers of web servers alone

    ended = False
    # A scope of anyio, because a native cancellation would end the shielded parts of a handler. But no task group of
    # it, which costs a request more than a task.
    scope = CancelScope()

    async def watch() -> None:
        try:
            await stop()
        finally:
            scope.cancel()  # without effect once the work has ended

    watching = asyncio.get_running_loop().create_task(watch())
    try:
        with scope:
            await work()
            ended = True
    finally:
        watching.cancel()
        try:
            await asyncio.wait((watching,))
        except asyncio.CancelledError as error:
            raise await wait_despite_cancellation(watching, error) from None
    if not watching.cancelled():
        watching.result()  # raises what `stop` should not have raised
    return ended
