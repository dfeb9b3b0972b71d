"""Where codecs run: on the loop when that is cheaper than a thread, in a few threads of the session otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from ..codecs.base import Cost
from ..stores.threads import run_blocking
from .tasks import together

T = TypeVar("T")
R = TypeVar("R")

INLINE_BYTES = 128 * 2**10
"""A thread hop costs 50 to 140 µs; up to about this size decoding costs less."""
SPLIT_BYTES = 8 * 2**20
"""An object of many chunks and at least this size is decoded and encoded in several threads at once."""


class Cpu:
    """The session's threads for codecs. Started at the first big chunk."""

    __slots__ = ("_executor", "_threads")

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._executor: ThreadPoolExecutor | None = None

    async def run(self, work: Callable[[], T]) -> T:
        """Run in a thread. Cancelled, it returns when the thread has ended: what it writes to stays ours till then."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self._threads, thread_name_prefix="zarr-s3-codec")
        return await run_blocking(work, executor=self._executor)

    async def each(self, work: Callable[[Sequence[T]], R], items: Sequence[T], *, split: bool) -> list[R]:
        """Run `work` over all items in one thread, or, split, over a share of them in each thread at once."""
        shares = min(self._threads, len(items)) if split else 1
        size = -(-len(items) // shares)
        batches = [items[at : at + size] for at in range(0, len(items), size)]
        return await together(*(self.run(partial(work, batch)) for batch in batches))

    def close(self) -> None:
        """End the threads; none is working, since every `run` outlives its thread's work."""
        if self._executor is not None:
            self._executor.shutdown(wait=True)
            self._executor = None


def runs_inline(nbytes: int, cost: Cost) -> bool:
    """True where so many decoded bytes are handled on the loop."""
    # Where the bytes are the elements they are only copied; of a big shard even that would stall the loop.
    return nbytes <= INLINE_BYTES or (cost == "view" and nbytes < SPLIT_BYTES)
