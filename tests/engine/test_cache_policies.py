"""`open_array(cache=...)`: how old cached chunks may be, and how many requests confirm them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zarr_s3_async as zs
from zarr_s3_async._engine import cache as cache_module
from zarr_s3_async._engine import handles, read
from zarr_s3_async._engine.cache import ChunkCache, ObjectChunks, Reader
from zarr_s3_async.codecs.pipeline import Pipeline
from zarr_s3_async.stores.base import Unchanged

SHAPE = (16, 20)
DATA = np.arange(1, 321, dtype="i4").reshape(SHAPE)
KINDS: list[dict[str, Any]] = [
    {"chunks": (4, 5), "compressor": "zstd"},
    {"chunks": (4, 5), "compressor": None},
    {"chunks": (4, 5), "shards": (8, 10), "compressor": "zstd"},
]
POLICIES: list[Any] = ["immutable", "revalidate", 3600.0]


class Conditional(zs.MemoryStore):
    """A store with conditional reads that counts requests and those answered with 304."""

    def __init__(self) -> None:
        super().__init__()
        self.requested: Counter[str] = Counter()
        self.unchanged = 0
        self.gate: asyncio.Event | None = None

    async def get(self, key: str, **options: Any) -> Any:
        self.requested[key] += 1
        if self.gate is not None:
            await self.gate.wait()
        return await super().get(key, **options)

    async def get_unless(self, key: str, version: Any, **options: Any) -> Any:
        blob = await self.get(key, **options)
        if blob is not None and blob.version == version:
            self.unchanged += 1
            return Unchanged.UNCHANGED
        return blob

    def clear(self) -> None:
        self.requested.clear()
        self.unchanged = 0

    @property
    def chunks_asked(self) -> int:
        return sum(number for key, number in self.requested.items() if "/" in key)


async def filled(store: zs.Store, kind: dict[str, Any], **options: Any) -> None:
    async with zs.Session() as session:
        array = await session.create_array(store, shape=SHAPE, dtype="i4", overwrite=True, **kind, **options)
        await array.set_slice(DATA, (0, 0))


async def first_chunk(array: zs.Array) -> np.ndarray[Any, Any]:
    return await array.get_slice((0, 0), (4, 5))


# Reads


@pytest.mark.parametrize("kind", KINDS, ids=str)
async def test_concurrent_readers_share_one_request_and_one_revalidation(
    kind: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, decoded = Conditional(), Counter[str]()
    await filled(store, kind)
    decode = Pipeline.decode
    monkeypatch.setattr(Pipeline, "decode", lambda *args: decoded.update(["chunk"]) or decode(*args))
    requests = 1 if "shards" not in kind else 2  # with the shard's index, which is decoded, too
    async with zs.Session() as session:
        array = await session.open_array(store, cache="revalidate")
        for expected, unchanged in ((requests, 0), (1, 1), (1, 1)):
            store.clear()
            for block in await asyncio.gather(*(first_chunk(array) for _ in range(200))):
                np.testing.assert_array_equal(block, DATA[:4, :5])
            assert (store.chunks_asked, store.unchanged, decoded["chunk"]) == (expected, unchanged, requests)


async def test_readers_that_start_while_a_request_is_in_flight_share_one_more() -> None:
    store = Conditional()
    await filled(store, KINDS[0])
    async with zs.Session() as session:
        array = await session.open_array(store, cache="revalidate")
        store.gate = asyncio.Event()
        store.clear()
        first = [asyncio.ensure_future(first_chunk(array)) for _ in range(100)]
        while not store.chunks_asked:
            await asyncio.sleep(0)
        late = [asyncio.ensure_future(first_chunk(array)) for _ in range(100)]
        await asyncio.sleep(0.01)
        store.gate.set()
        await asyncio.gather(*first, *late)
    assert (store.chunks_asked, store.unchanged) == (2, 1)


@pytest.mark.parametrize("policy", ["immutable", 3600.0])
async def test_a_fresh_cached_chunk_needs_no_request(policy: Any) -> None:
    store = Conditional()
    await filled(store, KINDS[0])
    async with zs.Session() as session:
        array = await session.open_array(store, cache=policy)
        await array[...]
        store.clear()
        np.testing.assert_array_equal(await array[...], DATA)
    assert not store.requested


async def test_a_chunk_older_than_its_maximum_age_is_revalidated_by_one_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    store = Conditional()
    await filled(store, KINDS[0])
    async with zs.Session() as session:
        array = await session.open_array(store, cache=10)
        await first_chunk(array)
        for seconds, expected in ((9.9, 0), (0.2, 1), (9.7, 0), (0.4, 1)):
            clock.now += seconds
            store.clear()
            await first_chunk(array)
            assert (store.chunks_asked, store.unchanged) == (expected, expected), seconds


async def test_writes_of_others_are_seen_when_the_cached_chunk_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    store = Conditional()
    await filled(store, KINDS[0])
    async with zs.Session() as session, zs.Session() as other:
        seen = {policy: await session.open_array(store, cache=policy) for policy in ("immutable", 10, "revalidate")}
        for array in seen.values():
            await first_chunk(array)
        await (await other.open_array(store)).set_slice(0, (0, 0), (4, 5))
        clock.now += 1
        assert (await first_chunk(seen["immutable"])).all()
        assert (await first_chunk(seen[10])).all()
        assert not (await first_chunk(seen["revalidate"])).any()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kind", KINDS, ids=str)
async def test_own_writes_are_seen_under_every_policy(kind: dict[str, Any], policy: Any) -> None:
    store = Conditional()
    await filled(store, kind)
    async with zs.Session() as session:
        array, same = await session.open_array(store, cache=policy), await session.open_array(store, cache=policy)
        await array[...]
        for value in (7, 0, 9):
            await same.set_slice(value, (1, 1), (6, 7))
            assert (await array.get_slice((1, 1), (6, 7)) == value).all()


@pytest.mark.parametrize("kind", KINDS, ids=str)
@given(
    steps=st.lists(
        st.tuples(st.booleans(), st.integers(0, 15), st.integers(0, 19), st.integers(0, 2)), min_size=1, max_size=12
    )
)
@settings(max_examples=30)
async def test_revalidated_reads_return_what_any_session_has_stored(
    kind: dict[str, Any], steps: list[tuple[bool, int, int, int]]
) -> None:
    store, expected = Conditional(), np.zeros(SHAPE, "i4")
    async with zs.Session() as session, zs.Session() as other:
        theirs = await other.create_array(store, shape=SHAPE, dtype="i4", fill_value=0, **kind)
        for is_write, row, column, value in steps:
            array = await session.open_array(store, cache="revalidate")
            if is_write:
                await theirs.set_slice(value, (row, column), (row + 1, column + 1))
                expected[row, column] = value
            np.testing.assert_array_equal(await array.get_slice((row, 0), (row + 1, 20)), expected[row : row + 1])


async def test_another_reader_takes_over_the_request_of_a_cancelled_one() -> None:
    store = Conditional()
    await filled(store, KINDS[0])
    async with zs.Session() as session:
        array = await session.open_array(store, cache="revalidate")
        store.gate = asyncio.Event()
        leader = asyncio.ensure_future(first_chunk(array))
        while not store.chunks_asked:
            await asyncio.sleep(0)
        followers = [asyncio.ensure_future(first_chunk(array)) for _ in range(3)]
        await asyncio.sleep(0)
        leader.cancel()
        store.gate.set()
        for block in await asyncio.gather(*followers):
            np.testing.assert_array_equal(block, DATA[:4, :5])
        assert leader.cancelled() or await asyncio.gather(leader, return_exceptions=True)


# What is kept


def chunks_of(size: int) -> ObjectChunks:
    return ObjectChunks(None, {0: np.zeros(size, "u1")})


def test_a_long_read_evicts_no_entry_that_was_used_twice() -> None:
    cache, reader = ChunkCache(10_000), Reader(max_age=float("inf"))
    for name in "abcd":
        cache.put(name, chunks_of(800))
        assert cache.get(name, reader) is not None
    for number in range(100):
        cache.put(f"bulk {number}", chunks_of(800))
        assert cache.nbytes <= cache.limit
    assert all(cache.get(name, reader) is not None for name in "abcd")
    assert cache.get("bulk 99", reader) is not None  # new entries are still cached


@given(st.lists(st.tuples(st.sampled_from(["put", "get", "forget", "below"]), st.integers(0, 9), st.integers(0, 4000))))
def test_the_size_of_the_cache_is_right_after_any_steps(steps: list[tuple[str, int, int]]) -> None:
    cache, reader = ChunkCache(10_000), Reader(max_age=float("inf"))
    for act, number, size in steps:
        name = f"{number % 2}/{number}"
        match act:
            case "put":
                cache.put(name, chunks_of(size))
            case "get":
                cache.get(name, reader)
            case "forget":
                cache.forget(name)
                assert cache.get(name, reader) is None
            case _:
                cache.forget_below("0/")
                assert not [n for n in range(0, 10, 2) if cache.peek(f"0/{n}", reader) is not None]
        held = [cache.peek(f"{n % 2}/{n}", reader) for n in range(10)]
        assert cache.nbytes == sum(cache_module._nbytes_of(chunks) for chunks in held if chunks is not None)
        assert cache.nbytes <= cache.limit
        assert len(cache) == sum(chunks is not None for chunks in held)


async def test_a_read_of_a_whole_array_keeps_a_chunk_that_is_often_read() -> None:
    store = Conditional()
    await filled(store, KINDS[0])
    async with zs.Session(cache=zs.CacheSize(chunks=3 * (4 * 5 * 4 + 200))) as session:
        array = await session.open_array(store, cache="immutable")
        for _ in range(3):
            await first_chunk(array)
        await array[...]
        store.clear()
        await first_chunk(array)
    assert not store.requested


# Opening by URL


@pytest.mark.parametrize(("policy", "again"), [("immutable", 0), (3600, 0), ("revalidate", 1)])
async def test_opening_again_needs_no_request_or_one_conditional_request(policy: Any, again: int) -> None:
    store = Conditional()
    await filled(store, KINDS[0])
    async with zs.Session() as session:
        await session.open_array(store, cache=policy)
        store.clear()
        opened = await asyncio.gather(*(session.open_array(store, cache=policy) for _ in range(200)))
        assert (store.requested.total(), store.unchanged) == (again, again)
        assert len({id(array) for array in opened}) == 200  # refreshing one does not change another


@pytest.mark.parametrize("zarr_format", [2, 3])
async def test_a_shape_changed_by_others_is_seen_when_the_cached_metadata_expires(zarr_format: Any) -> None:
    store = Conditional()
    await filled(store, KINDS[0], zarr_format=zarr_format)
    async with zs.Session() as session, zs.Session() as other:
        for policy in ("immutable", "revalidate"):
            assert (await session.open_array(store, cache=policy)).shape == SHAPE
        await (await other.open_array(store)).resize((20, 20))
        assert (await session.open_array(store, cache="immutable")).shape == SHAPE
        assert (await session.open_array(store, cache="revalidate")).shape == (20, 20)


@pytest.mark.parametrize("policy", POLICIES)
async def test_own_edits_are_seen_when_the_array_is_opened_next(policy: Any) -> None:
    store = Conditional()
    await filled(store, KINDS[0])
    async with zs.Session() as session:
        array = await session.open_array(store, cache=policy)
        await array.resize((20, 20))
        await array.update_attributes({"a": 1})
        again = await session.open_array(store, cache=policy)
        assert (again.shape, dict(again.attrs)) == ((20, 20), {"a": 1})
        await session.delete(store)
        with pytest.raises(zs.NodeNotFound):
            await session.open_array(store, cache=policy)


async def test_an_array_removed_by_others_is_not_found() -> None:
    store = Conditional()
    await filled(store, KINDS[0])
    async with zs.Session() as session, zs.Session() as other:
        await session.open_array(store, cache="revalidate")
        await other.delete(store)
        with pytest.raises(zs.NodeNotFound):
            await session.open_array(store, cache="revalidate")
        await filled(store, KINDS[0])
        assert (await session.open_array(store, cache="revalidate")).shape == SHAPE


async def test_hits_and_misses_of_the_cache_are_counted() -> None:
    store = Conditional()
    await filled(store, KINDS[0])
    async with zs.Session() as session:
        for _ in range(3):
            await first_chunk(await session.open_array(store, cache="immutable"))
        assert (session.metrics.cache_hits["metadata"], session.metrics.cache_misses["metadata"]) == (2, 1)
        assert (session.metrics.cache_hits["chunks"], session.metrics.cache_misses["chunks"]) == (2, 1)


# Servers


@pytest.mark.integration
@pytest.mark.parametrize("transport", ["wire", "sdk"])
async def test_s3_answers_304_over_both_transports(
    seaweed: Any, transport: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in seaweed.environment().items():
        monkeypatch.setenv(name, value)
    statuses: Counter[Any] = Counter()

    def hook(event: zs.Event) -> None:
        if isinstance(event, zs.RequestDone):
            statuses[event.status, event.error] += 1

    url = f"s3://{seaweed.bucket}/cache-policies-{transport}"
    async with zs.Session() as session:
        array = await session.create_array(url, shape=SHAPE, dtype="i4", overwrite=True, **KINDS[0])
        await array.set_slice(DATA, (0, 0))
    async with zs.Session(transport=transport, hooks=[hook]) as session:
        for _ in range(2):
            statuses.clear()
            block = await first_chunk(await session.open_array(url, cache="revalidate"))
            np.testing.assert_array_equal(block, DATA[:4, :5])
        assert statuses == {(304, None): 2}
        assert not session.metrics.errors


# Options


@pytest.mark.parametrize("wrong", ["imutable", "", 0, -1, True, float("nan"), [], "10"], ids=repr)
async def test_an_invalid_cache_policy_is_refused(wrong: Any) -> None:
    store = Conditional()
    await filled(store, KINDS[0])
    async with zs.Session() as session:
        with pytest.raises(zs.ConfigError, match="cache"):
            await session.open_array(store, cache=wrong)


async def test_a_cache_policy_is_refused_in_a_session_without_cache_memory() -> None:
    store = Conditional()
    await filled(store, KINDS[0])
    async with zs.Session(cache=zs.CacheSize(chunks=0)) as session:
        with pytest.raises(zs.ConfigError, match="CacheSize"):
            await session.open_array(store, cache="immutable")


class Clock:
    """A clock that tests advance, and that advances a little with every reading."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        tick: Callable[[], float] = self.tick
        for module in (cache_module, handles, read):
            monkeypatch.setattr(module, "monotonic", tick)

    def tick(self) -> float:
        self.now += 1e-6
        return self.now


