"""Results are exported through DLPack without a copy, and reads fill memory imported through it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs


async def stored(session: zs.Session, dtype: str, **options: Any) -> zs.Array:
    array = await session.create_array(zs.MemoryStore(), shape=(6, 4), chunks=(4, 4), dtype=dtype, **options)
    await array[...].set(np.arange(24).reshape(6, 4))
    return array


@pytest.mark.parametrize("compressor", [None, "zstd"])
@pytest.mark.parametrize("cached", [0, 2**20])
@pytest.mark.parametrize("dtype", ["bool", "u1", "i8", "f2", "f8", "c16"])
async def test_a_result_is_exported_without_a_copy(dtype: str, cached: int, compressor: Any) -> None:
    async with zs.Session(cache=zs.CacheSize(chunks=cached)) as session:
        array = await stored(session, dtype, compressor=compressor)
        for key in (..., np.s_[0:4], np.s_[1:5:2, 1:3]):
            data = await array[key]
            taken = np.from_dlpack(data)
            assert np.shares_memory(taken, data)
            assert data.flags.writeable
            before = (await array[key]).copy()
            data[...] = 0  # the caller owns the result, even if its chunk is cached
            np.testing.assert_array_equal(await array[key], before)
        chunk = await array.chunk_at((0, 0))
        assert chunk is not None
        decoded = chunk.decode()
        assert np.shares_memory(np.from_dlpack(decoded), decoded)


async def test_other_byte_orders_are_converted_while_reading() -> None:
    async with zs.Session() as session:
        array = await stored(session, ">f4")
        out = np.empty((6, 4), "f4")
        assert await array[...].get(out=out) is out
        assert np.from_dlpack(out).tolist() == np.arange(24).reshape(6, 4).tolist()


async def test_memory_imported_through_dlpack_is_filled_or_refused() -> None:
    async with zs.Session() as session:
        array = await stored(session, "f4")
        theirs = np.zeros((6, 4), "f4")
        target = np.from_dlpack(theirs)
        if target.flags.writeable:
            await array[...].get(out=target)
            assert theirs.tolist() == np.arange(24).reshape(6, 4).tolist()
        target.flags.writeable = False
        with pytest.raises(zs.ConfigError, match="read-only"):
            await array[...].get(out=target)
