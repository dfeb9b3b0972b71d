"""Blocking calls in threads: the one way in which a store leaves the event loop's thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import anyio

T = TypeVar("T")
Args = TypeVarTuple("Args")


async def run_blocking(fn: Callable[[*Args], T], /, *args: *Args) -> T:
    """Run `fn(*args)` in a thread of the loop's own executor.

    Cancelled, however often and by whomever, it leaves only once the thread has ended (or never began), so
    that nothing it was given is touched afterwards. `asyncio.to_thread` and anyio's `to_thread.run_sync`
    leave at once under a native `Task.cancel()`.
    """
    claim = threading.Lock()  # the thread takes it to run, a cancelled caller to leave: whoever is first

    def call() -> T | None:
        return fn(*args) if claim.acquire(blocking=False) else None

    future = asyncio.get_running_loop().run_in_executor(None, call)
    try:
        await asyncio.wait((future,))
    except asyncio.CancelledError as error:
        if claim.acquire(blocking=False):
            future.cancel()
            raise
        cancelled = await outlast(future, error)
        if not future.cancelled():
            future.exception()  # marks it as seen: the cancellation is what the caller gets
        raise cancelled from None
    return future.result()  # type: ignore[return-value]  # None stands for a call that the cancelled caller took back


async def outlast(future: asyncio.Future[T], cancelled: asyncio.CancelledError) -> asyncio.CancelledError:
    """Wait for the future's end whatever happens.

    The latest cancellation wins: within the shield only native ones arrive, and a scope of anyio swallows
    its own.
    """
    with anyio.CancelScope(shield=True):  # a cancelled scope of anyio would cancel again in every loop cycle
        while not future.done():
            try:
                await asyncio.wait((future,))
            except asyncio.CancelledError as error:
                cancelled = error
    return cancelled
