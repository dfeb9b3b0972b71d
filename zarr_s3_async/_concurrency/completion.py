"""Work that must not stop in the middle: it is completed, for a bounded time, when its caller is cancelled."""

from __future__ import annotations

from asyncio import CancelledError, get_running_loop, shield
from collections.abc import Coroutine
from typing import Any, TypeVar

from .blocking import wait_despite_cancellation

T = TypeVar("T")

GRACE = 2.0
"""Seconds that the work of a cancelled caller may still take."""


async def run_to_completion(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`. Cancelled, it returns only once the work has ended, or `GRACE` seconds later."""
    loop = get_running_loop()
    task = loop.create_task(work)
    try:
        return await shield(task)
    except CancelledError as error:
        end = loop.call_later(GRACE, task.cancel)
        cancelled = await wait_despite_cancellation(task, error)
        end.cancel()
        if not task.cancelled():
            task.exception()  # marks it as seen: the caller gets the cancellation
        raise cancelled from None
