"""Structured tasks: workers that pull from one lazy source, and a few calls run together.

Both return when every task has ended; a failure cancels its siblings and is raised as itself, in no group.
asyncio's TaskGroup rather than anyio's: the same guarantees under native cancellation and under anyio's scopes,
at a fraction of the cost per task (CONTRIBUTING.md says how that was measured).
"""

from __future__ import annotations

import sys
from asyncio import TaskGroup, current_task
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


async def run_workers(size: int, items: Iterator[T], work: Callable[[T], Awaitable[None]]) -> None:
    """Work on every item with at most `size` at once; items are pulled one by one, as workers become free."""
    await _crew(size, lambda: _pull(items, work))


async def run_workers_async(size: int, items: AsyncIterator[T], work: Callable[[T], Awaitable[None]]) -> None:
    """Like `crew`, with a source whose `__anext__` several workers may await at once: no generator's may."""
    await _crew(size, lambda: _pull_from(items, work))


async def _crew(size: int, worker: Callable[[], Coroutine[Any, Any, None]]) -> None:
    if size <= 1:
        await worker()
        return
    failure: BaseException
    before = _cancellations()
    try:
        async with TaskGroup() as group:
            for _ in range(size):
                group.create_task(worker())
            return
    except BaseExceptionGroup as failures:
        failure = first_leaf(failures)
    _take_back(before)
    raise failure


async def _pull(items: Iterator[T], work: Callable[[T], Awaitable[None]]) -> None:
    for item in items:
        await work(item)


async def _pull_from(items: AsyncIterator[T], work: Callable[[T], Awaitable[None]]) -> None:
    async for item in items:
        await work(item)
        del item  # or it would keep its data while the worker waits for the next one


async def gather_all(*calls: Coroutine[Any, Any, T]) -> list[T]:
    """Run a few calls at once; their results in order."""
    failure: BaseException
    before = _cancellations()
    try:
        async with TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except BaseExceptionGroup as failures:
        failure = first_leaf(failures)
    else:
        return [task.result() for task in tasks]
    _take_back(before)
    raise failure


def _cancellations() -> int:
    task = current_task()
    return 0 if task is None else task.cancelling()


def _take_back(before: int) -> None:
    """Undo the cancellation that a failing group asks of its own parent; before 3.13 it forgets to.

    Left standing, it makes anyio's scopes around the call take the failure for a cancellation from outside.
    """
    task = current_task()
    if sys.version_info < (3, 13) and task is not None and task.cancelling() > before:
        task.uncancel()


def first_leaf(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first failure itself, however deep it was grouped."""
    leaf: BaseException = failures
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    return leaf
