"""Complete what has begun, within a grace period, even when its caller is cancelled."""

from __future__ import annotations

from asyncio import CancelledError, Future, get_running_loop, shield
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from .blocking import wait_despite_cancellation

T = TypeVar("T")

GRACE = 2.0
"""Seconds that the work may still run after its caller was cancelled."""


async def run_to_completion(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`. When cancelled, wait until `work` has ended; after `GRACE` seconds cancel it too."""
    task = get_running_loop().create_task(work)
    try:
        # The shield keeps the caller's cancellation away from the task; the handler below bounds how long it runs on.
        return await shield(task)
    except CancelledError as error:
        cancelled = await wait_for_end(task, error, task.cancel)
        raise cancelled from None


async def wait_for_end(future: Future[Any], cancelled: CancelledError, give_up: Callable[[], object]) -> CancelledError:
    """Wait until `future` is done, for a caller that was cancelled.

    Args:
        future: What has begun; its result, or its failure, is dropped.
        cancelled: The cancellation that was caught.
        give_up: Called after `GRACE` seconds; it must make `future` done.

    Returns:
        The cancellation to raise: the latest one.
    """
    end = get_running_loop().call_later(GRACE, give_up)
    cancelled = await wait_despite_cancellation(future, cancelled)
    end.cancel()
    if not future.cancelled():
        future.exception()  # marks it as seen: the caller gets the cancellation
    return cancelled
