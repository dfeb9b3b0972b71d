"""Batches of rows from an array that is bigger than memory, read ahead while the last batch is used.

    python examples/batch_loader.py s3://zarr-s3/training

`ahead` batches are being read or wait to be used, one is in use: that, and `Limits.bytes` for chunks on their
way, is all the memory it takes, whatever the size of the array.
"""

import asyncio
import sys
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any, Self

import numpy as np

import zarr_s3_async as zs

Batch = np.ndarray[Any, np.dtype[Any]]


class BatchLoader:
    """Async iterator over the rows of an array, `rows` at a time, in order.

        async with BatchLoader(array, rows=256) as batches:
            async for batch in batches:
                ...

    A read that fails leaves the `async for` as itself. Leaving the block early cancels what is being read.

    Args:
        array: What to read; its first axis is cut into batches.
        rows: Rows of a batch; a multiple of the chunk length reads no chunk twice.
        ahead: Batches being read, or waiting, while one is used.
    """

    def __init__(self, array: zs.Array, rows: int, *, ahead: int = 2) -> None:
        self._array = array
        self._rows = rows
        self._ahead = ahead
        self._starts: Iterator[int] = iter(range(0, array.shape[0], rows))
        self._reads: deque[asyncio.Task[Batch | Exception]] = deque()
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        self._read_ahead(self._ahead)
        return self

    async def __aexit__(self, *_: object) -> None:
        for read in self._reads:
            read.cancel()
        await self._group.__aexit__(None, None, None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch:
        if not self._reads:
            raise StopAsyncIteration
        await asyncio.wait([self._reads[0]])  # waiting may be cancelled; the read goes on
        batch = self._reads.popleft().result()
        if isinstance(batch, Exception):
            raise batch
        self._read_ahead(1)
        return batch

    def _read_ahead(self, count: int) -> None:
        for start in islice(self._starts, count):
            self._reads.append(self._group.create_task(self._read(start)))

    async def _read(self, start: int) -> Batch | Exception:
        shape = self._array.shape
        stop = (min(start + self._rows, shape[0]), *shape[1:])
        try:
            return await self._array.get_slice((start, *(0 for _ in shape[1:])), stop)
        except Exception as error:  # noqa: BLE001  # raised where this batch is asked for, not while another is used
            return error


async def main(url: str) -> None:
    """Store 64 MiB of samples, then average them with three batches of 2 MiB and 8 MiB for chunks in memory."""
    limits = zs.Limits(bytes=8 * 2**20)
    async with zs.Session(limits=limits) as session:
        array = await session.create_array(url, shape=(16_384, 1024), chunks=(256, 1024), dtype="float32")
        random = np.random.default_rng(0)
        for start in range(0, array.shape[0], 2048):
            await array.set_slice(random.normal(size=(2048, 1024)), start=(start, 0))

        total = np.zeros(array.shape[1])
        async with BatchLoader(array, rows=512, ahead=2) as batches:
            async for batch in batches:
                total += batch.sum(axis=0)
        mean = total / array.shape[0]
        print(f"mean of {array.shape[0]:,} samples: {mean.mean():+.5f}, largest feature {np.abs(mean).max():.4f}")


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "s3://zarr-s3/training"))
    except zs.ZarrS3Error as error:
        sys.exit(f"{type(error).__name__}: {error}")
