"""What is completed although its caller is cancelled: calls in threads of the loop's own executor, and uploads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar, TypeVarTuple

from ..errors import StateError

T = TypeVar("T")
Args = TypeVarTuple("Args")

GRACE = 2.0
"""Seconds that the work may still run after its caller was cancelled."""


async def run_blocking(fn: Callable[[*Args], T], /, *args: *Args) -> T:
    """Run `fn(*args)` in a thread and return its result.

    When it is cancelled, it returns only once the thread has finished (or will never start), so that the thread cannot
    touch its arguments afterwards. `asyncio.to_thread` and anyio's `to_thread.run_sync` return immediately under a
    native `Task.cancel()`.

    Raises:
        StateError: The interpreter is exiting.
    """
    claim = threading.Lock()  # taken by the thread to run, or by a cancelled caller to leave; the first one wins

    def call() -> T | None:
        return fn(*args) if claim.acquire(blocking=False) else None

    try:
        future = asyncio.get_running_loop().run_in_executor(None, call)
    except RuntimeError as error:  # also in threads that outlive the main one: Python stops all executors first
        raise StateError("the interpreter is exiting and starts no threads any more: end the work first") from error
    try:
        await asyncio.wait((future,))
    except asyncio.CancelledError as error:
        if claim.acquire(blocking=False):
            future.cancel()
            raise
        cancelled = await wait_despite_cancellation(future, error)
        if not future.cancelled():
            future.exception()  # marks it as seen: the caller gets the cancellation
        raise cancelled from None
    return future.result()  # type: ignore[return-value]  # None only where a cancelled caller took the claim


async def wait_despite_cancellation(
    future: asyncio.Future[T], cancelled: asyncio.CancelledError
) -> asyncio.CancelledError:
    """Wait for the future to complete, however often the caller is cancelled meanwhile.

    Args:
        future: What to wait for; it is not cancelled.
        cancelled: The cancellation that was caught.

    Returns:
        The cancellation to raise: the latest one. Only native cancellations pass the shield; an anyio scope catches its
        own.
    """
    import anyio  # 1 ms, for a cancelled call alone

    with anyio.CancelScope(shield=True):  # a cancelled scope of anyio would cancel again in every loop cycle
        while not future.done():
            try:
                await asyncio.wait((future,))
            except asyncio.CancelledError as error:
                cancelled = error
    return cancelled


async def run_to_completion(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`. When cancelled, wait until `work` has ended; after `GRACE` seconds cancel it too."""
    task = asyncio.get_running_loop().create_task(work)
    try:
        # The shield keeps the caller's cancellation away from the task; the handler below bounds how long it runs on.
        return await asyncio.shield(task)
    except asyncio.CancelledError as error:
        cancelled = await wait_for_end(task, error, task.cancel)
        raise cancelled from None


async def wait_for_end(
    future: asyncio.Future[Any], cancelled: asyncio.CancelledError, give_up: Callable[[], object]
) -> asyncio.CancelledError:
    """Wait until `future` is done, for a caller that was cancelled.

    Args:
        future: What has begun; its result, or its failure, is dropped.
        cancelled: The cancellation that was caught.
        give_up: Called after `GRACE` seconds; it must make `future` done.

    Returns:
        The cancellation to raise: the latest one.
    """
    end = asyncio.get_running_loop().call_later(GRACE, give_up)
    cancelled = await wait_despite_cancellation(future, cancelled)
    end.cancel()
    if not future.cancelled():
        future.exception()  # marks it as seen: the caller gets the cancellation
    return cancelled


class SharedCall(Generic[T]):
    """A blocking call in a thread, shared by all its waiters. Cancelling one waiter does not cancel the others."""

    __slots__ = ("_call", "_future", "made_at")

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._future: asyncio.Future[T] | None = None
        self.made_at = 0.0

    async def get(self, max_age: float | None = None) -> T:
        """Return the result, at most `max_age` seconds old. After a failure the next caller starts a new call."""
        loop = asyncio.get_running_loop()
        # `made_at` is when the call started, so a result is never older than it claims.
        old = max_age is not None and loop.time() - self.made_at > max_age
        if self._future is None or (self._future.done() and (old or self._future.exception())):
            self._future = loop.run_in_executor(None, self._call)
            self._future.add_done_callback(_retrieve)
            self.made_at = loop.time()
        future = self._future
        if not future.done():
            await asyncio.wait((future,))
        return future.result()


def _retrieve(future: asyncio.Future[T]) -> None:
    # Where every waiter was cancelled, no caller retrieves the exception, and asyncio would log a warning.
    if not future.cancelled():
        future.exception()
