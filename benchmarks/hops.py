"""Overhead of a call in a codec thread: our threads compared with the standard library's pool.

Prints microseconds of CPU time per call with 64 concurrent callers, as in a read of many chunks.
"""

import asyncio
import statistics
import time
import zlib
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from zarr_s3_async._concurrency.threads import CodecThreads

CALLERS, CALLS, ROUNDS, THREADS = 64, 1000, 15, 4
_DATA = bytes(1_000_000)


def work() -> int:
    """About 0.2 ms without the GIL, like decompressing a chunk of 256 KiB."""
    return zlib.crc32(_DATA)


async def measured(run: Callable[[Callable[[], int]], Awaitable[int]]) -> float:
    """Microseconds per call."""

    async def call(numbers: Iterator[int]) -> None:
        for _ in numbers:
            await asyncio.sleep(0)  # stands for the request
            await run(work)

    numbers, start = iter(range(CALLS)), time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(call(numbers))
    return (time.process_time() - start) / CALLS * 1e6


async def main() -> None:
    """Print medians of interleaved rounds."""
    threads, executor = CodecThreads(THREADS), ThreadPoolExecutor(THREADS)
    loop = asyncio.get_running_loop()

    async def inline(call: Callable[[], int]) -> int:
        return call()

    ways: dict[str, Callable[[Callable[[], int]], Awaitable[int]]] = {
        "on the loop": inline,
        "our threads": threads.run,
        "ThreadPoolExecutor": lambda call: loop.run_in_executor(executor, call),
    }
    rounds = [[await measured(way) for way in ways.values()] for _ in range(ROUNDS)]
    medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
    for name, median in zip(ways, medians, strict=True):
        print(f"{name:20} {median:6.1f} µs per call, {median - medians[0]:5.1f} of them overhead")
    threads.close()
    executor.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
