"""Shards: reads fetch only the needed bytes, writes keep the other chunks."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zarr_s3_async as zs
from zarr_s3_async._types import Version
from zarr_s3_async.byte_range import Suffix

from .counting import Counting
from .test_shard_requests import sharding


async def sharded(session: zs.Session, store: zs.Store, **options: Any) -> zs.Array:
    given = {"shape": (64, 64), "chunks": (8, 8), "shards": (32, 32), "dtype": "i4", **options}
    return await session.create_array(store, **given)


async def filled(session: zs.Session, store: Counting, **options: Any) -> tuple[zs.Array, np.ndarray]:
    array = await sharded(session, store, **options)
    data = np.random.default_rng(5).integers(1, 2**31, array.shape, "i4")
    await array[...].set(data)
    store.clear()
    session._indexes.forget_below("")
    return array, data


async def test_unchanged_chunks_of_a_shard_are_copied_without_decoding(session: zs.Session) -> None:
    store = Counting()
    array, _ = await filled(session, store, compressor=None)
    body = bytearray((await store.get("c/0/0")).data)
    decoded: list[Any] = []
    pipeline = array._layout.pipeline
    kept = pipeline._view
    object.__setattr__(pipeline, "_view", lambda data, *rest: decoded.append(1) or kept(data, *rest))
    await array.set_slice(np.ones((1, 1)), (0, 0))
    assert len(decoded) == 1
    after = (await store.get("c/0/0")).data
    assert bytes(after[256:4096]) == bytes(body[256:4096])


async def test_chunks_of_fill_are_left_out_and_an_emptied_shard_is_readable(session: zs.Session) -> None:
    store = Counting()
    array, _ = await filled(session, store)
    full = len((await store.get("c/0/0")).data)
    await array.set_slice(0, (0, 0), (16, 32))
    assert len((await store.get("c/0/0")).data) < 0.7 * full
    await array.set_slice(0, (16, 0), (31, 32))
    await array.set_slice(0, (31, 0), (32, 32))
    assert (await array.get_slice((0, 0), (32, 32)) == 0).all()
    await array.set_slice(np.zeros((32, 32)), (0, 0))
    assert await store.get("c/0/0") is None


async def test_a_shard_rewritten_between_index_and_range_is_read_again(session: zs.Session) -> None:
    store = Counting()
    array, _ = await filled(session, store)
    new = np.random.default_rng(9).integers(1, 99, (32, 32), "i4")

    async def rewrite() -> None:
        async with zs.Session() as other:
            await (await other.open_array(store)).set_slice(new, (0, 0))

    await array.get_slice((0, 0), (1, 1))
    store.before_range = rewrite
    np.testing.assert_array_equal(await array.get_slice((0, 0), (20, 20)), new[:20, :20])


async def test_a_shard_deleted_between_index_and_range_is_fill(session: zs.Session) -> None:
    store = Counting()
    array, _ = await filled(session, store)
    await array.get_slice((0, 0), (1, 1))
    store.before_range = lambda: store.delete("c/0/0")
    assert (await array.get_slice((0, 0), (8, 8)) == 0).all()


async def test_a_shard_that_is_always_rewritten_is_finally_read_by_one_request(session: zs.Session) -> None:
    store = Counting()
    array, _ = await filled(session, store)
    value = 1
    async with zs.Session() as other:
        writer = await other.open_array(store)

        async def rewrite() -> None:
            nonlocal value
            value += 1
            await writer.set_slice(np.full((32, 32), value), (0, 0))
            store.before_range = rewrite

        for region in (np.s_[0:8, 0:8], np.s_[0:3, 0:1]):
            store.clear()
            store.before_range = rewrite
            assert (await array[region] == value).all()
            assert store.gets.count(None) == 1  # the whole shard, unpinned
        store.before_range = rewrite
        await array.set_slice([[99]], (0, 0))
        store.before_range = None
        assert (await array[0:32, 0:32])[:2, 0].tolist() == [99, value]


async def test_an_always_rewritten_shard_too_large_for_one_request_is_an_error(session: zs.Session) -> None:
    class Padded(Counting):
        """Its shards have large gaps between chunks, so that they exceed the maximum size of a shard."""

        async def put(self, key: str, data: Any, **options: Any) -> Version:  # type: ignore[override]  # handed on
            return await super().put(key, bytes(2**20) + bytes(data) if key.startswith("c/") else data, **options)

        async def get(self, key: str, **options: Any) -> Any:  # type: ignore[override]  # handed on
            if options.get("version") is not None:
                raise zs.Conflict("rewritten", key=key)
            return await super().get(key, **options)

    store = Padded()
    array = await session.create_array(
        store, shape=(32,), chunks=(4,), shards=(32,), dtype="i4", compressor=None, write_empty_chunks=True
    )
    await array.set_slice(np.arange(32), 0)
    with pytest.raises(zs.ConcurrentModification, match="too large to be read at once"):
        await array.get_slice(0, 1)


async def test_readers_share_the_index_request_of_a_shard_even_if_the_first_is_cancelled() -> None:
    class Slow(Counting):
        async def get(self, key: str, **options: Any) -> Any:  # type: ignore[override]  # handed on as it is
            if key.startswith("c/"):
                await asyncio.sleep(0.01)
            return await super().get(key, **options)

    store = Slow()
    async with zs.Session() as session:
        array, data = await filled(session, store)
        reads = [asyncio.create_task(array.get_slice((n, 0), (n + 1, 8))) for n in range(10)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        reads[0].cancel()
        results = await asyncio.gather(*reads, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        for n, result in enumerate(results[1:], 1):
            np.testing.assert_array_equal(result, data[n : n + 1, :8])
        assert sum(isinstance(r, Suffix) for r in store.gets) == 1


async def test_a_big_shard_of_raw_chunks_is_encoded_and_decoded_in_threads() -> None:
    threads: set[str] = set()

    class Watching(zs.MemoryStore):
        async def put(self, key: str, data: Any, **options: Any) -> Any:  # type: ignore[override]  # handed on
            threads.update(thread.name for thread in threading.enumerate())
            return await super().put(key, data, **options)

    async with zs.Session() as session:
        array = await session.create_array(
            Watching(), shape=(2048, 1024), chunks=(64, 64), shards=(2048, 1024), dtype="i4", compressor=None
        )
        assert session._cpu._threads._threads == []
        await array.set_slice(np.full((2048, 1024), 3, "i4"), (0, 0))
        assert any(name.startswith("zarr-s3-codec") for name in threads)
    async with zs.Session() as session:
        array = await session.open_array(array._runtime.store)
        assert (await array[...] == 3).all()
        assert session._cpu._threads._threads != []


@pytest.mark.parametrize(
    "damage",
    [b"", b"short", bytes(5000), lambda body: body[:-1], lambda body: body[:-10] + bytes(10)],
    ids=["empty", "short", "zeros", "cut", "zeros-at-its-end"],
)
async def test_a_damaged_index_is_an_error_and_never_fill(session: zs.Session, damage: Any) -> None:
    store = Counting()
    array, _ = await filled(session, store)
    body = bytes((await store.get("c/0/0")).data)
    await store.put("c/0/0", damage(body) if callable(damage) else damage)
    for act in (
        lambda: array.get_slice((0, 0), (1, 1)),
        lambda: array.get_slice((0, 0), (32, 32)),
        lambda: array.set_slice([[1]], (0, 0)),
    ):
        with pytest.raises(zs.ChunkDecodeError):
            await act()


async def test_an_error_names_the_chunk_inside_the_shard(session: zs.Session) -> None:
    store = Counting()
    array, _ = await filled(session, store, compressor={"name": "crc32c"})
    body = bytearray((await store.get("c/1/0")).data)
    body[6 * 260 + 5] ^= 1  # third chunk of the second row, in the shard below the first
    await store.put("c/1/0", body)
    for act in (lambda: array[...], lambda: array[32:64, 0:32], lambda: array.set_slice([[1]], (41, 17))):
        with pytest.raises(zs.ChunkDecodeError, match=r"chunk \(5, 2\)") as caught:
            await act()
        assert (caught.value.chunk, caught.value.key) == ((5, 2), "c/1/0")
    await store.delete("c/1/0")
    with pytest.raises(zs.ChunkNotFound, match=r"chunk \(5, 2\)"):
        await array.get_slice((41, 17), (42, 18), missing="raise")


async def test_concurrent_writers_of_one_shard_lose_no_updates() -> None:
    store = zs.MemoryStore()
    async with zs.Session() as one, zs.Session() as two:
        await sharded(one, store)
        arrays = [await one.open_array(store), await two.open_array(store)]
        await asyncio.gather(
            *(arrays[(i + j) % 2].set_slice([[i * 32 + j + 1]], (i, j)) for i in range(32) for j in range(32))
        )
        expected = np.arange(1, 1025).reshape(32, 32)
        np.testing.assert_array_equal(await arrays[0].get_slice((0, 0), (32, 32)), expected)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Any, ...]:
    ndim = draw(st.integers(1, 3))
    chunks = tuple(draw(st.integers(1, 3)) for _ in range(ndim))
    middle = tuple(c * draw(st.integers(1, 2)) for c in chunks)
    shards = tuple(m * draw(st.integers(1, 3)) for m in middle)
    shape = tuple(draw(st.integers(1, 9)) for _ in range(ndim))
    regions = []
    for _ in range(draw(st.integers(1, 4))):
        bounds = [sorted((draw(st.integers(0, n)), draw(st.integers(0, n)))) for n in shape]
        regions.append(tuple(slice(a, b, draw(st.sampled_from([None, 1, 2]))) for a, b in bounds))
    reads = [tuple(draw(_selectors(n)) for n in shape) for _ in range(draw(st.integers(0, 3)))]
    compressor = draw(st.sampled_from([(), ({"name": "zstd"},), ({"name": "crc32c"},)]))
    codecs = sharding(chunks, draw(LOCATION), *compressor)
    if draw(st.booleans()):  # nested shards
        outer = sharding(middle, draw(LOCATION))
        outer[0]["configuration"]["codecs"] = codecs
        codecs = outer
    return shape, shards, codecs, regions, reads, draw(st.booleans()), draw(st.integers(20, 4000))


LOCATION = st.sampled_from(["start", "end"])


def _selectors(n: int) -> st.SearchStrategy[Any]:
    steps = st.sampled_from([1, 2, 3, -1, -2])
    return st.one_of(st.builds(slice, st.none(), st.none(), steps), st.lists(st.integers(0, n - 1), min_size=1))


@settings(max_examples=60)
@given(cases())
async def test_any_sequence_of_writes_to_shards_reads_as_in_numpy(case: tuple[Any, ...]) -> None:
    shape, shards, codecs, regions, reads, write_empty, range_bytes = case
    expected = np.zeros(shape, "i2")
    limits = zs.Limits(range_bytes=range_bytes, gap_bytes=20)
    async with zs.Session(limits=limits) as session, zs.Session() as other:
        store = zs.MemoryStore()
        array = await session.create_array(
            store, shape=shape, chunks=shards, dtype="i2", codecs=codecs, write_empty_chunks=write_empty
        )
        arrays = [array, await other.open_array(store)]
        for number, box in enumerate(regions):
            values = (np.arange(expected[box].size).reshape(expected[box].shape) % 3 * number).astype("i2")
            await arrays[number % 2][box].set(values)
            expected[box] = values
            np.testing.assert_array_equal(await arrays[number % 2][box], expected[box])
        await array.refresh()
        for selection in reads:
            there = np.ix_(*(np.arange(n)[s] for n, s in zip(shape, selection, strict=True)))
            np.testing.assert_array_equal(await array.oindex[selection], expected[there])
        np.testing.assert_array_equal(await array[...], expected)
