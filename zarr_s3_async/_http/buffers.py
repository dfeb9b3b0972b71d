"""Receive buffers that are reused: fresh pages cost more than the bytes that are copied into them."""

from __future__ import annotations

import threading
import weakref
from functools import partial

_SMALLEST = 64 * 1024
"""Below this the allocator recycles by itself."""
_SPARE = 8
"""A buffer is longer than its body by up to two eighths, so that bodies of nearly one length share it."""
_LOOKED_AT = 16
_SCRATCH = 256 * 1024
"""Stays in a core's own cache between being received and being placed."""


class Buffers:
    """Lends memory, and lends it again once no reference to it is left in any thread.

    Nothing is given back explicitly: when the view that was lent dies, its buffer becomes a candidate. It is lent
    again once it can be resized, which Python refuses while any view of it lives, a NumPy array's too.
    """

    __slots__ = ("__weakref__", "_candidates", "_kept_bytes", "_lent", "_limit", "_lock", "_scratch")

    def __init__(self, limit: int = 32 * 2**20) -> None:
        """
        Args:
            limit: Bytes kept at most for the next body.
        """
        self._limit = limit
        self._candidates: list[bytearray] = []  # the last used at the end: it is still in cache
        self._kept_bytes = 0
        self._lent: dict[int, tuple[weakref.ref[memoryview], bytearray]] = {}  # by id of the reference
        self._lock = threading.Lock()
        self._scratch: memoryview | None = None

    def scratch(self) -> memoryview:
        """Memory that all connections of one loop receive into, one after the other.

        A loop that asks for a buffer fills it and says so before it does anything else.
        """
        if self._scratch is None:
            self._scratch = memoryview(bytearray(_SCRATCH))
        return self._scratch

    def take(self, length: int) -> memoryview:
        """Memory of `length` bytes, with anything in it."""
        if not _SMALLEST <= length <= self._limit:
            return memoryview(bytearray(length))
        buffer = self._reused(length) or bytearray(length + length // _SPARE)
        view = memoryview(buffer)[:length]
        lent = weakref.ref(view, partial(_ended, weakref.ref(self)))
        self._lent[id(lent)] = lent, buffer
        return view

    def _reused(self, length: int) -> bytearray | None:
        # The lock is never waited for: a view may die, and `_keep` be called, anywhere, here too.
        if not self._lock.acquire(blocking=False):
            return None
        try:
            longest = length + 2 * length // _SPARE
            for back in range(-1, -1 - min(len(self._candidates), _LOOKED_AT), -1):
                if length <= len(self._candidates[back]) <= longest and _is_free(self._candidates[back]):
                    self._kept_bytes -= len(self._candidates[back])
                    return self._candidates.pop(back)
        finally:
            self._lock.release()
        return None

    def _keep(self, lent: weakref.ref[memoryview]) -> None:
        """The view that was lent has died."""
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
        alive._keep(lent)  # noqa: SLF001  # a bound method in its place would keep the buffers alive


def _is_free(buffer: bytearray) -> bool:
    try:
        buffer.append(buffer.pop())
    except BufferError:
        return False
    return True
