"""A background task that outlives the call which started it, and ends with its owner."""

from __future__ import annotations

from asyncio import CancelledError, Task, get_running_loop, wait
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import anyio


class Background:
    """Runs `work` in a task of its own until it ends or `aclose` ends it.

    It belongs to no task group and no cancel scope: an owner that is an async context manager may be entered in one
    task and left in another, as pytest's fixtures and async generators are. The owner must call `aclose`, or `cancel`
    where it cannot await.

    Args:
        work: The coroutine to run.
        on_end: Called on the loop when `work` has ended, with its exception or None; not called if the owner ended it.
    """

    __slots__ = ("_ended_by_owner", "_on_end", "_task")

    def __init__(self, work: Coroutine[Any, Any, None], on_end: Callable[[BaseException | None], None]) -> None:
        self._on_end = on_end
        self._ended_by_owner = False
        self._task: Task[None] = get_running_loop().create_task(work)
        self._task.add_done_callback(self._ended)

    def _ended(self, task: Task[None]) -> None:
        if not task.cancelled():
            self._on_end(task.exception())
        elif not self._ended_by_owner:
            self._on_end(CancelledError())  # raised by what `work` called: its owner would wait forever

    def cancel(self) -> None:
        """Cancel the task without waiting. Safe from any thread and from a finalizer; does nothing once it ended."""
        self._ended_by_owner = True
        loop = self._task.get_loop()
        if not self._task.done():
            with suppress(RuntimeError):  # the loop was closed
                loop.call_soon_threadsafe(self._task.cancel)

    async def wait(self) -> None:
        """Wait until the task has ended. Cancelling the waiter does not cancel the task."""
        await wait((self._task,))  # unlike `await self._task`, which would cancel it with the waiter

    async def aclose(self) -> None:
        """Cancel the task and return once it has ended, however often the caller is cancelled meanwhile."""
        self._ended_by_owner = True
        self._task.cancel()
        cancelled: CancelledError | None = None
        # Within the shield only native cancellations arrive; a cancelled scope would cancel again in every loop cycle.
        with anyio.CancelScope(shield=True):
            while not self._task.done():
                try:
                    await wait((self._task,))
                except CancelledError as error:
                    cancelled = error
        if cancelled is not None:
            raise cancelled
