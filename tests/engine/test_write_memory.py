"""Strided chunks of the caller's array are copied into reused buffers without mixing up any."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async._engine.cpu import MIN_GATHERED, Cpu


def test_a_buffer_is_reused_only_when_nothing_refers_to_it() -> None:
    cpu = Cpu(1)
    values = np.arange(3 * 2**20, dtype=np.uint8).reshape(1024, -1)[:, ::2]

    def address(data: memoryview) -> int:
        return int(np.frombuffer(data, np.uint8).ctypes.data)

    first = cpu.gathered(values)
    part, there = first[7:9], address(first)
    del first
    second = cpu.gathered(values[::-1])
    assert address(second) != there
    assert bytes(part) == values.tobytes()[7:9]
    assert bytes(second) == values[::-1].tobytes()
    del part
    assert address(cpu.gathered(values)) == there


@pytest.mark.parametrize("dtype", ["<f4", ">i4", "<M8[s]", "<c16", [("a", "<i2"), ("b", "u1", (2,))]], ids=str)
async def test_strided_chunks_are_stored_unchanged(dtype: Any) -> None:
    """For several dtypes, many concurrently, and while earlier buffers are still referenced."""
    kind = np.dtype(dtype)
    side = int((MIN_GATHERED / kind.itemsize) ** 0.5) + 1
    shape = (2 * side, 3 * side)
    ones = np.arange(shape[0] * shape[1] * kind.itemsize, dtype=np.uint8).view(kind).reshape(shape)
    others = np.ascontiguousarray(ones[::-1, ::-1])
    store = zs.MemoryStore("strided")
    async with zs.Session() as session:
        array = await session.create_array(
            store, shape=shape, chunks=(side, side), dtype=kind, compressor=None, zarr_format=2
        )
        await array.set_slice(ones, (0, 0))
        chunk = await store.get("0.1")
        assert chunk is not None
        expected = ones[:side, side : 2 * side].tobytes()
        assert bytes(chunk.data) == expected
        await asyncio.gather(array.set_slice(others, (0, 0)), array.get_slice((0, 0), shape))
        found = await array.get_slice((0, 0), shape)
        assert found.tobytes() == others.tobytes()
        assert bytes(chunk.data) == expected
