"""A first-come first-served limit over weights: request slots weigh 1, byte leases weigh their bytes.

anyio's CapacityLimiter costs 30 µs when contended and refuses a task a second token; this one costs under 2.
"""

from __future__ import annotations

from asyncio import CancelledError, Future, get_running_loop
from collections import deque
from math import inf

from ..errors import session_closed


class Limiter:
    """Holds at most `limit`; a weight above the limit is let in alone. Bound to one event loop, no threads."""

    __slots__ = ("_closed", "_waiting", "held", "limit")

    def __init__(self, limit: int) -> None:
        self.limit: int = limit
        self.held: int = 0
        self._waiting: deque[tuple[float, Future[None]]] = deque()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Limiter {self.held}/{self.limit}, {len(self._waiting)} waiting>"

    def _fits(self, weight: float) -> bool:
        return self.held == 0 or self.held + weight <= self.limit

    def _take(self, weight: int) -> None:
        self.held += weight

    def try_acquire(self, weight: int = 1) -> bool:
        """Take it if it is free now and nobody waits."""
        if self._waiting or not self._fits(weight):
            return False
        self._take(weight)
        return True

    async def acquire(self, weight: int = 1) -> None:
        """Take it, after everyone who asked before."""
        if self.try_acquire(weight):
            return
        if self._closed:
            raise session_closed()
        granted: Future[None] = get_running_loop().create_future()
        entry = (weight, granted)
        self._waiting.append(entry)
        try:
            await granted
        except CancelledError:
            if granted.cancelled():
                if entry in self._waiting:
                    self._waiting.remove(entry)
                self._wake()
            else:
                self.release(weight)  # it was granted in the very turn in which we were cancelled
            raise

    def release(self, weight: int = 1) -> None:
        """Give it back."""
        self.held -= weight
        self._wake()

    def close(self) -> None:
        """Let nothing in any more: what waits, and what asks from now on, gets `SessionClosed`. Again is fine."""
        waiting, self._closed = list(self._waiting), True
        self._waiting.clear()
        for _, granted in waiting:
            if not granted.done():
                granted.set_exception(session_closed())
        # An entry that never fits: `try_acquire`, which every request calls, then needs no look at the state.
        self._waiting.append((inf, get_running_loop().create_future()))

    def _wake(self) -> None:
        if self._closed:
            return
        while self._waiting and self._fits(self._waiting[0][0]):
            weight, granted = self._waiting.popleft()
            if not granted.cancelled():
                self._take(int(weight))
                granted.set_result(None)
