"""The shard index cache: bounded in bytes, evicts the least recently used, and keeps no invalidated entry."""

from __future__ import annotations

import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async._engine.cache import IndexCache, ShardIndex
from zarr_s3_async._types import Version

from .counting import Counting


def index(chunks: int = 4) -> ShardIndex:
    return ShardIndex(np.zeros((chunks, 2), np.uint64), Version("1"))


def test_the_least_recently_used_indexes_are_evicted_beyond_the_byte_limit() -> None:
    cache = IndexCache(3 * 64)
    for name in "abc":
        cache.put(name, index())
    assert cache.get("a") is not None
    cache.put("d", index())
    assert [name for name in "abcd" if cache.get(name)] == ["a", "c", "d"]
    assert (cache.nbytes, len(cache)) == (3 * 64, 3)
    cache.put("big", index(12))
    assert [name for name in ("a", "c", "d", "big") if cache.get(name)] == ["big"]
    cache.put("too big", index(13))
    assert (cache.get("too big"), cache.nbytes) == (None, 12 * 16)


def test_an_index_cached_twice_counts_once() -> None:
    cache = IndexCache(1000)
    for _ in range(3):
        cache.put("a", index())
    assert (cache.nbytes, len(cache)) == (64, 1)
    cache.forget("a")
    cache.forget("a")
    assert (cache.nbytes, len(cache)) == (0, 0)


@pytest.mark.parametrize("forget", [lambda cache: cache.forget("s/a"), lambda cache: cache.forget_below("s/")])
def test_an_index_invalidated_while_it_is_read_is_not_cached(forget: object) -> None:
    cache = IndexCache(1000)
    with cache.fetching("s/a") as first, cache.fetching("s/a") as second:
        first.keep(index())
        assert cache.get("s/a") is not None
        forget(cache)  # type: ignore[operator]  # one of the lambdas above
        second.keep(index())
        assert cache.get("s/a") is None
        with cache.fetching("s/a") as third:
            third.keep(index())
    assert cache.get("s/a") is not None
    assert cache._pending == {}


async def test_a_session_caches_no_more_bytes_than_its_cache_size() -> None:
    store = Counting()
    async with zs.Session(cache=zs.CacheSize(shard_indexes=2 * 64)) as session:
        array = await session.create_array(store, shape=(40,), chunks=(2,), shards=(8,), dtype="i2")
        await array[...].set(np.arange(40))
        for at in (*range(0, 40, 8), 24):
            await array.get_slice(at, at + 1)
        assert session._indexes.nbytes == 2 * 64
        store.clear()
        await array.get_slice(24, 25)
        assert len(store.gets) == 1
        await array.get_slice(0, 1)
        assert len(store.gets) == 3
    async with zs.Session(cache=zs.CacheSize(shard_indexes=0)) as session:
        array = await session.open_array(store)
        store.clear()
        for _ in range(2):
            assert (await array.get_slice(3, 5)).tolist() == [3, 4]
        assert len(store.gets) == 4


@pytest.mark.parametrize("stop", [1, 8], ids=["by itself", "with the shard"])
async def test_a_cached_index_keeps_no_memory_of_the_shard_alive(stop: int) -> None:
    store = Counting()
    async with zs.Session() as session:
        array = await session.create_array(store, shape=(8,), chunks=(2,), shards=(8,), dtype="i2", compressor=None)
        await array[...].set(np.arange(8))
        await array.get_slice(0, stop)
        (known,) = (entry.value for entry in session._indexes._entries.values())
        assert known.entries.flags.owndata