@pytest.mark.parametrize("kind", KINDS, ids=str)
async def test_a_consistent_read_does_not_use_the_cache(kind: dict[str, Any]) -> None:
    store = Conditional()
    await filled(store, kind)
    async with zs.Session() as session, zs.Session() as other:
        array = await session.open_array(store, cache="immutable")
        await array[...]
        await (await other.open_array(store)).set_slice(5, (0, 0), SHAPE)
        assert (await array.get_slice((0, 0), SHAPE, consistent=True) == 5).all()


@pytest.mark.parametrize("policy", ["revalidate", None])
async def test_cached_chunks_decoded_with_other_codecs_are_not_used(policy: Any) -> None:
    """Metadata edited in place changes neither the objects nor their versions."""
    store = zs.MemoryStore()
    async with zs.Session(cache=zs.CacheSize(chunks=2**20)) as session:
        array = await session.create_array(store, path="a", shape=4, chunks=2, dtype="u2", compressor=None)
        await array[...].set([1, 2, 3, 4])
        async with zs.Session(cache=zs.CacheSize(chunks=2**20)) as reader:
            before = await reader.open_array(store, path="a", cache=policy)
            assert (await before[...]).tolist() == [1, 2, 3, 4]
            blob = await store.get("a/zarr.json")
            assert blob is not None
            await store.put("a/zarr.json", bytes(blob.data).replace(b'"little"', b'"big"'))
            after = await reader.open_array(store, path="a", cache=policy)
            assert (await after[...]).tolist() == [256, 512, 768, 1024]


