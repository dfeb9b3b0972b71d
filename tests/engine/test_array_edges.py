"""Objects cut by the array's edge: elements that others append beyond it stay, whatever shape a handle has cached."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs

KINDS: list[dict[str, Any]] = [
    {"chunks": (4,), "compressor": None},
    {"chunks": (4,), "compressor": "zstd", "zarr_format": 2},
    {"chunks": (2,), "shards": (8,), "compressor": "zstd"},
    {"chunks": (4,), "shards": (8,), "compressor": None},
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("length", [2, 3, 5])
async def test_a_write_through_a_handle_with_an_old_shape_keeps_rows_that_others_appended(
    kind: dict[str, Any], length: int
) -> None:
    store = zs.MemoryStore()
    async with zs.Session() as session, zs.Session() as other:
        array = await session.create_array(store, shape=(length,), dtype="i4", **kind)
        await array.set_slice(np.full(length, 1), 0)
        appender = await other.open_array(store)
        await appender.append(np.array([7, 8]))
        await array.set_slice(np.full(length, 2), 0, length)
        await array.refresh()
        assert (await array[...]).tolist() == [2] * length + [7, 8]
        await appender.set_slice(np.full(length + 2, 0), 0)
        assert (await appender[...]).tolist() == [0] * (length + 2), (
            "all elements inside this handle's shape are written"
        )


@pytest.mark.parametrize("kind", KINDS, ids=str)
async def test_concurrent_writers_of_the_edge_and_appenders_lose_nothing(kind: dict[str, Any]) -> None:
    store = zs.MemoryStore()
    async with zs.Session() as session, zs.Session() as other:
        array = await session.create_array(store, shape=(2,), dtype="i4", **kind)
        appender = await other.open_array(store)

        async def write() -> None:
            for value in range(1, 9):
                await array.set_slice(np.full(2, value), 0, 2)

        async def append() -> None:
            for value in range(100, 112):
                await appender.append(np.array([value]))

        await asyncio.gather(write(), append())
        assert (await appender[...]).tolist() == [8, 8, *range(100, 112)]


@pytest.mark.parametrize("kind", KINDS, ids=str)
async def test_a_damaged_object_at_the_edge_can_be_written_again(kind: dict[str, Any]) -> None:
    store = zs.MemoryStore()
    async with zs.Session() as session:
        array = await session.create_array(store, shape=(3,), dtype="i4", **kind)
        await array.set_slice(np.array([1, 2, 3]), 0)
        (key,) = [entry.key async for entry in store.list_prefix("") if "z" not in entry.key]
        await store.put(key, b"damaged")
        with pytest.raises(zs.ChunkDecodeError):
            await array.set_slice(9, 0, 1)
        await array.set_slice(np.array([4, 5, 6]), 0)
        assert (await array[...]).tolist() == [4, 5, 6]


async def test_a_write_over_a_damaged_chunk_keeps_what_others_appended_to_the_shard() -> None:
    store = zs.MemoryStore()
    async with zs.Session() as session, zs.Session() as other:
        array = await session.create_array(
            store, shape=(3,), chunks=(2,), shards=(8,), dtype="i4", compressor={"name": "zstd"}
        )
        await array.set_slice(np.array([1, 2, 3]), 0)
        appender = await other.open_array(store)
        await appender.append(np.arange(10, 14))
        key = "c/0"
        blob = await store.get(key)
        assert blob is not None
        body = bytearray(blob.data)
        offset, length = np.frombuffer(body[-4 - 4 * 16 : -4], "<u8").reshape(4, 2)[1].tolist()
        body[offset : offset + length] = bytes(length)  # the chunk that the edge of three elements cuts
        await store.put(key, body)
        with pytest.raises(zs.ChunkDecodeError):
            await array.set_slice(np.array([4, 5, 6]), 0)
        assert (await appender.get_slice(4, 7)).tolist() == [11, 12, 13]


async def test_in_two_dimensions_only_chunks_cut_by_the_edge_need_a_get() -> None:
    async with zs.Session() as session:
        gets: list[str] = []

        class Counting(zs.MemoryStore):
            async def get(self, key: str, **options: Any) -> Any:
                gets.append(key)
                return await super().get(key, **options)

        array = await session.create_array(Counting(), shape=(10, 20), chunks=(4, 5), dtype="i4")
        gets.clear()
        await array.set_slice(np.arange(200).reshape(10, 20), (0, 0))
        assert sorted(gets) == [f"c/2/{j}" for j in range(4)]
        assert (await array[...] == np.arange(200).reshape(10, 20)).all()
