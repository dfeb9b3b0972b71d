"""Cancels a call after each number of event loop iterations, in every way in which a call can be cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio

WAYS = ("native", "twice", "anyio", "timeout")
_MAX_TURNS = 3000


async def at_every_turn(way: str, call: Callable[[], Awaitable[Any]], check: Callable[[], Awaitable[None]]) -> int:
    """Run `call` repeatedly, cancelled after 1, 2, 3 … iterations, until it ends before it is cancelled.

    Args:
        way: Kind of cancellation.
        call: Creates the call to cancel.
        check: Run after each call.

    Returns:
        The number of cancellations.
    """
    for turns in range(_MAX_TURNS):
        if not await _is_cancelled(way, turns, call):
            await check()
            return turns
        await check()
    raise AssertionError(f"the call did not end within {_MAX_TURNS} iterations of the loop")


async def _is_cancelled(way: str, turns: int, call: Callable[[], Awaitable[Any]]) -> bool:
    task = asyncio.ensure_future(_run(way, turns, call))
    if way in ("native", "twice"):
        for _ in range(turns):
            await asyncio.sleep(0)
        if task.done():
            await task
            return False
        task.cancel()
        if way == "twice":
            await asyncio.sleep(0)
            task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        return True
    return await task


async def _run(way: str, turns: int, call: Callable[[], Awaitable[Any]]) -> bool:
    """Run the call. Returns True if it was cancelled."""
    match way:
        case "anyio":
            with anyio.CancelScope() as scope:
                _after(turns, scope.cancel)
                await call()
            return scope.cancelled_caught
        case "timeout":
            try:
                async with asyncio.timeout(None) as timeout:
                    # A timeout of zero seconds fires in the next iteration.
                    _after(turns, lambda: timeout.reschedule(0))
                    await call()
            except TimeoutError:
                return True
            return False
    await call()
    return False


def _after(turns: int, act: Callable[[], Any]) -> None:
    """Call `act` after this many iterations of the loop."""
    loop = asyncio.get_running_loop()

    def turn(left: int) -> None:
        if left > 0:
            loop.call_soon(turn, left - 1)
        else:
            with suppress(RuntimeError):  # the timeout is over
                act()

    turn(turns)


async def through_generator(make: Callable[[], Any], taken: int) -> None:
    """Iterate in an async generator over `async with make()`, and close it after `taken` items."""

    async def items() -> AsyncIterator[Any]:
        async with make() as stream:
            async for item in stream:
                yield item

    generator = items()
    for _ in range(taken):
        await anext(generator)
    await generator.aclose()  # type: ignore[attr-defined]  # it is a generator
