"""Structured concurrency: workers that pull from one lazy source, a gather of a few calls, and a queue for workers.

Workers and gather return when every task has ended. A failure cancels the other tasks and is raised itself, not in an
exception group. Based on asyncio's TaskGroup rather than anyio's: the same guarantees under native cancellation and
anyio's scopes, at a fraction of the cost per task (measured in CONTRIBUTING.md).
"""

from __future__ import annotations

import sys
from asyncio import Queue, TaskGroup, current_task
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any, Generic, Self, TypeVar

from .limiter import CALL

T = TypeVar("T")


async def run_workers(size: int, items: Iterator[T], work: Callable[[T], Awaitable[None]]) -> None:
    """Call `work` for every item with at most `size` workers; items are pulled one by one as workers become free."""
    await _run(size, lambda: _pull(items, work))


async def run_workers_async(size: int, items: AsyncIterator[T], work: Callable[[T], Awaitable[None]]) -> None:
    """Like `run_workers`, with an async source. Several workers await its `__anext__` at once: no async generator."""
    await _run(size, lambda: _pull_from(items, work))


async def _run(size: int, worker: Callable[[], Coroutine[Any, Any, None]]) -> None:
    # A single worker runs in the caller's task: no task to create, and its exception needs no unwrapping.
    if size <= 1:
        await worker()
        return
    # A group wraps even one failure in an exception group; callers get the failure itself.
    failure: BaseException
    before = _cancellations()
    # The tasks inherit it: in the limiters, the workers of one call take turns with other calls as one.
    call = CALL.set(CALL.get() or object())
    try:
        async with TaskGroup() as group:
            tasks = [group.create_task(worker()) for _ in range(size)]
    except BaseExceptionGroup as failures:
        failure = first_leaf(failures)
    else:
        # The group ignores a CancelledError that the work of a worker raised: its items would be lost without an error.
        for task in tasks:
            task.result()
        return
    finally:
        CALL.reset(call)
    _clear_cancellations(before)
    raise failure


async def _pull(items: Iterator[T], work: Callable[[T], Awaitable[None]]) -> None:
    for item in items:
        await work(item)


async def _pull_from(items: AsyncIterator[T], work: Callable[[T], Awaitable[None]]) -> None:
    async for item in items:
        await work(item)
        del item  # releases its data while the worker waits for the next one


async def gather_all(*calls: Coroutine[Any, Any, T]) -> list[T]:
    """Run a few calls concurrently and return their results in order."""
    failure: BaseException
    before = _cancellations()
    try:
        async with TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except BaseExceptionGroup as failures:
        failure = first_leaf(failures)
    else:
        return [task.result() for task in tasks]
    _clear_cancellations(before)
    raise failure


def _cancellations() -> int:
    task = current_task()
    return 0 if task is None else task.cancelling()


def _clear_cancellations(before: int) -> None:
    """Undo the cancellation that a failing TaskGroup requests of its parent task; before Python 3.13 it does not.

    Otherwise anyio's scopes around the call mistake the failure for a cancellation from outside.
    """
    task = current_task()
    if sys.version_info < (3, 13) and task is not None and task.cancelling() > before:
        task.uncancel()


def first_leaf(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first exception, however deeply it is nested in groups."""
    leaf: BaseException = failures
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    return leaf


class Feed(Generic[T]):
    """An async iterator over the items that were put, until it is closed. Any number of workers may iterate."""

    __slots__ = ("_closed", "_items")

    def __init__(self) -> None:
        self._items: Queue[T | None] = Queue()
        self._closed = False

    def put(self, item: T) -> None:
        """Add an item without waiting."""
        self._items.put_nowait(item)

    def close(self) -> None:
        """Accept no more items; queued ones are still delivered."""
        if not self._closed:
            self._closed = True
            self._items.put_nowait(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        item = await self._items.get()
        if item is None:
            self._items.put_nowait(None)  # for the next worker
            raise StopAsyncIteration
        return item
