"""The decoded-chunk cache: readers share requests and decoding; entries are never older than own writes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zarr_s3_async as zs
from zarr_s3_async.codecs.pipeline import Pipeline

from .counting import Counting

KINDS: list[dict[str, Any]] = [
    {"chunks": (4, 5), "compressor": None},
    {"chunks": (4, 5), "compressor": "zstd"},
    {"chunks": (4, 5), "shards": (8, 10), "compressor": "zstd"},
    {"chunks": (4, 5), "shards": (8, 10), "compressor": None},
]
SHAPE = (16, 20)
DATA = np.arange(1, 321, dtype="i4").reshape(SHAPE)


@pytest.fixture
async def session() -> AsyncIterator[zs.Session]:
    async with zs.Session(cache=zs.CacheSize(chunks=2**20)) as session:
        yield session


async def filled(session: zs.Session, store: zs.MemoryStore, kind: dict[str, Any]) -> zs.Array:
    array = await session.create_array(store, shape=SHAPE, dtype="i4", overwrite=True, **kind)
    await array.set_slice(DATA, (0, 0))
    return array


@pytest.mark.parametrize("kind", KINDS, ids=str)
async def test_a_chunk_that_was_read_is_not_requested_again(session: zs.Session, kind: dict[str, Any]) -> None:
    store = Counting()
    array = await filled(session, store, kind)
    for _ in range(2):
        store.gets.clear()
        np.testing.assert_array_equal(await array.get_slice((1, 2), (15, 18)), DATA[1:15, 2:18])
        np.testing.assert_array_equal(await array[::-3, 7], DATA[::-3, 7])
    assert store.gets == []


async def test_concurrent_readers_of_a_chunk_share_one_request_and_one_decode(
    session: zs.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, decoded = Counting(), Counter[str]()
    array = await filled(session, store, KINDS[1])
    decode = Pipeline.decode
    monkeypatch.setattr(Pipeline, "decode", lambda *args: decoded.update(["chunk"]) or decode(*args))
    store.gets.clear()
    results = await asyncio.gather(*(array.get_slice((i, i), (i + 9, i + 9)) for i in range(8) for _ in range(12)))
    for number, result in enumerate(results):
        i = number // 12
        np.testing.assert_array_equal(result, DATA[i : i + 9, i : i + 9])
    touched = len({(r // 4, c // 5) for i in range(8) for r in range(i, i + 9) for c in range(i, i + 9)})
    assert len(store.gets) == decoded["chunk"] == touched


async def test_a_waiter_takes_over_the_request_of_a_cancelled_reader(session: zs.Session) -> None:
    class Slow(zs.MemoryStore):
        gate: asyncio.Event | None = None

        async def get(self, key: str, **options: Any) -> Any:
            if self.gate is not None and key.startswith("c/"):
                await self.gate.wait()
            return await super().get(key, **options)

    store = Slow()
    array = await filled(session, store, KINDS[1])
    store.gate = asyncio.Event()
    first, second = (asyncio.create_task(array.get_slice((0, 0), (4, 5))) for _ in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    store.gate.set()
    np.testing.assert_array_equal(await second, DATA[:4, :5])
    with pytest.raises(asyncio.CancelledError):
        await first
    assert len(session._locks) == 0


@pytest.mark.parametrize("kind", KINDS, ids=str)
async def test_own_writes_of_any_kind_are_seen_immediately(session: zs.Session, kind: dict[str, Any]) -> None:
    store, model = zs.MemoryStore(), DATA.copy()
    array = await filled(session, store, kind)
    other = await session.open_array(store)  # another handle of the same session

    async def check() -> None:
        for handle in (array, other):
            np.testing.assert_array_equal(await handle[...], model[: handle.shape[0]])

    await check()
    await array.set_slice(7, (0, 0), (4, 5))
    model[:4, :5] = 7
    await check()
    await other.set_slice(8, (3, 3), (6, 6))
    model[3:6, 3:6] = 8
    await check()
    await array.set_slice(0, (8, 0), (16, 20))  # these chunks are deleted
    model[8:] = 0
    await check()
    await array.resize((10, 20))
    await other.refresh()
    await array.resize(SHAPE)
    await other.refresh()
    model[10:] = 0
    await check()
    array = await filled(session, store, kind | {"fill_value": 3})
    other = await session.open_array(store)
    model = DATA.copy()
    await check()


async def test_a_read_concurrent_with_a_write_is_not_cached(session: zs.Session) -> None:
    """The read may have received the old bytes, and ends after the write."""

    class Pausing(zs.MemoryStore):
        paused: asyncio.Event | None = None

        async def get(self, key: str, **options: Any) -> Any:
            blob = await super().get(key, **options)
            if self.paused is not None:
                await self.paused.wait()
            return blob

    store = Pausing()
    array = await filled(session, store, KINDS[1])
    store.paused = asyncio.Event()
    reading = asyncio.create_task(array.get_slice((0, 0), (4, 5)))
    await asyncio.sleep(0.01)
    await array.set_slice(9, (0, 0), (4, 5))
    store.paused.set()
    await reading
    assert (await array.get_slice((0, 0), (4, 5)) == 9).all()


async def test_writes_of_another_session_are_seen_after_refresh(session: zs.Session) -> None:
    store = zs.MemoryStore()
    array = await filled(session, store, KINDS[1])
    await array[...]
    async with zs.Session() as other:
        await (await other.open_array(store)).set_slice(5, (0, 0), (4, 5))
    assert (await array[0:4, 0:5] == DATA[:4, :5]).all(), "a cached chunk may be outdated until refresh()"
    await array.refresh()
    assert (await array[0:4, 0:5] == 5).all()


async def test_absent_chunks_are_cached_and_raise_on_request(session: zs.Session) -> None:
    store = Counting()
    array = await session.create_array(store, shape=SHAPE, chunks=(4, 5), dtype="i4", fill_value=6)
    for _ in range(2):
        assert (await array[...] == 6).all()
    assert len(store.gets) == 16
    with pytest.raises(zs.ChunkNotFound):
        await array.get_slice((0, 0), (4, 5), missing="raise")


async def test_the_cache_is_bounded_and_its_entries_are_read_only(session: zs.Session) -> None:
    store = zs.MemoryStore()
    async with zs.Session(cache=zs.CacheSize(chunks=1000)) as small:
        array = await filled(small, store, KINDS[0])
        result = await array[...]
        assert 0 < small._decoded.nbytes <= 1000
        result[...] = -1
        np.testing.assert_array_equal(await array[...], DATA)


async def test_arrays_of_strings_are_read_without_the_cache(session: zs.Session) -> None:
    array = await session.create_array(zs.MemoryStore(), shape=(4,), chunks=(2,), dtype="str")
    await array[...].set(np.array(["a", "bb", "", "ccc"], object))
    for _ in range(2):
        assert (await array[...]).tolist() == ["a", "bb", "", "ccc"]
    assert session._decoded.nbytes == 0


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(KINDS), st.lists(st.tuples(*[st.integers(0, 15)] * 2, *[st.integers(0, 19)] * 2), max_size=12))
def test_any_order_of_reads_and_writes_gives_the_same_results_as_without_a_cache(
    kind: dict[str, Any], steps: list[tuple[int, ...]]
) -> None:
    async def run() -> None:
        model = DATA.copy()
        async with zs.Session(cache=zs.CacheSize(chunks=3000)) as session:
            array = await filled(session, zs.MemoryStore(), kind)
            for number, (a, b, c, d) in enumerate(steps):
                region = slice(min(a, b), max(a, b) + 1), slice(min(c, d), max(c, d) + 1)
                if number % 2:
                    model[region] = -number
                    await array[region].set(-number)
                np.testing.assert_array_equal(await array[region], model[region])

    asyncio.run(run())
