"""Cost of starting a worker task: asyncio's TaskGroup compared with anyio's. Prints microseconds per task."""

import asyncio
import statistics
import time

import anyio

WORKERS, ROUNDS = 64, 200


async def nothing() -> None:
    """A worker without work."""


async def with_asyncio() -> float:
    """Seconds for one group of workers."""
    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(WORKERS):
            group.create_task(nothing())
    return time.perf_counter() - start


async def with_anyio() -> float:
    """Seconds for one group of workers."""
    start = time.perf_counter()
    async with anyio.create_task_group() as group:
        for _ in range(WORKERS):
            group.start_soon(nothing)
    return time.perf_counter() - start


async def main() -> None:
    """Print medians of interleaved rounds."""
    rounds = [(await with_asyncio(), await with_anyio()) for _ in range(ROUNDS)]
    asyncio_us, anyio_us = (statistics.median(column) / WORKERS * 1e6 for column in zip(*rounds, strict=True))
    print(f"asyncio.TaskGroup {asyncio_us:.1f} µs per task, anyio {anyio_us:.1f} µs, ratio {asyncio_us / anyio_us:.2f}")


if __name__ == "__main__":
    asyncio.run(main())
