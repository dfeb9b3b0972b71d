"""Raw chunks are received directly into the result; other chunks are decoded directly into it where they fit."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async._engine.cpu import Cpu
from zarr_s3_async.codecs.pipeline import Pipeline


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """One entry per decoded chunk: True if it was decoded directly into the result, not into scratch memory."""
    calls: list[bool] = []
    decode, scratch = Pipeline.decode, Cpu.scratch
    scratches: list[Any] = []

    def spy(self: Pipeline, data: Any, out: Any = None) -> Any:
        chunk = decode(self, data, out)
        calls.append(chunk is out and not any(out is each for each in scratches))
        return chunk

    def spy_scratch(self: Cpu, *what: Any) -> Any:
        scratches.append(scratch(self, *what))
        return scratches[-1]

    monkeypatch.setattr(Pipeline, "decode", spy)
    monkeypatch.setattr(Cpu, "scratch", spy_scratch)
    return calls


async def made(session: zs.Session, compressor: Any) -> tuple[zs.Array, np.ndarray]:
    array = await session.create_array(
        zs.MemoryStore(), shape=(6, 10), chunks=(2, 5), dtype="i4", compressor=compressor
    )
    data = np.arange(1, 61, dtype="i4").reshape(6, 10)
    await array[...].set(data)
    return array, data


async def test_raw_chunks_that_are_contiguous_in_the_result_are_received_into_it(decoded: list[bool]) -> None:
    async with zs.Session() as session:
        array, data = await made(session, None)
        np.testing.assert_array_equal(await array.get_slice((2, 0), (4, 5)), data[2:4, :5])
        assert decoded == []
        np.testing.assert_array_equal(await array.get_slice((0, 0), (6, 10)), data)
        assert len(decoded) == 6, (
            "the rows of a chunk are not contiguous in a wider result, so each chunk is copied into it"
        )


async def test_compressed_chunks_are_decoded_directly_into_the_result(decoded: list[bool]) -> None:
    async with zs.Session() as session:
        array, data = await made(session, "zstd")
        np.testing.assert_array_equal(await array.get_slice((2, 0), (4, 5)), data[2:4, :5])
        assert decoded == [True]
        decoded.clear()
        np.testing.assert_array_equal(await array.get_slice((2, 0), (4, 4)), data[2:4, :4])
        assert decoded == [False]


@pytest.mark.parametrize("compressor", [None, "zstd"])
async def test_values_are_cast_to_the_dtype_of_out(compressor: Any) -> None:
    async with zs.Session() as session:
        array, data = await made(session, compressor)
        for dtype in ("f8", ">i4", "i8"):
            out = np.zeros((2, 5), dtype)
            await array.get_slice((0, 5), (2, 10), out=out)
            np.testing.assert_array_equal(out, data[0:2, 5:10])


@pytest.mark.parametrize("dtype", ["<i4", ">i4"])
@pytest.mark.parametrize(
    "options", [{"chunks": (4, 6)}, {"chunks": (2, 3), "shards": (8, 12)}], ids=["chunks", "shard"]
)
async def test_matrices_and_masked_arrays_are_read_into_as_arrays(options: Any, dtype: str) -> None:
    """Although both index, reshape and view their memory in their own ways."""
    data = np.arange(1, 97, dtype=dtype).reshape(8, 12)
    async with zs.Session() as session:
        array = await session.create_array(zs.MemoryStore(), shape=data.shape, dtype=dtype, **options)
        await array[...].set(data)
        for key in (np.s_[...], np.s_[::-1, 1:], np.s_[3, ::-1, None], np.s_[::3]):
            matrix = np.zeros(data[key].shape, dtype).view(np.matrix)
            masked = np.ma.masked_all(data[key].shape, dtype)
            for out in (matrix, masked):
                assert await array[key].get(out=out) is out
                np.testing.assert_array_equal(np.asarray(out), data[key])
            assert not masked.mask.any()


async def test_a_chunk_read_into_a_reversed_view_is_reversed() -> None:
    async with zs.Session() as session:
        array, data = await made(session, None)
        np.testing.assert_array_equal(await array[1::-1, 4::-1], data[1::-1, 4::-1])


async def test_a_raw_object_of_another_size_is_an_error_and_leaves_no_torn_result() -> None:
    async with zs.Session() as session:
        array, _ = await made(session, None)
        store = array._runtime.store
        for damaged in (b"", b"12", bytes(41)):
            await store.put("c/0/0", damaged)
            with pytest.raises(zs.ChunkDecodeError, match="c/0/0"):
                await array.get_slice((0, 0), (2, 5))


async def test_scratch_memory_is_reused_for_one_chunk_after_the_other() -> None:
    async with zs.Session() as session:
        array = await session.create_array(
            zs.MemoryStore(), shape=(640, 640), chunks=(128, 160), dtype="i4", compressor="zstd"
        )
        data = np.arange(640 * 640, dtype="i4").reshape(640, 640)
        await array[...].set(data)
        np.testing.assert_array_equal(await array.get_slice((0, 0), (640, 640)), data)
        np.testing.assert_array_equal(await array[3:637:2, 5:533], data[3:637:2, 5:533])


@pytest.mark.parametrize("nbytes", [1, 4 * 2**20, 4 * 2**20 + 1])
def test_only_small_scratch_memory_is_kept(nbytes: int) -> None:
    cpu = Cpu(1)
    first, second = (cpu.scratch((nbytes,), np.dtype("u1")) for _ in range(2))
    assert first.shape == second.shape == (nbytes,)
    assert np.shares_memory(first, second) == (nbytes <= 4 * 2**20)


@pytest.mark.parametrize("requests", [1, 3])
async def test_a_cancelled_error_that_the_store_raises_is_raised(requests: int) -> None:
    """It ended one worker, and the elements of its chunk remained as they were allocated."""

    class Cancelling(zs.MemoryStore):
        __slots__ = ("cancels",)

        async def get(self, key: str, **options: Any) -> Any:
            if self.cancels and key == "c/1":
                raise asyncio.CancelledError
            return await super().get(key, **options)

        async def put(self, key: str, data: Any, **options: Any) -> Any:
            if self.cancels and key == "c/1":
                raise asyncio.CancelledError
            return await super().put(key, data, **options)

    async with zs.Session(limits=zs.Limits(requests=requests)) as session:
        store = Cancelling()
        store.cancels = False
        array = await session.create_array(store, shape=12, chunks=2, dtype="i4")
        await array[...].set(1)
        store.cancels = True
        with pytest.raises(asyncio.CancelledError):
            await array.get_slice(0, 12)
        with pytest.raises(asyncio.CancelledError):
            await array[...].set(2)

        async def read_stream() -> None:
            async with array.stream() as blocks:
                async for _ in blocks:
                    pass

        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(read_stream(), 30)
