"""`python -m benchmarks.inner_chunk`: time of reading a chunk of 16 KiB, from its own object and from a shard of 256.

The store responds immediately from memory and the index is cached, so only the library above the store is timed. CPU
time in microseconds, medians of interleaved rounds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any

import numpy as np

import zarr_s3_async as zs
from zarr_s3_async._types import Sink, Version
from zarr_s3_async.byte_range import ByteRange, resolve

from .profile_chunk import contents

_SIDE, _EDGE, _ROUNDS, _READS = 16, 64, 15, 512


class InstantStore:
    """A store that responds from a dictionary, without suspending."""

    def __init__(self, name: str, objects: dict[str, bytes]) -> None:
        self.url = f"instant://{name}"
        self._objects = objects

    async def get(
        self,
        key: str,
        *,
        range: ByteRange | None = None,  # noqa: A002  # the protocol's name
        version: Version | None = None,  # noqa: ARG002  # there is only one
        sink: Sink | None = None,
    ) -> zs.Blob | None:
        """A view of the object, or a copy in the sink's memory."""
        body = self._objects.get(key)
        if body is None:
            return None
        start, stop = resolve(range, len(body))
        part = memoryview(body)[start:stop]
        if sink is not None:
            memory = sink(stop - start)
            memory[:] = part
            part = memory
        return zs.Blob(part, Version("1"), len(body))


async def _reading(session: zs.Session, codec: str | None, *, sharded: bool) -> Callable[[], Awaitable[None]]:
    side = _SIDE * _EDGE
    memory: Any = zs.MemoryStore()
    array = await session.create_array(
        memory,
        shape=(side, side),
        chunks=(_EDGE, _EDGE),
        shards=(side, side) if sharded else None,
        dtype="<f4",
        compressor=codec,
    )
    await array[...].set(np.random.default_rng(1).random((side, side), "f4"))
    instant: Any = InstantStore(f"{codec}-{sharded}", await contents(memory))
    array = await session.open_array(instant)

    async def run() -> None:
        for number in range(_READS):
            row, column = (_EDGE * at for at in divmod(number * 7 % _SIDE**2, _SIDE))
            await array.get_slice((row, column), (row + _EDGE, column + _EDGE))

    return run


async def measure() -> dict[str, float]:
    """Microseconds per read, by kind of read."""
    async with zs.Session() as session:
        runs = {
            f"{codec or 'raw'}, {'of a shard' if sharded else 'alone'}": await _reading(session, codec, sharded=sharded)
            for codec in (None, "zstd")
            for sharded in (False, True)
        }
        taken: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(_ROUNDS):
            for name, run in runs.items():
                start = time.process_time()
                await run()
                taken[name].append((time.process_time() - start) / _READS * 1e6)
    return {name: median(values[1:]) for name, values in taken.items()}


if __name__ == "__main__":
    for what, microseconds in asyncio.run(measure()).items():
        print(f"{microseconds:9.1f} µs  {what}")
