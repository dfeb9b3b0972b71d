"""Where codecs run: on the loop when that is cheaper than a thread, in a few threads of the session otherwise."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ..codecs.base import Cost
from ..stores.threads import run_blocking

T = TypeVar("T")

INLINE_BYTES = 128 * 2**10
"""A thread hop costs 50 to 140 µs; up to about this size decoding costs less."""


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

    def close(self) -> None:
        """End the threads; none is working, since every `run` outlives its thread's work."""
        if self._executor is not None:
            self._executor.shutdown(wait=True)
            self._executor = None


def runs_inline(nbytes: int, cost: Cost) -> bool:
    """True where so many decoded bytes are handled on the loop."""
    return cost == "view" or nbytes <= INLINE_BYTES
