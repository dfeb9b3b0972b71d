"""Locks by key, which prevent most write conflicts between tasks of one process."""

from __future__ import annotations

from asyncio import Event, Lock
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class KeyedLocks:
    """Locks by key; a key takes memory only while its lock is held or awaited."""

    __slots__ = ("_leading", "_locks")

    def __init__(self) -> None:
        self._locks: dict[str, tuple[Lock, int]] = {}
        self._leading: dict[str, Event] = {}

    def __len__(self) -> int:
        return len(self._locks) + len(self._leading)

    @asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[None]:
        """Hold the lock of `key` during the block."""
        # `wanted` counts holders and waiters; the last one deletes the entry, so that the dict does not grow with keys.
        lock, wanted = self._locks.get(key) or (Lock(), 0)
        self._locks[key] = (lock, wanted + 1)
        try:
            async with lock:
                yield
        finally:
            lock, wanted = self._locks[key]
            if wanted == 1:
                del self._locks[key]
            else:
                self._locks[key] = (lock, wanted - 1)

    @asynccontextmanager
    async def lead(self, key: str) -> AsyncIterator[bool]:
        """Lead the work on `key` and get True; or, while another caller leads it, wait for its end and get False.

        All waiting callers resume in the same iteration of the event loop. With a lock each would resume in an
        iteration of its own, and under load iterations are long.
        """
        leading = self._leading.get(key)
        if leading is not None:
            await leading.wait()
            yield False
            return
        ended = self._leading[key] = Event()
        try:
            yield True
        finally:
            del self._leading[key]
            ended.set()
