"""Shards: read the bytes that are wanted, write without losing any."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zarr_s3_async as zs
from zarr_s3_async._types import Version
from zarr_s3_async.byte_range import Suffix


class Counting(zs.MemoryStore):
    """Notes every get of a shard: its range and its bytes. `before_range` runs once, before a pinned range."""

    def __init__(self) -> None:
        super().__init__()
        self.gets: list[Any] = []
        self.received = 0
        self.puts = 0
        self.before_range: Any = None

    async def get(self, key: str, **options: Any) -> Any:  # type: ignore[override]  # handed on as it is
        if key.startswith("c/"):
            self.gets.append(options.get("range"))
            if options.get("version") is not None and self.before_range is not None:
                act, self.before_range = self.before_range, None
                await act()
        blob = await super().get(key, **options)
        if key.startswith("c/") and blob is not None:
            self.received += len(blob.data)
        return blob

    async def put(self, key: str, data: Any, **options: Any) -> Version:  # type: ignore[override]  # handed on
        self.puts += key.startswith("c/")
        return await super().put(key, data, **options)

    def clear(self) -> None:
        self.gets, self.received, self.puts = [], 0, 0


@pytest.fixture
async def session() -> Any:
    async with zs.Session() as opened:
        yield opened


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


async def test_one_chunk_is_two_requests_cold_and_one_warm(session: zs.Session) -> None:
    store = Counting()
    array, data = await filled(session, store)
    np.testing.assert_array_equal(await array.get_slice((8, 8), (16, 16)), data[8:16, 8:16])
    assert len(store.gets) == 2
    assert isinstance(store.gets[0], Suffix)
    np.testing.assert_array_equal(await array.get_slice((3, 17), (4, 18)), data[3:4, 17:18])
    assert len(store.gets) == 3


async def test_a_row_of_chunks_is_one_range(session: zs.Session) -> None:
    store = Counting()
    array, data = await filled(session, store)
    await array.get_slice((0, 0), (1, 1))
    store.clear()
    np.testing.assert_array_equal(await array.get_slice((0, 0), (8, 32)), data[:8, :32])
    assert len(store.gets) == 1


async def test_a_whole_shard_is_one_request(session: zs.Session) -> None:
    store = Counting()
    array, data = await filled(session, store)
    np.testing.assert_array_equal(await array.get_slice((0, 0), (32, 32)), data[:32, :32])
    assert store.gets == [None]
    await array.get_slice((0, 0), (8, 8))
    assert len(store.gets) == 2, "the index came along"


async def test_a_big_shard_is_its_index_and_ranges_in_parallel() -> None:
    store = Counting()
    async with zs.Session(limits=zs.Limits(range_bytes=1500)) as session:
        array, data = await filled(session, store, compressor=None)
        np.testing.assert_array_equal(await array.get_slice((0, 0), (32, 32)), data[:32, :32])
    size = 32 * 32 * 4 + 16 * 16 + 4
    assert len(store.gets) <= 1 + -(-size // 1280), "ranges of whole chunks, five of 256 bytes each"


async def test_a_missing_shard_is_its_one_index_request(session: zs.Session) -> None:
    store = Counting()
    array = await sharded(session, store, fill_value=7)
    assert (await array.get_slice((0, 0), (8, 8)) == 7).all()
    assert len(store.gets) == 1
    with pytest.raises(zs.ChunkNotFound):
        await array.get_slice((0, 0), (8, 8), missing="raise")


async def test_an_empty_chunk_is_fill_for_no_request_once_the_index_is_known(session: zs.Session) -> None:
    store = Counting()
    array = await sharded(session, store, fill_value=7)
    await array.set_slice(np.ones((8, 8)), (0, 0))
    await array.get_slice((0, 0), (8, 8))
    store.clear()
    assert (await array.get_slice((8, 8), (16, 16)) == 7).all()
    assert store.gets == []


async def test_scattered_chunks_move_few_bytes(session: zs.Session) -> None:
    store = Counting()
    array = await session.create_array(
        store, shape=(1000, 1000), chunks=(10, 10), shards=(1000, 1000), dtype="f8", compressor=None
    )
    await array[...].set(np.random.default_rng(1).random((1000, 1000)))
    await array.get_slice((0, 0), (1, 1))
    store.clear()
    slots = np.random.default_rng(2).choice(10_000, 100, replace=False)
    await array.vindex[slots // 100 * 10, slots % 100 * 10]
    assert store.received < 0.05 * 8_000_000


async def test_a_whole_shard_is_one_put_and_a_part_one_get_and_one_put(session: zs.Session) -> None:
    store = Counting()
    array, data = await filled(session, store)
    await array.set_slice(data[:32, :32], (0, 0))
    assert (len(store.gets), store.puts) == (0, 1)
    await array.set_slice(np.ones((3, 3)), (1, 1))
    assert (len(store.gets), store.puts) == (1, 2)
    data[1:4, 1:4] = 1
    np.testing.assert_array_equal(await array[...], data)


async def test_chunks_that_do_not_change_are_copied_as_bytes(session: zs.Session) -> None:
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


async def test_fill_only_chunks_are_left_out_and_an_emptied_shard_stays_readable(session: zs.Session) -> None:
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


async def test_a_shard_rewritten_between_index_and_range_is_read_anew(session: zs.Session) -> None:
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


async def test_a_shard_that_never_rests_is_an_error_and_no_mix(session: zs.Session) -> None:
    store = Counting()
    array, _ = await filled(session, store)
    other = await zs.Session().__aenter__()
    writer = await other.open_array(store)

    async def rewrite() -> None:
        await writer.set_slice(np.random.default_rng().integers(1, 99, (32, 32)), (0, 0))
        store.before_range = rewrite

    store.before_range = rewrite
    with pytest.raises(zs.ConcurrentModification, match="rewritten"):
        await array.get_slice((0, 0), (8, 8))
    await other.aclose()


async def test_readers_of_one_shard_share_its_index_request_also_when_the_first_is_cancelled() -> None:
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


async def test_writers_of_one_shard_lose_nothing() -> None:
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
def worlds(draw: st.DrawFn) -> tuple[Any, ...]:
    ndim = draw(st.integers(1, 3))
    chunks = tuple(draw(st.integers(1, 3)) for _ in range(ndim))
    shards = tuple(c * draw(st.integers(1, 3)) for c in chunks)
    shape = tuple(draw(st.integers(1, 9)) for _ in range(ndim))
    regions = []
    for _ in range(draw(st.integers(1, 4))):
        bounds = [sorted((draw(st.integers(0, n)), draw(st.integers(0, n)))) for n in shape]
        regions.append((tuple(b[0] for b in bounds), tuple(b[1] for b in bounds)))
    compressor = draw(st.sampled_from([None, "zstd"]))
    return shape, chunks, shards, regions, compressor, draw(st.booleans()), draw(st.integers(40, 4000))


@settings(max_examples=60)
@given(worlds())
async def test_any_interleaving_of_writes_reads_as_numpy_does(world: tuple[Any, ...]) -> None:
    shape, chunks, shards, regions, compressor, write_empty, range_bytes = world
    expected = np.zeros(shape, "i2")
    async with zs.Session(limits=zs.Limits(range_bytes=range_bytes, gap_bytes=20)) as session:
        array = await session.create_array(
            zs.MemoryStore(), shape=shape, chunks=chunks, shards=shards, dtype="i2", compressor=compressor,
            write_empty_chunks=write_empty,
        )  # fmt: skip
        for number, (start, stop) in enumerate(regions):
            box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
            values = (np.arange(expected[box].size).reshape(expected[box].shape) % 3 * number).astype("i2")
            await array.set_slice(values, start, stop)
            expected[box] = values
            np.testing.assert_array_equal(await array.get_slice(start, stop), expected[box])
        np.testing.assert_array_equal(await array[...], expected)
