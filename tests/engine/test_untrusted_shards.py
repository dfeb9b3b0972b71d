"""Shards that claim more than they hold take no more memory than their leases cover."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs

from .test_shard_requests import sharding

MISSING = 2**64 - 1


@pytest.fixture
async def session() -> AsyncIterator[zs.Session]:
    async with zs.Session(limits=zs.Limits(bytes=2**20)) as opened:
        yield opened


async def sharded(session: zs.Session, store: zs.MemoryStore, n_chunks: int, chunk: int) -> zs.Array:
    codecs = sharding((chunk,), "end")
    codecs[0]["configuration"]["index_codecs"] = [{"name": "bytes", "configuration": {"endian": "little"}}]
    return await session.create_array(
        store, shape=(n_chunks * chunk,), chunks=(n_chunks * chunk,), dtype="u1", codecs=codecs, fill_value=7
    )


async def test_an_index_of_millions_of_absent_chunks_is_in_memory_hardly_more_than_once(session: zs.Session) -> None:
    n_chunks = 2**21
    store = zs.MemoryStore()
    array = await sharded(session, store, n_chunks, 1)
    index = np.full((n_chunks, 2), MISSING, "<u8").tobytes()
    await store.put("c/0", index)
    tracemalloc.start()
    try:
        assert (await array[12345:12346]).tolist() == [7]
        assert (await array[-1:]).tolist() == [7]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * len(index)


async def test_a_lease_covers_the_index_of_a_shard(session: zs.Session) -> None:
    held: list[int] = []

    class Watching(zs.MemoryStore):
        async def get(self, key: str, **options: Any) -> Any:  # type: ignore[override]  # handed on
            held.append(session._leases.held)
            return await super().get(key, **options)

    n_chunks = 2**17
    store = Watching()
    array = await sharded(session, store, n_chunks, 1)
    await store.put("c/0", np.full((n_chunks, 2), MISSING, "<u8").tobytes())
    held.clear()
    await array[0:1]
    assert held == [2 * n_chunks * 16 + 1]


@pytest.mark.parametrize("region", [slice(0, 1), slice(0, 1024)])
async def test_overlapping_index_entries_are_not_copied_into_a_new_shard(session: zs.Session, region: slice) -> None:
    n_chunks, chunk = 1024, 2**18
    store = zs.MemoryStore()
    array = await sharded(session, store, n_chunks, chunk)
    body = bytes(chunk)
    index = np.tile(np.array([0, chunk], "<u8"), (n_chunks, 1)).tobytes()
    await store.put("c/0", body + index)
    assert (await array[5 * chunk : 5 * chunk + 2]).tolist() == [0, 0]
    with pytest.raises(zs.ChunkError, match="share bytes"):
        await array[region].set(1)
    blob = await store.get("c/0")
    assert blob is not None
    assert blob.data == body + index


async def test_a_chunk_longer_than_its_codecs_can_produce_is_refused_before_it_is_fetched(session: zs.Session) -> None:
    store = zs.MemoryStore()
    array = await sharded(session, store, 4, 16)
    size = 2**22
    index = np.full((4, 2), MISSING, "<u8")
    index[0] = 0, size
    await store.put("c/0", bytes(size) + index.tobytes())
    for act in (lambda: array[0:1], lambda: array[0:1], lambda: array[:], lambda: array[1:2].set(1)):
        with pytest.raises(zs.ChunkDecodeError, match="more than the maximum") as caught:
            await act()
        assert caught.value.key == "c/0"


async def test_unused_bytes_between_the_chunks_of_a_shard_are_not_fetched(session: zs.Session) -> None:
    store = zs.MemoryStore()
    array = await sharded(session, store, 4, 16)
    size = 2**22
    index = np.array([(size - 16 * n, 16) for n in range(1, 5)], "<u8")
    await store.put("c/0", bytes(size - 64) + bytes(range(64)) + index.tobytes())
    tracemalloc.start()
    try:
        read = await array[:]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sorted(read.tolist()) == list(range(64))
    assert peak < 2**20
