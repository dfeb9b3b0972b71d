"""Streams of blocks: equal to NumPy, each chunk read once, bounded, in the requested order."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zarr_s3_async as zs

from .grids import Counting, arrays, nothing_left, regions, same


async def make(session: zs.Session, store: Any, data: np.ndarray[Any, Any], options: dict[str, Any]) -> zs.Array:
    array = await session.create_array(store, **options)
    await array[...].set(data)
    return array


@given(case=arrays(), more=st.data())
def test_the_blocks_of_a_stream_make_up_the_region(
    case: tuple[np.ndarray[Any, Any], dict[str, Any]], more: st.DataObject
) -> None:
    data, options = case
    region = more.draw(regions(data.shape))
    order = more.draw(st.sampled_from(("C", "chunks", "any")))
    ahead = more.draw(st.sampled_from((1, 100, 2**28)))

    async def run() -> None:
        store = Counting()
        async with zs.Session() as session:
            array = await make(session, store, data, options)
            store.clear()
            result = np.zeros_like(data)
            seen = np.zeros(data.shape, int)
            places = []
            async with array.stream(region, order=order, ahead_bytes=ahead) as blocks:
                async for block in blocks:
                    result[block.place] = block.data
                    seen[block.place] += 1
                    places.append(tuple(axis.start for axis in block.place))
                assert blocks.progress.done == len(blocks) == len(places)
            wanted = np.zeros(data.shape, int)
            wanted[region] = 1
            assert (seen == wanted).all()
            assert same(result[region], data[region])
            if order == "C":
                assert places == sorted(places)
            if array.shards is None:
                assert set(store.chunk_gets()) <= {1}
            nothing_left(session, store)

    asyncio.run(run())


@given(case=arrays(min_dims=1), more=st.data())
def test_slabs_are_in_order_and_each_chunk_is_read_once(
    case: tuple[np.ndarray[Any, Any], dict[str, Any]], more: st.DataObject
) -> None:
    data, options = case
    region = more.draw(regions(data.shape))
    axis = more.draw(st.integers(-data.ndim, data.ndim - 1))
    size = more.draw(st.integers(1, 12))
    ahead = more.draw(st.sampled_from((1, 2**28)))

    async def run() -> None:
        store = Counting()
        async with zs.Session() as session:
            array = await make(session, store, data, options)
            store.clear()
            slabs = []
            async with array.stream_slices(axis, size, region, ahead_bytes=ahead) as blocks:
                async for block in blocks:
                    assert same(block.data, data[block.place])
                    slabs.append(block.data)
                assert len(slabs) == len(blocks)
            if slabs:
                assert same(np.concatenate(slabs, axis=axis), data[region])
                assert all(slab.shape[axis] == size for slab in slabs[:-1])
            else:
                assert data[region].size == 0
            if array.shards is None:
                assert set(store.chunk_gets()) <= {1}
            nothing_left(session, store)

    asyncio.run(run())


@given(case=arrays(), more=st.data())
def test_a_stream_resumed_after_any_block_returns_the_remaining_ones(
    case: tuple[np.ndarray[Any, Any], dict[str, Any]], more: st.DataObject
) -> None:
    data, options = case
    region = more.draw(regions(data.shape))
    order = more.draw(st.sampled_from(("C", "chunks", "any")))
    ahead = more.draw(st.sampled_from((1, 100, 2**28)))
    axis = more.draw(st.integers(0, data.ndim - 1)) if data.ndim else None
    size = more.draw(st.integers(1, 12))

    def streams(array: zs.Array, state: Any) -> Any:
        if axis is not None and order == "C" and ahead != 100:
            return array.stream_slices(axis, size, region, ahead_bytes=ahead, state=state)
        return array.stream(region, order=order, ahead_bytes=ahead, state=state)

    async def run() -> None:
        store = Counting()
        if order == "any":
            delays = np.random.default_rng(more.draw(st.integers(0, 9)))

            async def wait_a_little(*_: str) -> None:
                for _ in range(int(delays.integers(20))):
                    await asyncio.sleep(0)

            store.before = wait_a_little
        async with zs.Session() as session:
            array = await make(session, store, data, options)
            result = np.zeros_like(data)
            seen = np.zeros(data.shape, int)
            state: Any = None
            ended = False
            while not ended:  # a stream for each block
                async with streams(array, state) as blocks:
                    block = await anext(blocks, None)
                    ended = block is None
                    if block is not None:
                        result[block.place] = block.data
                        seen[block.place] += 1
                    state = json.loads(json.dumps(blocks.state()))
            wanted = np.zeros(data.shape, int)
            wanted[region] = 1
            assert (seen == wanted).all()
            assert same(result[region], data[region])
            nothing_left(session, store)

    asyncio.run(run())


async def test_a_resumed_stream_reads_only_the_remaining_blocks_and_counts_the_others_as_done() -> None:
    store = Counting()
    async with zs.Session() as session:
        data = np.arange(64 * 64, dtype="i4").reshape(64, 64)
        array = await make(session, store, data, {"shape": (64, 64), "chunks": (8, 8), "dtype": "i4"})
        async with array.stream() as blocks:
            for _ in range(50):
                await anext(blocks)
            state = blocks.state()
        store.clear()
        async with array.stream(state=state) as blocks:
            assert blocks.progress.done == 50
            places = [block.place async for block in blocks]
            assert blocks.progress.done == len(blocks) == 64
        assert places == [
            (slice(at // 8 * 8, at // 8 * 8 + 8), slice(at % 8 * 8, at % 8 * 8 + 8)) for at in range(50, 64)
        ]
        assert sum(store.chunk_gets()) == 14


async def test_a_state_contains_blocks_that_were_taken_out_of_order() -> None:
    store = Counting()
    async with zs.Session() as session:
        data = np.arange(64, dtype="i4")
        array = await make(session, store, data, {"shape": (64,), "chunks": (8,), "dtype": "i4"})

        async def hold(_: str, key: str) -> None:
            if key.endswith(("c/0", "c/3")):
                await asyncio.sleep(60)

        store.before = hold
        async with array.stream(order="any") as blocks:
            taken = {(await anext(blocks)).place[0].start // 8 for _ in range(4)}
            state = blocks.state()
        assert state["above"] == sorted(taken)
        store.before = None
        for order in ("any", "C"):
            async with array.stream(order=order, state=state) as blocks:
                rest = [block.place[0].start // 8 async for block in blocks]
            assert sorted(rest) == sorted(set(range(8)) - taken)
        nothing_left(session, store)


async def test_a_state_of_another_stream_is_refused() -> None:
    async with zs.Session() as session:
        data = np.arange(64 * 64, dtype="i4").reshape(64, 64)
        array = await make(session, zs.MemoryStore(), data, {"shape": (64, 64), "chunks": (8, 8), "dtype": "i4"})
        blocks, slabs = array.stream().state(), array.stream_slices(0, 5).state()
        array.stream(order="any", state=blocks)  # the same blocks
        for make_other in (
            lambda: array.stream(order="chunks", state=blocks),
            lambda: array.stream(np.s_[0:32], state=blocks),
            lambda: array.stream(state=slabs),
            lambda: array.stream_slices(0, 6, state=slabs),
            lambda: array.stream_slices(1, 5, state=slabs),
            lambda: array.stream(state=blocks | {"first": -1}),
            lambda: array.stream(state=blocks | {"first": 99}),
            lambda: array.stream(state=blocks | {"above": [99]}),
            lambda: array.stream(state=blocks | {"above": ["1"]}),
            lambda: array.stream(state=blocks | {"version": 2}),
            lambda: array.stream(state={}),
            lambda: array.stream(state=5),  # type: ignore[arg-type]  # what is refused
            lambda: array.stream_slices(0, 5, state=slabs | {"at": "0"}),
        ):
            with pytest.raises(zs.ConfigError, match="state"):
                make_other()


async def test_an_array_without_dimensions_may_be_sharded() -> None:
    async with zs.Session() as session:
        array = await make(
            session, zs.MemoryStore(), np.array(5), {"shape": (), "chunks": (), "shards": (), "dtype": "i4"}
        )
        assert await array[...] == 5
        async with array.stream() as blocks:
            assert [(block.place, int(block.data)) async for block in blocks] == [((), 5)]


async def test_a_large_shard_is_split_into_blocks_and_each_chunk_is_read_once() -> None:
    store = Counting()
    async with zs.Session() as session:
        data = np.arange(64 * 64, dtype="i4").reshape(64, 64)
        array = await make(
            session, store, data, {"shape": (64, 64), "chunks": (8, 8), "shards": (32, 32), "dtype": "i4"}
        )
        store.clear()
        async with array.stream(order="chunks", ahead_bytes=8 * 32 * 4 * 4) as blocks:
            shapes = [block.data.shape async for block in blocks]
        assert shapes == [(8, 32)] * 16
        async with array.stream() as blocks:
            assert [block.data.shape async for block in blocks] == [(32, 32)] * 4


@pytest.mark.parametrize("order", ["C", "any"])
async def test_a_stream_reads_ahead_no_more_than_ahead_bytes(order: Any) -> None:
    store = Counting()
    async with zs.Session() as session:
        array = await make(
            session, store, np.ones((40, 10), "u1"), {"shape": (40, 10), "chunks": (1, 10), "dtype": "u1"}
        )
        store.clear()
        async with array.stream(order=order, ahead_bytes=50) as blocks:
            for taken in range(40):
                for _ in range(30):
                    await asyncio.sleep(0)
                assert sum(store.chunk_gets()) <= taken + 5, "read ahead beyond the bound"
                assert store.running == 0
                await anext(blocks)
            with pytest.raises(StopAsyncIteration):
                await anext(blocks)
        nothing_left(session, store)


async def test_a_slow_block_delays_later_ones_only_in_an_ordered_stream() -> None:
    store = Counting()
    gate = asyncio.Event()

    async def before(what: str, key: str) -> None:
        if what == "get" and key == "c/0":
            await gate.wait()

    async with zs.Session() as session:
        array = await make(session, store, np.arange(8), {"shape": 8, "chunks": 1, "dtype": "i8"})
        store.before = before
        async with array.stream(order="any") as blocks:
            first = [int((await anext(blocks)).data[0]) for _ in range(7)]
            gate.set()
            assert sorted([*first, int((await anext(blocks)).data[0])]) == list(range(8))
            assert 0 not in first
        gate.clear()
        async with array.stream(order="C") as blocks:
            waiting = asyncio.ensure_future(anext(blocks))
            await asyncio.sleep(0.01)
            assert not waiting.done()
            gate.set()
            assert int((await waiting).data[0]) == 0
        nothing_left(session, store)


async def test_several_tasks_may_share_a_stream() -> None:
    async with zs.Session() as session:
        array = await make(session, Counting(), np.arange(100), {"shape": 100, "chunks": 1, "dtype": "i8"})

        async def take(blocks: zs.BlockStream) -> list[int]:
            return [int(block.data[0]) async for block in blocks]

        async with array.stream(ahead_bytes=64) as blocks:
            taken = await asyncio.gather(*(take(blocks) for _ in range(5)))
        assert sorted(n for some in taken for n in some) == list(range(100))
        nothing_left(session)


async def test_the_error_of_a_block_is_raised_unchanged_after_the_blocks_before_it() -> None:
    store = Counting()

    async def before(what: str, key: str) -> None:
        if key == "c/5":
            raise zs.NetworkError("gone")

    async with zs.Session() as session:
        array = await make(session, store, np.arange(10), {"shape": 10, "chunks": 1, "dtype": "i8"})
        store.before = before
        async with array.stream(ahead_bytes=8) as blocks:
            assert [int((await anext(blocks)).data[0]) for _ in range(5)] == [0, 1, 2, 3, 4]
            for _ in range(2):
                with pytest.raises(zs.NetworkError, match="gone"):
                    await anext(blocks)
        nothing_left(session, store)


async def test_absent_chunks_are_fill_or_an_error() -> None:
    async with zs.Session() as session:
        array = await session.create_array(zs.MemoryStore(), shape=4, chunks=2, dtype="i4", fill_value=7)
        async with array.stream() as blocks:
            assert [block.data.tolist() async for block in blocks] == [[7, 7], [7, 7]]
        async with array.stream(missing="raise") as blocks:
            with pytest.raises(zs.ChunkNotFound):
                await anext(blocks)


async def test_a_stream_is_used_only_inside_its_context_and_only_once() -> None:
    async with zs.Session() as session:
        array = await make(session, Counting(), np.arange(10), {"shape": 10, "chunks": 1, "dtype": "i8"})
        blocks = array.stream()
        with pytest.raises(zs.StateError, match="async with"):
            await anext(blocks)
        async with blocks:
            await anext(blocks)
            with pytest.raises(zs.StateError, match="once"):
                await blocks.__aenter__()
        with pytest.raises(zs.StateError, match="left"):
            await anext(blocks)
        await blocks.aclose()
        with pytest.raises(zs.StateError, match="once"):
            await blocks.__aenter__()
    with pytest.raises(zs.SessionClosed):
        await array.stream().__aenter__()


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"order": "F"}, "order"),
        ({"order": "Chunks"}, "order"),
        ({"ahead_bytes": 0}, "ahead_bytes"),
        ({"ahead_bytes": 1.5}, "ahead_bytes"),
        ({"ahead_bytes": True}, "ahead_bytes"),
        ({"progress": "bar"}, "progress"),
        ({"missing": "zero"}, "missing"),
    ],
    ids=str,
)
async def test_an_invalid_option_of_a_stream_is_refused(options: dict[str, Any], name: str) -> None:
    async with zs.Session() as session:
        array = await session.create_array(zs.MemoryStore(), shape=4, chunks=2, dtype="i4")
        with pytest.raises(zs.ConfigError, match=name):
            array.stream(**options)
        if "order" not in options:
            with pytest.raises(zs.ConfigError, match=name):
                array.stream_slices(0, 1, **options)


async def test_a_region_of_a_stream_consists_of_slices() -> None:
    async with zs.Session() as session:
        array = await session.create_array(zs.MemoryStore(), shape=(4, 4), chunks=2, dtype="i4")
        for key in (0, np.s_[::2], np.s_[::-1], np.s_[None, 1:2], [1, 2], np.s_[0:1, 0:1, 0:1]):
            with pytest.raises(zs.SelectionError):
                array.stream(key)
        for wrong in (2, -3, True, "x", 0.5):
            with pytest.raises(zs.ConfigError, match="axis"):
                array.stream_slices(wrong, 1)  # type: ignore[arg-type]  # on purpose
        with pytest.raises(zs.ConfigError, match="size"):
            array.stream_slices(0, 0)


async def test_the_cost_of_a_stream_is_reported_before_it_starts() -> None:
    store = Counting()
    async with zs.Session() as session:
        array = await session.create_array(store, shape=(10, 10), chunks=(5, 5), dtype="i4")
        store.clear()
        assert array.stream(np.s_[0:5]).explain().get_requests == 2
        assert array.stream_slices(0, 3).explain().chunks == 4
        assert not store.gets


async def test_progress_is_reported_for_every_block() -> None:
    reports: list[zs.Progress] = []
    async with zs.Session() as session:
        array = await make(session, Counting(), np.arange(10), {"shape": 10, "chunks": 2, "dtype": "i8"})
        async with array.stream(progress=reports.append) as blocks:
            async for _ in blocks:
                pass
    assert [(p.done, p.total, p.bytes) for p in reports] == [(n, 5, n * 16) for n in range(1, 6)]
    assert reports[-1].left == 0
    assert reports[0].rate > 0
