"""Arrays with known values, stores that count and delay requests, and the batches of an epoch."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs

SHUFFLES = (None, "chunks", "buffer", "global")


class Watched(zs.MemoryStore):
    """Counts the gets of chunks, and answers them after a random number of turns of the event loop."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__()
        self.gets: Counter[str] = Counter()
        self.in_flight = 0
        self.broken: set[str] = set()
        self.hangs_from: int | None = None
        self._random = None if seed is None else Random(seed)

    async def get(self, key: str, **options: Any) -> Any:  # type: ignore[override]  # handed on as it is
        if not key.startswith("c/"):
            return await super().get(key, **options)
        self.gets[key] += 1
        self.in_flight += 1
        try:
            if self.hangs_from is not None and self.gets.total() > self.hangs_from:
                await asyncio.Event().wait()
            if self._random is not None:
                for _ in range(self._random.randrange(50)):
                    await asyncio.sleep(0)
            if key in self.broken:
                raise zs.NetworkError("no answer", key=key)
            return await super().get(key, **options)
        finally:
            self.in_flight -= 1


async def stored(session: zs.Session, store: Any, data: np.ndarray, **options: Any) -> zs.Array:
    """An array that holds `data`."""
    array = await session.create_array(store, shape=data.shape, dtype=data.dtype, **options)
    await array[...].set(data)
    return array


def numbered(*shape: int) -> np.ndarray:
    """An array of different numbers."""
    return np.arange(np.prod(shape), dtype="i4").reshape(shape)


async def batches_of(loader: zs.BatchLoader, number: int | None = None, **part: int) -> list[Any]:
    return [batch async for batch in loader.epoch(number, **part)]


async def collect(epoch: Any, into: list[Any]) -> None:
    async for batch in epoch:
        into.append(batch)


async def order_of(loader: zs.BatchLoader, number: int | None = None, **part: int) -> list[int]:
    """Samples of an array whose rows hold their number."""
    batches = await batches_of(loader, number, **part)
    return np.concatenate(batches).reshape(sum(map(len, batches)), -1)[:, 0].tolist()


def rows(*shape: int) -> np.ndarray:
    """Each row holds its number."""
    return np.broadcast_to(np.arange(shape[0], dtype="i4").reshape(-1, *[1] * (len(shape) - 1)), shape).copy()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def other_tasks() -> list[asyncio.Task[Any]]:
    """All tasks except the current one."""
    return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


@pytest.fixture
async def session() -> AsyncIterator[zs.Session]:
    async with zs.Session() as session:
        yield session
