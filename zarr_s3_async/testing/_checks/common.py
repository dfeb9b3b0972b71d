"""Helpers of the checks: contents, recording sinks, and concurrent or cancelled calls."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import anyio

from ..._types import Buffer
from ...errors import Conflict
from ...stores.base import Entry, Store

T = TypeVar("T")

MIB = 2**20


def content(size: int, seed: int = 0) -> bytes:
    """`size` pseudo-random bytes, different for each seed."""
    return hashlib.shake_256(seed.to_bytes(8, "big")).digest(size)


def same(data: Buffer, expected: bytes) -> bool:
    """True if the buffer, of any kind, contains these bytes."""
    return memoryview(data).nbytes == len(expected) and bytes(data) == expected


class RecordingSink:
    """A sink that records the lengths that it was called with and the memory that it returned."""

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self.memory = bytearray()

    def __call__(self, length: int) -> memoryview:
        self.lengths.append(length)
        # Not zeros, so that bytes which were never received are noticed.
        self.memory = bytearray(b"\xaa" * length)
        return memoryview(self.memory)


async def at_once(calls: Iterable[Callable[[], Awaitable[T]]]) -> list[T]:
    """Run all calls concurrently and return their results in the order of the calls."""
    results: dict[int, T] = {}

    async def run(number: int, call: Callable[[], Awaitable[T]]) -> None:
        results[number] = await call()

    async with anyio.create_task_group() as group:
        for number, call in enumerate(calls):
            group.start_soon(run, number, call)
    return [results[number] for number in sorted(results)]


async def conflicts(call: Awaitable[object]) -> bool:
    """True if the call raises Conflict."""
    try:
        await call
    except Conflict:
        return True
    return False


async def listed(store: Store, prefix: str = "") -> list[Entry]:
    """All entries of a listing."""
    return [entry async for entry in store.list_prefix(prefix)]


async def cancelled_after(cycles: int, call: Callable[[], Awaitable[object]], *, times: int = 1) -> bool:
    """Run the call in this task and cancel the task after this many iterations of the event loop.

    Args:
        cycles: Iterations before the cancellation; 0 cancels the call at its first suspension.
        call: Creates the awaitable.
        times: Number of cancellations, one per iteration.

    Returns:
        True if the call raised CancelledError; False if it had completed before.
    """
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("this must run inside a task")
    loop = asyncio.get_running_loop()
    pending: asyncio.Handle | None = None

    def cancel_later(left: int, more: int) -> None:
        nonlocal pending
        if left == 0:
            task.cancel()
            more -= 1
        pending = loop.call_soon(cancel_later, max(0, left - 1), more) if more else None

    pending = loop.call_soon(cancel_later, cycles, times)
    try:
        await call()
    except asyncio.CancelledError:
        return True
    finally:
        if pending is not None:
            pending.cancel()
        # The caller's task goes on; a pending cancellation would end it at its next await.
        while task.uncancel():
            pass
    return False
