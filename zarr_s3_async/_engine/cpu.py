"""Where codecs run: on the loop when that is cheaper than a thread, in a few threads of the session otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from threading import local
from typing import Any, TypeVar

import numpy as np

from .._concurrency.threads import CodecThreads
from .._concurrency.workers import gather_all
from .._types import Shape
from ..codecs.base import Cost, Interrupt, interruptible

T = TypeVar("T")
R = TypeVar("R")

INLINE_BYTES = 128 * 2**10
"""A thread hop costs 20 µs and more; up to about this size decoding costs less."""
_QUICK_INLINE_BYTES = 512 * 2**10
"""The same for codecs that decode several GB/s."""
SPLIT_BYTES = 8 * 2**20
"""An object of many chunks and at least this size is decoded and encoded in several threads at once."""
_MAX_SCRATCH = 4 * 2**20
"""Bytes that a thread keeps to decode into. A bigger chunk gets memory of its own."""


class Cpu:
    """The session's threads for codecs. Started at the first big chunk."""

    __slots__ = ("_limit", "_scratch", "_threads")

    def __init__(self, threads: int) -> None:
        self._limit = threads
        self._threads = CodecThreads(threads)
        self._scratch = _Scratch()

    async def run(self, work: Callable[[], T]) -> T:
        """Run in a thread.

        Cancelled, it returns when the thread has ended: what it writes to stays ours till then. Decoders that go block
        by block end at the next one (`codecs.base.check_interrupt`).
        """
        interrupt = Interrupt()
        return await self._threads.run(partial(interruptible, interrupt, work), interrupt.request)

    async def each(self, work: Callable[[Sequence[T]], R], items: Sequence[T], *, split: bool) -> list[R]:
        """Run `work` over all items in one thread, or, split, over a share of them in each thread at once."""
        run = self.run
        if not split:
            return [await run(partial(work, items))]
        size = -(-len(items) // min(self._limit, len(items)))
        batches = [items[at : at + size] for at in range(0, len(items), size)]
        return await gather_all(*(run(partial(work, batch)) for batch in batches))

    def scratch(self, shape: Shape, dtype: np.dtype[Any]) -> np.ndarray[Any, np.dtype[Any]]:
        """Memory with anything in it, for the calling thread alone and until its next call."""
        nbytes = prod(shape) * dtype.itemsize
        if nbytes > _MAX_SCRATCH:
            return np.empty(shape, dtype)
        if len(self._scratch.memory) < nbytes:
            self._scratch.memory = np.empty(nbytes, np.uint8)
        return self._scratch.memory[:nbytes].view(dtype).reshape(shape)

    def close(self) -> None:
        """Begin no further work; threads end after what they are doing."""
        self._threads.close()

    async def aclose(self) -> None:
        """`close`, and return when the threads have ended."""
        await self._threads.aclose()


class _Scratch(local):
    """Fresh pages cost more than the bytes that are decoded into them."""

    memory = np.empty(0, np.uint8)


def runs_inline(nbytes: int, cost: Cost) -> bool:
    """True where so many decoded bytes are handled on the loop."""
    if nbytes <= INLINE_BYTES:
        return True
    # Where the bytes are the elements they are only copied; of a big shard even that would stall the loop.
    return (cost == "view" and nbytes < SPLIT_BYTES) or (cost == "quick" and nbytes <= _QUICK_INLINE_BYTES)
