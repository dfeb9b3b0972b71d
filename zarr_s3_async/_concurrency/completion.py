"""Run a coroutine to completion, within a grace period, even when its caller is cancelled."""

from __future__ import annotations

from asyncio import CancelledError, get_running_loop, shield
from collections.abc import Coroutine
from typing import Any, TypeVar

from .blocking import wait_despite_cancellation

T = TypeVar("T")

GRACE = 2.0
"""Seconds that the work may still run after its caller was cancelled."""


async def run_to_completion(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`. When cancelled, wait until `work` has ended; after `GRACE` seconds cancel it too."""
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
