"""Short turns of the event loop for interactive calls: beside them, bulk calls do one step of work per turn.

A call that waits for a response needs a few turns of the loop: to send, to receive, to go on. While a bulk call has 64
requests in flight, each of these turns would go on with some dozens of chunks: decode them, and send as many requests.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future, get_running_loop
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic
from typing import Final

from .limiter import BULK, at_priority

_AFTER: Final = 0.1
"""Seconds after an interactive call for which turns stay short: handlers call again and again, and what a bulk call
sends in between comes back while the next one waits."""

STEP_BYTES: Final = 64 * 2**10
"""Bytes of a body that a bulk call receives in one step. Otherwise it receives what is there, which costs less."""


class LoopTurns:
    """Makes the steps of bulk calls wait for a turn of the loop each, while there are interactive calls.

    A step is what a call does without waiting for anything else, such as to decode a chunk or to send a request. Bound
    to one event loop.

    Attributes:
        short: True while interactive calls are in progress, and shortly after them: a bulk call awaits `wait` before
            its steps.
        active: Number of interactive calls in progress; such a call increments it and sets `short`, and in the end
            decrements it and sets `ended`. No methods do, since every read of one chunk would call them.
        ended: When one ended last, in seconds of `monotonic`.
    """

    __slots__ = ("_waiting", "active", "ended", "short")

    def __init__(self) -> None:
        self.short: bool = False
        self.active: int = 0
        self.ended: float = 0.0
        self._waiting: deque[Future[None]] = deque()

    @contextmanager
    def bulk(self) -> Iterator[None]:
        """What is awaited, and what tasks are started, in this block is a bulk call."""
        before = TURNS.set(self)
        try:
            with at_priority(BULK):
                yield
        finally:
            TURNS.reset(before)

    async def wait(self) -> None:
        """Wait for a turn of the loop in which no other bulk call does a step; first come, first served."""
        loop = get_running_loop()
        # The callback schedules itself again while steps wait, so one is enough.
        if not self._waiting:
            loop.call_soon(self._grant, loop)
        turn: Future[None] = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _grant(self, loop: AbstractEventLoop) -> None:
        """Runs once per turn of the loop while any step waits."""
        if not self.active and monotonic() - self.ended > _AFTER:
            self.short = False
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # else its call was cancelled
                turn.set_result(None)
                break
        if self._waiting:
            loop.call_soon(self._grant, loop)


class FewPerTurn:
    """Lets at most `limit` callers of `wait` continue in one turn of the loop, in the order of arrival.

    For work that arrives while the loop is busy, such as requests of a web server: if all of it started in the next
    turn, that turn would take as long as all of it together, and a call that waits for a response, which needs a few
    turns, would take several times as long.
    """

    __slots__ = ("_is_scheduled", "_left", "_limit", "_waiting")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._left = limit
        """How many may still continue in this turn."""
        self._waiting: deque[Future[None]] = deque()
        self._is_scheduled = False

    async def wait(self) -> None:
        """Return in this turn, or in a later one if `limit` callers continue in this one, or others wait already."""
        loop = get_running_loop()
        if not self._is_scheduled:
            self._is_scheduled = True
            loop.call_soon(self._next_turn, loop)
        if self._left:  # then no other caller waits
            self._left -= 1
            return
        turn: Future[None] = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _next_turn(self, loop: AbstractEventLoop) -> None:
        self._left = self._limit
        while self._left and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # else its caller was cancelled
                turn.set_result(None)
                self._left -= 1
        self._is_scheduled = self._left < self._limit
        if self._is_scheduled:
            loop.call_soon(self._next_turn, loop)


TURNS: Final[ContextVar[LoopTurns | None]] = ContextVar("zarr_s3_async_turns", default=None)
"""Of the session, in a bulk call; None in others. A context variable for the same reasons as `PRIORITY`."""