@pytest.mark.parametrize("policy", ["revalidate", 3600])
async def test_a_cached_shard_index_is_no_older_than_the_policy_allows_for_its_chunks(policy: Any) -> None:
    """Chunks may have been evicted while the index is still cached from a time when they were absent."""
    store = Conditional()
    async with zs.Session(cache=zs.CacheSize(chunks=1)) as session, zs.Session() as other:
        theirs = await other.create_array(store, shape=SHAPE, dtype="i4", fill_value=0, **KINDS[2])
        await theirs.set_slice(1, (0, 0), (4, 5))
        array = await session.open_array(store, cache=policy)
        assert not (await array.get_slice((4, 5), (8, 10))).any()
        await theirs.set_slice(2, (4, 5), (8, 10))
        assert (await array.get_slice((4, 5), (8, 10)) == 2).all()


@pytest.mark.parametrize("consolidated", [True, False])
async def test_arrays_of_a_group_inherit_its_cache_policy(consolidated: bool) -> None:
    """In the same session, changes through another store object are seen as the policy allows."""
    store = zs.MemoryStore()
    async with zs.Session() as session, zs.Session() as other:
        group = await session.create_group(store)
        made = await group.create_array("below/a", shape=SHAPE, chunks=SHAPE, dtype="i4")
        await made[...].set(1)
        if consolidated:
            await group.consolidate()
        opened = {
            policy: await session.open_group(store, cache=policy) for policy in ("immutable", 1000, "revalidate", None)
        }
        arrays: dict[object, list[zs.Array]] = {}
        for policy, found in opened.items():
            below = await found.open("below")
            assert isinstance(below, zs.Group)
            direct, (_, listed) = await found.open("below/a"), await anext(below.arrays())
            whichever = await session.open(store, path="below/a", cache=policy)
            arrays[policy] = [cast("zs.Array", one) for one in (direct, listed, whichever)]
        for each in arrays.values():
            assert all([(await one[...] == 1).all() for one in each])
        written = cast("zs.Array", await (await other.open_group(store)).open("below/a"))
        await written[...].set(2)
        for policy, each in arrays.items():
            expected = 1 if policy in ("immutable", 1000) else 2
            assert all([(await one[...] == expected).all() for one in each]), policy
        stale = cast("zs.Array", await opened[None].open("below/a", cache="immutable"))
        fresh = cast("zs.Array", await opened["immutable"].open("below/a", cache="revalidate"))
        assert ((await fresh[...] == 2).all(), (await stale[...])[0, 0] in (1, 2)) == (True, True)
    async with zs.Session(cache=zs.CacheSize(chunks=0)) as session:
        for call in (session.open, session.open_group):
            with pytest.raises(zs.ConfigError, match="needs memory"):
                await call(store, cache="immutable")
        with pytest.raises(zs.ConfigError, match="cache"):
            await (await session.open_group(store)).open("below/a", cache="always")  # type: ignore[arg-type]
