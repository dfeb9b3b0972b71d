"""A weighted semaphore with priorities, and the priority of the current call.

A request slot weighs 1, a byte lease weighs its bytes.
anyio's CapacityLimiter costs 30 µs when contended and gives a task no second token; this one costs under 2 µs.
"""

from __future__ import annotations

from asyncio import CancelledError, Future, get_running_loop
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from typing import Final, Literal, NamedTuple, TypeAlias, TypeVar

from ..errors import session_closed

Class = TypeVar("Class")

FAIR_TURN: Final = 8
"""See `next_class`."""

Priority: TypeAlias = Literal["high", "normal", "bulk"]
PRIORITIES: Final = ("high", "normal", "bulk")
HIGH, NORMAL, BULK = range(3)

PRIORITY: Final[ContextVar[int | None]] = ContextVar("zarr_s3_async_priority", default=None)
"""Priority of the current call; None where the call names none. A context variable, so that the stores between a call
and its requests need not pass it on, and so that the tasks of a call inherit it."""
CALL: Final[ContextVar[object | None]] = ContextVar("zarr_s3_async_call", default=None)
"""Identifies the call whose objects several tasks work on, so that calls take turns where they wait; None where one
task does."""


@contextmanager
def at_priority(priority: int) -> Iterator[None]:
    """Calls that are awaited and tasks that are started in this block have this priority."""
    before = PRIORITY.set(priority)
    try:
        yield
    finally:
        PRIORITY.reset(before)


@contextmanager
def bulk_unless_named() -> Iterator[None]:
    """Like `at_priority(BULK)`, unless the current call names a priority."""
    if PRIORITY.get() is not None:
        yield
        return
    with at_priority(BULK):
        yield


def next_class(waiting: Sequence[Class], turn: int, arrival: Callable[[Class], int]) -> Class:
    """The class of waiters to serve next: the first one, in `PRIORITIES` order.

    One in `FAIR_TURN` turns goes to the longest waiter, whatever its priority, so that no class starves another.

    Args:
        waiting: The classes in which somebody waits, in the order of their priority.
        turn: How many were served before.
        arrival: Number of the class's first waiter, in the order of arrival over all classes.
    """
    if len(waiting) > 1 and turn % FAIR_TURN == FAIR_TURN - 1:
        return min(waiting, key=arrival)
    return waiting[0]


class _Waiter(NamedTuple):
    weight: int
    granted: Future[None]
    number: int
    """Order of arrival, over all priorities."""


_Queue: TypeAlias = OrderedDict[object, deque[_Waiter]]
"""The waiters of one class, by call, in the order in which calls are served next."""


class Limiter:
    """Grants at most `limit` in total; a weight above the limit is granted alone. Bound to one event loop.

    Waiters are served in the order of their `PRIORITY`. In a class the calls take turns, so that one which waits for
    a hundred objects delays one that waits for one of them only once; each call is served in its own order.
    """

    __slots__ = ("_closed", "_granted", "_numbers", "_queues", "_waiting", "held", "limit")

    def __init__(self, limit: int) -> None:
        self.limit: int = limit
        self.held: int = 0
        self._queues: Final[list[_Queue]] = [OrderedDict() for _ in PRIORITIES]
        self._waiting = 0
        self._granted = 0
        self._numbers = count()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Limiter {self.held}/{self.limit}, {self.waiting} waiting>"

    @property
    def waiting(self) -> int:
        """Number of waiting callers."""
        return 0 if self._closed else self._waiting

    def _fits(self, weight: int) -> bool:
        # A weight above the limit would never fit: it is granted once nothing else is held.
        return self.held == 0 or self.held + weight <= self.limit

    def try_acquire(self, weight: int = 1) -> bool:
        """Acquire without waiting; False where the weight does not fit now or other callers wait."""
        held = self.held  # `_fits` is written out: every request comes by here twice
        if self._waiting or (held and held + weight > self.limit):
            return False
        self.held = held + weight
        return True

    async def acquire(self, weight: int = 1) -> None:
        """Acquire, after the calls of a higher priority and those of the same one whose turn comes before."""
        if self.try_acquire(weight):
            return
        if self._closed:
            raise session_closed()
        priority = PRIORITY.get()
        queue = self._queues[NORMAL if priority is None else priority]
        waiter = _Waiter(weight, get_running_loop().create_future(), next(self._numbers))
        # A call of one task is a queue of its own.
        call = CALL.get() or waiter
        waiters = queue.get(call)
        if waiters is None:
            waiters = queue[call] = deque()
        waiters.append(waiter)
        self._waiting += 1
        try:
            await waiter.granted
        except CancelledError:
            if waiter.granted.cancelled():
                # A waiter at the head may have blocked smaller ones behind it: wake them below.
                if waiter in waiters:
                    waiters.remove(waiter)
                    self._waiting -= 1
                    if not waiters:
                        queue.pop(call, None)
                self._wake()
            else:
                self.release(weight)  # granted in the same loop iteration as the cancellation
            raise

    def release(self, weight: int = 1) -> None:
        """Release what was acquired."""
        self.held -= weight
        if self._waiting:
            self._wake()

    def close(self) -> None:
        """Fail all waiting and future calls with `SessionClosed`. Idempotent."""
        self._closed = True
        for queue in self._queues:
            for waiters in queue.values():
                for waiter in waiters:
                    if not waiter.granted.done():
                        waiter.granted.set_exception(session_closed())
                waiters.clear()
            queue.clear()
        self._waiting = 1  # for ever, so that `try_acquire`, which every request calls, need not check for closing

    def _wake(self) -> None:
        while self._waiting and not self._closed:
            # The queue to serve next. If its first waiter does not fit, all wait, so that large leases do not starve.
            queue = next_class([queue for queue in self._queues if queue], self._granted, _first_number)
            call, waiters = next(iter(queue.items()))
            if not self._fits(waiters[0].weight):
                return
            waiter = waiters.popleft()
            if waiters:
                # The call has had its turn: the others of its class come first now.
                queue.move_to_end(call)
            else:
                del queue[call]
            self._waiting -= 1
            if not waiter.granted.cancelled():
                # Counted here, not when the waiter runs: until then another caller could take the same capacity.
                self.held += waiter.weight
                self._granted += 1
                waiter.granted.set_result(None)


def _first_number(queue: _Queue) -> int:
    return next(iter(queue.values()))[0].number
