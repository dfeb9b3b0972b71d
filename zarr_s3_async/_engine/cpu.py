"""Run codecs: on the event loop if that is cheaper than a thread, otherwise in the session's threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from threading import local
from typing import Any, TypeVar

import numpy as np

from .._buffers import Buffers
from .._concurrency.threads import CodecThreads
from .._concurrency.workers import gather_all
from .._types import Shape
from ..codecs.base import Cost, Interrupt, interruptible

T = TypeVar("T")
R = TypeVar("R")

INLINE_BYTES = 128 * 2**10
"""Running in a thread adds 20 µs and more; up to about this size decoding takes less."""
_QUICK_INLINE_BYTES = 512 * 2**10
"""The same for codecs that decode several GB/s."""
SPLIT_BYTES = 8 * 2**20
"""Objects with several chunks and at least this size are decoded and encoded in several threads."""
MIN_GATHERED = 2**20
"""Minimum size of a chunk for `Cpu.gathered`: for smaller ones the allocator reuses memory by itself."""
_MAX_SCRATCH = 4 * 2**20
"""Maximum size of a thread's scratch buffer. Larger chunks get newly allocated memory."""


class Cpu:
    """The session's codec threads, started for the first large chunk, and the memory that codecs reuse."""

    __slots__ = ("_buffers", "_limit", "_scratch", "_threads")

    def __init__(self, threads: int) -> None:
        self._limit = threads
        self._threads = CodecThreads(threads)
        self._scratch = _Scratch()
        self._buffers = Buffers()

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in a thread and return its result.

        When cancelled, it returns once the thread has finished, so that the thread cannot write to freed memory.
        Decoders that process blocks stop at the next block (`codecs.base.check_interrupt`).
        """
        interrupt = Interrupt()
        return await self._threads.run(partial(interruptible, interrupt, work), interrupt.request)

    async def each(self, work: Callable[[Sequence[T]], R], items: Sequence[T], *, split: bool) -> list[R]:
        """Run `work` on all items in one thread; with `split`, on a share of them in each thread in parallel."""
        run = self.run
        if not split:
            return [await run(partial(work, items))]
        # One batch per thread, not one call per item: a call in a thread has a fixed cost.
        size = -(-len(items) // min(self._limit, len(items)))
        batches = [items[at : at + size] for at in range(0, len(items), size)]
        return await gather_all(*(run(partial(work, batch)) for batch in batches))

    def scratch(self, shape: Shape, dtype: np.dtype[Any]) -> np.ndarray[Any, np.dtype[Any]]:
        """Uninitialised memory for the calling thread, valid until its next call."""
        nbytes = prod(shape) * dtype.itemsize
        if nbytes > _MAX_SCRATCH:
            return np.empty(shape, dtype)
        # Grows to the largest request of this thread and is never shrunk; _MAX_SCRATCH bounds it.
        if len(self._scratch.memory) < nbytes:
            self._scratch.memory = np.empty(nbytes, np.uint8)
        return self._scratch.memory[:nbytes].view(dtype).reshape(shape)

    def gathered(self, chunk: np.ndarray[Any, np.dtype[Any]]) -> memoryview:
        """Copy a chunk's elements in C order into memory that is reused once nothing refers to it any more.

        Fresh pages cost several times the copy: 0.7 ms of a chunk of 4 MiB, where the copy takes 0.1 ms.
        """
        data = self._buffers.take(chunk.nbytes)
        np.ndarray(chunk.shape, chunk.dtype, data)[...] = chunk
        return data

    def close(self) -> None:
        """Start no further work; threads end after their current call."""
        self._threads.close()

    async def aclose(self) -> None:
        """`close`, and return when the threads have ended."""
        await self._threads.aclose()


class _Scratch(local):
    """A buffer per thread, reused since page faults of fresh memory cost more than decoding into it."""

    memory = np.empty(0, np.uint8)


def runs_inline(nbytes: int, cost: Cost) -> bool:
    """True if `nbytes` decoded bytes are to be processed on the event loop."""
    if nbytes <= INLINE_BYTES:
        return True
    # Raw chunks are only copied, which needs no thread; but copying a large shard would block the loop too.
    return (cost == "view" and nbytes < SPLIT_BYTES) or (cost == "quick" and nbytes <= _QUICK_INLINE_BYTES)
