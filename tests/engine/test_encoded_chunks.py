"""Encoded chunks: get, put, erase and list, in plain, sharded and rectilinear arrays."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zarr_s3_async as zs

from .counting import Counting

LAYOUTS: dict[str, dict[str, Any]] = {
    "chunks": {"chunks": (4, 4)},
    "raw chunks": {"chunks": (4, 4), "compressor": None},
    "v2": {"chunks": (4, 4), "zarr_format": 2},
    "shards": {"chunks": (2, 2), "shards": (4, 4)},
    "raw shards": {"chunks": (2, 2), "shards": (4, 4), "compressor": None},
    "shards of one chunk": {"chunks": (4, 4), "shards": (4, 4)},
    "differing": {"chunks": ((3, 4, 3), (6, 2, 2))},
    "differing shards": {"chunks": (2, 2), "shards": ((4, 6), (2, 6, 2))},
}
EVERY_LAYOUT = pytest.mark.parametrize("layout", LAYOUTS)
SHARDED = pytest.mark.parametrize("layout", [name for name in LAYOUTS if "shards" in name])
DATA = np.arange(1, 101, dtype="i4").reshape(10, 10)


async def make(session: zs.Session, layout: str, store: zs.Store | None = None, **more: Any) -> zs.Array:
    options = {"shape": (10, 10), "dtype": "i4", "fill_value": -1} | LAYOUTS[layout] | more
    return await session.create_array(store or zs.MemoryStore(), **options)


async def chunk_at(array: zs.Array, coords: Any) -> zs.EncodedChunk:
    found = await array.chunk_at(coords)
    assert found is not None
    return found


def grid_of(array: zs.Array) -> list[tuple[int, ...]]:
    return list(product(*[range(len(lengths)) for lengths in array.chunk_sizes]))


def block_of(array: zs.Array, coords: tuple[int, ...]) -> tuple[slice, ...]:
    """The region of the array that a chunk holds."""
    edges = [np.cumsum([0, *lengths]) for lengths in array.chunk_sizes]
    return tuple(slice(int(e[at]), int(e[at + 1])) for e, at in zip(edges, coords, strict=True))


def inside(chunk: np.ndarray[Any, Any], block: tuple[slice, ...]) -> np.ndarray[Any, Any]:
    return chunk[tuple(slice(0, one.stop - one.start) for one in block)]


@EVERY_LAYOUT
async def test_an_encoded_chunk_decodes_to_what_a_read_returns(session: zs.Session, layout: str) -> None:
    array = await make(session, layout)
    await array[...].set(DATA)
    for coords in grid_of(array):
        chunk, block = await chunk_at(array, coords), block_of(array, coords)
        np.testing.assert_array_equal(inside(chunk.decode(), block), DATA[block])
        np.testing.assert_array_equal(chunk.decode(), array.decode_chunk(chunk.data, coords))
        assert chunk.decode().flags.owndata or chunk.decode().base is not chunk.data
        assert chunk.decode().flags.writeable
        assert (chunk.coords, chunk.size) == (coords, len(chunk.data))
        assert chunk.modified is not None
        assert abs(datetime.now(UTC) - chunk.modified) < timedelta(minutes=10)


@EVERY_LAYOUT
async def test_a_chunk_that_is_not_stored_is_none(session: zs.Session, layout: str) -> None:
    array = await make(session, layout)
    assert [await array.chunk_at(coords) for coords in grid_of(array)] == [None] * len(grid_of(array))
    await array[0:1, 0:1].set(5)
    assert [coords for coords in grid_of(array) if await array.chunk_at(coords)] == [(0, 0)]


@EVERY_LAYOUT
async def test_an_encoded_chunk_can_be_put_into_another_array_unchanged(session: zs.Session, layout: str) -> None:
    source, target = await make(session, layout), await make(session, layout)
    await source[...].set(DATA)
    expected = np.full((10, 10), -1)
    for coords in grid_of(source)[::-2]:
        version = await target.put_chunk(coords, memoryview(bytearray((await chunk_at(source, coords)).data)))
        expected[block_of(source, coords)] = DATA[block_of(source, coords)]
        there = await chunk_at(target, coords)
        assert (there.version, there.data) == (version, (await chunk_at(source, coords)).data)
    np.testing.assert_array_equal(await target[...], expected)
    assert (await target.verify()).ok


@EVERY_LAYOUT
async def test_an_erased_chunk_reads_as_fill_and_the_others_are_unchanged(session: zs.Session, layout: str) -> None:
    array, expected = await make(session, layout), DATA.copy()
    await array[...].set(DATA)
    for coords in grid_of(array)[1::2]:
        await array.erase_chunk(coords)
        await array.erase_chunk(coords)  # an absent chunk is no error
        expected[block_of(array, coords)] = -1
        assert await array.chunk_at(coords) is None
    np.testing.assert_array_equal(await array[...], expected)
    for coords in grid_of(array):
        await array.erase_chunk(coords)
    assert len(await array.stored_chunks()) == 0, "emptied shards are deleted"


@EVERY_LAYOUT
async def test_a_put_or_erase_with_an_unmet_condition_changes_nothing(session: zs.Session, layout: str) -> None:
    array = await make(session, layout)
    await array[...].set(DATA)
    first = await chunk_at(array, (0, 0))
    await array[0:1, 0:1].set(500)
    with pytest.raises(zs.Conflict):
        await array.put_chunk((0, 0), first.data, version=first.version)
    with pytest.raises(zs.Conflict):
        await array.put_chunk((0, 0), first.data, version="absent")
    with pytest.raises(zs.Conflict):
        await array.erase_chunk((0, 0), version=first.version)
    assert await array[0, 0] == 500
    await array.put_chunk((0, 0), first.data, version=(await chunk_at(array, (0, 0))).version)
    assert await array[0, 0] == 1
    await array.erase_chunk((0, 0), version=(await chunk_at(array, (0, 0))).version)
    await array.put_chunk((0, 0), first.data, version="absent")
    assert await array[0, 0] == 1
    for other in grid_of(array):
        if other != (0, 0):
            await array.erase_chunk(other)
    await array.erase_chunk((0, 0))
    with pytest.raises(zs.Conflict):
        await array.erase_chunk((0, 0), version=first.version)
    with pytest.raises(zs.Conflict):
        await array.put_chunk((0, 0), first.data, version=first.version)


@EVERY_LAYOUT
async def test_invalid_chunks_are_not_stored_unless_requested(session: zs.Session, layout: str) -> None:
    store = Counting()
    array = await make(session, layout, store)
    await array[...].set(DATA)
    good = (await chunk_at(array, (0, 0))).data
    for bad in (b"", good[:-1], good + b"\0", b"x" * 10**6):
        store.clear()
        with pytest.raises(zs.ChunkDecodeError, match=r"do not decode to chunk \(0, 0\)") as caught:
            await array.put_chunk((0, 0), bad)
        assert (store.puts, store.gets, caught.value.chunk) == (0, [], (0, 0))
        with pytest.raises(zs.ChunkDecodeError):
            array.decode_chunk(bad, (0, 0))
    await array.put_chunk((0, 0), b"rubbish", validate=False)
    damaged = await chunk_at(array, (0, 0))
    assert damaged.data == b"rubbish"
    with pytest.raises(zs.ChunkDecodeError):
        damaged.decode()
    with pytest.raises(zs.ChunkDecodeError):
        await array[0, 0]


async def test_invalid_arguments_of_chunk_methods_are_refused(session: zs.Session) -> None:
    array = await make(session, "chunks")
    for outside in ((3, 0), (-1, 0), (0,), 0, (0, 0, 0), ()):
        for call in (array.chunk_at, array.erase_chunk, lambda at: array.put_chunk(at, b"")):
            with pytest.raises(zs.SelectionError, match="has no chunk"):
                await call(outside)
        with pytest.raises(zs.SelectionError, match="has no chunk"):
            array.decode_chunk(b"", outside)
    for wrong in ("00", (0.5, 0), None):
        with pytest.raises(zs.ConfigError, match="coords must be integers"):
            await array.chunk_at(wrong)
    for wrong in (np.zeros((4, 4), "i4"), "text", None, memoryview(b"abcd")[::2]):
        with pytest.raises(zs.ConfigError, match="an encoded chunk must be bytes"):
            await array.put_chunk((0, 0), wrong)
        with pytest.raises(zs.ConfigError, match="an encoded chunk must be bytes"):
            array.decode_chunk(wrong)
    for wrong in ("always", "", 7, b"v"):
        with pytest.raises(zs.ConfigError, match="version must be"):
            await array.put_chunk((0, 0), b"", version=wrong)
        with pytest.raises(zs.ConfigError, match="version must be"):
            await array.erase_chunk((0, 0), version=wrong)
    with pytest.raises(zs.ConfigError, match="absent"):
        await array.erase_chunk((0, 0), version="absent")
    with pytest.raises(zs.ConfigError, match="validate must be True or False"):
        await array.put_chunk((0, 0), b"", validate="no")
    with pytest.raises(zs.ConfigError, match="inner must be True or False"):
        await array.stored_chunks(inner=1)
    for call in (array.chunk_at((0, 0), timeout=-1), array.stored_chunks(timeout="1")):
        with pytest.raises(zs.ConfigError, match="timeout"):
            await call
    differing = await make(session, "differing")
    with pytest.raises(zs.ConfigError, match="coords="):
        differing.decode_chunk(b"")


@SHARDED
async def test_concurrent_writers_of_one_shard_lose_no_chunks(session: zs.Session, layout: str) -> None:
    """Concurrent puts, erasures and merges of different chunks from two sessions."""
    store = zs.MemoryStore()
    array = await make(session, layout, store)
    await array[...].set(DATA)
    new = [(coords, await chunk_at(array, coords)) for coords in grid_of(array)]
    await array[...].set(DATA + 1000)
    expected = DATA + 1000
    async with zs.Session() as second, asyncio.TaskGroup() as group:
        other = await second.open_array(store)
        for number, (coords, chunk) in enumerate(new):
            target, block = (array, other)[number % 2], block_of(array, coords)
            if number % 3 == 0:
                group.create_task(target.put_chunk(coords, chunk.data))
                expected[block] = DATA[block]
            elif number % 3 == 1:
                group.create_task(target.erase_chunk(coords))
                expected[block] = -1
            else:
                group.create_task(target[block].set(7))
                expected[block] = 7
    np.testing.assert_array_equal(await array[...], expected)


@EVERY_LAYOUT
async def test_encoded_chunks_stored_by_another_session_are_seen_whatever_is_cached(
    session: zs.Session, layout: str
) -> None:
    store = zs.MemoryStore()
    async with zs.Session(cache=zs.CacheSize(chunks=2**20)) as caching:
        array = await make(caching, layout, store)
        await array[0:1, 0:1].set(1)
        assert await array[...] is not None  # fills the cache
        last = grid_of(array)[-1]
        other = await session.open_array(store)
        await other[...].set(DATA)
        found = await chunk_at(array, last)
        np.testing.assert_array_equal(inside(found.decode(), block_of(array, last)), DATA[block_of(array, last)])
        assert (await array.stored_chunks(inner=True)).chunk_bitmap.all()
        await array.put_chunk(last, found.data)
        np.testing.assert_array_equal(await array[block_of(array, last)], DATA[block_of(array, last)])
        await array.erase_chunk(last)
        assert (await array[block_of(array, last)] == -1).all()


@st.composite
def grids(draw: st.DrawFn) -> dict[str, Any]:
    ndim = draw(st.integers(1, 3))
    chunks = [draw(st.integers(1, 3)) for _ in range(ndim)]
    form = draw(st.sampled_from(["chunks", "shards", "listed chunks", "listed shards"]))
    if form.startswith("listed"):
        multiples = [1] * ndim if form == "listed chunks" else chunks
        listed = [[m * draw(st.integers(1, 3)) for _ in range(draw(st.integers(1, 3)))] for m in multiples]
        shape = [sum(axis) for axis in listed]
        return {"shape": shape} | (
            {"chunks": listed} if form == "listed chunks" else {"chunks": chunks, "shards": listed}
        )
    options: dict[str, Any] = {"shape": [draw(st.integers(1, 8)) for _ in range(ndim)], "chunks": chunks}
    if form == "shards":
        options["shards"] = [chunk * draw(st.integers(1, 3)) for chunk in chunks]
    return options


@given(grids(), st.randoms(use_true_random=False))
async def test_stored_chunks_lists_exactly_the_stored_chunks_of_any_grid(options: dict[str, Any], random: Any) -> None:
    async with zs.Session() as session:
        array = await session.create_array(zs.MemoryStore(), dtype="u2", **options)
        await array.resize([random.randint(1, n) for n in array.shape])  # the edge cuts any object
        data = np.zeros(array.shape, "u2")
        there = [coords for coords in grid_of(array) if random.random() < 0.5]
        for number, coords in enumerate(there, 1):
            data[block_of(array, coords)] = number
        await array[...].set(data)
        for number, coords in enumerate(there, 1):
            assert inside((await chunk_at(array, coords)).decode(), block_of(array, coords)).ravel()[0] == number
        stored = await array.stored_chunks(inner=True)
        assert stored.chunks is not None
        assert sorted(stored.chunks) == there
        assert np.argwhere(stored.chunk_bitmap).tolist() == list(map(list, there))
        sizes = {coords: (await chunk_at(array, coords)).size for coords in there}
        assert dict(stored.chunks) == sizes
        assert stored.bitmap.shape == stored.grid
        assert stored.bitmap.sum() == len(stored)


@EVERY_LAYOUT
async def test_stored_chunks_reports_sizes_versions_and_totals(session: zs.Session, layout: str) -> None:
    store = zs.MemoryStore()
    array = await make(session, layout, store, dtype="i4", fill_value=0)
    await array[0:5, 0:5].set(3)
    await store.put("c/99/99", b"of another array")
    await store.put("notes.txt", b"of a person")
    stored = await array.stored_chunks()
    entries = {e.key: e async for e in store.list_prefix()}
    for coords, one in stored.items():
        assert one.key == array.metadata.object_key(coords)
        entry = entries[one.key]
        assert (one.coords, one.size, one.version) == (coords, entry.size, entry.version)
        assert one.modified is not None
    assert stored.nbytes == sum(one.size for one in stored.values())
    assert stored.n_objects == np.prod(stored.grid)
    assert (stored.chunks is None) == ("shards" in layout)
    deep = await array.stored_chunks(inner=True)
    sizes = [(await chunk_at(array, coords)).decode().nbytes for coords in deep.chunks or ()]
    assert deep.decoded_nbytes == sum(sizes)
    assert deep.ratio == sum(sizes) / deep.nbytes
    assert f"{len(stored)} of {stored.n_objects} objects" in str(stored)
    assert repr(stored).startswith(f"<StoredChunks of {array.url}: ")
    assert stored._repr_html_().count("#4c8bb5") == len(stored)
    assert deep._repr_html_().count("#4c8bb5") == len(deep.chunks or ())


async def test_stored_chunks_of_an_empty_array_have_no_ratio(session: zs.Session) -> None:
    stored = await (await make(session, "chunks")).stored_chunks()
    assert (len(stored), stored.nbytes, stored.ratio, stored.bitmap.any()) == (0, 0, None, np.False_)
    point = await session.create_array(zs.MemoryStore(), shape=(), dtype="i4")
    await point[...].set(4)
    found = await point.stored_chunks()
    assert (list(found), found.bitmap.tolist()) == ([()], True)
    assert (await chunk_at(point, ())).decode() == 4
    text = await session.create_array(zs.MemoryStore(), shape=(3,), dtype="str")
    await text[...].set(["a", "bb", "ccc"])
    assert (await text.stored_chunks()).ratio is None
    assert (await chunk_at(text, 0)).decode().tolist() == ["a", "bb", "ccc"]


async def test_listing_the_chunks_of_one_of_several_arrays_takes_one_page_and_no_get(session: zs.Session) -> None:
    store = Counting()
    group = await session.create_group(store)
    for name in ("a", "a b", "ab"):
        array = await group.create_array(name, shape=(4,), chunks=(1,), dtype="i4")
        await array[...].set(1)
    store.clear()
    assert sorted(await (await group.open("a")).stored_chunks()) == [(0,), (1,), (2,), (3,)]  # type: ignore[union-attr]  # an array
    assert store.gets == []


async def test_listing_more_chunks_than_a_call_may_touch_is_refused() -> None:
    async with zs.Session(limits=zs.Limits(max_chunks_per_call=3)) as session:
        array = await session.create_array(zs.MemoryStore(), shape=(8,), chunks=(2,), shards=(4,), dtype="i4")
        await array[0:4].set(1)
        await array[4:8].set(1)
        assert len(await array.stored_chunks()) == 2
        with pytest.raises(zs.SelectionError, match="max_chunks_per_call"):
            await array.stored_chunks(inner=True)


async def test_a_chunk_that_is_too_long_is_refused_before_it_is_received(session: zs.Session) -> None:
    store = zs.MemoryStore()
    array = await make(session, "chunks", store)
    await store.put("c/0/0", bytes(10**6))
    with pytest.raises(zs.ObjectTooLarge):
        await array.chunk_at((0, 0))


@EVERY_LAYOUT
async def test_a_chunk_method_cancelled_at_any_await_holds_no_lease(session: zs.Session, layout: str) -> None:
    store = zs.MemoryStore()
    array = await make(session, layout, store)
    await array[...].set(DATA)
    data = (await chunk_at(array, (0, 0))).data
    calls = (
        lambda: array.chunk_at((0, 0)),
        lambda: array.put_chunk((0, 0), data),
        lambda: array.put_chunk((0, 0), data, version="absent"),
        lambda: array.erase_chunk((1, 1)),
        lambda: array.stored_chunks(inner=True),
    )
    for call in calls:
        for turns in range(25):
            task = asyncio.ensure_future(call())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
    leases = array._runtime.leases  # all leases must be released
    assert leases.try_acquire(leases.limit)
    leases.release(leases.limit)
    await array.put_chunk((0, 0), data)
    assert await array[0, 0] == 1


async def test_chunk_methods_raise_for_a_closed_session_and_an_expired_deadline(session: zs.Session) -> None:
    array = await make(session, "shards")
    await array[...].set(DATA)
    with pytest.raises(zs.DeadlineExceeded):
        await array.chunk_at((0, 0), timeout=1e-9)
    with pytest.raises(zs.DeadlineExceeded):
        await array.stored_chunks(inner=True, timeout=1e-9)
    await session.aclose()
    for call in (
        array.chunk_at((0, 0)),
        array.put_chunk((0, 0), b""),
        array.erase_chunk((0, 0)),
        array.stored_chunks(),
    ):
        with pytest.raises(zs.SessionClosed):
            await call
