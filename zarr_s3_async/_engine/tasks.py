"""The only room that starts tasks: a crew of workers that pull from one lazy source, and a handful run together.

Both are structured: they return when every task has ended, a failure cancels its siblings and leaves as itself.
asyncio's TaskGroup rather than anyio's: the same guarantees under native cancellation and under anyio's scopes,
at a fraction of the cost per task (CONTRIBUTING.md says how that was measured).
"""

from __future__ import annotations

from asyncio import TaskGroup
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


async def crew(size: int, items: Iterator[T], work: Callable[[T], Awaitable[None]]) -> None:
    """Work on every item with at most `size` at once; items are pulled one by one, as workers become free."""
    if size <= 1:
        await _pull(items, work)
        return
    failure: BaseException
    try:
        async with TaskGroup() as group:
            for _ in range(size):
                group.create_task(_pull(items, work))
            return
    except BaseExceptionGroup as failures:
        failure = first_leaf(failures)
    raise failure


async def _pull(items: Iterator[T], work: Callable[[T], Awaitable[None]]) -> None:
    for item in items:
        await work(item)


async def together(*calls: Coroutine[Any, Any, T]) -> list[T]:
    """Run a few calls at once; their results in order."""
    failure: BaseException
    try:
        async with TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except BaseExceptionGroup as failures:
        failure = first_leaf(failures)
    else:
        return [task.result() for task in tasks]
    raise failure


def first_leaf(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first failure itself, however deep it was grouped."""
    leaf: BaseException = failures
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    return leaf
