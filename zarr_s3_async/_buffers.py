"""Reusable buffers for bodies and encoded chunks: page faults of fresh memory cost more than copying the bytes."""

from __future__ import annotations

import threading
import weakref
from functools import partial

_SMALLEST = 64 * 1024
"""Bytes; below this size the allocator reuses memory by itself."""
_SPARE = 8
"""A buffer exceeds its body by up to two eighths, so that bodies of similar length can reuse it."""
_MAX_SEARCHED = 16
_SCRATCH = 2**20
"""Bytes. With fewer there are more reads, more copies, and more changes from one body to another; four times as many
gain little more (`python -m benchmarks.bodies`), and every session with such bodies holds them."""


class Buffers:
    """A pool of buffers, each reused once no reference to it is left in any thread.

    Nothing is returned explicitly: when the view that was handed out is collected, its buffer becomes a candidate. It
    is reused if it can be resized, which Python refuses while any view of it exists, a NumPy array included.
    """

    __slots__ = ("__weakref__", "_candidates", "_kept_bytes", "_lent", "_limit", "_lock", "_scratch")

    def __init__(self, limit: int = 32 * 2**20) -> None:
        """
        Args:
            limit: Maximum number of bytes kept for reuse.
        """
        self._limit = limit
        self._candidates: list[bytearray] = []  # the most recently used last: it is still in the CPU cache
        self._kept_bytes = 0
        self._lent: dict[int, tuple[weakref.ref[memoryview], bytearray]] = {}  # by id of the reference
        self._lock = threading.Lock()
        self._scratch: memoryview | None = None

    def scratch(self) -> memoryview:
        """The scratch buffer that all connections of one loop receive into, one after the other.

        Sharing is safe: asyncio calls `get_buffer`, receives, and calls `buffer_updated` without running anything else.
        """
        if self._scratch is None:
            self._scratch = memoryview(bytearray(_SCRATCH))
        return self._scratch

    def take(self, length: int) -> memoryview:
        """Uninitialised memory of `length` bytes."""
        if not _SMALLEST <= length <= self._limit:
            return memoryview(bytearray(length))
        buffer = self._reused(length) or bytearray(length + length // _SPARE)
        view = memoryview(buffer)[:length]
        lent = weakref.ref(view, partial(_ended, weakref.ref(self)))
        self._lent[id(lent)] = lent, buffer
        return view

    def _reused(self, length: int) -> bytearray | None:
        # Never blocks on the lock: the collector may call `_keep` at any point, also while this thread holds it.
        if not self._lock.acquire(blocking=False):
            return None
        try:
            longest = length + 2 * length // _SPARE
            # From the most recently used one, whose pages are still in the CPU cache.
            for back in range(-1, -1 - min(len(self._candidates), _MAX_SEARCHED), -1):
                if length <= len(self._candidates[back]) <= longest and _is_free(self._candidates[back]):
                    self._kept_bytes -= len(self._candidates[back])
                    return self._candidates.pop(back)
        finally:
            self._lock.release()
        return None

    def _keep(self, lent: weakref.ref[memoryview]) -> None:
        """Called when a view that was handed out has been collected."""
        _, buffer = self._lent.pop(id(lent))
        if not self._lock.acquire(blocking=False):
            return
        try:
            self._candidates.append(buffer)
            self._kept_bytes += len(buffer)
            while self._kept_bytes > self._limit:
                self._kept_bytes -= len(self._candidates.pop(0))
        finally:
            self._lock.release()


def _ended(buffers: weakref.ref[Buffers], lent: weakref.ref[memoryview]) -> None:
    alive = buffers()
    if alive is not None:
        alive._keep(lent)  # noqa: SLF001  # a bound method as callback would keep the pool alive


def _is_free(buffer: bytearray) -> bool:
    try:
        # Resizing a bytearray raises BufferError while a view of it exists: a cheap test that needs no reference
        # counts.
        buffer.append(buffer.pop())
    except BufferError:
        return False
    return True
