"""Arrays with chunks or shards of different shapes: resizes, appends, merges, verify, access by chunk."""

from __future__ import annotations

import asyncio
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zarr_s3_async as zs
from zarr_s3_async.testing import FaultyStore

PLAIN = {"shape": (10, 9), "chunks": [[3, 2, 5], [(4, 2), 1]]}
SHARDED = {"shape": (12, 9), "chunks": (2, 3), "shards": [[4, 6, 2], [6, 3]]}
BOTH = pytest.mark.parametrize("options", [PLAIN, SHARDED], ids=["chunks", "shards"])


def numbered(shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    return np.arange(1, np.prod(shape) + 1, dtype="i4").reshape(shape)


@BOTH
async def test_every_chunk_is_addressed_by_its_coordinates_in_the_grid(session: zs.Session, options: Any) -> None:
    array = await session.create_array(zs.MemoryStore(), dtype="i4", **options)
    data = numbered(array.shape)
    await array[...].set(data)
    edges = [np.cumsum((0, *sizes)) for sizes in array.chunk_sizes]
    assert array.nchunks == np.prod([len(sizes) for sizes in array.chunk_sizes])
    for at in product(*(range(len(sizes)) for sizes in array.chunk_sizes)):
        place = tuple(slice(axis[i], axis[i + 1]) for axis, i in zip(edges, at, strict=True))
        view = array.blocks[at]
        np.testing.assert_array_equal(await view, data[place])
        assert (view.explain().chunks, view.explain().partly_covered) == (1, 0)


@BOTH
async def test_concurrent_readers_share_one_request_per_object(session: zs.Session, options: Any) -> None:
    store = FaultyStore(zs.MemoryStore())
    array = await session.create_array(store, dtype="i4", **options)
    data = numbered(array.shape)
    await array[...].set(data)
    await array[...]  # caches the indexes of shards
    objects = array[...].explain().objects
    for region, requests in ((np.s_[0:2, 0:2], 1), (np.s_[:], objects)):
        before = store.count("get")
        for result in await asyncio.gather(*[array[region].get() for _ in range(20)]):
            np.testing.assert_array_equal(result, data[region])
        assert store.count("get") - before == requests


async def test_chunk_shape_is_an_error_for_chunks_of_different_shapes(session: zs.Session) -> None:
    plain = await session.create_array(zs.MemoryStore(), dtype="i4", **PLAIN)
    assert plain.chunk_sizes == ((3, 2, 5), (4, 4, 1))
    assert plain.shard_sizes is None
    assert plain.shards is None
    with pytest.raises(zs.UnsupportedFeature, match="chunk_sizes"):
        assert plain.chunks
    sharded = await session.create_array(zs.MemoryStore(), dtype="i4", **SHARDED)
    assert sharded.chunks == (2, 3)
    assert sharded.shard_sizes == ((4, 6, 2), (6, 3))
    with pytest.raises(zs.UnsupportedFeature, match="shard_sizes"):
        assert sharded.shards
    assert "chunks ([3, 2, 5], [2*4, 1])" in repr(plain)
    assert "chunks (2, 3), shards ([4, 6, 2], [6, 3])" in repr(sharded)


@given(data=st.data(), sharded=st.booleans())
def test_any_writes_resizes_and_appends_give_what_numpy_gives(data: st.DataObject, sharded: bool) -> None:
    """The array equals NumPy's after the same steps, in the writing session and in another."""

    async def run() -> None:
        store = zs.MemoryStore()
        async with zs.Session() as session, zs.Session() as other:
            array = await session.create_array(store, dtype="i4", fill_value=-1, **(SHARDED if sharded else PLAIN))
            mirror = np.full(array.shape, -1, "i4")
            for number in range(data.draw(st.integers(1, 6))):
                match data.draw(st.sampled_from(["write", "resize", "append"])):
                    case "write":
                        start = tuple(data.draw(st.integers(0, n)) for n in mirror.shape)
                        stop = tuple(data.draw(st.integers(a, n)) for a, n in zip(start, mirror.shape, strict=True))
                        region = tuple(map(slice, start, stop))
                        values = number * 1000 + numbered(mirror[region].shape)
                        await array.set_slice(values, start, stop)
                        mirror[region] = values
                    case "resize":
                        shape = tuple(data.draw(st.integers(0, 20)) for _ in range(2))
                        await array.resize(shape)
                        grown = np.full(shape, -1, "i4")
                        kept = tuple(slice(0, min(a, b)) for a, b in zip(shape, mirror.shape, strict=True))
                        grown[kept] = mirror[kept]
                        mirror = grown
                    case "append":
                        axis = data.draw(st.integers(0, 1))
                        shape = tuple(
                            data.draw(st.integers(0, 7)) if d == axis else n for d, n in enumerate(mirror.shape)
                        )
                        values = number * 1000 + numbered(shape)
                        await array.append(values, axis=axis)
                        mirror = np.concatenate([mirror, values], axis=axis)
                assert array.shape == mirror.shape
                np.testing.assert_array_equal(await array[...], mirror)
            np.testing.assert_array_equal(await (await other.open_array(store))[...], mirror)
            report = await array.verify()
            assert report.ok, str(report)

    asyncio.run(run())


@BOTH
async def test_concurrent_appends_get_separate_chunks(session: zs.Session, options: Any) -> None:
    store = zs.MemoryStore()
    array = await session.create_array(store, dtype="i4", **options)
    before = array.shape[0]

    async def append(number: int) -> None:
        handle = await session.open_array(store)
        await handle.append(np.full((number, 9), number, "i4"))

    async with asyncio.TaskGroup() as group:
        for number in (2, 4, 6, 8):
            group.create_task(append(number))
    await array.refresh()
    rows = (await array[before:])[:, 0].tolist()
    assert sorted(rows) == [n for n in (2, 4, 6, 8) for _ in range(n)]
    assert (await array.verify()).ok


async def test_a_handle_detects_that_its_array_was_replaced(session: zs.Session) -> None:
    """Stored chunk lengths never change: different lengths mean that it is another array."""
    store = zs.MemoryStore()
    array = await session.create_array(store, dtype="i4", **PLAIN)
    await session.create_array(store, dtype="i4", overwrite=True, **{**PLAIN, "chunks": [[3, 3, 4], [(4, 2), 1]]})
    with pytest.raises(zs.NodeNotFound, match="with another chunks"):
        await array.append(numbered((1, 9)))


@BOTH
async def test_concurrent_writers_of_parts_of_one_chunk_lose_no_updates(session: zs.Session, options: Any) -> None:
    store = zs.MemoryStore()
    array = await session.create_array(store, dtype="i4", **options)
    async with zs.Session() as another, asyncio.TaskGroup() as group:
        other = await another.open_array(store)
        for row in range(array.shape[0]):
            group.create_task((array, other)[row % 2][row].set(row + 1))
    expected = np.broadcast_to(np.arange(1, array.shape[0] + 1)[:, None], array.shape)
    np.testing.assert_array_equal(await array[...], expected)


@BOTH
async def test_verify_finds_a_chunk_of_another_shape(session: zs.Session, options: Any) -> None:
    """Each object is decoded with the chunk shape of its grid position."""
    store = zs.MemoryStore()
    array = await session.create_array(store, dtype="i4", compressor=None, **options)
    await array[...].set(numbered(array.shape))
    first, last = await store.get("c/0/0"), array.metadata.object_key((2, 1))
    assert first is not None
    await store.put(last, first.data)
    report = await array.verify()
    assert not report.ok
    assert last in str(report)
    await array.refresh()
    with pytest.raises(zs.ChunkDecodeError):
        await array[...]


async def test_a_huge_grid_in_few_runs_costs_no_more_than_a_regular_one(session: zs.Session) -> None:
    """A run-length encoded list may describe more chunks than memory can hold."""
    array = await session.create_array(
        zs.MemoryStore(), shape=(8 * 10**12,), chunks=[[(3, 10**12), (5, 10**12)]], dtype="u1"
    )
    start = 3 * 10**12 - 1
    await array.set_slice([1, 2, 3], start)
    assert (await array.get_slice(start - 1, start + 4)).tolist() == [0, 1, 2, 3, 0]
    assert (await array.vindex[[start, start + 2]]).tolist() == [1, 3]
    assert array.nchunks == 2 * 10**12
    with pytest.raises(zs.SelectionError, match="too many to list"):
        assert array.chunk_sizes


async def test_a_bounded_grid_cuts_the_last_chunk_at_the_edge_of_the_array(session: zs.Session) -> None:
    store = zs.MemoryStore()
    await session.create_array(store, shape=(7,), chunks=3, dtype="u1", compressor=None)
    blob = await store.get("zarr.json")
    assert blob is not None
    await store.put("zarr.json", bytes(blob.data).replace(b'"regular"', b'"regular_bounded"'))
    array = await session.open_array(store)
    await array[...].set(np.arange(1, 8))
    last = await store.get("c/2")
    assert last is not None
    assert bytes(last.data) == b"\7"
    assert (await array[...]).tolist() == [1, 2, 3, 4, 5, 6, 7]
    with pytest.raises(zs.ConfigError, match="multiples of 3"):
        await array.append(np.zeros(1))
    await array.resize((6,))
    await array.append(np.array([9, 9]))
    assert (await array[...]).tolist() == [1, 2, 3, 4, 5, 6, 9, 9]


async def test_a_shard_of_one_chunk_keeps_what_others_appended_beyond_the_edge() -> None:
    store = zs.MemoryStore()
    async with zs.Session() as session, zs.Session() as other:
        array = await session.create_array(store, shape=(6,), chunks=(2,), shards=((4, 2),), dtype="i4")
        await array.resize(5)
        late = await other.open_array(store)
        await array.resize(6)
        await array.set_slice(7, 5, 6)
        await late.set_slice(9, 4, 5)  # the whole last chunk by this handle's shape
        assert (await array.get_slice(4, 6)).tolist() == [9, 7]
